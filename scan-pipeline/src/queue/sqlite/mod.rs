//! The embedded queue: one SQLite file.
//!
//! What reads and writes it is in [`sql`](crate::sql::sqlite). Several queues, also of several processes, may have the same
//! file open. Times are those of the machine's clock, which they share.

mod calls;
mod dead;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Notify;

use self::calls::{Answer, Call, Messages};
#[cfg(any(test, feature = "testkit"))]
use super::TestClock;
use super::sql::{self, BATCH, Clock, beyond, millis};
use super::{
    DeadLetter, DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle, Which,
};
use crate::Result;
use crate::model::Timestamp;
use crate::sql::sqlite::{Config, Database, Format, closed, failed, get, read};

static FORMAT: Format = Format {
    name: "queue",
    // "ScnQ"
    application: 0x5363_6e51,
    migrations: &[include_str!("../migrations/sqlite/0001_start.sql")],
};

/// The longest that a lease waits without looking for what other processes have enqueued.
const POLL: Duration = Duration::from_millis(250);

/// The embedded queue: one SQLite file, on a local disk. Clones are handles to the same queue.
///
/// What a call wrote is on the disk when the call returns. Calls that come at the same time share one write to the disk.
/// What is leased for a caller who does not wait for it goes back at once. When the last handle is gone, what was
/// accepted is finished in the background; [`close`](Self::close) waits for it.
///
/// ```
/// use std::time::Duration;
/// use scan_pipeline::queue::{Held, NewMessage, Queue, Settle, SqliteQueue};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("queue.db");
/// let queue = SqliteQueue::open(&path).await?;
/// for result in queue.enqueue(&[NewMessage::new("a.zip").tenant("s3://uploads")]).await? {
///     result?;
/// }
/// let minute = Duration::from_secs(60);
/// for delivery in queue.lease(10, minute, Duration::ZERO).await? {
///     assert_eq!((&delivery.body[..], delivery.attempt), (&b"a.zip"[..], 1));
///     assert_eq!(queue.settle(&[(delivery.receipt, Settle::Done)]).await?, [Held::Held]);
/// }
/// assert_eq!(queue.depth().await?.ready, 0);
/// queue.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct SqliteQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Database<Messages>,
    clock: Clock,
    bell: Arc<Notify>,
}

/// How a [`SqliteQueue`] is opened.
///
/// ```no_run
/// # async fn example() -> Result<(), scan_pipeline::Error> {
/// use scan_pipeline::queue::SqliteQueue;
/// let queue = SqliteQueue::builder("/var/lib/scan/queue.db").max_size(10 << 30).open().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct SqliteQueueBuilder {
    config: Config,
    clock: Clock,
}

impl SqliteQueue {
    /// Opens the queue in a file. It is made, readable by its owner only, if it is not there; its directory has to be.
    ///
    /// # Errors
    ///
    /// Those of [`SqliteStore::open`](crate::store::SqliteStore::open), with a queue in the place of a store.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open().await
    }

    /// A queue that is gone when its last handle is: for tests and trials.
    ///
    /// # Errors
    ///
    /// Memory or threads run short.
    pub async fn in_memory() -> Result<Self> {
        Self::memory().open().await
    }

    /// A queue with settings of its own.
    pub fn builder(path: impl AsRef<Path>) -> SqliteQueueBuilder {
        SqliteQueueBuilder { config: Config::file(&FORMAT, path.as_ref()), clock: Clock::default() }
    }

    /// A queue in memory with settings of its own.
    pub fn memory() -> SqliteQueueBuilder {
        SqliteQueueBuilder { config: Config::memory(&FORMAT), clock: Clock::default() }
    }

    /// Takes no more calls, finishes those that were accepted, and closes the file. It may be called again.
    ///
    /// # Errors
    ///
    /// None at present.
    pub async fn close(&self) -> Result<()> {
        self.0.database.close().await
    }

    fn now(&self) -> i64 {
        Timestamp::now().0.saturating_add(self.0.clock.offset())
    }

    async fn held(&self, call: Call) -> Result<Vec<Held>> {
        match self.0.database.call(call).await? {
            Answer::Held(held) => Ok(held),
            _ => Err(closed()),
        }
    }

    async fn count(&self, call: Call) -> Result<u64> {
        match self.0.database.call(call).await? {
            Answer::Count(count) => Ok(count),
            _ => Err(closed()),
        }
    }

    async fn lease_now(&self, most: usize, ttl: Duration) -> Result<Vec<Delivery>> {
        match self.0.database.call(Call::Lease(most.min(BATCH), millis(ttl))).await? {
            Answer::Leased(leased) => Ok(leased.into_iter().map(|(_, delivery)| delivery).collect()),
            _ => Err(closed()),
        }
    }

    /// How long until something is ready; zero if it is now, `None` if nothing waits for a time.
    async fn next(&self) -> Result<Option<Duration>> {
        let now = self.now();
        read!(self.0.database, connection => next(connection, now))
    }
}

async fn next(connection: &mut SqliteConnection, now: i64) -> Result<Option<Duration>> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM messages WHERE rank IS NOT NULL), \
         (SELECT min(due) FROM messages WHERE rank IS NULL), (SELECT max(due) FROM messages WHERE rank IS NULL)",
    );
    let row = row.fetch_one(connection).await.map_err(failed("reading the queue"))?;
    let (first, last): (Option<i64>, Option<i64>) = (get(&row, 1)?, get(&row, 2)?);
    if get(&row, 0)? || last.is_some_and(|last| last > beyond(now)) {
        return Ok(Some(Duration::ZERO));
    }
    Ok(first.map(|due| Timestamp(due).since(Timestamp(now))))
}

async fn depth(connection: &mut SqliteConnection, now: i64) -> Result<Depth> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM messages WHERE rank IS NOT NULL) + count(*) FILTER (WHERE due <= ?1 OR due > ?2), \
         count(*) FILTER (WHERE due > ?1 AND due <= ?2 AND NOT leased), \
         count(*) FILTER (WHERE due > ?1 AND due <= ?2 AND leased), (SELECT count(*) FROM dead) \
         FROM messages WHERE rank IS NULL",
    );
    let row = row.bind(now).bind(beyond(now)).fetch_one(connection).await;
    let row = row.map_err(failed("reading the queue"))?;
    let count = |column| get::<i64>(&row, column).map(i64::cast_unsigned);
    Ok(Depth { ready: count(0)?, delayed: count(1)?, leased: count(2)?, dead: count(3)?, approximate: false })
}

#[async_trait]
impl Queue for SqliteQueue {
    fn caps(&self) -> QueueCaps {
        sql::caps()
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        let about = |error| self.0.database.about(error);
        sql::enqueue(messages, sql::check, about, |part| self.write(part)).await
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        sql::await_lease(&self.0.bell, (wait, POLL), || self.lease_now(most, ttl), || self.next()).await
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        sql::each(leases, |part| {
            let part = part.into_iter().map(|(ticket, ttl)| (ticket, millis(ttl))).collect();
            self.held(Call::Extend(part))
        })
        .await
    }

    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        sql::each(messages, |part| self.held(Call::Settle(part))).await
    }

    async fn depth(&self) -> Result<Depth> {
        let now = self.now();
        read!(self.0.database, connection => depth(connection, now))
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }
}

impl SqliteQueue {
    async fn write(&self, messages: Vec<NewMessage>) -> Result<Vec<MessageId>> {
        match self.0.database.call(Call::Enqueue(messages)).await? {
            Answer::Enqueued(ids) => Ok(ids),
            _ => Err(closed()),
        }
    }
}

#[async_trait]
impl DeadLetters for SqliteQueue {
    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<DeadLetter>> {
        let after = sql::behind(after).map_err(|error| self.0.database.about(error))?;
        read!(self.0.database, connection => dead::list(connection, after, most.min(BATCH)))
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>> {
        let Some(number) = sql::number(id) else { return Ok(None) };
        let found = read!(self.0.database, connection => dead::list(connection, number - 1, 1))?;
        Ok(found.into_iter().find(|letter| letter.id == id))
    }

    async fn redrive(&self, which: &Which, most: usize) -> Result<u64> {
        self.count(Call::Redrive(which.clone(), most)).await
    }

    async fn purge(&self, which: &Which, most: usize) -> Result<u64> {
        self.count(Call::Purge(which.clone(), most)).await
    }
}

impl SqliteQueueBuilder {
    /// How long to wait for another process that writes. Default 5 seconds.
    pub fn busy_timeout(mut self, wait: Duration) -> Self {
        self.config.busy_timeout = wait;
        self
    }

    /// Most connections that read at a time, at least one. Default 4.
    pub fn readers(mut self, most: usize) -> Self {
        self.config.readers = most;
        self
    }

    /// Most bytes of the file; beyond it messages are refused with
    /// [`ErrorKind::Resources`](crate::ErrorKind::Resources). The default is what the disk holds. The write-ahead log
    /// beside it comes on top, a few megabytes.
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.config.max_size = Some(bytes);
        self
    }

    /// Takes the time from a clock that a test moves.
    #[cfg(any(test, feature = "testkit"))]
    pub fn clock(mut self, clock: TestClock) -> Self {
        self.clock.test = clock;
        self
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// As [`SqliteQueue::open`].
    pub async fn open(self) -> Result<SqliteQueue> {
        let bell = Arc::new(Notify::new());
        let messages = Messages { clock: self.clock.clone(), bell: Arc::clone(&bell) };
        let database = Database::open(self.config, messages).await?;
        Ok(SqliteQueue(Arc::new(Inner { database, clock: self.clock, bell })))
    }
}
