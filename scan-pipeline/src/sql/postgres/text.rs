//! Text in PostgreSQL, which keeps every character but NUL, and rows as they come back.

use std::borrow::Cow;

use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Decode, Row as _, Type};

use super::failed;
use crate::Result;
use crate::sql::{Columns, damaged};

/// Any text as one that PostgreSQL can keep: NUL becomes `\0`, and a backslash two.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', '\\']) {
        Cow::Owned(text.replace('\\', "\\\\").replace('\0', "\\0"))
    } else {
        Cow::Borrowed(text)
    }
}

/// What was escaped.
fn unescape(text: String) -> Result<String> {
    if !text.contains('\\') {
        return Ok(text);
    }
    let mut whole = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(next) = characters.next() {
        whole.push(match next {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('0') => '\0',
                _ => return Err(damaged("a backslash that means nothing")),
            },
            other => other,
        });
    }
    Ok(whole)
}

fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, column: usize) -> Result<T> {
    row.try_get(column).map_err(failed("reading a row"))
}

impl Columns for PgRow {
    fn text(&self, column: usize) -> Result<String> {
        get(self, column)
    }

    fn text_or_null(&self, column: usize) -> Result<Option<String>> {
        get(self, column)
    }

    fn any_text(&self, column: usize) -> Result<String> {
        unescape(get(self, column)?)
    }

    fn any_text_or_null(&self, column: usize) -> Result<Option<String>> {
        get::<Option<String>>(self, column)?.map(unescape).transpose()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for text in ["", "a", "\0", "\\", "\\0", "\0\\\0", "a\\b\0c\\\\0", "ü\0日"] {
            let kept = escape(text);
            assert!(!kept.contains('\0'), "{kept}");
            assert_eq!(unescape(kept.into_owned()).expect("was escaped"), text);
        }
        for wrong in ["\\", "\\x", "a\\"] {
            assert!(unescape(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
