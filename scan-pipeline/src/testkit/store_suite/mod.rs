//! What every store has to do: one named test for each behaviour of the contract in [`store`](crate::store).
//!
//! ```no_run
//! use std::sync::Arc;
//! use scan_pipeline::store::SqliteStore;
//! use scan_pipeline::testkit::store_suite::StoreFixture;
//!
//! mod memory {
//!     use super::*;
//!
//!     async fn fixture() -> StoreFixture {
//!         StoreFixture::new(Arc::new(SqliteStore::in_memory().await.expect("a store")))
//!     }
//!
//!     scan_pipeline::store_suite!(fixture);
//! }
//! # fn main() {}
//! ```

mod claims;
mod commits;
mod log;
mod reads;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

pub use claims::*;
pub use commits::*;
pub use log::*;
pub use reads::*;

use crate::handler::StepOutput;
use crate::model::{
    ContentDigest, EngineInfo, Finding, ObjectRef, Reason, ReasonKind, Report, TaskId, Timestamp, Verdict,
};
use crate::store::{
    Changes, Claim, ClaimRequest, Lease, NewAudit, StepRecord, StepState, Store, TaskRecord, TaskState, audit,
};
use crate::{ErrorKind, Result};

/// An empty store of the kind that is tested, for one test.
pub struct StoreFixture {
    /// The store.
    pub store: Arc<dyn Store>,
    reopen: Option<Reopen>,
    cache_entries: Option<usize>,
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>;

impl StoreFixture {
    /// An empty store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, reopen: None, cache_entries: None, _keep: None }
    }

    /// Says how the same store is opened again, while it is open, as by another process. Without it what has to be
    /// durable is read through the same handle, as with a store in memory.
    #[must_use]
    pub fn reopening<F>(mut self, reopen: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Arc<dyn Store>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// Says how many verdicts the store was told to remember: at least 2, and best not many.
    #[must_use]
    pub fn caching(mut self, most: usize) -> Self {
        self.cache_entries = Some(most);
        self
    }

    /// Keeps something to the end of the test: a directory, a server.
    #[must_use]
    pub fn keeping(mut self, what: impl Any + Send + Sync) -> Self {
        self._keep = Some(Box::new(what));
        self
    }

    /// The same store as another process would see it.
    async fn again(&self) -> Arc<dyn Store> {
        match &self.reopen {
            Some(reopen) => reopen().await,
            None => Arc::clone(&self.store),
        }
    }

    /// Claims the task of a key, which has to be free.
    async fn mine(&self, key: &str) -> (Lease, TaskRecord) {
        mine(&*self.store, &request(key)).await
    }

    async fn commit(&self, lease: &Lease, changes: Changes) {
        self.store.commit(lease, changes).await.expect("the commit is written");
    }

    async fn record(&self, key: &str) -> TaskRecord {
        self.store.task(request(key).id).await.expect("the store reads").expect("the task is known")
    }

    /// Everything that can be read of a task and the log, to see that nothing was changed.
    async fn everything(&self, key: &str) -> (Option<TaskRecord>, audit::AuditHead, usize) {
        let log = self.store.audit(0, usize::MAX).await.expect("the log");
        let task = self.store.task(request(key).id).await.expect("the store reads");
        (task, self.store.audit_head().await.expect("the head"), log.len())
    }

    /// The log is whole.
    async fn whole(&self) {
        let verified = audit::verify(&*self.store).await.expect("the log is read");
        assert_eq!(verified.problems, Vec::<String>::new());
    }
}

impl fmt::Debug for StoreFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFixture").field("store", &self.store).finish_non_exhaustive()
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn object(key: &str) -> ObjectRef {
    ObjectRef::new("memory://suite".parse().expect("an address"), key).with_etag("1")
}

fn request(key: &str) -> ClaimRequest {
    let object = object(key);
    ClaimRequest { id: TaskId::of(&object, 0), object, owner: String::from("suite"), ttl: LONG }
}

async fn mine(store: &dyn Store, request: &ClaimRequest) -> (Lease, TaskRecord) {
    match store.claim(request).await.expect("the store answers") {
        Claim::Mine(lease, record) => (lease, *record),
        other => panic!("the task should be free: {other:?}"),
    }
}

#[track_caller]
fn fails<T: fmt::Debug>(kind: ErrorKind, result: Result<T>) {
    let error = result.expect_err("this has to fail");
    assert_eq!(error.kind(), kind, "{error}");
}

/// A report with something in every part of it.
fn report(findings: u64, reasons: usize) -> Report {
    let reasons: Vec<_> = (0..reasons)
        .map(|i| Reason {
            kind: ReasonKind::ALL[i % ReasonKind::ALL.len()],
            layer_path: format!("a.zip/{i}\u{0}\n\u{fffd}ü"),
            detail: Some(format!("layer {i}")),
        })
        .collect();
    let verdict = if reasons.is_empty() { Verdict::Clean } else { Verdict::Unscannable { reasons } };
    let mut report = Report::new(verdict, EngineInfo::new("suite", "1", "7"));
    report.findings = (0..findings)
        .map(|i| Finding {
            detector: String::from("card"),
            masked_match: String::from("4*** 1"),
            context: String::from("a \u{0} b"),
            layer_path: String::from("a.zip/b"),
            byte_offset: u64::MAX - i,
            raw_offset: i.is_multiple_of(2).then_some(u64::MAX - 2 * i),
            confidence: 0.1 + 0.2,
            tags: (0..i % 3).map(|tag| format!("tag \u{0} \\ \" {tag}")).collect(),
            fingerprint: format!("{i:064x}"),
        })
        .collect();
    report.findings_omitted = findings;
    report.sha256 = Some(ContentDigest::of(b"suite"));
    report.size = Some(5);
    report
}

fn scanned(report: Report, key: &str) -> Changes {
    let audit = vec![NewAudit::scanned(&report, Some("file"), &object(key))];
    Changes {
        state: Some(TaskState::Handling),
        report: Some(report),
        workflow: Some(String::from("file")),
        audit,
        ..Changes::default()
    }
}

fn step(name: &str, state: StepState) -> StepRecord {
    StepRecord {
        workflow: String::from("file"),
        step: name.to_owned(),
        state,
        attempt: 1,
        output: (state == StepState::Done).then(|| StepOutput::new(json!({ "id": name, "ratio": 0.1 + 0.7 }))),
        error: None,
        next_at: None,
        updated: Timestamp(1),
    }
}

fn step_done(name: &str) -> Changes {
    let record = step(name, StepState::Done);
    let output = record.output.clone().unwrap_or_default();
    let audit = vec![NewAudit::step_done("file", name, 1, &output)];
    Changes { steps: vec![record], audit, ..Changes::default() }
}

fn ended(state: TaskState) -> Changes {
    Changes { state: Some(state), audit: vec![NewAudit::task(state, json!({}))], ..Changes::default() }
}

/// Makes the tests of a store: one `#[tokio::test]` for each behaviour. It takes an async function that gives a
/// [`StoreFixture`](crate::testkit::store_suite::StoreFixture), or `None` where there is nothing to test and it has said so;
/// call it in a module of its own.
#[macro_export]
macro_rules! store_suite {
    ($fixture:path) => {
        $crate::store_suite! { @each $fixture;
            a_new_task_is_ours
            a_task_is_nobody_elses
            only_one_of_many_claims
            a_lease_that_ran_out_is_free
            a_lease_is_extended
            a_lease_is_given_back
            what_is_at_its_end_is_not_claimed
            what_is_dead_is_opened_again
            what_died_unscanned_is_scanned_again
            attempts_are_claims_for_the_scan
            a_task_that_waits_is_not_claimed
            a_stale_lease_writes_nothing
            a_commit_that_fails_leaves_nothing
            one_bad_commit_disturbs_no_other
            a_commit_says_when
            no_end_without_its_entry
            none_leaves_as_it_is
            steps_have_one_row_each
            a_report_is_read_as_it_was_written
            a_large_report_is_read_as_it_was_written
            findings_are_unique
            members_of_an_archive_keep_their_findings
            a_repeated_commit_doubles_no_finding
            awkward_texts_survive
            a_dropped_call_is_done_or_not
            listings_go_by_state
            listings_resume
            what_is_due_is_listed
            verdicts_are_remembered
            the_oldest_verdicts_make_room
            the_log_has_no_gaps
            the_log_is_read_in_pages
            the_log_is_whole
            what_was_acknowledged_is_there_again
        }
    };
    (@each $fixture:path; $($behaviour:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let fixture: Option<$crate::testkit::store_suite::StoreFixture> = $fixture().await.into();
                let Some(fixture) = fixture else { return };
                $crate::testkit::store_suite::$behaviour(&fixture).await;
            }
        )*
    };
}
