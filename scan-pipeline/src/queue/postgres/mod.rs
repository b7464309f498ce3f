//! The queue that several machines share: PostgreSQL.
//!
//! Each call is a statement of its own ([`statements`]); leases skip what others are about to take. Times are those of the
//! server's clock. Who waits is woken by `NOTIFY` ([`listen`]).

mod calls;
mod listen;
mod statements;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

#[cfg(any(test, feature = "testkit"))]
use super::TestClock;
use super::sql::{self, BATCH, Clock, Ticket, millis};
use super::{
    DeadLetter, DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle, Which,
};
use crate::sql::postgres::{Part, Postgres};
use crate::{Error, ErrorKind, Result};

const TABLES: Part = Part { name: "queue", migrations: &[include_str!("../migrations/postgres/0001_start.sql")] };

/// The longest that a lease waits without looking: a connection that listens can be lost without a word.
const POLL: Duration = Duration::from_secs(1);
/// Of so many enqueueings one tidies up.
const TIDYING: u32 = 64;

/// A queue in a PostgreSQL database, which any number of processes and machines may share. Clones are handles to the same
/// queue. It belongs to the Tokio runtime that opened it.
///
/// What a call wrote is on the server's disk when the call returns. What is leased for a caller who does not wait for it
/// goes back at once. A call that ends with [`ErrorKind::Timeout`] or [`ErrorKind::Unavailable`] may have been written:
/// the server's answer did not come. What was leased by such a call comes again when the lease has run out.
///
/// ```no_run
/// # async fn example() -> Result<(), scan_pipeline::Error> {
/// use std::time::Duration;
/// use scan_pipeline::queue::{PostgresQueue, Queue};
/// let queue = PostgresQueue::open("postgres://scan:secret@db.example/scans?sslmode=verify-full").await?;
/// let minute = Duration::from_secs(60);
/// println!("{} messages", queue.lease(10, minute, minute).await?.len());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct PostgresQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Postgres,
    clock: Clock,
    bell: Arc<Notify>,
    /// Started by the first who waits.
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listening) = self.listening().take() {
            listening.abort();
        }
    }
}

/// How a [`PostgresQueue`] is opened.
///
/// ```no_run
/// # async fn example() -> Result<(), scan_pipeline::Error> {
/// use scan_pipeline::queue::PostgresQueue;
/// use scan_pipeline::sql::postgres::Postgres;
/// let database = Postgres::builder("postgres://scan@db.example/scans")?.schema("uploads").connect().await?;
/// let queue = PostgresQueue::builder(database).open().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct PostgresQueueBuilder {
    database: Postgres,
    clock: Clock,
}

impl PostgresQueueBuilder {
    /// Adds to the server's time what a test says.
    #[cfg(any(test, feature = "testkit"))]
    pub fn clock(mut self, clock: TestClock) -> Self {
        self.clock.test = clock;
        self
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// As [`PostgresQueue::open`].
    pub async fn open(self) -> Result<PostgresQueue> {
        let Self { database, clock } = self;
        database.migrate(TABLES).await.map_err(|error| error.about(database.name()))?;
        let (bell, listening) = (Arc::new(Notify::new()), Mutex::new(None));
        Ok(PostgresQueue(Arc::new(Inner { database, clock, bell, listening })))
    }
}

type Work<'a, T> = BoxFuture<'a, Result<T>>;

impl Inner {
    fn listening(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it on a connection of its own, within the time of a call. A connection on which something failed is closed.
    async fn with<T: Send>(
        &self,
        work: impl for<'c> FnOnce(&'c mut PgConnection, i64) -> Work<'c, T> + Send,
    ) -> Result<T> {
        let working = async {
            let mut session = self.database.session().await?;
            let done = self.database.run("using the queue", work(session.connection(), self.clock.offset())).await?;
            session.done();
            Ok(done)
        };
        working.await.map_err(|error: Error| error.about(self.database.name()))
    }
}

/// Messages on their way to a caller. If nobody takes them, they go back.
struct Handed(Option<(Leased, Arc<Inner>)>);

type Leased = Vec<(Ticket, Delivery)>;

impl Handed {
    fn take(mut self) -> Vec<Delivery> {
        self.0.take().map_or_else(Vec::new, |(leased, _)| leased.into_iter().map(|(_, delivery)| delivery).collect())
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let Some((leased, inner)) = self.0.take() else { return };
        // Without a runtime the leases run out by themselves, and so they do when this fails.
        if let (false, Ok(runtime)) = (leased.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let tickets: Vec<_> = leased.into_iter().map(|(ticket, _)| ticket).collect();
                let back = inner
                    .with(|connection, now| Box::pin(async move { calls::give_back(connection, &tickets, now).await }));
                if let Err(error) = back.await {
                    tracing::warn!(%error, "leases of callers who have gone run out by themselves");
                }
            });
        }
    }
}

impl PostgresQueue {
    /// Opens the queue in a database, whose address [`PostgresUrl`](crate::sql::postgres::PostgresUrl) describes. Its
    /// tables are made, in a schema `scan_pipeline`, if they are not there.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](crate::sql::postgres::PostgresBuilder::connect); [`ErrorKind::Corrupt`] for tables of a newer
    /// program or of another one.
    pub async fn open(url: &str) -> Result<Self> {
        Self::builder(Postgres::builder(url)?.connect().await?).open().await
    }

    /// A queue with settings of its own, in a database that is connected.
    pub fn builder(database: Postgres) -> PostgresQueueBuilder {
        PostgresQueueBuilder { database, clock: Clock::default() }
    }

    /// In a task of its own: a caller who goes away in the middle would leave it open what was leased.
    async fn lease_now(&self, most: usize, ttl: Duration) -> Result<Vec<Delivery>> {
        let inner = Arc::clone(&self.0);
        let (most, ttl) = (most.min(BATCH), millis(ttl));
        let leasing = tokio::spawn(async move {
            let leased = inner.with(|connection, now| Box::pin(calls::lease(connection, most, ttl, now))).await?;
            Ok(Handed(Some((leased, inner))))
        });
        leasing.await.map_err(|why| Error::new(ErrorKind::Panicked, "leasing").with_source(why))?.map(Handed::take)
    }

    /// How long until something is ready; zero if it is now, `None` if nothing waits for a time.
    async fn next(&self) -> Result<Option<Duration>> {
        let next = self.0.with(|connection, now| Box::pin(calls::next(connection, now))).await?;
        Ok(next.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))))
    }

    fn listen(&self) {
        self.0.listening().get_or_insert_with(|| {
            let (database, bell) = (self.0.database.clone(), Arc::clone(&self.0.bell));
            let schema = database.schema().to_owned();
            tokio::spawn(listen::listen(database, schema, bell))
        });
    }

    async fn write(&self, messages: Vec<NewMessage>) -> Result<Vec<MessageId>> {
        self.0
            .with(|connection, now| {
                Box::pin(async move {
                    let ids = calls::enqueue(connection, &messages, now).await?;
                    if fastrand::u32(..TIDYING) == 0 {
                        calls::tidy(connection, now).await?;
                    }
                    Ok(ids)
                })
            })
            .await
    }

    /// What SQLite could keep, and this cannot.
    fn check(message: &NewMessage) -> Result<()> {
        if message.tenant.contains('\0') || message.dedupe.as_ref().is_some_and(|key| key.contains('\0')) {
            let what = "a tenant or deduplication key holds a NUL, which PostgreSQL cannot keep";
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        sql::check(message)
    }
}

#[async_trait]
impl Queue for PostgresQueue {
    fn caps(&self) -> QueueCaps {
        sql::caps()
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        let about = |error: Error| error.about(self.0.database.name());
        sql::enqueue(messages, Self::check, about, |part| self.write(part)).await
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let lease = || async {
            let leased = self.lease_now(most, ttl).await?;
            if leased.is_empty() {
                self.listen();
            }
            Ok(leased)
        };
        sql::await_lease(&self.0.bell, (wait, POLL), lease, || self.next()).await
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        sql::each(leases, |part| {
            let part: Vec<_> = part.into_iter().map(|(ticket, ttl)| (ticket, millis(ttl))).collect();
            self.0.with(|connection, now| Box::pin(async move { calls::extend(connection, &part, now).await }))
        })
        .await
    }

    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        sql::each(messages, |part| {
            self.0.with(|connection, now| Box::pin(async move { calls::settle(connection, &part, now).await }))
        })
        .await
    }

    async fn depth(&self) -> Result<Depth> {
        self.0.with(|connection, now| Box::pin(calls::depth(connection, now))).await
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }
}

#[async_trait]
impl DeadLetters for PostgresQueue {
    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<DeadLetter>> {
        let after = sql::behind(after).map_err(|error| error.about(self.0.database.name()))?;
        self.0.with(|connection, _| Box::pin(calls::list(connection, after, most.min(BATCH)))).await
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>> {
        let Some(number) = sql::number(id) else { return Ok(None) };
        let found = self.0.with(|connection, _| Box::pin(calls::list(connection, number - 1, 1))).await?;
        Ok(found.into_iter().find(|letter| letter.id == id))
    }

    async fn redrive(&self, which: &Which, most: usize) -> Result<u64> {
        let which = which.clone();
        self.0
            .with(|connection, now| Box::pin(async move { calls::redrive(connection, &which, most, now).await }))
            .await
    }

    async fn purge(&self, which: &Which, most: usize) -> Result<u64> {
        let which = which.clone();
        self.0.with(|connection, now| Box::pin(async move { calls::purge(connection, &which, most, now).await })).await
    }
}
