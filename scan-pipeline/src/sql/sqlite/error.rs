//! SQLite's errors as ours.

use crate::sql::DAMAGED;
use crate::{Error, ErrorKind};

/// What an error means, and what to do about it.
pub(crate) fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| {
        let code = match &error {
            sqlx::Error::Database(database) => database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0),
            _ => 0,
        };
        let (kind, retryable, why) = match &error {
            sqlx::Error::Database(_) => kind_of(code),
            sqlx::Error::WorkerCrashed => (ErrorKind::Unavailable, true, "the connection to the file was lost"),
            sqlx::Error::Io(_) => (ErrorKind::Io, true, "reading or writing failed"),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => (ErrorKind::Corrupt, false, DAMAGED),
            _ => (ErrorKind::Io, false, "SQLite failed"),
        };
        Error::new(kind, format!("{doing}: {why}")).with_source(error).retryable(retryable)
    }
}

/// By the primary result code, the low byte of the extended one (sqlite.org/rescode.html).
fn kind_of(code: i32) -> (ErrorKind, bool, &'static str) {
    match code & 0xff {
        5 | 6 => (ErrorKind::Busy, true, "another process has locked the file and did not let go in time"),
        7 => (ErrorKind::Resources, true, "memory runs short"),
        8 => (
            ErrorKind::Denied,
            false,
            "the database is read-only: this process needs to write to its file and directory",
        ),
        10 => (ErrorKind::Io, true, "the disk failed to read or write"),
        11 => (ErrorKind::Corrupt, false, DAMAGED),
        13 => {
            (ErrorKind::Resources, true, "the disk, or the size allowed for the file, is full: make room and try again")
        }
        3 | 14 | 23 => (
            ErrorKind::Denied,
            false,
            "the file, or one beside it (-wal, -shm), cannot be opened: check the permissions of file and directory",
        ),
        18 => (ErrorKind::InvalidInput, false, "it is too large for one row"),
        26 => (ErrorKind::Corrupt, false, "the file is not a database"),
        _ => (ErrorKind::Io, false, "SQLite failed"),
    }
}
