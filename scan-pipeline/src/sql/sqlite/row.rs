//! Columns as the types that are wanted; what does not fit is damage.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::{DAMAGED, failed};
use crate::{Error, ErrorKind, Result};

/// A column.
pub(crate) fn get<'r, T>(row: &'r SqliteRow, column: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(failed("reading a row"))
}

/// A column that holds one of some words.
pub(crate) fn word<T: Copy>(row: &SqliteRow, column: usize, all: &[T], name: fn(T) -> &'static str) -> Result<T> {
    let word: &str = get(row, column)?;
    all.iter().copied().find(|one| name(*one) == word).ok_or_else(|| damaged(&format!("there is no state {word:?}")))
}

/// The file holds what nobody wrote.
pub(crate) fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{DAMAGED} ({what})"))
}
