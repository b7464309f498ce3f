//! What writes to the file: one connection, on a thread of its own. See [`gather`](crate::sql::gather) for how calls come
//! together.
//!
//! The thread has a small runtime of its own. It does not depend on which runtime opened the database, and finishes what it
//! accepted when the caller's runtime is gone.

use std::fmt;

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;

use super::error::failed;
use super::readers::Slot;
use super::{Config, connect};
use crate::sql::gather::{self, Callers, Writes};
use crate::{Error, Result};

/// What can be asked of a writer.
pub(crate) trait Calls: Send + Sized + 'static {
    /// One call, with everything that it needs.
    type Call: Send + Sync + fmt::Debug + 'static;
    /// What comes of it.
    type Answer: Send + fmt::Debug + 'static;

    /// Does these calls in one transaction, from its beginning to its commit. The outer error is that of the
    /// transaction, and nothing of it was written. An inner one is an answer: that call has written nothing.
    fn transaction(
        &mut self,
        connection: &mut SqliteConnection,
        calls: &[&Self::Call],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer>>>> + Send;

    /// How many calls a transaction should have, if they come soon ([`Writes::worth_waiting_for`]).
    fn worth_waiting_for(&self) -> usize {
        0
    }

    /// The call that undoes what this answer gave, for a caller who has gone away.
    fn undo(answer: Self::Answer) -> Option<Self::Call>;
}

/// Tells when the database is open, or why it cannot be.
pub(super) type Opened = oneshot::Receiver<Result<()>>;

/// Starts the writer. The second half tells when the database is open, or why it cannot be.
pub(super) fn start<C: Calls>(config: Config, slot: Slot, calls: C) -> Result<(Callers<Writer<C>>, Opened)> {
    let (callers, gather) = gather::channel();
    let (opened, is_open) = oneshot::channel();
    let name = config.format.name;
    let starting = |error| Error::io(format!("the {name}'s writer could not be started"), error);
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
            gather.run(Writer { config, slot, calls }).await;
        });
    };
    std::thread::Builder::new().name(format!("{name}-writer")).spawn(run).map_err(starting)?;
    Ok((callers, is_open))
}

pub(crate) struct Writer<C> {
    config: Config,
    slot: Slot,
    calls: C,
}

impl<C: Calls> Writes for Writer<C> {
    type Call = C::Call;
    type Answer = C::Answer;

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

    fn worth_waiting_for(&self) -> usize {
        // In memory a commit costs nothing that is worth waiting for.
        if self.config.path.is_some() { self.calls.worth_waiting_for() } else { 0 }
    }

    fn undo(answer: C::Answer) -> Option<C::Call> {
        C::undo(answer)
    }

    fn name(&self) -> String {
        self.config.name()
    }

    async fn close(self) {
        if let Some(connection) = self.slot.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(database = self.config.name(), %error, "it was not closed in order; nothing is lost");
        }
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
