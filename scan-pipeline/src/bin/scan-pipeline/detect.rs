//! `scan --detect` and `scan --detect-only`: what is looked for, and the scan without libclamav.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::OFlags;
use scan_pipeline::Error;
use scan_pipeline::engine::sensitive::parse_key;
use scan_pipeline::engine::{DetectOnly, Detector, Detectors};

use crate::args::ScanArgs;
use crate::outcome::{Counts, Outcome};
use crate::progress::Progress;
use crate::scan::AHEAD;
use crate::table::Table;
use crate::walk::{Found, Walk};
use crate::{EXIT_ERROR, complain};

/// The environment variable with the key of the fingerprints: a command line can be read by every user of the machine.
const KEY_VARIABLE: &str = "SCAN_PIPELINE_FINGERPRINT_KEY";

/// Something to look for, as it is named on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    All,
    FirstTier,
    One(Detector),
}

impl std::str::FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "first_tier" => Ok(Self::FirstTier),
            name => name.parse().map(Self::One).map_err(|_| {
                let names = Detector::ALL.map(Detector::as_str).join(", ");
                format!("there are all, first_tier, {names}")
            }),
        }
    }
}

/// The detectors that the arguments ask for; `None` for none. The message of an error is for people.
pub(crate) fn asked_for(args: &ScanArgs) -> Result<Option<Detectors>, String> {
    if args.detect.is_empty() && !args.detect_only {
        return match args.min_confidence {
            Some(_) => Err(String::from("--min-confidence says nothing without --detect or --detect-only")),
            None => Ok(None),
        };
    }
    // What is not asked for by name is the first tier.
    let mut builder = args.detect.iter().fold(Detectors::builder(), |builder, asked| match asked {
        Asked::All => builder.all(),
        Asked::FirstTier => builder.first_tier(),
        Asked::One(one) => builder.detect(*one),
    });
    if let Some(confidence) = args.min_confidence {
        builder = builder.min_confidence(confidence);
    }
    if let Some(key) = std::env::var_os(KEY_VARIABLE).filter(|key| !key.is_empty()) {
        // The value is in no message.
        let key = key.to_str().and_then(parse_key);
        let wrong =
            || format!("{KEY_VARIABLE} is no key: write 64 hexadecimal digits, as `openssl rand -hex 32` gives");
        builder = builder.fingerprint_key(key.ok_or_else(wrong)?);
    }
    builder.build().map(Some).map_err(|why| why.to_string())
}

/// Looks for sensitive data in what the arguments name, without libclamav, and returns the exit code.
pub(crate) fn run(args: &ScanArgs, detectors: Detectors) -> io::Result<u8> {
    let progress = Progress::new(args.json);
    progress.start(&args.paths);
    let engine = DetectOnly::new(detectors);
    let threads = args.threads.map(usize::from);
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (counts, table, started) = (Counts::default(), Table::new(args.verbose), Instant::now());
    let mut run = Run { args, counts, table, progress, started };
    let done = std::thread::scope(|scope| {
        let (jobs, todo) = mpsc::sync_channel::<Job>(threads);
        let todo = std::sync::Arc::new(Mutex::new(todo));
        let mut begun = 0;
        for _ in 0..threads {
            let (todo, engine) = (std::sync::Arc::clone(&todo), engine.clone());
            let thread = std::thread::Builder::new().name(String::from("detect"));
            begun += usize::from(thread.spawn_scoped(scope, move || work(&todo, &engine)).is_ok());
        }
        if begun == 0 {
            complain("no thread could be started");
            return Ok(false);
        }
        run.all(&engine, jobs).map(|()| true)
    });
    run.progress.end();
    if !done? {
        return Ok(EXIT_ERROR);
    }
    if !args.json {
        run.conclude()?;
    }
    Ok(run.counts.exit_code(args.allow_unscannable))
}

/// A file, and where to tell what was found in it.
struct Job {
    path: PathBuf,
    answer: SyncSender<Outcome>,
}

/// A file on its way.
struct InFlight {
    path: PathBuf,
    outcome: Receiver<Outcome>,
}

/// Takes files until there are no more.
fn work(todo: &Mutex<Receiver<Job>>, engine: &DetectOnly) {
    loop {
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { path, answer }) = next else { return };
        // Nobody waits for it when the output is at its end.
        let _ = answer.send(look_into(engine, &path));
    }
}

fn look_into(engine: &DetectOnly, path: &Path) -> Outcome {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match open_regular(path) {
        Ok(file) => searched(engine.read(file, &name)),
        Err(why) => {
            let kind = match why.kind() {
                io::ErrorKind::NotFound => "not_found",
                io::ErrorKind::PermissionDenied => "permission_denied",
                _ => "io",
            };
            Outcome::Failed { kind, message: format!("could not be opened: {why}") }
        }
    }
}

fn searched(report: Result<scan_pipeline::model::Report, Error>) -> Outcome {
    match report {
        Ok(report) => Outcome::Searched { report: Box::new(report) },
        Err(why) => Outcome::Failed { kind: why.kind().as_str(), message: why.to_string() },
    }
}

/// Opens a file as it is looked at, and nothing that makes us wait: the path may lead to something else by now.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

struct Run<'a> {
    args: &'a ScanArgs,
    counts: Counts,
    table: Table,
    progress: Progress,
    started: Instant,
}

impl Run<'_> {
    /// In the order of the walk, whatever takes long.
    fn all(&mut self, engine: &DetectOnly, jobs: SyncSender<Job>) -> io::Result<()> {
        let mut ahead: VecDeque<InFlight> = VecDeque::new();
        for found in Walk::new(self.args.paths.clone()) {
            if ahead.len() >= AHEAD
                && let Some(first) = ahead.pop_front()
            {
                self.collect(first)?;
            }
            let (answer, outcome) = mpsc::sync_channel(1);
            // There is room for one answer, and somebody who holds the other end.
            let path = match found {
                Found::File(path) => {
                    let _ = jobs.send(Job { path: path.clone(), answer });
                    path
                }
                Found::StandardInput => {
                    let _ = answer.send(searched(engine.read(io::stdin().lock(), "stdin")));
                    PathBuf::from("-")
                }
                Found::Skipped { path, kind, message } => {
                    let _ = answer.send(Outcome::Skipped { kind, message });
                    path
                }
                Found::Failed { path, kind, message } => {
                    let _ = answer.send(Outcome::Failed { kind, message });
                    path
                }
            };
            ahead.push_back(InFlight { path, outcome });
        }
        drop(jobs);
        ahead.into_iter().try_for_each(|next| self.collect(next))
    }

    fn collect(&mut self, InFlight { path, outcome }: InFlight) -> io::Result<()> {
        self.progress.wait_for(&self.counts, &path);
        let lost = |_| Outcome::Failed { kind: "panicked", message: String::from("a detector panicked") };
        let outcome = outcome.recv().unwrap_or_else(lost);
        self.counts.add(&outcome);
        self.progress.step(&self.counts);
        if self.args.json {
            return writeln!(io::stdout(), "{}", outcome.to_json(&path)?);
        }
        self.table.add(&path, &outcome);
        Ok(())
    }

    fn conclude(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.table.write(&mut out)?;
        self.table.write_searched(&mut out, &self.counts, self.started.elapsed())?;
        writeln!(out, "Nobody looked for malware, and nothing was unpacked: without --detect-only both are done.")?;
        out.flush()
    }
}
