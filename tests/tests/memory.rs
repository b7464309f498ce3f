//! Memory stays flat, over scans and over reloads. A program of its own with one test, since the figure is the process's.

use std::time::Instant;

use clamav_core::{EngineBuilder, EngineHandle, PendingScan, ReloadMode, ScanRequest};
use scan_pipeline_tests::catalogue::{Fixture, catalogue};
use scan_pipeline_tests::marker;

const MIB: usize = 1 << 20;

/// What the process has in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this test needs /proc");
    let pages: usize = statm.split(' ').nth(1).expect("the second field").parse().expect("a number");
    pages * rustix::param::page_size()
}

#[test]
fn neither_scans_nor_reloads_add_to_it() {
    let definitions = tempfile::tempdir().expect("a temporary directory");
    marker::test_definitions(definitions.path()).expect("written");
    let builder = EngineBuilder::new().definitions(definitions.path()).threads(2);
    let handle = EngineHandle::new(builder, ReloadMode::Concurrent).expect("the test definitions load");
    let fixtures = catalogue();
    let started = Instant::now();

    let scan = |count: usize| {
        let engine = handle.engine().expect("one serves");
        let request = |fixture: &Fixture| ScanRequest::named(fixture.name.as_str());
        let scans = fixtures.iter().cycle().take(count);
        let mut pending = std::collections::VecDeque::<PendingScan>::new();
        for fixture in scans {
            if pending.len() == 8
                && let Some(scan) = pending.pop_front()
            {
                scan.wait().expect("a verdict");
            }
            pending.push_back(engine.submit(fixture.bytes.as_slice(), request(fixture)).expect("taken"));
        }
        pending.into_iter().for_each(|scan| drop(scan.wait().expect("a verdict")));
    };
    let grown_by = |before: usize| resident().saturating_sub(before);

    scan(2_000);
    let before = resident();
    scan(10_000);
    let by_scans = grown_by(before);

    let reload = |count: usize| (0..count).for_each(|_| drop(handle.reload().expect("good definitions")));
    reload(10);
    let before = resident();
    reload(60);
    scan(fixtures.len());
    let by_reloads = grown_by(before);

    let figures = format!(
        "{} KiB resident at last; 10,000 scans added {} KiB, 60 reloads {} KiB; {:.1?}",
        resident() >> 10,
        by_scans >> 10,
        by_reloads >> 10,
        started.elapsed()
    );
    eprintln!("{figures}");
    assert!(by_scans < 16 * MIB, "{figures}");
    assert!(by_reloads < 16 * MIB, "{figures}");
}
