//! The embedded store: one SQLite file.
//!
//! What reads and writes it is in [`sql`](crate::sql::sqlite). Several stores, also of several processes, may have the same
//! file open. Times are those of the machine's clock, which they share.

mod atwork;
mod jobs;
mod pending;
mod rows;
mod together;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::atwork::AtWork;
use self::writer::Tasks;
use super::sql::jobs::JobCall;
use super::sql::{Answer, Call, Prepared};
use super::{
    Advance, AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Counters, Job, JobId,
    JobState, JobStore, Lease, NewJob, Store, TaskFilter, TaskRecord,
};
use crate::Result;
use crate::model::{ObjectRef, Tags, TaskId, Timestamp};
use crate::objects::TagStore;
use crate::sql::sqlite::{Config, Database, Format, closed, read};

static FORMAT: Format = Format {
    name: "store",
    // "ScnP"
    application: 0x5363_6e50,
    migrations: &[
        include_str!("../migrations/sqlite/0001_start.sql"),
        include_str!("../migrations/sqlite/0002_jobs.sql"),
        include_str!("../migrations/sqlite/0003_findings.sql"),
        include_str!("../migrations/sqlite/0004_pages.sql"),
    ],
};

/// Most verdicts that are remembered, unless the builder says otherwise.
const CACHE_ENTRIES: u32 = 100_000;

/// The embedded store: one SQLite file, on a local disk. Clones are handles to the same store.
///
/// What a call wrote is on the disk when the call returns. Calls that come at the same time share one write to the disk;
/// where sixteen tasks or more are at work, a call waits for a few others to share it with, 40 milliseconds at most. A
/// call whose future is dropped is either done in full or not at all. When the last handle is gone, what was accepted is
/// finished in the background; [`close`](Self::close) waits for it.
///
/// ```
/// use std::time::Duration;
/// use scan_pipeline::model::{ObjectRef, TaskId};
/// use scan_pipeline::store::{Changes, Claim, ClaimRequest, NewAudit, SqliteStore, Store, TaskState, audit};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("store.db");
/// let store = SqliteStore::open(&path).await?;
/// let object = ObjectRef::new("s3://uploads".parse()?, "report.pdf").with_version("1");
/// let request = ClaimRequest {
///     id: TaskId::of(&object, 0),
///     object,
///     owner: String::from("worker 1"),
///     ttl: Duration::from_secs(60),
/// };
/// let Claim::Mine(lease, task) = store.claim(&request).await? else { panic!("nobody else is here") };
/// assert_eq!((task.state, task.attempts), (TaskState::Scanning, 1));
///
/// let gone = NewAudit::task(TaskState::Gone, serde_json::json!({ "error": "404" }));
/// store.commit(&lease, Changes { state: Some(TaskState::Gone), audit: vec![gone], ..Changes::default() }).await?;
/// assert!(matches!(store.claim(&request).await?, Claim::Finished(_)));
/// assert!(audit::verify(&store).await?.problems.is_empty());
/// store.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct SqliteStore(Arc<Database<Tasks>>);

/// How a [`SqliteStore`] is opened.
///
/// ```no_run
/// # async fn example() -> Result<(), scan_pipeline::Error> {
/// use scan_pipeline::store::SqliteStore;
/// let store = SqliteStore::builder("/var/lib/scan/store.db").cache_entries(10_000).max_size(20 << 30).open().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct SqliteStoreBuilder {
    config: Config,
    cache_entries: u32,
}

impl SqliteStore {
    /// Opens the store in a file. It is made, readable by its owner only, if it is not there; its directory has to be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for a path that cannot be a store's, [`ErrorKind::Denied`] where this process may not
    /// write, [`ErrorKind::Corrupt`] for a file that is no store or one of a newer program, [`ErrorKind::Busy`] when
    /// another process keeps it locked, [`ErrorKind::Resources`] when the disk is full.
    ///
    /// [`ErrorKind::Config`]: crate::ErrorKind::Config
    /// [`ErrorKind::Denied`]: crate::ErrorKind::Denied
    /// [`ErrorKind::Corrupt`]: crate::ErrorKind::Corrupt
    /// [`ErrorKind::Busy`]: crate::ErrorKind::Busy
    /// [`ErrorKind::Resources`]: crate::ErrorKind::Resources
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open().await
    }

    /// A store that is gone when its last handle is: for tests and trials.
    ///
    /// # Errors
    ///
    /// Memory or threads run short.
    pub async fn in_memory() -> Result<Self> {
        SqliteStoreBuilder { config: Config::memory(&FORMAT), cache_entries: CACHE_ENTRIES }.open().await
    }

    /// A store with settings of its own.
    pub fn builder(path: impl AsRef<Path>) -> SqliteStoreBuilder {
        SqliteStoreBuilder { config: Config::file(&FORMAT, path.as_ref()), cache_entries: CACHE_ENTRIES }
    }

    /// Takes no more calls, finishes those that were accepted, and closes the file. It may be called again.
    ///
    /// # Errors
    ///
    /// None at present.
    pub async fn close(&self) -> Result<()> {
        self.0.close().await
    }

    async fn about_job(&self, call: JobCall) -> Result<Option<JobState>> {
        match self.0.call(Call::Job(call)).await? {
            Answer::Job(state) => Ok(state),
            Answer::Claim(_) | Answer::Committed(_) | Answer::Done => Err(closed()),
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        match self.0.call(Call::Claim(request.clone())).await? {
            Answer::Claim(claim) => Ok(claim),
            Answer::Committed(_) | Answer::Job(_) | Answer::Done => Err(closed()),
        }
    }

    async fn reopen(&self, request: &ClaimRequest) -> Result<Claim> {
        match self.0.call(Call::Reopen(request.clone())).await? {
            Answer::Claim(claim) => Ok(claim),
            Answer::Committed(_) | Answer::Job(_) | Answer::Done => Err(closed()),
        }
    }

    async fn commit(&self, lease: &Lease, changes: Changes) -> Result<Timestamp> {
        let prepared = Box::new(Prepared::new(changes)?);
        match self.0.call(Call::Commit(lease.clone(), prepared)).await? {
            Answer::Committed(at) => Ok(at),
            Answer::Claim(_) | Answer::Job(_) | Answer::Done => Err(closed()),
        }
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        read!(self.0, connection => rows::task(connection, id))
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        read!(self.0, connection => rows::tasks(connection, filter))
    }

    async fn audit(&self, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
        read!(self.0, connection => rows::audit(connection, after, most))
    }

    async fn audit_head(&self) -> Result<AuditHead> {
        read!(self.0, connection => rows::audit_head(connection))
    }

    async fn cached(&self, key: &CacheKey) -> Result<Option<CachedReport>> {
        read!(self.0, connection => rows::cached(connection, key))
    }
}

#[async_trait]
impl JobStore for SqliteStore {
    async fn create_job(&self, job: &NewJob) -> Result<()> {
        self.0.call(Call::Job(JobCall::Create(job.clone()))).await.map(drop)
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>> {
        read!(self.0, connection => jobs::job(connection, id))
    }

    async fn job_head(&self, id: &JobId) -> Result<Option<Job>> {
        read!(self.0, connection => jobs::head(connection, id))
    }

    async fn jobs(&self, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
        read!(self.0, connection => jobs::jobs(connection, before, most))
    }

    async fn advance(&self, id: &JobId, shard: u32, step: &Advance) -> Result<Option<JobState>> {
        self.about_job(JobCall::Advance(id.clone(), shard, step.clone())).await
    }

    async fn count(&self, id: &JobId, shard: u32, chunk: u64, counters: &Counters) -> Result<JobState> {
        let state = self.about_job(JobCall::Count(id.clone(), shard, chunk, *counters)).await?;
        state.ok_or_else(closed)
    }

    async fn end_job(&self, id: &JobId, state: JobState, why: Option<&str>) -> Result<JobState> {
        let state = self.about_job(JobCall::End(id.clone(), state, why.map(str::to_owned))).await?;
        state.ok_or_else(closed)
    }
}

#[async_trait]
impl TagStore for SqliteStore {
    async fn get(&self, object: &ObjectRef) -> Result<Tags> {
        read!(self.0, connection => rows::tags(connection, object))
    }

    async fn set(&self, object: &ObjectRef, tags: &Tags) -> Result<()> {
        self.0.call(Call::SetTags(object.clone(), tags.clone())).await.map(drop)
    }
}

impl SqliteStoreBuilder {
    /// How long to wait for another process that writes. Default 5 seconds.
    pub fn busy_timeout(mut self, wait: Duration) -> Self {
        self.config.busy_timeout = wait;
        self
    }

    /// Most verdicts that are remembered; the oldest make room. Default 100,000.
    pub fn cache_entries(mut self, most: u32) -> Self {
        self.cache_entries = most;
        self
    }

    /// Most connections that read at a time, at least one. Default 4.
    pub fn readers(mut self, most: usize) -> Self {
        self.config.readers = most;
        self
    }

    /// Most bytes of the file; beyond it calls fail with [`ErrorKind::Resources`](crate::ErrorKind::Resources). The
    /// default is what the disk holds. The write-ahead log beside it comes on top, a few megabytes.
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.config.max_size = Some(bytes);
        self
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`].
    pub async fn open(self) -> Result<SqliteStore> {
        let tasks = Tasks { cache_entries: self.cache_entries, at_work: AtWork::default() };
        Ok(SqliteStore(Arc::new(Database::open(self.config, tasks).await?)))
    }
}
