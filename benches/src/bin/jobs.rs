//! What a bulk job's listing costs: its shards, chunks, messages and cursors, beside the bare listing of the same bucket
//! by the same calls in the same run.
//!
//! ```text
//! jobs [--quick] [--objects N] [--rounds N] [--local]
//! ```
//!
//! On the local disk, and on an S3 server where it is installed and `--local` does not leave it out.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scan_pipeline::objects::ObjectOps;
use scan_pipeline_benches::measure::{Spread, cpu};
use scan_pipeline_benches::remote::cpu_of;
use scan_pipeline_benches::{Result, files, flag, jobs, number};
use scan_pipeline_tests::servers::{Running, S3Server, start};

/// Seconds of a pass: on the wall, and of the processor, the server's included.
type Pass = [f64; 2];

fn main() -> Result<()> {
    let quick = flag("--quick");
    let objects = number("--objects", if quick { 10_000 } else { 100_000 })?;
    let rounds = number("--rounds", if quick { 3 } else { 7 })?;
    // Not in the system's temporary directory, which may be in memory.
    let dir = tempfile::tempdir_in(files::target_dir())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{objects} objects, {rounds} rounds\n");
    println!(
        "| bucket | bare s | job s | ratio | lowest..highest | bare cpu s | job cpu s | ratio | lowest..highest |"
    );
    println!("|---|---:|---:|---:|---|---:|---:|---:|---|");
    runtime.block_on(async {
        let bucket = jobs::on_disk(&dir.path().join("bucket"), objects).await?;
        measure("local disk", &bucket, None, dir.path(), objects, rounds).await?;
        if flag("--local") {
            return Ok(());
        }
        let server = S3Server::Versitygw;
        let Some(running) = start(server) else {
            println!("\nNOT MEASURED: {}, which is not installed (scripts/servers.sh).", server.name());
            return Ok(());
        };
        let bucket = jobs::on_server(&running, objects).await?;
        measure(server.name(), &bucket, Some(&running), dir.path(), objects, rounds).await
    })
}

async fn measure(
    name: &str,
    bucket: &Arc<dyn ObjectOps>,
    server: Option<&Running>,
    dir: &Path,
    objects: usize,
    rounds: usize,
) -> Result<()> {
    let (mut bare, mut job) = (Vec::<Pass>::new(), Vec::<Pass>::new());
    // The first listing finds nothing in the caches of the system.
    jobs::bare(&**bucket, objects).await?;
    for _ in 0..rounds {
        // There and back, so that what drifts slowly hits both alike.
        let first = timed(server, jobs::bare(&**bucket, objects)).await?;
        let second = timed_job(bucket, server, dir, objects).await?;
        let third = timed_job(bucket, server, dir, objects).await?;
        let fourth = timed(server, jobs::bare(&**bucket, objects)).await?;
        bare.push(middle(first, fourth));
        job.push(middle(second, third));
    }
    print(name, &bare, &job);
    Ok(())
}

async fn timed_job(bucket: &Arc<dyn ObjectOps>, server: Option<&Running>, dir: &Path, objects: usize) -> Result<Pass> {
    let dir = tempfile::tempdir_in(dir)?;
    timed(server, jobs::job(bucket, dir.path(), objects)).await
}

async fn timed(server: Option<&Running>, pass: impl Future<Output = Result<()>>) -> Result<Pass> {
    let used = || -> Result<Duration> {
        Ok(cpu() + server.map(|server| cpu_of(server.pid())).transpose()?.unwrap_or_default())
    };
    let (before, started) = (used()?, Instant::now());
    pass.await?;
    Ok([started.elapsed().as_secs_f64(), (used()? - before).as_secs_f64()])
}

fn middle(first: Pass, second: Pass) -> Pass {
    [f64::midpoint(first[0], second[0]), f64::midpoint(first[1], second[1])]
}

fn print(name: &str, bare: &[Pass], job: &[Pass]) {
    let columns: Vec<String> = [0, 1]
        .into_iter()
        .map(|which| {
            let of = |passes: &[Pass]| Spread::of(passes.iter().map(|pass| pass[which])).median;
            let ratio = Spread::of(job.iter().zip(bare).map(|(job, bare)| job[which] / bare[which]));
            format!(
                "{:.3} | {:.3} | {:.2} | {:.2}..{:.2}",
                of(bare),
                of(job),
                ratio.median,
                ratio.lowest,
                ratio.highest
            )
        })
        .collect();
    println!("| {name} | {} |", columns.join(" | "));
}
