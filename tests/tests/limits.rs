//! Each limit alone: beyond it unscannable with the limit as the reason, within it clean or found.

mod common;

use std::time::{Duration, Instant};

use clamav_core::{ErrorKind, Limits, ReasonKind, ScanRequest, Verdict};
use common::{clean, engine, engine_with, found_in, scan, scan_on, unscannable};
use scan_pipeline_tests::marker::{filler, harmless, payload};
use scan_pipeline_tests::{stream, tape, zip};

fn kinds(report: &clamav_core::Report) -> Vec<ReasonKind> {
    match &report.verdict {
        Verdict::Unscannable { reasons } => reasons.iter().map(|reason| reason.kind).collect(),
        other => panic!("not unscannable: {other:?}"),
    }
}

#[test]
fn max_file_size_of_the_file_itself() {
    let engine = engine_with(Limits { max_file_size: 10_000, ..Limits::default() });
    clean(&scan_on(&engine, "exact", filler(10_000, 1)));
    let infected = [filler(9_000, 1), payload()[..].to_vec()].concat();
    unscannable(ReasonKind::TooLarge, "over", &scan_on(&engine, "over", infected.clone()));
    unscannable(ReasonKind::TooLarge, "one", &scan_on(&engine, "one", filler(10_001, 1)));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("on-disk");
    std::fs::write(&path, &infected).expect("written");
    unscannable(ReasonKind::TooLarge, "on-disk", &engine.scan(path, ScanRequest::new()).expect("a verdict"));
    found_in("over", &scan("over", infected));
}

#[test]
fn max_file_size_of_a_member() {
    // libclamav trims the member and says nothing.
    let engine = engine_with(Limits { max_file_size: 1 << 20, ..Limits::default() });
    let giant = |marker_at| zip::giant(2 << 20, marker_at);
    unscannable(ReasonKind::TooLarge, "a.zip/giant.txt", &scan_on(&engine, "a.zip", giant(Some((2 << 20) - 64))));
    unscannable(ReasonKind::TooLarge, "a.zip/giant.txt", &scan_on(&engine, "a.zip", giant(None)));
    clean(&scan("a.zip", giant(None)));
    found_in("a.zip/giant.txt", &scan("a.zip", giant(Some((2 << 20) - 64))));
}

#[test]
fn max_file_size_of_streams() {
    let engine = engine_with(Limits { max_file_size: 1 << 20, ..Limits::default() });
    let plain = [vec![b'a'; 2 << 20], payload()].concat();
    for (name, bytes) in [
        ("a.gz", stream::gz(&plain)),
        ("a.bz2", stream::bz2(&plain)),
        ("a.xz", stream::xz(&plain)),
        ("a.zst", stream::zst(&plain)),
    ] {
        assert!(kinds(&scan_on(&engine, name, bytes.clone())).contains(&ReasonKind::TooLarge), "{name}");
        let report = scan(name, bytes);
        assert!(matches!(report.verdict, Verdict::Infected { .. }), "{report:#?}");
    }
}

#[test]
fn max_scan_size() {
    let engine = engine_with(Limits { max_scan_size: 3 << 20, ..Limits::default() });
    let part = filler(1 << 20, 3);
    let members =
        |last: &[u8]| tape::tar(&[("a", &part), ("b", &part[1..]), ("c", &part[2..]), ("last.gz", &stream::gz(last))]);
    assert!(kinds(&scan_on(&engine, "a.tar", members(&payload()))).contains(&ReasonKind::ScanSize));
    assert!(kinds(&scan_on(&engine, "a.tar", members(&harmless()))).contains(&ReasonKind::ScanSize));
    clean(&scan("a.tar", members(&harmless())));
    found_in("a.tar/last.gz/#1", &scan("a.tar", members(&payload())));
    // What we unpack ourselves counts, too.
    let archive = |last: &[u8]| tape::ar(&[("a", &part), ("b", &part[1..]), ("c", &part[2..]), ("last", last)]);
    assert!(kinds(&scan_on(&engine, "a.a", archive(&harmless()))).contains(&ReasonKind::ScanSize));
    clean(&scan("a.a", archive(&harmless())));
}

#[test]
fn max_recursion() {
    let nested = |depth, data: &[u8]| zip::nested(depth, data);
    let report = scan("deep.zip", nested(20, &payload()));
    assert!(kinds(&report).contains(&ReasonKind::TooDeep), "{report:#?}");
    assert!(kinds(&scan("deep.zip", nested(20, &harmless()))).contains(&ReasonKind::TooDeep));
    clean(&scan("deep.zip", nested(10, &harmless())));
    assert!(matches!(scan("deep.zip", nested(10, &payload())).verdict, Verdict::Infected { .. }));
    let engine = engine_with(Limits { max_recursion: 30, ..Limits::default() });
    assert!(matches!(scan_on(&engine, "deep.zip", nested(20, &payload())).verdict, Verdict::Infected { .. }));
    // With one level nothing is unpacked, so nothing that has members is clean.
    let flat = engine_with(Limits { max_recursion: 1, ..Limits::default() });
    assert!(kinds(&scan_on(&flat, "a.zip", zip::letter(&harmless()))).contains(&ReasonKind::TooDeep));
    assert!(kinds(&scan_on(&flat, "a.zst", stream::zst(&harmless()))).contains(&ReasonKind::TooDeep));
    clean(&scan_on(&flat, "a.txt", harmless()));
}

#[test]
fn nesting_as_deep_as_the_limit_allows_does_not_overflow_the_stack() {
    let engine = engine_with(Limits { max_recursion: Limits::DEEPEST, ..Limits::default() });
    let report = scan_on(&engine, "deep.zip", zip::nested(95, &payload()));
    assert!(matches!(report.verdict, Verdict::Infected { .. }), "{:?}", report.verdict);
    assert_eq!(report.coverage.depth, 95);
    assert!(kinds(&scan_on(&engine, "deep.zip", zip::nested(120, &payload()))).contains(&ReasonKind::TooDeep));
}

#[test]
fn max_files() {
    // 10,050 members under the default of 10,000; the marker is in the last one.
    assert!(kinds(&scan("a.zip", zip::many(10_050, Some(10_049)))).contains(&ReasonKind::TooManyFiles));
    let engine = engine_with(Limits { max_files: 100, ..Limits::default() });
    assert!(kinds(&scan_on(&engine, "a.zip", zip::many(150, None))).contains(&ReasonKind::TooManyFiles));
    clean(&scan_on(&engine, "a.zip", zip::many(90, None)));
    clean(&scan("a.zip", zip::many(150, None)));
    assert!(matches!(scan("a.zip", zip::many(150, Some(149))).verdict, Verdict::Infected { .. }));
    assert_eq!(kinds(&scan_on(&engine, "a.zip", zip::many(150, None)))[0], ReasonKind::TooManyFiles);
    let members: Vec<_> = (0..150).map(|number| (format!("m{number}"), filler(10, number))).collect();
    let members: Vec<_> = members.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    assert!(kinds(&scan_on(&engine, "a.a", tape::ar(&members))).contains(&ReasonKind::TooManyFiles));
    clean(&scan("a.a", tape::ar(&members)));
}

#[test]
fn max_scan_time() {
    let engine = engine_with(Limits { max_scan_time: Duration::from_millis(1), ..Limits::default() });
    let large = zip::many(5_000, Some(4_999));
    assert_eq!(kinds(&scan_on(&engine, "a.zip", large.clone())).first(), Some(&ReasonKind::TimedOut));
    assert!(matches!(scan("a.zip", large).verdict, Verdict::Infected { .. }));
}

#[test]
fn a_deadline_that_passes_in_the_middle_is_a_timeout() {
    // The detector moves past the deadline by waiting for it, so that the scan is in the middle whatever the machine.
    // An engine of its own, whose threads are free.
    let engine = engine_with(Limits::default());
    let deadline = Instant::now() + Duration::from_secs(1);
    let request = ScanRequest::named("a.zip").deadline(deadline).detector(move |layer: &clamav_core::Layer<'_>| {
        while layer.depth == 1 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        std::ops::ControlFlow::Continue(())
    });
    let report = engine.scan(zip::many(500, Some(499)), request).expect("a verdict");
    assert!(kinds(&report).contains(&ReasonKind::TimedOut), "{report:#?}");
    assert!(report.coverage.layers < 500, "{}", report.coverage.layers);
}

#[test]
fn a_deadline_that_has_passed_before_is_an_error() {
    let error = engine().scan(payload(), ScanRequest::new().deadline(Instant::now())).expect_err("too late");
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(error.is_retryable());
}

#[test]
fn limits_are_in_the_report() {
    let limits = Limits { max_files: 77, ..Limits::default() };
    let engine = engine_with(limits.clone());
    assert_eq!(scan_on(&engine, "a", harmless()).coverage.limits, limits);
}
