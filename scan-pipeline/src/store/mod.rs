//! Stores: the durable truth about tasks, steps and findings, the verdict cache, and the audit log.
//!
//! # Contract
//!
//! - **What is acknowledged is durable.** When a call returned, a crash or power cut at any later moment does not undo it.
//! - **A commit is whole or not at all**: the task, its steps, findings, cache entry and audit entries in one transaction.
//! - **Fenced.** Each claim of a task has a higher fence. A commit with a stale one changes nothing and fails with
//!   [`ErrorKind::Fenced`]. A lease that ran out may be claimed by anyone.
//! - **A lease that was given back is gone.** A commit with it is refused like one with a stale fence.
//! - **Terminal is terminal.** A task that is done, superseded, gone or dead is never claimed and never written again; but
//!   for a dead one that [`Store::reopen`] takes, which is in the log as `task.retried`.
//! - **No end without its entry.** A commit that brings a task to a terminal state carries an audit entry of the kind
//!   `task.<state>` ([`NewAudit::task`]), or is refused with [`ErrorKind::InvalidInput`]
//!   ([`Changes::check`]).
//! - **Attempts are counted at the claim**, before anything is done, and only for a task that waits for its scan. A task
//!   whose workflow is under way is claimed to resume it, which is no attempt.
//! - **The audit log only grows**, without gaps: each entry carries the hash of the one before (see [`audit`]).
//! - Times are those of the store's own clock.
//!
//! `testkit::store_suite!` checks this on any implementation.

pub mod audit;
mod jobs;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(all(test, feature = "testkit", feature = "sqlite"))]
mod tests;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::handler::{Place, StepOutput};
use crate::model::{ContentDigest, ObjectRef, Report, TaskId, Timestamp};
use crate::{Error, ErrorKind, Result};

pub use audit::{AuditEntry, AuditHead, NewAudit};
pub use jobs::{
    Advance, Counters, Job, JobId, JobSource, JobState, JobStore, NewJob, OpenPage, Rescan, Shard, ShardRange,
};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresStore, PostgresStoreBuilder};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteStore, SqliteStoreBuilder};

/// Durable truth; the module page has the contract.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Makes sure that the task is known, and takes its lease if it is free and there is anything left to do. A claim
    /// of a task that waits for its scan counts as an attempt, and its scan has begun with it
    /// ([`TaskState::Scanning`]). While a task's `next_at` lies ahead nobody gets it.
    async fn claim(&self, request: &ClaimRequest) -> Result<Claim>;

    /// As [`claim`](Self::claim), and takes a task that is dead as well. It goes on where it stopped: one that has a
    /// workflow is [`TaskState::Handling`] again, with its report, its place and the steps that are done; its other steps
    /// have their attempts anew ([`StepRecord::begin_anew`]). One that has none is scanned, as if for the first time. The
    /// same transaction writes the audit entry ([`NewAudit::retried`]).
    async fn reopen(&self, request: &ClaimRequest) -> Result<Claim>;

    /// Writes what happened, all of it or nothing, and says when: the task's new [`TaskRecord::updated`].
    async fn commit(&self, lease: &Lease, changes: Changes) -> Result<Timestamp>;

    /// A task with its steps.
    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>>;

    /// Tasks by state and time, without their steps, ordered by id.
    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>>;

    /// Audit entries with a number above `after`, in order, at most `most` of them.
    async fn audit(&self, after: u64, most: usize) -> Result<Vec<AuditEntry>>;

    /// The end of the audit log.
    async fn audit_head(&self) -> Result<AuditHead>;

    /// A verdict from the cache.
    async fn cached(&self, key: &CacheKey) -> Result<Option<CachedReport>>;
}

/// Who wants which task.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The task's identity.
    pub id: TaskId,
    /// The object that it is about, pinned.
    pub object: ObjectRef,
    /// A name for the process and its worker, for people.
    pub owner: String,
    /// How long the lease holds unless it is extended.
    pub ttl: Duration,
}

/// What became of a claim.
#[derive(Debug, Clone)]
pub enum Claim {
    /// The task is ours until the lease runs out.
    Mine(Lease, Box<TaskRecord>),
    /// Somebody else has it until then.
    Busy {
        /// Who.
        owner: String,
        /// Until when, if they do not extend it.
        until: Timestamp,
    },
    /// Nobody has it, and there is nothing to do before this time: a back-off. Nothing was written.
    NotYet {
        /// Until when.
        until: Timestamp,
        /// The task as it is.
        record: Box<TaskRecord>,
    },
    /// There is nothing left to do.
    Finished(Box<TaskRecord>),
}

/// The right to work on a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// Higher with each claim; a commit with a lower one is refused.
    pub fence: u64,
}

/// What has become of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It waits for its scan.
    Pending,
    /// Its scan has begun.
    Scanning,
    /// It has a report, and the workflow that follows is under way.
    Handling,
    /// Everything that had to follow has happened.
    Done,
    /// Another state of the object has taken the place of this one.
    Superseded,
    /// The object was not there any more.
    Gone,
    /// It failed for good; the error says why. The object was left where it was.
    Dead,
}

impl TaskState {
    /// Every state, in the order of a task's life.
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Scanning, Self::Handling, Self::Done, Self::Superseded, Self::Gone, Self::Dead];

    /// The state as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scanning => "scanning",
            Self::Handling => "handling",
            Self::Done => "done",
            Self::Superseded => "superseded",
            Self::Gone => "gone",
            Self::Dead => "dead",
        }
    }

    /// Nothing will happen to the task any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Superseded | Self::Gone | Self::Dead)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A task as the store has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskRecord {
    /// Its identity.
    pub id: TaskId,
    /// The object that it is about.
    pub object: ObjectRef,
    /// What has become of it.
    pub state: TaskState,
    /// How often it was claimed for its scan.
    pub attempts: u32,
    /// What the scan found.
    pub report: Option<Report>,
    /// The name of the workflow that follows; `None` before the scan, and where the policy names none.
    pub workflow: Option<String>,
    /// Where the object is now.
    pub place: Place,
    /// Not before this time is there anything to do.
    pub next_at: Option<Timestamp>,
    /// The last error.
    pub error: Option<String>,
    /// When it became known.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// The steps of its workflows, in the order of their beginning.
    pub steps: Vec<StepRecord>,
}

/// What has become of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It was begun; whether it had its effect is not known if the process died here.
    Running,
    /// It failed and will be tried again.
    Waiting,
    /// It is done and has its output.
    Done,
    /// It failed for good.
    Failed,
}

impl StepState {
    /// The state as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// The journal of one step. Its key is (task, workflow, step).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The workflow it belongs to.
    pub workflow: String,
    /// Its name in the workflow.
    pub step: String,
    /// What has become of it.
    pub state: StepState,
    /// How often it was begun.
    pub attempt: u32,
    /// What it gave, once it is done.
    pub output: Option<StepOutput>,
    /// Its last error.
    pub error: Option<String>,
    /// When it will be tried again.
    pub next_at: Option<Timestamp>,
    /// When it last changed.
    pub updated: Timestamp,
}

impl StepRecord {
    /// What becomes of a step whose task is opened again: one that is done stays so, any other one may be tried as often
    /// as a new one. What it failed of last stays to be read.
    pub fn begin_anew(&mut self) {
        if self.state != StepState::Done {
            (self.state, self.attempt, self.next_at) = (StepState::Waiting, 0, None);
        }
    }
}

/// What a commit writes. `None` leaves as it is.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The task's new state. A terminal one gives the lease back.
    pub state: Option<TaskState>,
    /// What the scan found; its findings go to their own table.
    pub report: Option<Report>,
    /// The workflow that follows.
    pub workflow: Option<String>,
    /// Where the object is now.
    pub place: Option<Place>,
    /// Not before this time is there anything to do.
    pub next_at: Option<Option<Timestamp>>,
    /// The last error.
    pub error: Option<Option<String>>,
    /// Steps to write, by their key.
    pub steps: Vec<StepRecord>,
    /// A verdict to remember.
    pub cache: Option<(CacheKey, CachedReport)>,
    /// Entries for the audit log.
    pub audit: Vec<NewAudit>,
    /// What becomes of the lease.
    pub lease: LeaseChange,
}

impl Changes {
    /// What every store refuses before it writes anything: the end of a task without the audit entry that says so.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`].
    pub fn check(&self) -> Result<()> {
        let Some(state) = self.state.filter(|state| state.is_terminal()) else { return Ok(()) };
        let kind = audit::task_kind(state);
        if self.audit.iter().any(|entry| entry.kind == kind) {
            return Ok(());
        }
        let message = format!("a task that becomes {state} needs an audit entry of the kind {kind} in the same commit");
        Err(Error::new(ErrorKind::InvalidInput, message))
    }
}

/// What a commit does with its lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LeaseChange {
    /// It holds as long as it would have.
    #[default]
    Keep,
    /// It holds for this long from now.
    Extend(Duration),
    /// It is given back.
    Release,
    /// It is given back, and a scan that had begun with it does not count as an attempt: the caller stopped it.
    Return,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only these states; all if empty.
    pub states: Vec<TaskState>,
    /// Only tasks that nobody holds and whose time has come: what is left to do now.
    pub due: bool,
    /// Only ids behind this one, which resumes a listing.
    pub after: Option<TaskId>,
    /// At most this many; 0 means 100.
    pub most: usize,
}

/// What a verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The bytes.
    pub sha256: ContentDigest,
    /// The definitions ([`EngineInfo::generation`](crate::model::EngineInfo::generation)).
    pub generation: String,
    /// The settings ([`EngineInfo::settings`](crate::model::EngineInfo::settings)).
    pub settings: String,
}

/// A complete report, and the name under which the content was scanned: layer paths begin with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CachedReport {
    /// The name.
    pub name: String,
    /// The report.
    pub report: Report,
}
