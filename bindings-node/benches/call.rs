//! The other side of `scan.mjs`: the Rust call that a binding stands on, over the same files.
//!
//! ```text
//! call DEFINITIONS THREADS FILE...
//! ```
//!
//! Reads lines from its standard input, each with the numbers of the first file of a turn and of the one behind its last,
//! and answers with the processor time of the turn in milliseconds. Each file is in memory beforehand, as it is on the
//! other side.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::io::{BufRead, Write};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use rustix::time::{ClockId, clock_gettime};
use scan_pipeline::content::Content;
use scan_pipeline::engine::{ClamAv, Engine, ScanContext};
use scan_pipeline::model::Verdict;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Processor time of this process, user and system.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(definitions), Some(threads)) = (args.next(), args.next()) else {
        return Err("usage: call DEFINITIONS THREADS FILE...".into());
    };
    let threads: usize = threads.parse()?;
    let files: Vec<Bytes> = args.map(|path| std::fs::read(path).map(Bytes::from)).collect::<std::io::Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let engine = runtime.block_on(ClamAv::builder().definitions(definitions).threads(threads).build())?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (from, to) = line.split_once(' ').ok_or("a turn is two numbers")?;
        let turn = files.get(from.parse()?..to.parse()?).ok_or("there are not so many files")?;
        let before = cpu();
        runtime.block_on(round(&engine, turn, threads))?;
        println!("{}", (cpu() - before).as_secs_f64() * 1e3);
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// As many scans at a time as there are threads for them.
async fn round(engine: &ClamAv, files: &[Bytes], threads: usize) -> Result<()> {
    let mut scans = stream::iter(files)
        .map(|bytes| async move {
            let content = Content::from_bytes(bytes.clone());
            engine.scan(&content, &ScanContext::named("a.bin")).await
        })
        .buffer_unordered(threads);
    while let Some(report) = scans.next().await {
        if report?.verdict != Verdict::Clean {
            return Err("a file of the benches is not clean".into());
        }
    }
    Ok(())
}
