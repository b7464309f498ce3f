//! How fast the detectors of sensitive data look at memory, beside reading the same memory and the crate `regex`.
//!
//! ```sh
//! cargo run --release -p scan-pipeline-benches --bin detectors -- [--mib 256] [--runs 5] [--quick]
//! ```
//!
//! Times are processor time of one thread, so a busy machine matters less; that of reading is from the same run.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::hint::black_box;

use regex::bytes::RegexSet;
use scan_pipeline::engine::sensitive::{Detector, Detectors, Instructions};
use scan_pipeline_benches::measure::{Spread, cpu};
use scan_pipeline_benches::rng::Rng;
use scan_pipeline_benches::{Result, flag, number};

/// A text of a kind, of about so many bytes.
type Make = fn(&mut Rng, usize) -> Vec<u8>;

const TEXTS: [(&str, Make); 4] = [("no hits", no_hits), ("natural", natural), ("CSV", table), ("random", random)];

const WORDS: [&str; 24] = [
    "the", "of", "and", "a", "letter", "to", "in", "was", "with", "for", "river", "that", "his", "table", "as", "on",
    "evening", "which", "had", "nobody", "knew", "when", "it", "rained",
];

/// Prose, and lines of a log.
fn no_hits(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 256);
    while text.len() < size {
        if rng.between(0, 3) == 0 {
            let n = |rng: &mut Rng, most: u64| rng.between(0, most - 1);
            let (h, m, s) = (n(rng, 24), n(rng, 60), n(rng, 60));
            let line = format!(
                "2024-11-{:02} {h:02}:{m:02}:{s:02},{:03} INFO dfs.DataNode: block blk_{} from /10.250.{}.{}:{}\n",
                n(rng, 28) + 1,
                n(rng, 1000),
                rng.bits(),
                n(rng, 256),
                n(rng, 256),
                n(rng, 65536)
            );
            text.push_str(&line);
        } else {
            sentence(rng, &mut text);
        }
    }
    text.into_bytes()
}

fn sentence(rng: &mut Rng, text: &mut String) {
    for _ in 0..8 + rng.between(0, 11) {
        text.push_str(rng.pick::<&str>(&WORDS));
        text.push(' ');
    }
    text.push_str(".\n");
}

/// The same with something in every eighth sentence or so.
fn natural(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 256);
    while text.len() < size {
        sentence(rng, &mut text);
        match rng.between(0, 31) {
            0 => text.push_str("write to anna.b@example.com about it\n"),
            1 => text.push_str("call me at (415) 555-2671 or later\n"),
            2 => text.push_str("charge card 4012 8888 8888 1881 for it\n"),
            3 => text.push_str("it was 1,204.50 on 11/21/2024 at 17:30\n"),
            _ => {}
        }
    }
    text.into_bytes()
}

/// Numbers of every length, and a card in a thousand rows.
fn table(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 256);
    text.push_str("id,amount,account,when,count,code\n");
    while text.len() < size {
        let (id, amount, account) =
            (rng.between(0, 999_999_999), rng.between(0, 99_999_999), rng.between(0, 999_999_999_999));
        let (when, count, code) =
            (1_700_000_000 + rng.between(0, 9_999_999), rng.between(0, 999), rng.between(0, 99_999));
        text.push_str(&format!("{id},{}.{:02},{account},{when},{count},{code}\n", amount / 100, amount % 100));
        if rng.between(0, 999) == 0 {
            text.push_str("1,1.00,4012888888881881,1,1,1\n");
        }
    }
    text.into_bytes()
}

fn random(rng: &mut Rng, size: usize) -> Vec<u8> {
    (0..size / 8).flat_map(|_| rng.bits().to_le_bytes()).collect()
}

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
    for (name, make) in TEXTS {
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
