//! Queue, stores, bucket and handler that kill or freeze their process at one of their calls.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scan_pipeline::Result;
use scan_pipeline::handler::{HandlerError, ResultHandler, Scanned, StepContext, StepOutput};
use scan_pipeline::model::{TaskId, Timestamp};
use scan_pipeline::queue::{
    DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle,
};
use scan_pipeline::store::{
    Advance, AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Counters, Job, JobId,
    JobState, JobStore, Lease, NewJob, Store, TaskFilter, TaskRecord,
};
use scan_pipeline::testkit::{Moment, Op};

use crate::history::note;

/// Every kind of call around which a process may die.
pub(crate) const POINTS: [&str; 16] = [
    "lease",
    "extend",
    "settle",
    "enqueue",
    "claim",
    "commit report",
    "commit step",
    "commit end",
    "read",
    "set tags",
    "copy",
    "delete",
    "effect",
    "webhook",
    "advance",
    "count",
];

/// Those that a process passes a few times only.
const RARE: [&str; 4] = ["extend", "enqueue", "advance", "count"];

/// Which of its passings is deadly to the process after so many others have died of it: later and later, so that the
/// history gets somewhere.
pub(crate) fn nth(point: &str, deaths: u32) -> u32 {
    if RARE.contains(&point) { 1 } else { 1 + deaths * 17 }
}

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
            if self.freezes {
                freeze();
            } else {
                note(&self.dir, "deaths", point);
                die();
            }
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
        self.0.around("enqueue", self.1.enqueue(messages)).await
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        self.0.around("lease", self.1.lease(most, ttl, wait)).await
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        self.0.around("extend", self.1.extend(leases)).await
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

#[async_trait]
impl JobStore for Mortal<dyn JobStore> {
    async fn create_job(&self, job: &NewJob) -> Result<()> {
        self.1.create_job(job).await
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>> {
        self.1.job(id).await
    }

    async fn job_head(&self, id: &JobId) -> Result<Option<Job>> {
        self.1.job_head(id).await
    }

    async fn jobs(&self, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
        self.1.jobs(before, most).await
    }

    async fn advance(&self, id: &JobId, shard: u32, step: &Advance) -> Result<Option<JobState>> {
        self.0.around("advance", self.1.advance(id, shard, step)).await
    }

    async fn count(&self, id: &JobId, shard: u32, chunk: u64, counters: &Counters) -> Result<JobState> {
        self.0.around("count", self.1.count(id, shard, chunk, counters)).await
    }

    async fn end_job(&self, id: &JobId, state: JobState, why: Option<&str>) -> Result<JobState> {
        self.1.end_job(id, state, why).await
    }
}

/// A handler, with the point around it.
pub(crate) struct MortalHandler<H>(pub(crate) Points, pub(crate) &'static str, pub(crate) H);

#[async_trait]
impl<H: ResultHandler> ResultHandler for MortalHandler<H> {
    fn name(&self) -> &str {
        self.2.name()
    }

    fn depends_on(&self) -> Option<&str> {
        self.2.depends_on()
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> std::result::Result<StepOutput, HandlerError> {
        self.0.around(self.1, self.2.handle(scanned, step)).await
    }
}
