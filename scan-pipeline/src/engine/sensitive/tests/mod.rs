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

use super::Detectors;
use super::check::raws;
use super::kinds::Detector;

/// How often a property is tried, unless `PROPTEST_CASES` says how often.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(usual), ..ProptestConfig::default() }
}

/// What a text has of one detector, by default settings.
fn found(detector: Detector, text: &str) -> Vec<&str> {
    let detectors = Detectors::builder().detect(detector).build().expect("detectors");
    raws(&detectors, text.as_bytes()).iter().map(|raw| &text[raw.start..raw.end]).collect()
}
