//! Writes every fixture of the catalogue into a folder, with `expectations.json` beside them: what is true of each, and
//! what clamav-core says of it. The tests of the Python and Node packages hold their reports against this one table, so
//! that a binding cannot lose a reason, a layer path or a number.
//!
//! What has to become of objects is in `objects.json`.
//!
//! `cargo run -p scan-pipeline-tests --example fixtures -- FOLDER`

use std::path::Path;

use clamav_core::{EngineBuilder, Limits, Reason, Report, ScanRequest, Threat, Verdict};
use scan_pipeline_tests::catalogue::{Fixture, Truth, beyond_default_limits, catalogue};
use scan_pipeline_tests::objects;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: fixtures FOLDER")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    // The same files as the bindings load, because their digest is in each report.
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scan-pipeline/definitions").canonicalize()?;
    let engine = EngineBuilder::new().definitions(&definitions).build()?;
    let mut expected = Vec::new();
    let all = catalogue().into_iter().map(|fixture| (fixture, false));
    for (Fixture { name, bytes, truth }, beyond) in all.chain(beyond_default_limits().into_iter().map(|f| (f, true))) {
        std::fs::write(folder.join(&name), &bytes)?;
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let report = engine.scan(bytes, ScanRequest::named(name.as_str()))?;
        expected.push(json!({
            "name": name,
            "truth": word(truth),
            "beyond_default_limits": beyond,
            "report": form(&report, &digest),
        }));
    }
    let table = json!({ "definitions": definitions, "fixtures": expected });
    std::fs::write(folder.join("objects.json"), serde_json::to_vec_pretty(&objects::table())?)?;
    // Last, so that a folder with the table in it is whole.
    std::fs::write(folder.join("expectations.json"), serde_json::to_vec_pretty(&table)?)?;
    Ok(())
}

fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::Clean => "clean",
        Truth::Infected => "infected",
        Truth::NeverClean => "never_clean",
        Truth::Odd => "odd",
        Truth::Rewritten => "rewritten",
        Truth::Unreadable => "unreadable",
    }
}

/// The report in the form of `scan --json`, written down here once more: a second opinion on that form, too. What
/// differs from scan to scan (the time it took) and what clamav-core does not know (a hash of settings) is left out.
fn form(report: &Report, sha256: &str) -> Value {
    let coverage = &report.coverage;
    let (status, threats, reasons) = match &report.verdict {
        Verdict::Clean => ("clean", &[][..], &[][..]),
        Verdict::Infected { threats } => ("infected", threats.as_slice(), coverage.gaps.as_slice()),
        Verdict::Unscannable { reasons } => ("unscannable", &[][..], reasons.as_slice()),
    };
    json!({
        "verdict": {
            "status": status,
            "threats": threats.iter().map(threat).collect::<Vec<_>>(),
            "reasons": reasons.iter().map(reason).collect::<Vec<_>>(),
        },
        "findings": [],
        "findings_omitted": 0,
        "coverage": {
            "proven": true,
            "started": coverage.started,
            "layers": coverage.layers,
            "bytes": coverage.bytes,
            "depth": coverage.depth,
            "members": coverage.members,
            "trivial": coverage.trivial,
            "gap_count": coverage.gap_count,
            "limits": limits(&coverage.limits),
        },
        "engine": {
            "name": "clamav",
            "library": report.engine.library,
            "generation": report.engine.generation,
            "functionality_level": report.engine.functionality_level,
            "signatures": report.engine.signatures,
        },
        "sha256": sha256,
        "size": report.size,
        "file_type": report.file_type,
    })
}

fn threat(threat: &Threat) -> Value {
    json!({ "signature": threat.signature, "layer_path": threat.layer_path })
}

fn reason(reason: &Reason) -> Value {
    json!({ "kind": reason.kind.as_str(), "layer_path": reason.layer_path, "detail": reason.detail })
}

fn limits(limits: &Limits) -> Value {
    json!({
        "max_file_size": limits.max_file_size,
        "max_scan_size": limits.max_scan_size,
        "max_recursion": limits.max_recursion,
        "max_files": limits.max_files,
        "max_scan_time_ms": u64::try_from(limits.max_scan_time.as_millis()).unwrap_or(u64::MAX),
    })
}
