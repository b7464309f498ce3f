//! Queue, store and bucket that kill or freeze their process at one of their calls.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scan_pipeline::Result;
use scan_pipeline::model::{TaskId, Timestamp};
use scan_pipeline::queue::{
    DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle,
};
use scan_pipeline::store::{
    AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Lease, Store, TaskFilter, TaskRecord,
};
use scan_pipeline::testkit::{Moment, Op};

use crate::history::note;

/// Every kind of call around which a process may die.
pub(crate) const POINTS: [&str; 11] = [
    "lease",
    "settle",
    "claim",
    "commit report",
    "commit step",
    "commit end",
    "read",
    "set tags",
    "copy",
    "delete",
    "effect",
];

/// Which point is deadly, and when.
#[derive(Debug, Clone)]
pub(crate) struct Points {
    deadly: Option<(String, bool, u32)>,
    /// The process is frozen there instead, until somebody thaws it.
    freezes: bool,
    passed: Arc<AtomicU32>,
    dir: PathBuf,
}

impl Points {
    pub(crate) fn from_environment() -> Self {
        let var = |name| std::env::var(name).ok();
        let deadly = var("MATRIX_POINT").zip(var("MATRIX_BEFORE")).zip(var("MATRIX_NTH"));
        let deadly = deadly.map(|((point, before), nth)| (point, before == "true", nth.parse().expect("a number")));
        let freezes = std::env::var_os("MATRIX_FREEZES").is_some();
        Self { deadly, freezes, passed: Arc::default(), dir: var("MATRIX_DIR").expect("a directory").into() }
    }

    /// Passes a point, or dies there, or stays there.
    pub(crate) fn pass(&self, point: &str, before: bool) {
        let Some((deadly, at, nth)) = &self.deadly else { return };
        if deadly == point && *at == before && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
            if self.freezes { freeze() } else { die() }
        }
    }

    pub(crate) fn around_bucket(&self, moment: Moment, op: Op) {
        let point = match op {
            Op::Read => "read",
            Op::SetTags => "set tags",
            Op::Copy | Op::Put => "copy",
            Op::Delete => "delete",
            _ => return,
        };
        self.pass(point, moment == Moment::Before);
    }

    async fn around<T>(&self, point: &str, call: impl Future<Output = T>) -> T {
        self.pass(point, true);
        let result = call.await;
        self.pass(point, false);
        result
    }
}

/// No destructor runs, nothing is flushed.
pub(crate) fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is on its way; nothing more may happen here.
    loop {
        std::thread::park();
    }
}

/// Every thread stops, wherever it is, and goes on as if nothing had been when the process is thawed.
fn freeze() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
    // The signal is on its way; this call goes on no further before it has come.
    std::thread::sleep(Duration::from_millis(50));
}

#[derive(Debug)]
pub(crate) struct Mortal<T: ?Sized>(pub(crate) Points, pub(crate) Arc<T>);

#[async_trait]
impl Store for Mortal<dyn Store> {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.around("claim", self.1.claim(request)).await
    }

    async fn reopen(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.around("claim", self.1.reopen(request)).await
    }

    async fn commit(&self, lease: &Lease, changes: Changes) -> Result<Timestamp> {
        let point = match &changes {
            changes if changes.state.is_some_and(|state| state.is_terminal()) => "commit end",
            changes if changes.report.is_some() => "commit report",
            _ => "commit step",
        };
        self.0.around(point, self.1.commit(lease, changes)).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        self.1.task(id).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        self.1.tasks(filter).await
    }

    async fn audit(&self, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
        self.1.audit(after, most).await
    }

    async fn audit_head(&self) -> Result<AuditHead> {
        self.1.audit_head().await
    }

    async fn cached(&self, key: &CacheKey) -> Result<Option<CachedReport>> {
        self.1.cached(key).await
    }
}

#[async_trait]
impl Queue for Mortal<dyn Queue> {
    fn caps(&self) -> QueueCaps {
        self.1.caps()
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        self.1.enqueue(messages).await
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        self.0.around("lease", self.1.lease(most, ttl, wait)).await
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        self.1.extend(leases).await
    }

    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        let noted = async {
            let answers = self.1.settle(messages).await?;
            for ((_, settle), held) in messages.iter().zip(&answers) {
                if *held == Held::Held && !matches!(settle, Settle::Retry { .. }) {
                    note(&self.0.dir, "settled", "a message");
                }
            }
            Ok(answers)
        };
        self.0.around("settle", noted).await
    }

    async fn depth(&self) -> Result<Depth> {
        self.1.depth().await
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.1.dead_letters()
    }
}
