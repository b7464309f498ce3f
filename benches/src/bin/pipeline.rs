//! What the pipeline costs beyond the scan: objects from an S3 server that is far away, beside a bare scan loop over the
//! same files on the local disk; and how many verdicts and commits a second it gets through.
//!
//! ```text
//! pipeline [--quick] [--objects N] [--processes N] [--rounds N] [--server versitygw|minio] [--latency MS] [--rates]
//!          [--no-tag]
//! ```
//!
//! `--rates` leaves the comparison out, and `--no-tag` that of the pipeline which tags everything. The measuring is done by
//! child processes, as in `side-by-side`; the proxy that makes the server late is one, too.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use scan_pipeline::engine::ClamAv;
use scan_pipeline::handler::tag;
use scan_pipeline::model::Verdict;
use scan_pipeline::objects::{ObjectOps, S3Bucket};
use scan_pipeline::pipeline::Progress;
use scan_pipeline::store::{SqliteStore, TaskState};
use scan_pipeline::workflow::Workflow;
use scan_pipeline::{Pipeline, Policy};
use scan_pipeline_benches::definitions::{self, Plan};
use scan_pipeline_benches::files::{self, BenchFile};
use scan_pipeline_benches::measure::{Spread, cpu};
use scan_pipeline_benches::rates;
use scan_pipeline_benches::remote::{self, Remote};
use scan_pipeline_benches::sides::{How, Prepared, Side, Tally};
use scan_pipeline_benches::{Result, flag, number, option};

/// Scans at once, on all sides.
const THREADS: usize = 2;

fn main() -> Result<ExitCode> {
    let latency = Duration::from_millis(number("--latency", 30)? as u64);
    if let Some(upstream) = option("--proxy") {
        remote::proxy(&upstream, latency, std::io::stdout())?;
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
    print_rates(dir.path(), if quick { 3 } else { 9 })?;
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
        command.args(flag("--no-tag").then_some("--no-tag"));
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("a measuring process failed: {}", output.status).into());
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            match Sample::parse(line, process) {
                Some(sample) => samples.push(sample),
                None => println!("{line}"),
            }
        }
    }
    println!("\n{objects} objects from {server}, {} ms away\n", latency.as_millis());
    report(&samples, objects);
    Ok(ExitCode::SUCCESS)
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `clamav_core::Engine::scan` by path, from as many threads as there are scan threads.
    Bare,
    /// The pipeline, which leaves everything where it is.
    Scan,
    /// The pipeline, which tags everything.
    Tag,
}

impl Way {
    const ALL: [Self; 3] = [Self::Bare, Self::Scan, Self::Tag];

    fn wanted() -> Vec<Self> {
        Self::ALL.into_iter().filter(|way| *way != Self::Tag || !flag("--no-tag")).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::Scan => "pipeline",
            Self::Tag => "pipeline with tag",
        }
    }
}

/// One pass over all objects: seconds on the wall, and of the processor for us, the server and the proxy.
#[derive(Debug, Clone, Copy)]
struct Sample {
    round: (usize, usize),
    way: Way,
    seconds: [f64; 4],
}

impl Sample {
    fn parse(line: &str, process: usize) -> Option<Self> {
        let fields: Vec<&str> = line.strip_prefix("sample\t")?.split('\t').collect();
        let [round, way, wall, ours, server, proxy] = fields[..] else { return None };
        let way = Way::ALL.into_iter().find(|known| known.name() == way)?;
        let mut seconds = [0.0; 4];
        for (into, text) in seconds.iter_mut().zip([wall, ours, server, proxy]) {
            *into = text.parse().ok()?;
        }
        Some(Self { round: (process, round.parse().ok()?), way, seconds })
    }
}

/// Loads both engines, fills the bucket, and measures; prints a line for each pass.
fn child(objects: usize, rounds: usize, server: &str, latency: Duration) -> Result<()> {
    let definitions = files::target_dir().join("bench-definitions");
    let process = number("--process", 0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let load = ClamAv::builder().definitions(&definitions).threads(THREADS).build();
    // Where in memory an engine lies makes a difference of its own, so all of them have the same.
    let engine = runtime.block_on(load)?;
    let bare = Side::of(engine.handle().engine()?)?;
    let files = files::prepare(&files::target_dir().join("bench-files"))?;
    // By another order than that of their kinds, so that the large ones are not all at one place.
    let files: Vec<BenchFile> = (0..objects).map(|number| files[number * 101 % files.len()].clone()).collect();
    let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
    let remote = Remote::start(server, latency)?;
    runtime.block_on(remote.upload(&files))?;
    let bucket = runtime.block_on(remote.bucket())?;
    let prepared = files.into_iter().map(Prepared::new).collect::<Result<Vec<_>>>()?;
    let dir = tempfile::tempdir_in(files::target_dir())?;
    let (_, expected) = bare.pass(&prepared, How::Files, THREADS)?; // Warms up.
    if process == 0 {
        println!("{objects} objects with {} KB each in the mean; {expected:?}", bytes / objects.max(1) / 1000);
    }
    for round in 0..rounds {
        let mut ways = Way::wanted();
        if (round + process) % 2 == 1 {
            ways.reverse();
        }
        // There and back, so that what drifts slowly hits all alike.
        for (number, way) in ways.iter().chain(ways.iter().rev()).copied().enumerate() {
            let store = dir.path().join(format!("{round}-{number}.db"));
            let (wall, ours, [server, proxy]) = (Instant::now(), cpu(), remote.cpu()?);
            let tally = match way {
                Way::Bare => bare.pass(&prepared, How::Files, THREADS)?.1,
                Way::Scan => runtime.block_on(pass(&engine, &bucket, Policy::new(), &store))?,
                Way::Tag => {
                    let mark = Arc::new(Workflow::new("mark").then(tag()));
                    let policy = Policy::new().clean(Arc::clone(&mark)).infected(Arc::clone(&mark)).unscannable(mark);
                    runtime.block_on(pass(&engine, &bucket, policy, &store))?
                }
            };
            let (wall, ours, [server, proxy]) = (wall.elapsed(), cpu() - ours, {
                let [server_now, proxy_now] = remote.cpu()?;
                [server_now.saturating_sub(server), proxy_now.saturating_sub(proxy)]
            });
            if tally != expected {
                return Err(format!("{}: {tally:?}, and the first pass said {expected:?}", way.name()).into());
            }
            let [wall, ours, server, proxy] = [wall, ours, server, proxy].map(|time| time.as_secs_f64());
            println!("sample\t{round}\t{}\t{wall}\t{ours}\t{server}\t{proxy}", way.name());
            eprintln!("{}: {:.1} objects/s, {:.2} ms", way.name(), objects as f64 / wall, ours * 1e3 / objects as f64);
        }
    }
    Ok(())
}

/// Everything in the bucket, with a store that knows nothing yet, and without a verdict cache: each object is scanned.
async fn pass(engine: &ClamAv, bucket: &S3Bucket, policy: Policy, store: &Path) -> Result<Tally> {
    let store = SqliteStore::open(store).await?;
    let builder = Pipeline::builder().engine(engine.clone()).bucket("far", Arc::new(bucket.clone())).policy(policy);
    let pipeline = builder.store(store.clone()).verdict_cache(0, false).build()?;
    let mut tally = Tally::default();
    let mut progress = std::pin::pin!(pipeline.process_prefix(&format!("{}/", bucket.url()))?);
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

/// Prints the table. A round is one observation: the sums of both passes of each way.
fn report(samples: &[Sample], objects: usize) {
    let mut rounds: Vec<(usize, usize)> = samples.iter().map(|sample| sample.round).collect();
    rounds.sort_unstable();
    rounds.dedup();
    let sum = |round, way, what: usize| -> f64 {
        let of_both = samples.iter().filter(|sample| sample.round == round && sample.way == way);
        of_both.map(|sample| sample.seconds[what]).sum()
    };
    let passes = 2.0 * objects as f64;
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    println!(
        "| | objects/s | lowest..highest | beside bare | lowest..highest | \
         our ms | beside bare | lowest..highest | server ms | proxy ms | apart |"
    );
    println!("|---|---:|---|---:|---|---:|---:|---|---:|---:|---:|");
    for way in Way::wanted() {
        let spread = |of: &dyn Fn((usize, usize)) -> f64| Spread::of(rounds.iter().map(|round| of(*round)));
        let rate = spread(&|round| passes / sum(round, way, 0));
        let faster = spread(&|round| sum(round, Way::Bare, 0) / sum(round, way, 0));
        // What is left of the wall's time for us when server and proxy have had theirs of it, spread over all cores.
        let apart = spread(&|round| {
            let others = (sum(round, way, 2) + sum(round, way, 3)) / cores;
            sum(round, Way::Bare, 0) / (sum(round, way, 0) - others)
        });
        let dearer = spread(&|round| sum(round, way, 1) / sum(round, Way::Bare, 1));
        let [ours, server, proxy] = [1, 2, 3].map(|what| spread(&|round| sum(round, way, what) * 1e3 / passes).median);
        println!(
            "| {} | {:.1} | {:.1}..{:.1} | {:.3} | {:.3}..{:.3} | \
             {ours:.2} | {:.3} | {:.3}..{:.3} | {server:.2} | {proxy:.2} | {:.3} |",
            way.name(),
            rate.median,
            rate.lowest,
            rate.highest,
            faster.median,
            faster.lowest,
            faster.highest,
            dearer.median,
            dearer.lowest,
            dearer.highest,
            apart.median,
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
