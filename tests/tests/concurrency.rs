//! Many threads and hot reloads at once: every verdict is the true one, whichever engine gave it, and definitions that
//! cannot be loaded leave the old ones serving.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clamav_core::{EngineBuilder, EngineHandle, ErrorKind, ReloadMode, ScanRequest, Verdict};
use scan_pipeline_tests::catalogue::{Fixture, Truth, catalogue};
use scan_pipeline_tests::marker;

/// Small fixtures of all formats whose truth leaves no choice, or only that between infected and unscannable.
fn fixtures() -> Vec<Fixture> {
    let mut fixtures = catalogue();
    fixtures.retain(|fixture| {
        fixture.bytes.len() < 60_000 && matches!(fixture.truth, Truth::Clean | Truth::Infected | Truth::NeverClean)
    });
    assert!(fixtures.len() > 150, "{}", fixtures.len());
    fixtures
}

fn judge(truth: Truth, verdict: &Verdict) -> bool {
    match truth {
        Truth::Clean => *verdict == Verdict::Clean,
        Truth::Infected => matches!(verdict, Verdict::Infected { .. }),
        _ => *verdict != Verdict::Clean,
    }
}

/// What only one version of the definitions finds.
fn own_content(version: usize) -> Vec<u8> {
    format!("only version {version:08} of the definitions finds this").into_bytes()
}

/// Definitions in a folder, of which there are several versions.
struct Definitions(tempfile::TempDir);

impl Definitions {
    fn new() -> Self {
        let definitions = Self(tempfile::tempdir().expect("a temporary directory"));
        definitions.set(0);
        definitions
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn clear(&self) {
        for entry in std::fs::read_dir(self.path()).expect("listed") {
            std::fs::remove_file(entry.expect("listed").path()).expect("removed");
        }
    }

    /// The test definitions and one more signature, which is the version's own.
    fn set(&self, version: usize) {
        self.clear();
        marker::test_definitions(self.path()).expect("written");
        let line = format!("Concurrency.Version:0:*:{}\n", marker::hex(&own_content(version)));
        std::fs::write(self.path().join("version.ndb"), line).expect("written");
    }

    fn spoil(&self) {
        self.clear();
        marker::write_malformed_definitions(self.path()).expect("written");
    }
}

/// Scans on eight threads while this one reloads; every fourth reload meets definitions that are malformed.
fn scan_while_reloading(mode: ReloadMode, scans: usize, reloads: usize) {
    const THREADS: usize = 8;
    let definitions = Definitions::new();
    let builder = EngineBuilder::new().definitions(definitions.path()).threads(THREADS);
    let handle = EngineHandle::new(builder, mode).expect("the test definitions load");
    let fixtures = fixtures();
    let (done, reloaded) = (AtomicUsize::new(0), AtomicBool::new(false));
    let start = Barrier::new(THREADS + 1);

    let scan_all = |thread: usize| {
        let mut wrong = Vec::new();
        let mut generations = BTreeSet::new();
        start.wait();
        for number in thread * 31.. {
            if done.load(Ordering::Relaxed) >= scans && reloaded.load(Ordering::Relaxed) {
                break;
            }
            let Fixture { name, bytes, truth } = &fixtures[number % fixtures.len()];
            let engine = handle.engine().expect("one serves");
            match engine.scan(bytes.as_slice(), ScanRequest::named(name.as_str())) {
                Ok(report) => {
                    if !judge(*truth, &report.verdict) {
                        wrong.push(format!("{name} ({truth:?}): {:?}", report.verdict));
                    }
                    generations.insert(report.engine.generation.clone());
                }
                Err(error) => wrong.push(format!("{name} ({truth:?}): {error}")),
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        (wrong, generations)
    };

    // What the handle said about itself, one entry for each set of definitions that was good.
    let mut good = vec![handle.info().expect("one serves").generation];
    let reload_all = || {
        start.wait();
        for number in 1..=reloads {
            // Spread over the scans, so that the engine changes under all of them.
            while done.load(Ordering::Relaxed) < scans * number / (reloads + 1) {
                std::thread::yield_now();
            }
            if number % 4 == 0 {
                definitions.spoil();
                assert!(handle.is_outdated().expect("listed"));
                let error = handle.reload().expect_err("malformed");
                assert_eq!(error.kind(), ErrorKind::Definitions, "{error}");
                assert!(error.to_string().contains("malformed"), "it says why: {error}");
                let serving = handle.info().expect("the old one goes on");
                assert_eq!(Some(&serving.generation), good.last());
                continue;
            }
            definitions.set(number);
            let info = handle.reload().expect("good definitions");
            assert!(!good.contains(&info.generation), "another content, another generation");
            assert_eq!(handle.info().expect("one serves").generation, info.generation);
            assert!(!handle.is_outdated().expect("listed"));
            good.push(info.generation);
        }
        reloaded.store(true, Ordering::Relaxed);
    };

    let (wrong, seen) = std::thread::scope(|scope| {
        let scan_all = &scan_all;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || scan_all(thread))).collect();
        let reloads = std::panic::catch_unwind(std::panic::AssertUnwindSafe(reload_all));
        // The scanning threads wait for the end of the reloads, be it a bad one.
        reloaded.store(true, Ordering::Relaxed);
        let mut wrong = Vec::new();
        let mut seen = BTreeSet::new();
        for thread in threads {
            let (more, generations) = thread.join().expect("a scanning thread");
            wrong.extend(more);
            seen.extend(generations);
        }
        reloads.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (wrong, seen)
    });
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    assert!(done.into_inner() >= scans);
    let good: BTreeSet<_> = good.into_iter().collect();
    assert!(seen.is_subset(&good), "only engines that were offered have scanned");
    assert!(seen.len() > good.len() / 2, "{} of {} engines have scanned", seen.len(), good.len());
    for Fixture { name, bytes, truth } in &fixtures {
        let engine = handle.engine().expect("one serves");
        let report = engine.scan(bytes.as_slice(), ScanRequest::named(name.as_str())).expect("a verdict");
        assert!(judge(*truth, &report.verdict), "{name}: {report:#?}");
    }
}

#[test]
fn eight_threads_and_concurrent_reloads_give_no_wrong_verdict() {
    scan_while_reloading(ReloadMode::Concurrent, 8_000, 28);
}

#[test]
fn eight_threads_and_draining_reloads_give_no_wrong_verdict() {
    scan_while_reloading(ReloadMode::DrainThenLoad, 3_000, 16);
}

#[test]
fn a_generation_is_the_content_and_nothing_else() {
    let (one, two) = (Definitions::new(), Definitions::new());
    let build = |definitions: &Definitions| EngineBuilder::new().definitions(definitions.path()).threads(1).build();
    let generation = |definitions| build(definitions).expect("they load").info().generation.clone();
    assert_eq!(generation(&one), generation(&two), "other places and times");
    two.set(1);
    assert_ne!(generation(&one), generation(&two));
    two.set(0);
    assert_eq!(generation(&one), generation(&two));
}

#[test]
fn an_engine_that_was_replaced_goes_on_until_it_is_dropped() {
    let definitions = Definitions::new();
    let builder = EngineBuilder::new().definitions(definitions.path()).threads(2);
    let handle = EngineHandle::new(builder, ReloadMode::Concurrent).expect("the test definitions load");
    let old = handle.engine().expect("one serves");
    definitions.set(1);
    handle.reload().expect("good definitions");
    let new = handle.engine().expect("one serves");
    for (engine, own, other) in [(&old, 0, 1), (&new, 1, 0)] {
        let scan = |bytes| engine.scan(bytes, ScanRequest::new()).expect("a verdict").verdict;
        assert!(matches!(scan(own_content(own)), Verdict::Infected { .. }));
        assert_eq!(scan(own_content(other)), Verdict::Clean);
    }
    assert_ne!(old.info().generation, new.info().generation);
}
