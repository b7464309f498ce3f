//! What the detectors of sensitive data add to a ClamAV scan: the same engine over the same files, with the first tier
//! and without.
//!
//! ```text
//! detectors-in-scan [--quick] [--rounds N] [--every N] [--small-definitions]
//! ```
//!
//! `--every N` takes one file in N; `--quick` one in four, and one round. `--small-definitions` takes a hundredth of
//! the signatures, so that a scan costs less and the detectors weigh more.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::collections::BTreeMap;

use scan_pipeline::clamav::{Engine, EngineBuilder, Input, ScanRequest, Verdict};
use scan_pipeline::engine::{Detectors, FindingTaker};
use scan_pipeline_benches::definitions::{self, Plan};
use scan_pipeline_benches::files::{self, BenchFile};
use scan_pipeline_benches::measure::{Spread, cpu};
use scan_pipeline_benches::{Result, flag, number};

/// Files that are scanned one way before it is the other's turn: few, so that a neighbour's burst hits both.
const BATCH: usize = 4;

/// Processor time in seconds, without the detectors and with them.
type Times = [f64; 2];

fn main() -> Result<()> {
    let quick = flag("--quick");
    let every = number("--every", if quick { 4 } else { 1 })?.max(1);
    let rounds = number("--rounds", if quick { 1 } else { 3 })?;
    let (plan, name) = match flag("--small-definitions") {
        true => (Plan::SMALL, "bench-definitions-small"),
        false => (Plan::FULL, "bench-definitions"),
    };
    let definitions = files::target_dir().join(name);
    definitions::generate(&plan, &definitions)?;
    let engine = EngineBuilder::new().definitions(&definitions).threads(1).build()?;
    let detectors = Detectors::builder().first_tier().build()?;
    let mut kinds: BTreeMap<String, Vec<BenchFile>> = BTreeMap::new();
    for file in files::prepare(&files::target_dir().join("bench-files"))?.into_iter().step_by(every) {
        kinds.entry(file.kind.clone()).or_default().push(file);
    }

    // Warms up, and says that both ways give the same verdicts and the detectors have something to do.
    let (mut count, mut bytes, mut found) = (0, 0, 0);
    for file in kinds.values().flatten() {
        let (without, none) = scan(&engine, None, file)?;
        let (with, some) = scan(&engine, Some(&detectors), file)?;
        if without != with || none != 0 {
            return Err(format!("{}: {without:?} and {with:?}", file.path.display()).into());
        }
        (count, bytes, found) = (count + 1, bytes + file.bytes.len(), found + some);
    }
    println!("{count} files, {} MB, {} signatures, {found} findings", bytes / 1_000_000, plan.total());

    let mut times: BTreeMap<&str, Vec<Times>> = BTreeMap::new();
    for round in 0..rounds {
        for (kind, files) in &kinds {
            let mut sum = [0.0; 2];
            for batch in files.chunks(BATCH) {
                // A-B-B-A, so that what drifts slowly hits both ways alike.
                let first = round % 2 == 0;
                for with in [first, !first, !first, first] {
                    let before = cpu();
                    for file in batch {
                        scan(&engine, with.then_some(&detectors), file)?;
                    }
                    sum[usize::from(with)] += (cpu() - before).as_secs_f64();
                }
            }
            times.entry(kind).or_default().push(sum);
        }
    }
    println!("| files | without ms/file | with ms/file | ratio | lowest..highest |\n|---|---:|---:|---:|---|");
    let all = (0..rounds).map(|round| times.values().fold([0.0; 2], |sum, of| plus(sum, of[round]))).collect();
    print("**all**", count, all);
    for (kind, of) in times {
        print(kind, kinds[kind].len(), of);
    }
    Ok(())
}

fn plus(one: Times, other: Times) -> Times {
    [one[0] + other[0], one[1] + other[1]]
}

/// Prints a row of what each round took.
fn print(kind: &str, files: usize, rounds: Vec<Times>) {
    let each = 1e3 / (2 * files) as f64;
    let [without, with] = [0, 1].map(|way| Spread::of(rounds.iter().map(|times| times[way] * each)).median);
    let Spread { median, lowest, highest } = Spread::of(rounds.iter().map(|[without, with]| with / without));
    println!("| {kind} | {without:.2} | {with:.2} | {median:.3} | {lowest:.3}..{highest:.3} |");
}

/// Scans a file and says how many findings there were.
fn scan(engine: &Engine, detectors: Option<&Detectors>, file: &BenchFile) -> Result<(Verdict, u64)> {
    let request = ScanRequest::named(file.name());
    let Some(detectors) = detectors else {
        return Ok((engine.scan(Input::from(file.bytes.clone()), request)?.verdict, 0));
    };
    let taker = FindingTaker::new(detectors);
    let report = engine.scan(Input::from(file.bytes.clone()), request.detector(taker.detector()))?;
    let found = taker.take();
    Ok((report.verdict, found.omitted + found.list.len() as u64))
}
