//! What the pipeline costs beyond the scan: objects from an S3 server that is far away, beside a bare scan loop over the
//! same files on the local disk; and how many verdicts and commits a second it gets through.
//!
//! ```text
//! pipeline [--quick] [--objects N] [--processes N] [--rounds N] [--server versitygw|minio] [--latency MS] [--slice MS]
//!          [--control] [--no-scan] [--no-tag] [--rates | --no-rates]
//! ```
//!
//! `--rates` leaves the comparisons out, and `--no-rates` all else; `--no-scan` and `--no-tag` leave out that of the pipeline
//! which does nothing behind the scan, and of the one which tags everything. `--control` compares the bare loop with itself.
//! The measuring is done by child processes, as in `side-by-side`, in which the two sides take turns of `--slice`
//! ([`turns`](scan_pipeline_benches::turns)); the proxy that makes the server late is a process, too.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use scan_pipeline::engine::ClamAv;
use scan_pipeline::handler::tag;
use scan_pipeline::model::Verdict;
use scan_pipeline::objects::ObjectOps;
use scan_pipeline::pipeline::Progress;
use scan_pipeline::store::{SqliteStore, TaskState};
use scan_pipeline::workflow::Workflow;
use scan_pipeline::{Pipeline, Policy};
use scan_pipeline_benches::definitions::{self, Plan};
use scan_pipeline_benches::files::{self, BenchFile};
use scan_pipeline_benches::measure::{Spread, cpu};
use scan_pipeline_benches::rates;
use scan_pipeline_benches::relay::relay;
use scan_pipeline_benches::remote::Remote;
use scan_pipeline_benches::sides::{How, Prepared, Side, Tally};
use scan_pipeline_benches::turns::{Ready, Work, take_turns};
use scan_pipeline_benches::{Result, flag, number, option};

/// Scans at once, on all sides.
const THREADS: usize = 2;

/// Objects that each side scans before its first turn: those whose keys begin so.
const WARM_UP: usize = 100;
const WARM_UP_PREFIX: &str = "000";

fn main() -> Result<ExitCode> {
    let latency = Duration::from_millis(number("--latency", 30)? as u64);
    if let Some(upstream) = option("--proxy") {
        relay(upstream.parse()?, latency, std::io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
    let quick = flag("--quick");
    let objects = number("--objects", if quick { 200 } else { 2_000 })?;
    let rounds = number("--rounds", if quick { 1 } else { 2 })?;
    let server = option("--server").unwrap_or_else(|| String::from("versitygw"));
    if flag("--child") {
        // As `scan-pipeline run` and `work` do.
        scan_pipeline::clamav::prefer_throughput()?;
        child(objects, rounds, &server, latency)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Not in the system's temporary directory, which may be in memory.
    let dir = tempfile::tempdir_in(files::target_dir())?;
    if !flag("--no-rates") {
        print_rates(dir.path(), if quick { 3 } else { 9 })?;
    }
    if flag("--rates") {
        return Ok(ExitCode::SUCCESS);
    }
    definitions::generate(&Plan::FULL, &files::target_dir().join("bench-definitions"))?;
    files::prepare(&files::target_dir().join("bench-files"))?;
    let mut samples = Vec::new();
    let processes = number("--processes", if quick { 1 } else { 2 })?;
    for process in 0..processes {
        eprintln!("process {} of {processes}", process + 1);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--child", "--objects", &objects.to_string(), "--rounds", &rounds.to_string()]);
        command.args(["--process", &process.to_string(), "--server", &server]);
        command.args(["--latency", &latency.as_millis().to_string()]);
        command.args(option("--slice").map(|slice| [String::from("--slice"), slice]).into_iter().flatten());
        command.args(["--no-tag", "--control", "--no-scan"].into_iter().filter(|name| flag(name)));
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("a measuring process failed: {}", output.status).into());
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            match Sample::parse(line) {
                Some(sample) => samples.push(sample),
                None => println!("{line}"),
            }
        }
    }
    println!("\n{objects} objects from {server}, {} ms away\n", latency.as_millis());
    report(&samples, objects);
    Ok(ExitCode::SUCCESS)
}

/// What is compared with the bare loop, which is `clamav_core::Engine::scan` by path, from as many threads as there are
/// scan threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The bare loop once more, which shows what the comparison is worth.
    Control,
    /// The pipeline, which leaves everything where it is.
    Scan,
    /// The pipeline, which tags everything.
    Tag,
}

impl Way {
    const ALL: [Self; 3] = [Self::Control, Self::Scan, Self::Tag];

    fn wanted() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|way| match way {
                Self::Control => flag("--control"),
                Self::Scan => !flag("--no-scan"),
                Self::Tag => !flag("--no-tag"),
            })
            .collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Control => "bare loop once more",
            Self::Scan => "pipeline",
            Self::Tag => "pipeline with tag",
        }
    }

    fn policy(self) -> Policy {
        match self {
            Self::Control | Self::Scan => Policy::new(),
            Self::Tag => {
                let mark = Arc::new(Workflow::new("mark").then(tag()));
                Policy::new().clean(Arc::clone(&mark)).infected(Arc::clone(&mark)).unscannable(mark)
            }
        }
    }
}

/// All objects once by each of the two.
#[derive(Debug, Clone, Copy)]
struct Sample {
    way: Way,
    /// Seconds on the wall and of the processor: of the bare loop, and of what is compared with it.
    bare: [f64; 2],
    ours: [f64; 2],
    /// Seconds of the processor of the server and of the proxy.
    others: [f64; 2],
}

impl Sample {
    fn faster(&self) -> f64 {
        self.bare[0] / self.ours[0]
    }

    fn dearer(&self) -> f64 {
        self.ours[1] / self.bare[1]
    }

    /// As [`faster`](Self::faster), with what is left of the wall's time for us when server and proxy have had theirs of it,
    /// spread over all cores.
    fn apart(&self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        self.bare[0] / (self.ours[0] - (self.others[0] + self.others[1]) / cores)
    }

    fn line(&self) -> String {
        let seconds: Vec<_> = [self.bare, self.ours, self.others].concat().iter().map(f64::to_string).collect();
        format!("sample\t{}\t{}", self.way.name(), seconds.join("\t"))
    }

    fn parse(line: &str) -> Option<Self> {
        let (way, seconds) = line.strip_prefix("sample\t")?.split_once('\t')?;
        let way = Way::ALL.into_iter().find(|known| known.name() == way)?;
        let seconds: Vec<f64> = seconds.split('\t').map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let [a, b, c, d, e, f] = seconds[..] else { return None };
        Some(Self { way, bare: [a, b], ours: [c, d], others: [e, f] })
    }
}

/// Loads the engine, fills the bucket, and measures; prints a line for each comparison.
fn child(objects: usize, rounds: usize, server: &str, latency: Duration) -> Result<()> {
    let definitions = files::target_dir().join("bench-definitions");
    let process = number("--process", 0)?;
    let slice = Duration::from_millis(number("--slice", 2_000)? as u64);
    let files = files::prepare(&files::target_dir().join("bench-files"))?;
    // By another order than that of their kinds, so that the large ones are not all at one place.
    let files: Vec<BenchFile> = (0..objects).map(|number| files[number * 101 % files.len()].clone()).collect();
    let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
    let remote = Remote::start(server, latency)?;
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let engine = {
        let runtime = runtime()?;
        runtime.block_on(remote.upload(&files))?;
        let load = ClamAv::builder().definitions(&definitions).threads(THREADS).build();
        runtime.block_on(load)?
    };
    let loop_ = Side::of(engine.handle().engine()?)?;
    let prepared = files.into_iter().map(Prepared::new).collect::<Result<Vec<_>>>()?;
    let dir = tempfile::tempdir_in(files::target_dir())?;
    let (_, expected) = loop_.pass(&prepared, How::Files, THREADS)?;
    if process == 0 {
        println!("{objects} objects with {} KB each in the mean; {expected:?}", bytes / objects.max(1) / 1000);
    }
    let right = |tally: Tally| match tally == expected {
        true => Ok(()),
        false => Err(format!("{tally:?}, and the first pass said {expected:?}")),
    };
    // What either does once in a process happens before its turn.
    let bare_loop = || {
        Box::new(|ready: &mut Ready| {
            loop_.pass(&prepared[..objects.min(WARM_UP)], How::Files, THREADS)?;
            ready.go()?;
            let before = cpu();
            right(loop_.pass(&prepared, How::Files, THREADS)?.1)?;
            said(before)
        })
    };
    for round in 0..rounds {
        for way in Way::wanted() {
            let pipeline = || {
                Box::new(|ready: &mut Ready| {
                    let runtime = runtime()?;
                    let bucket = runtime.block_on(remote.bucket())?;
                    let store = |what: &str| dir.path().join(format!("{what}-{round}-{way:?}.db"));
                    let bucket: Arc<dyn ObjectOps> = Arc::new(bucket);
                    let open = |store| runtime.block_on(open(&engine, &bucket, way.policy(), store));
                    runtime.block_on(pass(open(store("warm"))?, &bucket, WARM_UP_PREFIX))?;
                    let opened = open(store("work"))?;
                    ready.go()?;
                    let before = cpu();
                    right(runtime.block_on(pass(opened, &bucket, ""))?)?;
                    said(before)
                })
            };
            let others_before = remote.cpu()?;
            let bare = Work { run: bare_loop(), others: Vec::new() };
            let ours = match way {
                Way::Control => Work { run: bare_loop(), others: Vec::new() },
                Way::Scan | Way::Tag => Work { run: pipeline(), others: remote.pids() },
            };
            // Who begins has a turn more than the other, in the end, now and then.
            let [bare, ours] = if (round + process) % 2 == 0 {
                take_turns(slice, [bare, ours])?
            } else {
                let [ours, bare] = take_turns(slice, [ours, bare])?;
                [bare, ours]
            };
            let others = remote.cpu()?;
            let others = [0, 1].map(|of| others[of].saturating_sub(others_before[of]).as_secs_f64());
            let seconds = |(wall, cpu): (Duration, String)| {
                Ok::<_, std::num::ParseFloatError>([wall.as_secs_f64(), cpu.parse()?])
            };
            let sample = Sample { way, bare: seconds(bare)?, ours: seconds(ours)?, others };
            println!("{}", sample.line());
            eprintln!(
                "{}: {:.3} beside bare, {:.3} of its processor time",
                way.name(),
                sample.faster(),
                sample.dearer()
            );
        }
    }
    Ok(())
}

/// What a side says at its end: the processor time that it took.
fn said(before: Duration) -> Result<String> {
    Ok((cpu() - before).as_secs_f64().to_string())
}

/// A pipeline with a store that knows nothing yet, and without a verdict cache: each object is scanned.
async fn open(
    engine: &ClamAv,
    bucket: &Arc<dyn ObjectOps>,
    policy: Policy,
    store: PathBuf,
) -> Result<(Pipeline, SqliteStore)> {
    let store = SqliteStore::open(&store).await?;
    let builder = Pipeline::builder().engine(engine.clone()).bucket("far", Arc::clone(bucket)).policy(policy);
    Ok((builder.store(store.clone()).verdict_cache(0, false).build()?, store))
}

/// Everything under a prefix of the bucket, until all of it is on the disk.
async fn pass((pipeline, store): (Pipeline, SqliteStore), bucket: &Arc<dyn ObjectOps>, prefix: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut progress = std::pin::pin!(pipeline.process_prefix(&format!("{}/{prefix}", bucket.url()))?);
    while let Some(event) = progress.next().await {
        match event {
            Progress::Done(done) if done.record.state == TaskState::Done => match done.report().map(|r| &r.verdict) {
                Some(Verdict::Clean) => tally.clean += 1,
                Some(Verdict::Infected { .. }) => tally.matched += 1,
                Some(_) => tally.unscannable += 1,
                None => tally.failed += 1,
            },
            other => return Err(format!("not done: {other:?}").into()),
        }
    }
    store.close().await?;
    Ok(tally)
}

/// Prints the table. A comparison of all objects is one observation.
fn report(samples: &[Sample], objects: usize) {
    let objects = objects as f64;
    println!(
        "| | comparisons | bare objects/s | ours | beside bare | lowest..highest | bare ms | ours | beside bare | \
         lowest..highest | server ms | proxy ms | apart |"
    );
    println!("|---|---:|---:|---:|---:|---|---:|---:|---:|---|---:|---:|---:|");
    for way in Way::wanted() {
        let of_it: Vec<_> = samples.iter().filter(|sample| sample.way == way).collect();
        let spread = |of: &dyn Fn(&Sample) -> f64| Spread::of(of_it.iter().map(|sample| of(sample)));
        let median = |of: &dyn Fn(&Sample) -> f64| spread(of).median;
        let (faster, dearer) = (spread(&Sample::faster), spread(&Sample::dearer));
        println!(
            "| {} | {} | {:.1} | {:.1} | {:.3} | {:.3}..{:.3} | {:.2} | {:.2} | {:.3} | {:.3}..{:.3} | {:.2} | {:.2} | {:.3} |",
            way.name(),
            of_it.len(),
            median(&|sample| objects / sample.bare[0]),
            median(&|sample| objects / sample.ours[0]),
            faster.median,
            faster.lowest,
            faster.highest,
            median(&|sample| sample.bare[1] * 1e3 / objects),
            median(&|sample| sample.ours[1] * 1e3 / objects),
            dearer.median,
            dearer.lowest,
            dearer.highest,
            median(&|sample| sample.others[0] * 1e3 / objects),
            median(&|sample| sample.others[1] * 1e3 / objects),
            median(&Sample::apart),
        );
    }
}

/// Measures and prints how many a second there are of what needs no scan.
fn print_rates(dir: &Path, runs: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let row = |what: &str, rate: Spread| {
        println!("| {what} | {:.0} | {:.0}..{:.0} |", rate.median, rate.lowest, rate.highest);
    };
    println!("| | a second | lowest..highest |\n|---|---:|---|");
    row("cached verdicts in memory, 1 thread", rates::memory_hits(1, runs)?);
    row("cached verdicts in memory, 2 threads", rates::memory_hits(2, runs)?);
    row("cached verdicts in the store, one at a time", runtime.block_on(rates::stored_hits(dir, 1, runs))?);
    row("cached verdicts in the store, 64 at once", runtime.block_on(rates::stored_hits(dir, 64, runs))?);
    row(
        "objects in memory, verdicts cached, store on disk",
        runtime.block_on(rates::cached_pipeline(Some(dir), runs))?,
    );
    row("objects in memory, verdicts cached, store in memory", runtime.block_on(rates::cached_pipeline(None, runs))?);
    row("commits, 1 committer", runtime.block_on(rates::commits(dir, 1, 300, runs))?);
    row("commits, 64 committers", runtime.block_on(rates::commits(dir, 64, 100, runs))?);
    row("writes of 4 KiB brought to the disk, bare", rates::syncs(dir, runs)?);
    Ok(())
}
