//! What the suites share: one engine over the test definitions, and assertions that print the whole report.

#![allow(dead_code, unreachable_pub)] // Each suite compiles it as its own and uses a part of it.

use std::sync::OnceLock;

use clamav_core::{Engine, EngineBuilder, Input, Limits, ReasonKind, Report, ScanOptions, ScanRequest, Verdict};
use scan_pipeline_tests::marker;

/// An engine with the test definitions and default limits, shared by all tests of a suite.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| engine_with(Limits::default()))
}

/// An engine of its own with other limits.
pub fn engine_with(limits: Limits) -> Engine {
    let dir = tempfile::tempdir().expect("a temporary directory");
    marker::test_definitions(dir.path()).expect("definitions can be written");
    EngineBuilder::new()
        .definitions(dir.path())
        .limits(limits)
        .options(ScanOptions::default())
        .build()
        .expect("the test definitions load")
}

/// Scans under a name, for layer paths and failure messages.
pub fn scan(name: &str, bytes: impl Into<Input>) -> Report {
    scan_on(engine(), name, bytes)
}

/// As [`scan`], on another engine.
pub fn scan_on(engine: &Engine, name: &str, bytes: impl Into<Input>) -> Report {
    match engine.scan(bytes, ScanRequest::named(name)) {
        Ok(report) => report,
        Err(error) => panic!("{name}: {error}"),
    }
}

/// The control of each row: the same format with the marker where it can be seen must be found in `layer`.
#[track_caller]
pub fn found_in(layer: &str, report: &Report) {
    let Verdict::Infected { threats } = &report.verdict else { panic!("not found: {report:#?}") };
    assert!(
        threats.iter().any(|threat| threat.layer_path == layer && threat.signature.contains("Marker")),
        "not found in {layer}: {threats:#?}"
    );
}

/// The other control: the harmless twin must be clean.
#[track_caller]
pub fn clean(report: &Report) {
    assert_eq!(report.verdict, Verdict::Clean, "{report:#?}");
    assert!(report.coverage.gaps.is_empty(), "{report:#?}");
}

/// Not clean and not infected, with this reason for this layer among others.
#[track_caller]
pub fn unscannable(kind: ReasonKind, layer: &str, report: &Report) {
    let Verdict::Unscannable { reasons } = &report.verdict else { panic!("not unscannable: {report:#?}") };
    assert!(
        reasons.iter().any(|reason| reason.kind == kind && reason.layer_path == layer),
        "no {kind} at {layer}: {reasons:#?}"
    );
}
