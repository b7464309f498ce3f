//! What holds for every text: the kernel's variants agree with the plain definition of a candidate, the detectors with
//! the oracle, and what comes in pieces with the whole.

mod custom;
mod hostile;
mod keys;
mod logs;
mod masking;
mod oracle;
mod places;
mod rules;
mod streaming;
mod texts;
mod tokens;

use proptest::test_runner::Config as ProptestConfig;

use super::header::{self, Header};
use super::kinds::Detector;
use super::look::{Raw, Source};
use super::pass::{CHUNK, Scratch, Text, matches};
use super::{Detectors, Instructions};

/// How often a property is tried, unless `PROPTEST_CASES` says how often.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(usual), ..ProptestConfig::default() }
}

/// Detectors of the first tier that leave nothing out.
fn everything(instructions: Instructions) -> Detectors {
    let builder = Detectors::builder().first_tier().min_confidence(0.0).fingerprint_key([7; 32]);
    builder.instructions(instructions).build().expect("detectors")
}

/// The matches in a text no longer than a chunk.
fn raws(detectors: &Detectors, text: &[u8]) -> Vec<Raw> {
    assert!(text.len() <= CHUNK);
    let header = Header::read(&text[..text.len().min(header::MOST)]);
    let whole = Text { bytes: text, base: 0, header: header.as_ref() };
    matches(&detectors.0, whole, 0, text.len(), &mut Scratch::default()).collect()
}

/// What a text has of one detector, by default settings.
fn found<'t>(detector: Detector, text: &'t str) -> Vec<&'t str> {
    let detectors = Detectors::builder().detect(detector).build().expect("detectors");
    raws(&detectors, text.as_bytes()).iter().map(|raw| &text[raw.start..raw.end]).collect()
}

/// The detector of ours that found a match.
fn ours(raw: &Raw) -> Detector {
    match raw.source {
        Source::Ours(detector) => detector,
        Source::Own(number) => panic!("the pattern {number} of somebody's own"),
    }
}
