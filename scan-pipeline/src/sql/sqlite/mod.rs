//! One SQLite file, or memory: a writer that gathers calls into transactions ([`writer`]), and a few connections that
//! read beside it ([`readers`]). Several processes may have the same file open: SQLite's locks are between them.

mod connect;
mod error;
mod readers;
mod row;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use self::error::failed;
pub(crate) use self::readers::{Reader, closed};
pub(crate) use self::row::get;
pub(crate) use self::writer::{Calls, begin, commit};

use self::readers::{Readers, Slot};
use self::writer::Writer;
use crate::sql::gather::Callers;
use crate::{Error, ErrorKind, Result};

/// What tells one kind of file from another, and how it came to be as it is now.
#[derive(Debug)]
pub(crate) struct Format {
    /// What people call such a file, as in "the store".
    pub(crate) name: &'static str,
    /// SQLite's `application_id`: tells it from the database of another program.
    pub(crate) application: i64,
    /// Each brings a file from the version of its place to the next. What was released never changes. The first makes a
    /// table `meta (name, value)`.
    pub(crate) migrations: &'static [&'static str],
}

/// Where a database is, and how it is used.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) format: &'static Format,
    /// `None` is memory.
    pub(crate) path: Option<PathBuf>,
    pub(crate) busy_timeout: Duration,
    pub(crate) readers: usize,
    pub(crate) max_size: Option<u64>,
}

impl Config {
    /// In memory, with the usual settings.
    pub(crate) fn memory(format: &'static Format) -> Self {
        Self { format, path: None, busy_timeout: Duration::from_secs(5), readers: 4, max_size: None }
    }

    /// In a file, with the usual settings.
    pub(crate) fn file(format: &'static Format, path: &Path) -> Self {
        Self { path: Some(path.to_owned()), ..Self::memory(format) }
    }

    /// What errors are about.
    fn name(&self) -> String {
        let memory = || format!("{} in memory", self.format.name);
        self.path.as_ref().map_or_else(memory, |path| path.display().to_string())
    }
}

/// A database that is open. When it is dropped, what was accepted is finished in the background.
pub(crate) struct Database<C: Calls> {
    name: String,
    callers: Callers<Writer<C>>,
    readers: Readers,
}

impl<C: Calls> fmt::Debug for Database<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<C: Calls> Database<C> {
    /// Opens it, and makes or migrates it if need be.
    pub(crate) async fn open(mut config: Config, calls: C) -> Result<Self> {
        if let Some(path) = config.path {
            let absolute = std::path::absolute(&path).map_err(|error| {
                let what = format!("the {} needs a path", config.format.name);
                Error::new(ErrorKind::Config, what).with_source(error)
            })?;
            config.path = Some(absolute);
        }
        let name = config.name();
        let slot = Slot::default();
        let readers = Readers::new(config.clone(), &slot);
        let (callers, opened) = writer::start(config, slot, calls)?;
        opened.await.unwrap_or_else(|_| Err(closed())).map_err(|error| error.about(name.clone()))?;
        Ok(Self { name, callers, readers })
    }

    /// Has the writer do it, and answers when that is on the disk.
    pub(crate) async fn call(&self, call: C::Call) -> Result<C::Answer> {
        let answer = self.callers.call(call).await.unwrap_or_else(|| Err(closed()));
        answer.map_err(|error| self.about(error))
    }

    /// A connection to read with; [`read!`] is the way to use it.
    pub(crate) async fn reader(&self) -> Result<Reader<'_>> {
        self.readers.get().await
    }

    /// Takes no more calls, finishes those that were accepted, and closes the file. It may be called again.
    pub(crate) async fn close(&self) -> Result<()> {
        self.readers.close().await;
        self.callers.close().await;
        Ok(())
    }

    /// Names the database in an error.
    pub(crate) fn about(&self, error: Error) -> Error {
        error.about(self.name.clone())
    }
}

/// Reads with a connection of its own and names the database in errors.
macro_rules! read {
    ($database:expr, $connection:ident => $read:expr) => {{
        let database = &$database;
        let read = async {
            let mut reader = database.reader().await?;
            let $connection = reader.connection()?;
            let result = $read.await?;
            reader.done().await;
            Ok(result)
        };
        read.await.map_err(|error: $crate::Error| database.about(error))
    }};
}

pub(crate) use read;
