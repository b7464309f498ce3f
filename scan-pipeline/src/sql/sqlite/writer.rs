//! The one writer: it takes what waits, writes all of it in one transaction, and answers when that is on the disk.
//!
//! A commit to the disk costs milliseconds whether it holds one change or a hundred; so callers who come at the same
//! time share one. A call that fails in the middle undoes the transaction; then each of its calls gets one of its own,
//! and no other is disturbed.
//!
//! The writer has a thread with a small runtime of its own. It does not depend on which runtime opened the database, and
//! finishes what it accepted when the caller's runtime is gone.

use std::fmt;

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::error::{again, failed};
use super::readers::Slot;
use super::{Config, connect};
use crate::{Error, ErrorKind, Result};

/// Most calls in one transaction: what comes later must not wait for too many.
const BATCH: usize = 256;
/// Calls that may wait; others wait before they get in.
const WAITING: usize = 1024;

/// What can be asked of a writer.
pub(crate) trait Calls: Send + Sized + 'static {
    /// One call, with everything that it needs.
    type Call: Send + fmt::Debug + 'static;
    /// What comes of it.
    type Answer: Send + fmt::Debug + 'static;

    /// Does these calls in one transaction, from its beginning to its commit. The outer error is that of the
    /// transaction, and nothing of it was written. An inner one is an answer: that call has written nothing.
    async fn transaction(
        &mut self,
        connection: &mut SqliteConnection,
        calls: &[&Self::Call],
    ) -> Result<Vec<Result<Self::Answer>>>;

    /// The call that undoes what this answer gave, for a caller who has gone away.
    fn undo(answer: Self::Answer) -> Option<Self::Call>;
}

/// A call, and where its answer goes.
pub(super) enum Job<C: Calls> {
    Call(C::Call, Answer<C>),
    Undo(C::Call),
    Close(oneshot::Sender<()>),
}

type Answer<C> = oneshot::Sender<Result<Handed<C>>>;

/// An answer on its way. If nobody takes it, it is undone; otherwise nobody would have what was leased until that runs
/// out.
pub(super) struct Handed<C: Calls>(Option<(C::Answer, mpsc::WeakSender<Job<C>>)>);

impl<C: Calls> Handed<C> {
    pub(super) fn take(mut self) -> C::Answer {
        // Nobody else takes it out, and this takes the whole.
        self.0.take().expect("it is there until it is taken").0
    }
}

impl<C: Calls> Drop for Handed<C> {
    fn drop(&mut self) {
        // With a full channel the lease runs out by itself.
        if let Some((answer, jobs)) = self.0.take()
            && let Some(call) = C::undo(answer)
            && let Some(jobs) = jobs.upgrade()
        {
            let _ = jobs.try_send(Job::Undo(call));
        }
    }
}

/// Where jobs go, and what tells when the database is open, or why it cannot be.
type Started<C> = (mpsc::Sender<Job<C>>, oneshot::Receiver<Result<()>>);

/// Starts the writer.
pub(super) fn start<C: Calls>(config: Config, slot: Slot, calls: C) -> Result<Started<C>> {
    let (sender, jobs) = mpsc::channel(WAITING);
    let (opened, is_open) = oneshot::channel();
    let name = config.format.name;
    let starting = |error| Error::io(format!("the {name}'s writer could not be started"), error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(starting)?;
    let handle = sender.downgrade();
    let run = move || {
        runtime.block_on(async {
            let open = connect::writer(&config).await;
            let connection = match open {
                Ok(connection) => connection,
                Err(error) => return drop(opened.send(Err(error))),
            };
            *slot.lock().await = Some(connection);
            // Who opened it may have gone away; then nobody has the other end of the channel, and the loop ends.
            let _ = opened.send(Ok(()));
            Writer { config, slot, jobs, handle, calls, closing: Vec::new() }.run().await;
        });
    };
    std::thread::Builder::new().name(format!("{name}-writer")).spawn(run).map_err(starting)?;
    Ok((sender, is_open))
}

struct Writer<C: Calls> {
    config: Config,
    slot: Slot,
    jobs: mpsc::Receiver<Job<C>>,
    handle: mpsc::WeakSender<Job<C>>,
    calls: C,
    closing: Vec<oneshot::Sender<()>>,
}

impl<C: Calls> Writer<C> {
    /// Ends when every handle is gone and everything that was accepted is written.
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.jobs.recv_many(&mut batch, BATCH).await > 0 {
            let mut jobs = Vec::with_capacity(batch.len());
            for job in batch.drain(..) {
                match job {
                    Job::Close(done) => {
                        // No more gets in, and what is in comes out.
                        self.jobs.close();
                        self.closing.push(done);
                    }
                    // Who does not wait any more gets nothing written; a claim would be nobody's.
                    Job::Call(call, answer) if !answer.is_closed() => jobs.push((call, Some(answer))),
                    Job::Call(..) => {}
                    Job::Undo(call) => jobs.push((call, None)),
                }
            }
            if !jobs.is_empty() {
                self.serve(jobs).await;
            }
        }
        if let Some(connection) = self.slot.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(database = self.config.name(), %error, "it was not closed in order; nothing is lost");
        }
        for done in self.closing {
            let _ = done.send(());
        }
    }

    async fn serve(&mut self, jobs: Vec<(C::Call, Option<Answer<C>>)>) {
        let calls: Vec<_> = jobs.iter().map(|(call, _)| call).collect();
        let mut results = self.write(&calls).await;
        if let (Err(error), 2..) = (&results, jobs.len())
            && error.kind() != ErrorKind::Busy
        {
            // One of them may have been what the disk had no room for, which undoes the whole transaction.
            let mut singly = Vec::with_capacity(jobs.len());
            for call in &calls {
                singly.push(self.write(&[*call]).await.map_or_else(Err, |mut one| one.remove(0)));
            }
            results = Ok(singly);
        }
        let results = match results {
            Ok(results) => results,
            Err(error) if jobs.len() == 1 => vec![Err(error)],
            Err(error) => jobs.iter().map(|_| Err(again(&error))).collect(),
        };
        for ((_, answer), result) in jobs.into_iter().zip(results) {
            match (answer, result) {
                // Who has gone away meanwhile drops it, and that undoes it.
                (Some(answer), result) => {
                    let _ = answer.send(result.map(|given| Handed(Some((given, self.handle.clone())))));
                }
                (None, Err(error)) => {
                    let database = self.config.name();
                    tracing::warn!(database, %error, "leases of callers who have gone run out by themselves");
                }
                (None, Ok(_)) => {}
            }
        }
    }

    /// One transaction. An error is that of the transaction, and nothing of it was written.
    async fn write(&mut self, calls: &[&C::Call]) -> Result<Vec<Result<C::Answer>>> {
        let mut slot = self.slot.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => connect::writer(&self.config).await?,
        };
        let result = self.calls.transaction(&mut connection, calls).await;
        // A connection that cannot even roll back is of no use any more, and the next batch opens another. In memory it
        // holds all that there is, and stays.
        if result.is_ok() || roll_back(&mut connection).await || self.config.path.is_none() {
            *slot = Some(connection);
        }
        result
    }
}

/// Begins a transaction that writes: with the lock from the start, as one that reads first and then finds the file
/// changed could only fail.
pub(crate) async fn begin(connection: &mut SqliteConnection) -> Result<()> {
    execute(connection, "BEGIN IMMEDIATE").await
}

/// Brings a transaction to the disk.
pub(crate) async fn commit(connection: &mut SqliteConnection) -> Result<()> {
    execute(connection, "COMMIT").await
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<()> {
    sqlx::query(sql).execute(connection).await.map(drop).map_err(failed("writing"))
}

/// Whether the connection is out of the transaction: rolled back now, or by SQLite when it failed.
async fn roll_back(connection: &mut SqliteConnection) -> bool {
    if sqlx::query("ROLLBACK").execute(&mut *connection).await.is_ok() {
        return true;
    }
    // Outside of a transaction a rollback fails, and a new transaction begins.
    sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection).await.is_ok()
}
