//! `scan-pipeline run`: takes up what was left, goes over the watched buckets, and again.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use scan_pipeline::config::{Config, OpenStore};
use scan_pipeline::pipeline::{Processed, Progress, Resumed};
use scan_pipeline::store::{TaskFilter, TaskState};
use scan_pipeline::{Error, ErrorKind, Pipeline};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::args::RunArgs;
use crate::results::{Names, Totals, details, label};
use crate::table::{Label, Table};
use crate::tasks::TaskJson;
use crate::text::{self, plural};
use crate::{EXIT_CLEAN, EXIT_ERROR, EXIT_LOOK, complain, from};

/// Time between two looks for workflows whose back-off is over.
const RESUME: Duration = Duration::from_secs(5);
/// Time between two looks for newer definitions.
const REFRESH: Duration = Duration::from_secs(600);

/// Runs a pipeline to its end and returns the exit code.
pub(crate) async fn run(args: &RunArgs) -> io::Result<u8> {
    let stop = CancellationToken::new();
    listen(&stop)?;
    let (config, store) = match open(args).await {
        Ok(opened) => opened,
        Err(why) => {
            from::say(&why);
            return Ok(EXIT_ERROR);
        }
    };
    let code = match build(&config, &store, &stop).await {
        Ok(pipeline) => {
            let names = Names::of(&pipeline);
            // Without an end in sight each row stands alone, and says everything.
            let table = Table::new(!args.once);
            let (totals, waiting, started) = (Totals::default(), BTreeSet::new(), Instant::now());
            Runner { args, config: &config, pipeline, names, stop, table, totals, waiting, started }.all().await
        }
        Err(why) => {
            from::say(&why);
            Ok(EXIT_ERROR)
        }
    };
    if let Err(why) = store.close().await {
        from::say(&why);
    }
    code
}

async fn open(args: &RunArgs) -> Result<(Config, OpenStore), Error> {
    let config = load(&args.config).await?;
    if config.watched().next().is_none() {
        let why = "no bucket is watched, so there is nothing to do; write watch = true for one of them";
        return Err(Error::new(ErrorKind::Config, why).about(args.config.display().to_string()));
    }
    let store = config.store_url().open().await?;
    Ok((config, store))
}

/// A configuration without mistakes; what may not be meant is said.
pub(crate) async fn load(file: &Path) -> Result<Config, Error> {
    let config = Config::load(file).await?;
    for warning in config.warnings() {
        complain(&format!("{}:{warning}", file.display()));
    }
    Ok(config)
}

/// The pipeline. Loading the definitions takes seconds, in which somebody may think better of it.
pub(crate) async fn build(config: &Config, store: &OpenStore, stop: &CancellationToken) -> Result<Pipeline, Error> {
    tokio::select! {
        built = config.build_with(store) => built,
        () = stop.cancelled() => Err(Error::new(ErrorKind::Cancelled, "stopped before anything was done")),
    }
}

/// The first signal asks for an end, the second one makes it.
pub(crate) fn listen(stop: &CancellationToken) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                complain("stopping: what has begun is finished; a second signal ends it at once");
                stop.cancel();
            }
        }
        std::process::exit(i32::from(EXIT_ERROR));
    });
    Ok(())
}

/// Looks for newer definitions from time to time. Those that cannot be loaded are complained about, and change nothing.
pub(crate) fn refresh_definitions(pipeline: &Pipeline, stop: &CancellationToken) {
    let (engine, stop) = (std::sync::Arc::clone(pipeline.engine()), stop.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(REFRESH) => {}
                () = stop.cancelled() => return,
            }
            match engine.refresh_definitions().await {
                Ok(true) => tracing::info!(generation = engine.info().generation, "newer definitions are loaded"),
                Ok(false) => {}
                Err(why) => complain(&format!("warning: the definitions stay as they are: {why}")),
            }
        }
    });
}

struct Runner<'a> {
    args: &'a RunArgs,
    config: &'a Config,
    pipeline: Pipeline,
    names: Names,
    stop: CancellationToken,
    table: Table,
    totals: Totals,
    /// What was said to wait: it is said once, however often it is met.
    waiting: BTreeSet<String>,
    started: Instant,
}

impl Runner<'_> {
    async fn all(mut self) -> io::Result<u8> {
        let done = if self.args.once { self.once().await } else { self.forever().await };
        let drained = tokio::time::timeout(self.config.drain_deadline(), self.pipeline.drain()).await.is_ok();
        if !drained {
            complain("workflows go on after the time of run.drain; the next run takes them up where they are");
        }
        done?;
        self.totals.waiting = self.left().await.max(self.waiting.len() as u64);
        self.conclude()?;
        let interrupted = self.args.once && self.stop.is_cancelled();
        let look = !drained || interrupted || (self.args.once && self.totals.needs_a_look());
        Ok(if look { EXIT_LOOK } else { EXIT_CLEAN })
    }

    /// Tasks that are not at their end, whether this run met them or not: a back-off may be longer than a run.
    async fn left(&self) -> u64 {
        let states = TaskState::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
        let mut filter = TaskFilter { states, most: 100, ..TaskFilter::default() };
        let mut count = 0;
        loop {
            match self.pipeline.store().tasks(&filter).await {
                Ok(page) => {
                    let Some(last) = page.last() else { return count };
                    filter.after = Some(last.id);
                    count += page.len() as u64;
                }
                Err(why) => {
                    from::say(&why);
                    return count.max(1);
                }
            }
        }
    }

    /// What was left, then each watched bucket.
    async fn once(&mut self) -> io::Result<()> {
        let stop = self.stop.clone();
        let pipeline = self.pipeline.clone();
        let resumed = tokio::select! {
            resumed = pipeline.resume() => resumed,
            () = stop.cancelled() => return Ok(()),
        };
        self.resumed(resumed)?;
        let (_nobody, mut nothing) = mpsc::channel(1);
        self.round(&mut nothing).await
    }

    async fn forever(&mut self) -> io::Result<()> {
        refresh_definitions(&self.pipeline, &self.stop);
        let mut resumed = self.resume_from_time_to_time();
        if !self.args.json {
            let buckets: Vec<_> = self.config.watched().map(|(name, _)| name).collect();
            let every = text::duration(self.config.interval());
            writeln!(io::stdout(), "Watching {}, every {every}. Ctrl-C ends it.", buckets.join(", "))?;
        }
        while !self.stop.is_cancelled() {
            self.round(&mut resumed).await?;
            let mut pause = pin!(tokio::time::sleep(self.config.interval()));
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => break,
                    () = &mut pause => break,
                    Some(some) = resumed.recv() => self.resumed(some)?,
                }
            }
        }
        Ok(())
    }

    /// A long listing keeps nobody's back-off waiting.
    fn resume_from_time_to_time(&self) -> mpsc::Receiver<Result<Resumed, Error>> {
        let (send, receive) = mpsc::channel(1);
        let (pipeline, stop) = (self.pipeline.clone(), self.stop.clone());
        tokio::spawn(async move {
            loop {
                let resumed = tokio::select! {
                    resumed = pipeline.resume() => resumed,
                    () = stop.cancelled() => return,
                };
                if send.send(resumed).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(RESUME) => {}
                    () = stop.cancelled() => return,
                }
            }
        });
        receive
    }

    /// Every object in the watched buckets, once. The end of this future ends the scans that are under way.
    async fn round(&mut self, resumed: &mut mpsc::Receiver<Result<Resumed, Error>>) -> io::Result<()> {
        self.totals.unchanged = 0;
        let stop = self.stop.clone();
        let watched: Vec<_> =
            self.config.watched().map(|(name, prefix)| (name.to_owned(), prefix.to_owned())).collect();
        for (name, prefix) in watched {
            let stream = self.address(&name, &prefix).and_then(|address| self.pipeline.process_prefix(&address));
            let stream = match stream {
                Ok(stream) => stream,
                Err(why) => {
                    self.failed(&name, &why)?;
                    continue;
                }
            };
            let mut stream = pin!(stream);
            loop {
                let progress = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    Some(some) = resumed.recv() => {
                        self.resumed(some)?;
                        continue;
                    }
                    progress = stream.next() => progress,
                };
                match progress {
                    None => break,
                    Some(progress) => self.progress(&name, progress)?,
                }
            }
        }
        Ok(())
    }

    fn address(&self, name: &str, prefix: &str) -> Result<String, Error> {
        if prefix.is_empty() {
            return Ok(name.to_owned());
        }
        Ok(format!("{}/{prefix}", self.pipeline.buckets().get(name)?.url()))
    }

    fn progress(&mut self, bucket: &str, progress: Progress) -> io::Result<()> {
        match progress {
            Progress::Done(done) => self.done(&done),
            Progress::Failed { object, error } => {
                let path = object.as_ref().map_or_else(|| bucket.to_owned(), |object| self.names.show(object));
                self.failed(&path, &error)
            }
            Progress::ListingFailed { after, error } => {
                let path = match after {
                    None => bucket.to_owned(),
                    Some(after) => format!("{bucket}, behind {after}"),
                };
                self.failed(&path, &error)
            }
            other => self.failed(bucket, &Error::new(ErrorKind::Unsupported, format!("{other:?}"))),
        }
    }

    fn resumed(&mut self, resumed: Result<Resumed, Error>) -> io::Result<()> {
        match resumed {
            Err(why) => self.failed("what was left", &why),
            Ok(resumed) => {
                resumed.tasks.iter().try_for_each(|done| self.done(done))?;
                resumed.errors.iter().try_for_each(|(task, why)| self.failed(&format!("task {task}"), why))
            }
        }
    }

    fn done(&mut self, done: &Processed) -> io::Result<()> {
        if done.repeated && done.record.state.is_terminal() {
            self.totals.unchanged += 1;
            return Ok(());
        }
        let path = self.names.show(&done.record.object);
        let label = label(&done.record);
        if label == Label::Waiting {
            if !self.waiting.insert(path.clone()) {
                return Ok(());
            }
        } else {
            self.waiting.remove(&path);
            self.totals.add(&done.record);
        }
        if self.args.json {
            return writeln!(io::stdout(), "{}", TaskJson::line(&done.record)?);
        }
        let details = details(&done.record, &self.names, &self.table);
        self.row(label, &path, details)
    }

    /// An object without a verdict. What somebody else works on, or what may succeed later, waits.
    fn failed(&mut self, path: &str, why: &Error) -> io::Result<()> {
        let label = if why.is_retryable() { Label::Waiting } else { Label::Error };
        if label == Label::Error {
            self.totals.failed += 1;
        } else if !self.waiting.insert(path.to_owned()) {
            return Ok(());
        }
        if self.args.json {
            let error = json!({
                "kind": why.kind().as_str(),
                "message": why.to_string(),
                "retryable": why.is_retryable(),
            });
            let line = json!({ "schema": "scan-pipeline.error/1", "path": path, "error": error });
            return writeln!(io::stdout(), "{line}");
        }
        self.row(label, path, vec![why.to_string()])
    }

    /// With an end in sight rows are gathered to a table; else each is said when it is there.
    fn row(&mut self, label: Label, path: &str, details: Vec<String>) -> io::Result<()> {
        self.table.push(label, path, details);
        if self.args.once {
            if io::stderr().is_terminal() {
                write!(io::stderr(), "\r{}", plural(self.totals.objects(), "object"))?;
            }
            return Ok(());
        }
        let mut out = io::stdout().lock();
        std::mem::replace(&mut self.table, Table::new(true)).write_rows(&mut out)?;
        out.flush()
    }

    fn conclude(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let elapsed = self.started.elapsed();
        if self.args.json {
            let line = json!({
                "schema": "scan-pipeline.run/1",
                "totals": self.totals,
                "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            });
            return writeln!(out, "{line}");
        }
        if self.args.once {
            if io::stderr().is_terminal() {
                write!(io::stderr(), "\r{:30}\r", "")?;
            }
            self.table.sort();
            self.table.write(&mut out)?;
        }
        let (objects, bytes) = (plural(self.totals.objects(), "object"), text::bytes(self.totals.bytes));
        let took = text::duration(elapsed);
        writeln!(out, "{objects}, {bytes} in {took}: {}", self.totals.words())?;
        if self.totals.waiting > 0 {
            writeln!(out, "What waits is tried again by the next run; `scan-pipeline tasks` shows it.")?;
        }
        if self.totals.failed > 0 {
            writeln!(out, "What failed for good stays where it is; `scan-pipeline tasks --state dead` shows it.")?;
        }
        Ok(())
    }
}
