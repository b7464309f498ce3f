//! What every engine has to do: one named test for each behaviour of the contract in [`engine`](crate::engine).
//!
//! ```no_run
//! use std::sync::Arc;
//! use scan_pipeline::engine::Closure;
//! use scan_pipeline::model::{Threat, Verdict};
//! use scan_pipeline::testkit::engine_suite::EngineFixture;
//!
//! mod closure {
//!     use super::*;
//!
//!     async fn fixture() -> EngineFixture {
//!         let engine = Closure::new("no-cats", |bytes, name| {
//!             Ok(match bytes.windows(3).any(|part| part == b"cat") {
//!                 true => Verdict::Infected { threats: vec![Threat { signature: "Cat".into(), layer_path: name.into() }] },
//!                 false => Verdict::Clean,
//!             })
//!         });
//!         EngineFixture::new(Arc::new(engine), "concatenated")
//!     }
//!
//!     scan_pipeline::engine_suite!(fixture);
//! }
//! # fn main() {}
//! ```

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join_all, poll_immediate};
use futures_util::stream;

use crate::content::{Budget, Content, Spool, SpoolOptions};
use crate::engine::{Engine, ScanContext};
use crate::model::{ReasonKind, Report, Verdict};
use crate::{ErrorKind, Result};

/// For a scan that could hang. Nothing waits for it otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// An engine for one test, and what it finds.
pub struct EngineFixture {
    engine: Arc<dyn Engine>,
    infected: Bytes,
    proves: bool,
    max_size: Option<u64>,
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

impl EngineFixture {
    /// An engine that proves what it says, finds something in `infected` and nothing in English text.
    pub fn new(engine: Arc<dyn Engine>, infected: impl Into<Bytes>) -> Self {
        Self { engine, infected: infected.into(), proves: true, max_size: None, _keep: None }
    }

    /// Says that the engine cannot prove what it looked at: where others say clean, it says unproven.
    #[must_use]
    pub fn without_proof(mut self) -> Self {
        self.proves = false;
        self
    }

    /// Says that a content above this size is unscannable, too large.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }

    /// Keeps something to the end of the test: a directory, a server.
    #[must_use]
    pub fn keeping(mut self, what: impl Any + Send + Sync) -> Self {
        self._keep = Some(Box::new(what));
        self
    }

    async fn scan(&self, content: &Content, name: &str) -> Report {
        self.engine.scan(content, &ScanContext::named(name)).await.expect("a report")
    }

    #[track_caller]
    fn assert_nothing_found(&self, report: &Report) {
        match &report.verdict {
            Verdict::Clean => assert!(self.proves && report.is_complete(), "clean takes a proof: {report:?}"),
            Verdict::Unscannable { reasons } => {
                let unproven = !reasons.is_empty() && reasons.iter().all(|reason| reason.kind == ReasonKind::Unproven);
                assert!(!self.proves && unproven && !report.is_complete(), "{report:?}");
            }
            Verdict::Infected { .. } => panic!("nothing is in there: {report:?}"),
        }
    }
}

impl fmt::Debug for EngineFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineFixture").field("engine", &self.engine.info()).finish_non_exhaustive()
    }
}

/// The same bytes in a temporary file.
async fn on_disk(bytes: &Bytes) -> Content {
    let spool =
        Spool::new(SpoolOptions { memory_threshold: 0, max_size: u64::MAX, ..Default::default() }, Budget::default());
    let parts = stream::iter([Ok::<_, std::io::Error>(bytes.clone())]);
    Content::from_stream(parts, &spool).await.expect("a content")
}

fn text() -> Bytes {
    Bytes::from("It was a bright cold day in April, and the clocks were striking thirteen.\n".repeat(20))
}

/// What it is told about the bytes and what it was asked to call them is in the report.
#[track_caller]
fn assert_found(report: &Report, name: &str) {
    let Verdict::Infected { threats } = &report.verdict else { panic!("not found: {report:?}") };
    assert!(!threats.is_empty(), "{report:?}");
    for threat in threats {
        let rest = threat.layer_path.strip_prefix(name);
        assert!(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')), "{threat:?} is not in {name}");
        assert!(!threat.signature.is_empty());
    }
}

/// Text is clean, with proof, or unproven.
pub async fn nothing_is_found_in_text(fixture: &EngineFixture) {
    let content = Content::from_bytes(text());
    let report = fixture.scan(&content, "a.txt").await;
    fixture.assert_nothing_found(&report);
    assert_eq!((report.sha256, report.size), (Some(content.sha256()), Some(content.size())));
}

/// There is nothing that could be found in nothing.
pub async fn an_empty_content_is_scanned(fixture: &EngineFixture) {
    let content = Content::from_bytes("");
    let report = fixture.scan(&content, "empty").await;
    fixture.assert_nothing_found(&report);
    assert_eq!((report.sha256, report.size), (Some(content.sha256()), Some(0)));
}

/// A threat is in a layer whose path begins with the name that was given, or with the word for a content without one.
pub async fn what_is_there_is_found(fixture: &EngineFixture) {
    let content = Content::from_bytes(fixture.infected.clone());
    for name in ["a.bin", "with space and ünï.code", ""] {
        assert_found(&fixture.scan(&content, name).await, ScanContext::named(name).label());
    }
}

/// Where the bytes are makes no difference.
pub async fn memory_and_disk_agree(fixture: &EngineFixture) {
    for bytes in [text(), fixture.infected.clone(), Bytes::from_static(b"tiny")] {
        let (memory, disk) = (Content::from_bytes(bytes.clone()), on_disk(&bytes).await);
        assert!(disk.file().is_some());
        let (one, other) = (fixture.scan(&memory, "a").await, fixture.scan(&disk, "a").await);
        assert_eq!(one.verdict, other.verdict);
        assert_eq!((one.sha256, one.size), (Some(memory.sha256()), Some(memory.size())));
        assert_eq!((other.sha256, other.size), (one.sha256, one.size));
    }
}

/// A scan that had not begun is no verdict.
pub async fn a_deadline_that_has_passed_is_an_error(fixture: &EngineFixture) {
    let deadline = Some(Instant::now() - Duration::from_millis(1));
    for content in [Content::from_bytes(text()), on_disk(&fixture.infected).await] {
        let context = ScanContext { deadline, ..ScanContext::named("a") };
        let error = fixture.engine.scan(&content, &context).await.expect_err("there was no time");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
}

/// Each of many scans gets its own answer.
pub async fn scans_at_the_same_time_are_apart(fixture: &EngineFixture) {
    let contents = [Content::from_bytes(text()), Content::from_bytes(fixture.infected.clone())];
    let scans = (0..32).map(|number| {
        let (content, infected) = (contents[number % 2].clone(), number % 2 == 1);
        async move { (infected, format!("{number}.bin"), fixture.scan(&content, &format!("{number}.bin")).await) }
    });
    for (infected, name, report) in join_all(scans).await {
        match infected {
            true => assert_found(&report, &name),
            false => fixture.assert_nothing_found(&report),
        }
    }
}

/// Callers that go away take nothing with them.
pub async fn dropped_scans_do_no_harm(fixture: &EngineFixture) {
    let (content, context) = (Content::from_bytes(fixture.infected.clone()), ScanContext::named("a"));
    for _ in 0..50 {
        let _ = poll_immediate(fixture.engine.scan(&content, &context)).await;
    }
    let scan = tokio::time::timeout(PATIENCE, fixture.scan(&content, "a"));
    assert_found(&scan.await.expect("it goes on"), "a");
}

/// What is over the limit is said to be, and takes no memory for that.
pub async fn what_is_over_the_limit_is_unscannable(fixture: &EngineFixture) {
    let Some(limit) = fixture.max_size else { return };
    let size = usize::try_from(limit + 1).expect("a limit for tests");
    let content = on_disk(&Bytes::from(vec![b'a'; size])).await;
    // None is left: an engine that wanted some would wait for ever.
    let budget = Budget::default();
    let _all = budget.reserve(budget.total()).await;
    let context = ScanContext { budget: Some(budget.clone()), ..ScanContext::named("a") };
    let scan = tokio::time::timeout(PATIENCE, fixture.engine.scan(&content, &context));
    let report = scan.await.expect("it does not wait for memory").expect("a report");
    let Verdict::Unscannable { reasons } = &report.verdict else { panic!("too large: {report:?}") };
    assert!(reasons.iter().any(|reason| reason.kind == ReasonKind::TooLarge), "{report:?}");
    assert!(!report.is_complete());
}

/// Whatever a scan takes of the memory budget, it gives back.
pub async fn memory_is_given_back(fixture: &EngineFixture) {
    let (content, budget) = (on_disk(&text()).await, Budget::default());
    let context = ScanContext { budget: Some(budget.clone()), ..ScanContext::named("a") };
    let results: Vec<Result<Report>> = join_all((0..8).map(|_| fixture.engine.scan(&content, &context))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    // The thread that scanned may hold its part for a moment longer than the caller waits for the report.
    drop(tokio::time::timeout(PATIENCE, budget.reserve(budget.total())).await.expect("all of it is free"));
}

/// The report is by the engine that was asked.
pub async fn the_report_names_the_engine(fixture: &EngineFixture) {
    let report = fixture.scan(&Content::from_bytes(text()), "a").await;
    let info = fixture.engine.info();
    assert_eq!(report.engine, info);
    assert_eq!(fixture.engine.info(), info, "it changes by itself");
    assert!(!info.name.is_empty() && !info.library.is_empty());
}

/// Makes the tests of an engine: one `#[tokio::test]` for each behaviour. It takes an async function that gives an
/// [`EngineFixture`](crate::testkit::engine_suite::EngineFixture); call it in a module of its own.
#[macro_export]
macro_rules! engine_suite {
    ($fixture:path) => {
        $crate::engine_suite! { @each $fixture;
            nothing_is_found_in_text
            an_empty_content_is_scanned
            what_is_there_is_found
            memory_and_disk_agree
            a_deadline_that_has_passed_is_an_error
            scans_at_the_same_time_are_apart
            dropped_scans_do_no_harm
            what_is_over_the_limit_is_unscannable
            memory_is_given_back
            the_report_names_the_engine
        }
    };
    (@each $fixture:path; $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                let fixture = $fixture().await;
                $crate::testkit::engine_suite::$behaviour(&fixture).await;
            }
        )*
    };
}
