//! What `clamav-core` costs beyond libclamav: the same files, definitions, limits and threads on both sides.
//!
//! ```text
//! side-by-side [--quick] [--control] [--processes N] [--rounds N] [--every N] [--at-most PERCENT]
//! side-by-side --profile [--rounds N]
//! ```
//!
//! `--every N` takes one file in N; `--quick` one in four, and one round. `--control` puts a second bare engine in our place: what it
//! shows is noise. With `--at-most` the program fails when we cost more than that.
//! `--profile` only scans, on our side and on one thread, for a profiler to look at.
//!
//! The measuring is done by child processes that load both engines, one after the other, in alternating order: where
//! in memory an engine lies makes a difference of its own, which only fresh processes average out.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use scan_pipeline_benches::definitions::{self, Plan};
use scan_pipeline_benches::files::{self, ARCHIVES, UNEQUAL};
use scan_pipeline_benches::measure::Spread;
use scan_pipeline_benches::sides::{How, Prepared, Side, Tally};
use scan_pipeline_benches::{Result, flag, number, option};

fn main() -> Result<ExitCode> {
    let definitions = files::target_dir().join("bench-definitions");
    let folder = files::target_dir().join("bench-files");
    if let Some(threads) = option("--child") {
        child(threads.parse()?, &definitions, &folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    if flag("--profile") {
        return profile(&definitions, &folder);
    }
    let quick = flag("--quick");
    let processes = number("--processes", if quick { 1 } else { 4 })?;
    let rounds = number("--rounds", if quick { 1 } else { 3 })?;
    let every = number("--every", if quick { 4 } else { 1 })?;
    definitions::generate(&Plan::FULL, &definitions)?;
    files::prepare(&folder)?;

    let mut samples = Vec::new();
    for process in 0..processes {
        for threads in [1, 2] {
            eprintln!("process {} of {processes}, threads: {threads}", process + 1);
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--child", &threads.to_string(), "--rounds", &rounds.to_string()]);
            command.args(["--process", &process.to_string(), "--every", &every.to_string()]);
            command.args(flag("--control").then_some("--control"));
            let output = command.stderr(std::process::Stdio::inherit()).output()?;
            if !output.status.success() {
                return Err(format!("a measuring process failed: {}", output.status).into());
            }
            for line in String::from_utf8(output.stdout)?.lines() {
                match Sample::parse(line, process, threads) {
                    Some(sample) => samples.push(sample),
                    None => println!("{line}"),
                }
            }
        }
    }
    let worst = report(&samples);
    let most: Option<f64> = option("--at-most").map(|text| text.parse()).transpose()?;
    if most.is_some_and(|most| worst > 1.0 + most / 100.0) {
        eprintln!("over the limit: {:.1}% more processor time a file", (worst - 1.0) * 100.0);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Scans all files by both ways, again and again.
fn profile(definitions: &Path, folder: &Path) -> Result<ExitCode> {
    definitions::generate(&Plan::FULL, definitions)?;
    let files = files::prepare(folder)?.into_iter().filter(|file| file.kind != UNEQUAL);
    let files = files.map(Prepared::new).collect::<Result<Vec<_>>>()?;
    let ours = Side::ours(definitions, 1)?;
    for _ in 0..number("--rounds", 3)? {
        for how in How::ALL {
            let (cost, _) = ours.pass(&files, how, 1)?;
            println!("{}: {:.3} ms a file", how.name(), cost.cpu.as_secs_f64() * 1e3 / files.len() as f64);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Files that one side scans before it is the other's turn: few, so that a neighbour's burst hits both.
const BATCH: usize = 4;

/// One side's pass over one batch of files of a kind.
#[derive(Debug)]
struct Sample {
    process: usize,
    threads: usize,
    kind: String,
    small: bool,
    batch: usize,
    how: String,
    round: usize,
    ours: bool,
    files: usize,
    cpu: f64,
    wall: f64,
}

impl Sample {
    fn parse(line: &str, process: usize, threads: usize) -> Option<Self> {
        let fields: Vec<&str> = line.strip_prefix("sample\t")?.split('\t').collect();
        let [kind, small, batch, how, round, ours, files, cpu, wall] = fields[..] else { return None };
        Some(Self {
            process,
            threads,
            kind: kind.to_owned(),
            small: small == "true",
            batch: batch.parse().ok()?,
            how: how.to_owned(),
            round: round.parse().ok()?,
            ours: ours == "true",
            files: files.parse().ok()?,
            cpu: cpu.parse().ok()?,
            wall: wall.parse().ok()?,
        })
    }
}

/// Loads both engines and measures; prints a line for each pair of passes.
fn child(threads: usize, definitions: &Path, folder: &Path) -> Result<()> {
    let process = number("--process", 0)?;
    let load_ours = || if flag("--control") { Side::bare(definitions) } else { Side::ours(definitions, threads) };
    let (ours, bare) = if process % 2 == 0 {
        let bare = Side::bare(definitions)?;
        (load_ours()?, bare)
    } else {
        let ours = load_ours()?;
        (ours, Side::bare(definitions)?)
    };
    let every = number("--every", 1)?.max(1);
    let mut groups: BTreeMap<(String, bool), Vec<Prepared>> = BTreeMap::new();
    for file in files::prepare(folder)?.into_iter().step_by(every) {
        groups.entry((file.kind.clone(), file.is_small())).or_default().push(Prepared::new(file)?);
    }
    if process == 0 && threads == 1 {
        describe(&groups, &ours, &bare)?;
    } else {
        for files in groups.values() {
            ours.pass(files, How::Bytes, threads)?; // Warms up.
            bare.pass(files, How::Bytes, threads)?;
        }
    }
    for round in 0..number("--rounds", 1)? {
        for ((kind, small), files) in &groups {
            for (batch, files) in files.chunks(BATCH).enumerate() {
                for how in How::ALL {
                    // A-B-B-A, so that what drifts slowly hits both sides alike.
                    let first = (round + process) % 2 == 0;
                    for is_ours in [first, !first, !first, first] {
                        let side = if is_ours { &ours } else { &bare };
                        let (cost, _) = side.pass(files, how, threads)?;
                        println!(
                            "sample\t{kind}\t{small}\t{batch}\t{}\t{round}\t{is_ours}\t{}\t{}\t{}",
                            how.name(),
                            files.len(),
                            cost.cpu.as_secs_f64(),
                            cost.wall.as_secs_f64(),
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

/// Says what the files are and what both sides make of them.
fn describe(groups: &BTreeMap<(String, bool), Vec<Prepared>>, ours: &Side, bare: &Side) -> Result<()> {
    let (mut our_tally, mut bare_tally, mut all) = (Tally::default(), Tally::default(), 0);
    for ((kind, _), files) in groups {
        let (_, ours) = ours.pass(files, How::Bytes, 1)?;
        let (_, bare) = bare.pass(files, How::Bytes, 1)?;
        all += files.len();
        our_tally.add(ours);
        bare_tally.add(bare);
        if ours.failed + bare.failed + ours.matched > 0 {
            return Err(format!("of kind {kind}: ours {ours:?}, bare {bare:?}").into());
        }
    }
    println!("{all} files; ours says {our_tally:?}, bare {bare_tally:?}");
    Ok(())
}

/// Prints the tables and gives the highest median ratio over all files.
fn report(samples: &[Sample]) -> f64 {
    let mut worst = 0.0_f64;
    let kinds: Vec<&str> = {
        let mut kinds: Vec<&str> = samples.iter().map(|sample| sample.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    println!(
        "\n| files | by | threads | files | bare ms/file | ours ms/file | ratio | lowest..highest | of medians | of minima |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---|---:|---:|");
    let mut row = |title: &str, choose: &dyn Fn(&Sample) -> bool| {
        for how in How::ALL {
            for threads in [1, 2] {
                let chosen: Vec<&Sample> = samples
                    .iter()
                    .filter(|sample| sample.how == how.name() && sample.threads == threads && choose(sample))
                    .collect();
                let Some(line) = Line::of(&chosen) else { continue };
                if title == "all" {
                    worst = worst.max(line.ratio.median);
                }
                println!(
                    "| {title} | {} | {threads} | {} | {:.3} | {:.3} | {:.4} | {:.4}..{:.4} | {:.4} | {:.4} |",
                    how.name(),
                    line.files,
                    line.bare.median * 1e3,
                    line.ours.median * 1e3,
                    line.ratio.median,
                    line.ratio.lowest,
                    line.ratio.highest,
                    line.of_medians,
                    line.of_minima,
                );
            }
        }
    };
    row("all", &|sample| sample.kind != UNEQUAL);
    row("archives", &|sample| ARCHIVES.contains(&sample.kind.as_str()));
    row("no archives", &|sample| sample.kind != UNEQUAL && !ARCHIVES.contains(&sample.kind.as_str()));
    row("small", &|sample| sample.kind != UNEQUAL && sample.small);
    for kind in kinds {
        row(kind, &|sample| sample.kind == kind);
    }
    println!("\n`{UNEQUAL}` is not in `all`: libclamav does not unpack it, and we do.\n");
    for ours in [false, true] {
        for threads in [1, 2] {
            let rate = rate(samples, ours, threads);
            let side = if ours { "ours" } else { "bare" };
            println!("{side}, {threads} thread(s): {:.0} files/s by path, on the wall", rate.median);
        }
    }
    worst
}

/// What each pass over one batch cost, for the bare side and for ours.
#[derive(Default)]
struct Passes {
    costs: [Vec<f64>; 2],
    files: usize,
}

/// A line of the table.
struct Line {
    files: usize,
    bare: Spread,
    ours: Spread,
    ratio: Spread,
    /// Of the sums of each batch's median passes.
    of_medians: f64,
    /// Of the sums of each batch's cheapest passes.
    of_minima: f64,
}

impl Line {
    fn of(samples: &[&Sample]) -> Option<Self> {
        // A round of a process is one observation: the sums of both sides over all groups.
        let mut rounds: BTreeMap<(usize, usize), [f64; 2]> = BTreeMap::new();
        let mut passes: BTreeMap<(&str, bool, usize), Passes> = BTreeMap::new();
        for sample in samples {
            let side = usize::from(sample.ours);
            rounds.entry((sample.process, sample.round)).or_default()[side] += sample.cpu;
            let group = passes.entry((&sample.kind, sample.small, sample.batch)).or_default();
            group.costs[side].push(sample.cpu);
            group.files = sample.files;
        }
        let files: usize = passes.values().map(|group| group.files).sum();
        if files == 0 {
            return None;
        }
        let spread = |side: usize| passes.values().map(move |group| Spread::of(group.costs[side].iter().copied()));
        let of = |choose: fn(Spread) -> f64| spread(1).map(choose).sum::<f64>() / spread(0).map(choose).sum::<f64>();
        // Each side makes two passes a round.
        let per_file = |side: usize| Spread::of(rounds.values().map(|sums| sums[side] / 2.0 / files as f64));
        Some(Self {
            files,
            bare: per_file(0),
            ours: per_file(1),
            ratio: Spread::of(rounds.values().map(|sums| sums[1] / sums[0])),
            of_medians: of(|spread| spread.median),
            of_minima: of(|spread| spread.lowest),
        })
    }
}

/// Files a second by path, which the neighbours on the machine have a say in.
fn rate(samples: &[Sample], ours: bool, threads: usize) -> Spread {
    let mut rounds: BTreeMap<(usize, usize), (f64, usize)> = BTreeMap::new();
    let chosen = samples.iter().filter(|sample| sample.how == How::Files.name() && sample.kind != UNEQUAL);
    for sample in chosen.filter(|sample| sample.ours == ours && sample.threads == threads) {
        let sum = rounds.entry((sample.process, sample.round)).or_default();
        sum.0 += sample.wall;
        sum.1 += sample.files;
    }
    Spread::of(rounds.values().map(|(wall, files)| *files as f64 / wall))
}
