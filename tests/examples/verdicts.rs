//! Prints what the engine says of every fixture: `cargo run -p scan-pipeline-tests --example verdicts [NAME]`.

use clamav_core::{EngineBuilder, ScanRequest, Verdict};
use scan_pipeline_tests::catalogue::{beyond_default_limits, catalogue};
use scan_pipeline_tests::marker;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let only = std::env::args().nth(1).unwrap_or_default();
    let dir = tempfile::tempdir()?;
    marker::test_definitions(dir.path())?;
    let engine = EngineBuilder::new().definitions(dir.path()).build()?;
    for fixture in catalogue().into_iter().chain(beyond_default_limits()).filter(|f| f.name.contains(&only)) {
        let said = match engine.scan(fixture.bytes, ScanRequest::named(fixture.name.as_str())) {
            Err(error) => format!("ERROR {error}"),
            Ok(report) => match report.verdict {
                Verdict::Clean => "clean".into(),
                Verdict::Infected { threats } => format!(
                    "infected {} {:?}",
                    threats[0].layer_path,
                    report.coverage.gaps.iter().map(|gap| gap.kind.as_str()).collect::<Vec<_>>()
                ),
                Verdict::Unscannable { reasons } => format!(
                    "unscannable {}",
                    reasons
                        .iter()
                        .map(|r| format!("{}@{} ({})", r.kind, r.layer_path, r.detail.clone().unwrap_or_default()))
                        .collect::<Vec<_>>()
                        .join("; ")
                ),
            },
        };
        eprintln!("{:?}\t{}\t{}", fixture.truth, fixture.name, &said[..said.len().min(300)]);
    }
    Ok(())
}
