//! Connections that read. They see the last state that was committed and wait for no writer.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};

use super::error::failed;
use super::{Config, connect};
use crate::{Error, ErrorKind, Result};

/// Where the writer keeps its connection. A database in memory has no other, and readers borrow it.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<SqliteConnection>>>;

#[derive(Debug)]
pub(crate) struct Readers {
    config: Config,
    /// Made when they are needed first.
    idle: Mutex<Vec<SqliteConnection>>,
    permits: Semaphore,
    memory: Option<Slot>,
}

/// A connection for one read. It goes back with [`done`](Self::done); one that is dropped in the middle is closed.
pub(crate) enum Reader<'a> {
    Own(SqliteConnection, &'a Readers, SemaphorePermit<'a>),
    Memory(OwnedMutexGuard<Option<SqliteConnection>>),
}

impl Readers {
    pub(super) fn new(config: Config, slot: &Slot) -> Self {
        let memory = config.path.is_none().then(|| Arc::clone(slot));
        let permits = Semaphore::new(config.readers.max(1));
        Self { config, idle: Mutex::default(), permits, memory }
    }

    /// A connection on which every statement sees the same moment.
    pub(super) async fn get(&self) -> Result<Reader<'_>> {
        let permit = self.permits.acquire().await.map_err(|_| closed())?;
        if let Some(slot) = &self.memory {
            return Ok(Reader::Memory(Arc::clone(slot).lock_owned().await));
        }
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect::reader(&self.config).await?,
        };
        sqlx::query("BEGIN").execute(&mut connection).await.map_err(failed("reading"))?;
        Ok(Reader::Own(connection, self, permit))
    }

    /// Waits for those that read, closes them, and gives out no more.
    pub(super) async fn close(&self) {
        let all = u32::try_from(self.config.readers.max(1)).unwrap_or(u32::MAX);
        let held = self.permits.acquire_many(all).await;
        self.permits.close();
        drop(held);
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            // It holds nothing that could be lost.
            let _ = connection.close().await;
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader<'_> {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        match self {
            Self::Own(connection, ..) => Ok(connection),
            Self::Memory(slot) => slot.as_mut().ok_or_else(closed),
        }
    }

    /// Ends the read.
    pub(crate) async fn done(self) {
        if let Self::Own(mut connection, readers, _permit) = self
            && sqlx::query("ROLLBACK").execute(&mut connection).await.is_ok()
        {
            readers.idle().push(connection);
        }
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "it is closed").retryable(false)
}
