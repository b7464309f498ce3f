//! How fast the detectors of sensitive data look at memory, beside reading the same memory and the crate `regex`.
//!
//! ```sh
//! cargo run --release -p scan-pipeline-benches --bin detectors -- [--mib 256] [--runs 5] [--quick] [--text NAME] [--kernel]
//! ```
//!
//! `--kernel` leaves out all but the first tier, as for a profile.
//!
//! Times are processor time of one thread, so a busy machine matters less; that of reading is from the same run.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::hint::black_box;

use regex::bytes::RegexSet;
use scan_pipeline::engine::sensitive::{Detector, Detectors, Instructions};
use scan_pipeline_benches::measure::{Spread, cpu};
use scan_pipeline_benches::rng::Rng;
use scan_pipeline_benches::texts::TEXTS;
use scan_pipeline_benches::{Result, flag, number, option};

/// Reads all of it, as fast as this machine can with ordinary code.
fn read(text: &[u8]) -> u64 {
    let mut sums = [0_u64; 16];
    for block in text.chunks_exact(128) {
        for (sum, word) in sums.iter_mut().zip(block.chunks_exact(8)) {
            *sum = sum.wrapping_add(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

/// GB/s of some runs.
fn speed(runs: usize, text: &[u8], mut run: impl FnMut(&[u8])) -> Spread {
    run(text);
    let rates = (0..runs).map(|_| {
        let before = cpu();
        run(text);
        text.len() as f64 / (cpu() - before).as_secs_f64() / 1e9
    });
    Spread::of(rates.collect::<Vec<_>>())
}

fn main() -> Result<()> {
    let quick = flag("--quick");
    let size = number("--mib", if quick { 64 } else { 256 })? << 20;
    let runs = number("--runs", if quick { 3 } else { 7 })?;
    let first = |instructions| Detectors::builder().first_tier().instructions(instructions).build();
    let patterns = [
        r"\b[0-9]{3}[- .][0-9]{2}[- .][0-9]{4}\b",
        r"\b(?:[0-9][ -]?){13,19}\b",
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
        r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,255}\.[A-Za-z]{2,}",
        r"\(?\b[2-9][0-9]{2}\)?[ .-]?[2-9][0-9]{2}[ .-]?[0-9]{4}\b",
    ];
    let alternation = regex::bytes::RegexBuilder::new(&patterns.join("|")).unicode(false).build()?;
    let set = RegexSet::new(patterns.map(|pattern| format!("(?-u){pattern}")))?;

    println!("GB/s of one core, the median of {runs} runs over {} MiB of each text (lowest to highest)", size >> 20);
    let (wanted, kernel) = (option("--text"), flag("--kernel"));
    for (name, make) in TEXTS.into_iter().filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted == name)) {
        let text = make(&mut Rng::new(1), size);
        let plain = speed(runs, &text, |text| {
            black_box(read(text));
        });
        let line = |what: &str, spread: Spread| {
            let Spread { median, lowest, highest } = spread;
            println!(
                "{name:8} {what:34} {median:6.2}  ({lowest:.2} to {highest:.2})  {:4.2} of reading",
                median / plain.median
            );
        };
        line("reading the memory", plain);
        for instructions in Instructions::available() {
            let detectors = first(instructions)?;
            let what = format!("first tier, {instructions}");
            line(
                &what,
                speed(runs, &text, |text| {
                    black_box(detectors.find("x", text));
                }),
            );
        }
        if kernel {
            continue;
        }
        let all = Detectors::builder().all().build()?;
        line(
            "both tiers, the best of them",
            speed(runs, &text, |text| {
                black_box(all.find("x", text));
            }),
        );
        let tokens = Detectors::builder()
            .detect_all(Detector::ALL.into_iter().filter(|one| *one != Detector::Password))
            .build()?;
        line(
            "both tiers without passwords",
            speed(runs, &text, |text| {
                black_box(tokens.find("x", text));
            }),
        );
        // A fraction of the text, for these take their time.
        let part = &text[..size / 8];
        line(
            "regex, five patterns in one",
            speed(runs.min(3), part, |text| {
                black_box(alternation.find_iter(text).count());
            }),
        );
        line(
            "RegexSet, by lines",
            speed(runs.min(3), part, |text| {
                let hits = text.split(|byte| *byte == b'\n').filter(|line| set.is_match(line)).count();
                black_box(hits);
            }),
        );
    }
    Ok(())
}
