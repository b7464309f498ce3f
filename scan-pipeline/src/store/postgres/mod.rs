//! The store that several machines share: PostgreSQL.
//!
//! In each process one task gathers calls into transactions ([`write`]), set by set; reads have connections of their own.
//! Leases and fences hold between machines, since the rows are locked; the audit log is one chain, since its head is. Times
//! are those of the database's clock.

mod batch;
mod jobs;
mod read;
mod write;

use std::sync::Arc;

use async_trait::async_trait;

use self::write::Tasks;
use super::sql::jobs::JobCall;
use super::sql::{Answer, Call, Prepared};
use super::{
    Advance, AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Counters, Job, JobId,
    JobState, JobStore, Lease, NewJob, Store, TaskFilter, TaskRecord,
};
use crate::model::{ObjectRef, Tags, TaskId, Timestamp};
use crate::objects::TagStore;
use crate::sql::gather::{self, Callers};
use crate::sql::postgres::{Part, Postgres, closed};
use crate::{Error, Result};

/// Transactions that are written side by side, where there is enough to write.
const WRITERS: usize = 2;

const TABLES: Part = Part {
    name: "store",
    migrations: &[
        include_str!("../migrations/postgres/0001_start.sql"),
        include_str!("../migrations/postgres/0002_jobs.sql"),
        include_str!("../migrations/postgres/0003_findings.sql"),
        include_str!("../migrations/postgres/0004_pages.sql"),
    ],
};

/// A store in a PostgreSQL database, which any number of processes and machines may share. Clones are handles to the same
/// store. It belongs to the Tokio runtime that opened it.
///
/// What a call wrote is on the server's disk when the call returns. Calls that come at the same time share one
/// transaction; a call whose future is dropped is either done in full or not at all. A call that ends with
/// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) or [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) may have
/// been written: the server's answer did not come. The next call connects again by itself.
///
/// ```no_run
/// # async fn example() -> Result<(), scan_pipeline::Error> {
/// use scan_pipeline::store::{PostgresStore, Store};
/// let store = PostgresStore::open("postgres://scan:secret@db.example/scans?sslmode=verify-full").await?;
/// println!("{} entries in the log", store.audit_head().await?.seq);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    database: Postgres,
    calls: Callers<Tasks>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("database", &self.database).finish_non_exhaustive()
    }
}

/// How a [`PostgresStore`] is opened.
///
/// ```no_run
/// # async fn example() -> Result<(), scan_pipeline::Error> {
/// use scan_pipeline::sql::postgres::Postgres;
/// use scan_pipeline::store::PostgresStore;
/// let database = Postgres::builder("postgres://scan@db.example/scans")?.schema("uploads").connect().await?;
/// let store = PostgresStore::builder(database).cache_entries(1_000_000).open().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct PostgresStoreBuilder {
    database: Postgres,
    cache_entries: u32,
}

impl PostgresStore {
    /// Opens the store in a database, whose address [`PostgresUrl`](crate::sql::postgres::PostgresUrl) describes. Its
    /// tables are made, in a schema `scan_pipeline`, if they are not there.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](crate::sql::postgres::PostgresBuilder::connect);
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) for tables of a newer program or of another one.
    pub async fn open(url: &str) -> Result<Self> {
        Self::builder(Postgres::builder(url)?.connect().await?).open().await
    }

    /// A store with settings of its own, in a database that is connected.
    pub fn builder(database: Postgres) -> PostgresStoreBuilder {
        PostgresStoreBuilder { database, cache_entries: 100_000 }
    }

    /// Writes no more, and finishes what was accepted. The connections are closed with the last handle to them. It may be
    /// called again.
    ///
    /// # Errors
    ///
    /// None at present.
    pub async fn close(&self) -> Result<()> {
        self.0.calls.close().await;
        Ok(())
    }

    async fn call(&self, call: Call) -> Result<Answer> {
        let result = self.0.calls.call(call).await.unwrap_or_else(|| Err(closed()));
        result.map_err(|error| error.about(self.0.database.name()))
    }

    async fn about_job(&self, call: JobCall) -> Result<Option<JobState>> {
        match self.call(Call::Job(call)).await? {
            Answer::Job(state) => Ok(state),
            Answer::Claim(_) | Answer::Committed(_) | Answer::Done => Err(closed()),
        }
    }
}

impl PostgresStoreBuilder {
    /// Most verdicts that are remembered; the oldest make room. Default 100,000.
    pub fn cache_entries(mut self, most: u32) -> Self {
        self.cache_entries = most;
        self
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::open`].
    pub async fn open(self) -> Result<PostgresStore> {
        self.database.migrate(TABLES).await.map_err(|error| error.about(self.database.name()))?;
        Ok(self.opened())
    }

    /// Opens it if it is there; `None` where a database holds no store yet.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::open`].
    pub async fn open_existing(self) -> Result<Option<PostgresStore>> {
        let there = self.database.holds(TABLES).await.map_err(|error| error.about(self.database.name()))?;
        if there { self.open().await.map(Some) } else { Ok(None) }
    }

    fn opened(self) -> PostgresStore {
        let Self { database, cache_entries } = self;
        let (calls, gather) = gather::channel();
        // While the server brings one transaction to its disk, we can make the next, as another process could.
        let writers = [(); WRITERS].map(|()| Tasks { database: database.clone(), cache_entries });
        tokio::spawn(gather.run_side_by_side(writers.into()));
        PostgresStore(Arc::new(Inner { database, calls }))
    }
}

/// Reads with a connection of its own and names the database in errors.
macro_rules! read {
    ($self:ident, $connection:ident => $read:expr) => {{
        let database = &$self.0.database;
        let read = async {
            let mut session = database.session().await?;
            let reading = async {
                let $connection = session.connection();
                $read.await
            };
            let result = database.run("reading the store", reading).await?;
            session.done();
            Ok(result)
        };
        read.await.map_err(|error: Error| error.about(database.name()))
    }};
}

#[async_trait]
impl Store for PostgresStore {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        match self.call(Call::Claim(request.clone())).await? {
            Answer::Claim(claim) => Ok(claim),
            Answer::Committed(_) | Answer::Job(_) | Answer::Done => Err(closed()),
        }
    }

    async fn reopen(&self, request: &ClaimRequest) -> Result<Claim> {
        match self.call(Call::Reopen(request.clone())).await? {
            Answer::Claim(claim) => Ok(claim),
            Answer::Committed(_) | Answer::Job(_) | Answer::Done => Err(closed()),
        }
    }

    async fn commit(&self, lease: &Lease, changes: Changes) -> Result<Timestamp> {
        let prepared = Box::new(Prepared::new(changes)?);
        match self.call(Call::Commit(lease.clone(), prepared)).await? {
            Answer::Committed(at) => Ok(at),
            Answer::Claim(_) | Answer::Job(_) | Answer::Done => Err(closed()),
        }
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        read!(self, connection => read::task(connection, id))
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        read!(self, connection => read::tasks(connection, filter))
    }

    async fn audit(&self, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
        read!(self, connection => read::audit(connection, after, most))
    }

    async fn audit_head(&self) -> Result<AuditHead> {
        read!(self, connection => read::audit_head(connection))
    }

    async fn cached(&self, key: &CacheKey) -> Result<Option<CachedReport>> {
        read!(self, connection => read::cached(connection, key))
    }
}

#[async_trait]
impl JobStore for PostgresStore {
    async fn create_job(&self, job: &NewJob) -> Result<()> {
        self.about_job(JobCall::Create(job.clone())).await.map(drop)
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>> {
        read!(self, connection => jobs::job(connection, id))
    }

    async fn job_head(&self, id: &JobId) -> Result<Option<Job>> {
        read!(self, connection => jobs::head(connection, id))
    }

    async fn jobs(&self, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
        read!(self, connection => jobs::jobs(connection, before, most))
    }

    async fn advance(&self, id: &JobId, shard: u32, step: &Advance) -> Result<Option<JobState>> {
        self.about_job(JobCall::Advance(id.clone(), shard, step.clone())).await
    }

    async fn count(&self, id: &JobId, shard: u32, chunk: u64, counters: &Counters) -> Result<JobState> {
        self.about_job(JobCall::Count(id.clone(), shard, chunk, *counters)).await?.ok_or_else(closed)
    }

    async fn end_job(&self, id: &JobId, state: JobState, why: Option<&str>) -> Result<JobState> {
        self.about_job(JobCall::End(id.clone(), state, why.map(str::to_owned))).await?.ok_or_else(closed)
    }
}

#[async_trait]
impl TagStore for PostgresStore {
    async fn get(&self, object: &ObjectRef) -> Result<Tags> {
        read!(self, connection => read::tags(connection, object))
    }

    async fn set(&self, object: &ObjectRef, tags: &Tags) -> Result<()> {
        self.call(Call::SetTags(object.clone(), tags.clone())).await.map(drop)
    }
}
