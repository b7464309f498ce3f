//! `scan-pipeline jobs`: begins bulk jobs, shows how far they are, and stops them.

use std::io::{self, Write};
use std::time::Duration;

use scan_pipeline::config::{Config, OpenStore};
use scan_pipeline::job::{JobOptions, Jobs};
use scan_pipeline::store::{Job, JobId, JobState};
use scan_pipeline::{Error, ErrorKind};
use serde::Serialize;

use crate::args::{JobsArgs, JobsCommand};
use crate::text::{self, number, plural, printable};
use crate::{EXIT_CLEAN, EXIT_ERROR, EXIT_LOOK, from, progress};

/// Time between two looks at a job that is followed.
const LOOK: Duration = Duration::from_millis(500);
/// Jobs that are read at once.
const PAGE: usize = 100;

/// Does it, and returns the exit code.
pub(crate) async fn run(args: &JobsArgs) -> io::Result<u8> {
    let opened = async {
        let config = Config::load(&args.config).await?;
        let store = config.store_url().open().await?;
        Ok::<_, Error>((config, store))
    };
    let (config, store) = match opened.await {
        Ok(opened) => opened,
        Err(why) => {
            from::say(&why);
            return Ok(EXIT_ERROR);
        }
    };
    let result = command(args, &config, &store).await;
    if let Err(why) = store.close().await {
        from::say(&why);
    }
    result.unwrap_or_else(|why| {
        from::say(&why);
        Ok(EXIT_ERROR)
    })
}

async fn command(args: &JobsArgs, config: &Config, store: &OpenStore) -> Result<io::Result<u8>, Error> {
    let queue = from::queue(config, &args.config).await?;
    let jobs = Jobs::new(config.buckets(store).await?, queue, store.jobs());
    match &args.command {
        JobsCommand::Start { from, inventory, rescan, shards, chunk, follow } => {
            let options = JobOptions { shards: *shards, chunk: *chunk, rescan: *rescan };
            let id = match inventory {
                None => jobs.scan_prefix(from, &options).await?,
                Some(manifest) => {
                    let buckets = config.buckets(store).await?;
                    let (bucket, prefix) = buckets.within(from)?;
                    if !prefix.is_empty() {
                        let why = "an inventory is of a whole bucket: write its address without anything behind it";
                        return Err(Error::new(ErrorKind::InvalidInput, why).about(from.clone()));
                    }
                    let manifest = jobs.manifest(manifest)?;
                    jobs.scan_inventory(&manifest, bucket.url(), &options).await?
                }
            };
            if *follow {
                return self::follow(&jobs, &id, args.json).await;
            }
            let job = jobs.get(&id).await?;
            Ok(begun(&job, args.json).map(|()| EXIT_CLEAN))
        }
        JobsCommand::List => list(&jobs, args.json).await,
        JobsCommand::Show { id, follow: true } => follow(&jobs, id, args.json).await,
        JobsCommand::Show { id, follow: false } => {
            let job = jobs.get(id).await?;
            Ok(whole(&job, args.json).map(|()| code(&job)))
        }
        JobsCommand::Cancel { id } => {
            let state = jobs.cancel(id).await?;
            if state != JobState::Cancelled {
                let why = format!("is {state}, so there is nothing to cancel");
                return Err(Error::new(ErrorKind::InvalidInput, why).about(format!("job {id}")));
            }
            let job = jobs.get(id).await?;
            Ok(whole(&job, args.json).map(|()| EXIT_CLEAN))
        }
    }
}

/// A job with the name of its form.
#[derive(Serialize)]
struct JobJson<'a> {
    schema: &'static str,
    #[serde(flatten)]
    job: &'a Job,
}

fn json_line(job: &Job) -> io::Result<()> {
    let line = serde_json::to_string(&JobJson { schema: "scan-pipeline.job/1", job })?;
    writeln!(io::stdout(), "{line}")
}

/// What is done needs no look; what failed does.
fn code(job: &Job) -> u8 {
    let look = matches!(job.state, JobState::Failed | JobState::Cancelled) || job.totals.failed > 0;
    if look { EXIT_LOOK } else { EXIT_CLEAN }
}

fn begun(job: &Job, json: bool) -> io::Result<()> {
    if json {
        return json_line(job);
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "Job {} has begun, in {}. Workers do it: `scan-pipeline work`.",
        job.id,
        plural(job.shards.len() as u64, "shard")
    )?;
    writeln!(out, "`scan-pipeline jobs show {} --follow` shows how far it is.", job.id)
}

async fn list(jobs: &Jobs, json: bool) -> Result<io::Result<u8>, Error> {
    let mut before: Option<JobId> = None;
    loop {
        let page = jobs.list(before.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(Ok(EXIT_CLEAN)) };
        before = Some(last.id.clone());
        for job in &page {
            let written = if json {
                json_line(job)
            } else {
                let (objects, source) = (plural(job.totals.objects(), "object"), printable(&job.source.to_string()));
                writeln!(io::stdout(), "{}  {:<9}  {}  {source}  {objects}", job.id, job.state, job.created)
            };
            if let Err(why) = written {
                return Ok(Err(why));
            }
        }
    }
}

fn whole(job: &Job, json: bool) -> io::Result<()> {
    if json {
        return json_line(job);
    }
    let mut out = io::stdout().lock();
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<12}{}", printable(value));
    line("job", job.id.as_str())?;
    line("source", &job.source.to_string())?;
    line("rescan", job.rescan.as_str())?;
    let why = job.error.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    line("state", &format!("{}{why}", job.state))?;
    line("begun", &job.created.to_string())?;
    line("changed", &job.updated.to_string())?;
    let ended = job.shards.iter().filter(|shard| shard.ended).count();
    let bad: u64 = job.shards.iter().map(|shard| shard.bad).sum();
    let unusable =
        if bad == 0 { String::new() } else { format!(", and {} of the listing cannot be used", plural(bad, "entry")) };
    line(
        "listed",
        &format!(
            "{}, {ended} of {} to the end{unusable}",
            plural(job.listed(), "object"),
            plural(job.shards.len() as u64, "shard")
        ),
    )?;
    let totals = &job.totals;
    line("dealt with", &format!("{}, {} scanned", plural(totals.objects(), "object"), text::bytes(totals.bytes)))?;
    for (name, count) in [
        ("clean", totals.clean),
        ("infected", totals.infected),
        ("unscannable", totals.unscannable),
        ("skipped", totals.skipped),
        ("gone", totals.gone),
        ("failed", totals.failed),
    ] {
        if count > 0 {
            line(&format!("  {name}"), &number(count))?;
        }
    }
    Ok(())
}

/// Shows how far a job is until it has ended.
async fn follow(jobs: &Jobs, id: &JobId, json: bool) -> Result<io::Result<u8>, Error> {
    let bar = progress::bar(json, "{spinner} {bar:30} {human_pos}/{human_len} {per_sec} {msg}");
    loop {
        let job = jobs.get(id).await?;
        if let Some(bar) = &bar {
            bar.set_length(job.listed());
            bar.set_position(job.totals.objects());
            bar.set_message(if job.is_listed() { "" } else { "and more to list" });
        }
        if job.state != JobState::Running {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            return Ok(whole(&job, json).map(|()| code(&job)));
        }
        tokio::time::sleep(LOOK).await;
    }
}
