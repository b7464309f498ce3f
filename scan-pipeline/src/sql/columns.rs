//! Columns as the types that are wanted, whatever the database is; what does not fit is damage.

use crate::model::ContentDigest;
use crate::{Error, ErrorKind, Result};

/// A row of a database.
pub(crate) trait Columns {
    /// Text that the database can keep as it is: words, and JSON, which has no NUL in it.
    fn text(&self, column: usize) -> Result<String>;
    /// The same, or NULL.
    fn text_or_null(&self, column: usize) -> Result<Option<String>>;
    /// Any text at all.
    fn any_text(&self, column: usize) -> Result<String>;
    /// The same, or NULL.
    fn any_text_or_null(&self, column: usize) -> Result<Option<String>>;
    /// An integer.
    fn number(&self, column: usize) -> Result<i64>;
    /// The same, or NULL.
    fn number_or_null(&self, column: usize) -> Result<Option<i64>>;
    /// Bytes.
    fn bytes(&self, column: usize) -> Result<Vec<u8>>;
    /// A floating-point number.
    fn real(&self, column: usize) -> Result<f64>;
}

/// A column that holds an id or a hash.
pub(crate) fn digest(row: &impl Columns, column: usize) -> Result<ContentDigest> {
    row.bytes(column)?.try_into().map(ContentDigest).map_err(|_| damaged("an id is not 32 bytes long"))
}

/// A column that holds one of some words.
pub(crate) fn word<T: Copy>(row: &impl Columns, column: usize, all: &[T], name: fn(T) -> &'static str) -> Result<T> {
    let word = row.text(column)?;
    all.iter().copied().find(|one| name(*one) == word).ok_or_else(|| damaged(&format!("there is no state {word:?}")))
}

pub(crate) const DAMAGED: &str = "what is stored is damaged: restore it from a backup";

/// The database holds what nobody wrote.
pub(crate) fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{DAMAGED} ({what})"))
}
