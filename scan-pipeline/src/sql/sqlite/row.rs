//! Columns as the types that are wanted; what does not fit is damage.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::failed;
use crate::Result;
use crate::sql::Columns;

/// A column.
pub(crate) fn get<'r, T>(row: &'r SqliteRow, column: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(failed("reading a row"))
}

impl Columns for SqliteRow {
    fn text(&self, column: usize) -> Result<String> {
        get(self, column)
    }

    fn text_or_null(&self, column: usize) -> Result<Option<String>> {
        get(self, column)
    }

    fn any_text(&self, column: usize) -> Result<String> {
        get(self, column)
    }

    fn any_text_or_null(&self, column: usize) -> Result<Option<String>> {
        get(self, column)
    }

    fn number(&self, column: usize) -> Result<i64> {
        get(self, column)
    }

    fn number_or_null(&self, column: usize) -> Result<Option<i64>> {
        get(self, column)
    }

    fn bytes(&self, column: usize) -> Result<Vec<u8>> {
        get(self, column)
    }

    fn real(&self, column: usize) -> Result<f64> {
        get(self, column)
    }
}
