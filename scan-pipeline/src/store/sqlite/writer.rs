//! The one writer: it takes what waits, writes all of it in one transaction, and answers when that is on the disk.
//!
//! A commit to the disk costs milliseconds whether it holds one change or a hundred; so callers who come at the same
//! time share one. A call that is refused has written nothing. One that fails in the middle undoes the transaction; then
//! each of its calls gets one of its own, and no other is disturbed.
//!
//! The writer has a thread with a small runtime of its own. It does not depend on which runtime opened the store, and
//! finishes what it accepted when the caller's runtime is gone.

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::error::again;
use super::readers::Slot;
use super::write::{self, Prepared};
use super::{Config, connect, rows};
use crate::model::{ObjectRef, Tags, Timestamp};
use crate::store::{AuditHead, Changes, Claim, ClaimRequest, Lease, LeaseChange};
use crate::{Error, ErrorKind, Result};

/// Most calls in one transaction: what comes later must not wait for too many.
const BATCH: usize = 256;
/// Calls that may wait; others wait before they get in.
const WAITING: usize = 1024;

/// A call, and where its answer goes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) call: Call,
    pub(super) answer: oneshot::Sender<Result<Answer>>,
}

#[derive(Debug)]
pub(super) enum Call {
    Claim(ClaimRequest),
    Commit(Lease, Box<Prepared>),
    SetTags(ObjectRef, Tags),
    Close,
}

#[derive(Debug)]
pub(super) enum Answer {
    Claim(Claim),
    Committed(Timestamp),
    Done,
}

/// Starts the writer. The second half tells when the store is open, or why it cannot be.
pub(super) fn start(config: Config, slot: Slot) -> Result<(mpsc::Sender<Job>, oneshot::Receiver<Result<()>>)> {
    let (sender, jobs) = mpsc::channel(WAITING);
    let (opened, is_open) = oneshot::channel();
    let starting = |error| Error::io("the store's writer could not be started", error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(starting)?;
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
            Writer { config, slot, jobs, closing: Vec::new() }.run().await;
        });
    };
    std::thread::Builder::new().name(String::from("store-writer")).spawn(run).map_err(starting)?;
    Ok((sender, is_open))
}

struct Writer {
    config: Config,
    slot: Slot,
    jobs: mpsc::Receiver<Job>,
    closing: Vec<oneshot::Sender<Result<Answer>>>,
}

impl Writer {
    /// Ends when every handle is gone and everything that was accepted is written.
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.jobs.recv_many(&mut batch, BATCH).await > 0 {
            let mut jobs = Vec::with_capacity(batch.len());
            for job in batch.drain(..) {
                if matches!(job.call, Call::Close) {
                    // No more gets in, and what is in comes out.
                    self.jobs.close();
                    self.closing.push(job.answer);
                } else if !job.answer.is_closed() {
                    // Who does not wait any more gets nothing written; a claim would be nobody's.
                    jobs.push(job);
                }
            }
            if !jobs.is_empty() {
                self.serve(jobs).await;
            }
        }
        if let Some(connection) = self.slot.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(store = self.config.name(), %error, "the store was not closed in order; nothing is lost");
        }
        for answer in self.closing {
            let _ = answer.send(Ok(Answer::Done));
        }
    }

    async fn serve(&mut self, jobs: Vec<Job>) {
        let calls: Vec<_> = jobs.iter().map(|job| &job.call).collect();
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
        let mut orphans = Vec::new();
        for (job, result) in jobs.into_iter().zip(results) {
            if let Err(Ok(Answer::Claim(Claim::Mine(lease, _)))) = job.answer.send(result) {
                orphans.push(lease);
            }
        }
        self.release(orphans).await;
    }

    /// Gives back what was claimed for callers who have gone away meanwhile; otherwise nobody would have the tasks until
    /// the leases run out.
    async fn release(&mut self, orphans: Vec<Lease>) {
        let give_back = || Prepared::new(Changes { lease: LeaseChange::Release, ..Changes::default() });
        let calls: Vec<_> =
            orphans.into_iter().filter_map(|lease| Some(Call::Commit(lease, Box::new(give_back().ok()?)))).collect();
        if !calls.is_empty()
            && let Err(error) = self.write(&calls.iter().collect::<Vec<_>>()).await
        {
            tracing::warn!(store = self.config.name(), %error, "leases of callers who have gone run out by themselves");
        }
    }

    /// One transaction. An error is that of the transaction, and nothing of it was written.
    async fn write(&mut self, calls: &[&Call]) -> Result<Vec<Result<Answer>>> {
        let mut slot = self.slot.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => connect::writer(&self.config).await?,
        };
        let result = transaction(&mut connection, calls, self.config.cache_entries).await;
        // A connection that cannot even roll back is of no use any more, and the next batch opens another. In memory it
        // holds all that there is, and stays.
        if result.is_ok() || roll_back(&mut connection).await || self.config.path.is_none() {
            *slot = Some(connection);
        }
        result
    }
}

async fn transaction(
    connection: &mut SqliteConnection,
    calls: &[&Call],
    cache_entries: u32,
) -> Result<Vec<Result<Answer>>> {
    // With the lock from the start: a transaction that reads first and then finds the file changed could only fail. The
    // head is read each time, as other processes may write to the same file.
    let before = rows::begin(connection).await?;
    let mut head = before;
    let mut results = Vec::with_capacity(calls.len());
    for call in calls {
        results.push(run(connection, call, cache_entries, &mut head).await?);
    }
    write::end(connection, (head != before).then_some(head)).await?;
    Ok(results)
}

/// The inner result is the answer; with the outer one the transaction has failed.
async fn run(
    connection: &mut SqliteConnection,
    call: &Call,
    cache_entries: u32,
    head: &mut AuditHead,
) -> Result<Result<Answer>> {
    Ok(match call {
        Call::Claim(request) => write::claim(connection, request).await?.map(Answer::Claim),
        Call::Commit(lease, prepared) => {
            write::commit(connection, lease, prepared, cache_entries, head).await?.map(Answer::Committed)
        }
        Call::SetTags(object, tags) => write::set_tags(connection, object, tags).await?.map(|()| Answer::Done),
        Call::Close => Ok(Answer::Done),
    })
}

/// Whether the connection is out of the transaction: rolled back now, or by SQLite when it failed.
async fn roll_back(connection: &mut SqliteConnection) -> bool {
    if sqlx::query("ROLLBACK").execute(&mut *connection).await.is_ok() {
        return true;
    }
    // Outside of a transaction a rollback fails, and a new transaction begins.
    sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection).await.is_ok()
}
