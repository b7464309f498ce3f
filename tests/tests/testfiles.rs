//! The files of Debian's `clamav-testfiles`: one small program in 44 wrappings, found by its hash.

mod common;

use std::fs;
use std::path::Path;

use clamav_core::{EngineBuilder, ReasonKind, ScanRequest, Verdict};
use scan_pipeline_tests::marker::hex;
use sha2::{Digest, Sha256};

const FOLDER: &str = "/usr/share/clamav-testfiles";

#[test]
fn every_wrapping_is_found() {
    let program = fs::read(Path::new(FOLDER).join("clam.exe"))
        .unwrap_or_else(|why| panic!("{FOLDER}: {why}; install clamav-testfiles (scripts/setup.sh test)"));
    let dir = tempfile::tempdir().expect("a directory");
    let signature = format!("{}:{}:Test.Clam:73\n", hex(&Sha256::digest(&program)), program.len());
    fs::write(dir.path().join("clam.hsb"), signature).expect("written");
    let engine = EngineBuilder::new().definitions(dir.path()).build().expect("builds");

    let mut found = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(FOLDER).expect("readable") {
        let path = entry.expect("readable").path();
        let report = engine.scan(path.as_path(), ScanRequest::new()).expect("a verdict");
        match &report.verdict {
            Verdict::Infected { threats } if threats.iter().all(|threat| threat.signature.contains("Test.Clam")) => {
                found += 1;
            }
            Verdict::Unscannable { reasons }
                if path.extension().is_some_and(|ending| ending == "rar")
                    && reasons.iter().all(|reason| reason.kind == ReasonKind::Unsupported) => {}
            other => wrong.push(format!("{}: {other:?}", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(found >= 44, "{found} of 44 were found");
}
