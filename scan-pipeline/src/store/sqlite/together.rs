//! Statements that go to SQLite together.
//!
//! SQLite has a thread of its own here. The way there and back costs more than most statements, and each statement of
//! them costs more than a row. So many rows go into one statement, and short statements go together.

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Encode, Sqlite, Type};

use crate::Result;
use crate::sql::sqlite::failed;

/// How many rows a statement has, the most first: a few numbers, so that each statement is soon one that SQLite has
/// prepared.
const ROWS: [usize; 6] = [64, 16, 4, 3, 2, 1];
/// A statement of more rows goes alone.
const FEW: usize = 4;
/// Longer texts are not likely to come again, and not worth being kept.
const KEPT: usize = 4096;

/// Statements that are executed one after the other until one fails.
#[derive(Default)]
pub(super) struct Together {
    sql: String,
    statements: usize,
    arguments: SqliteArguments,
    unbound: Option<sqlx::error::BoxDynError>,
}

impl Together {
    pub(super) fn add(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self.sql.push_str(";\n");
        self.statements += 1;
        self
    }

    /// Binds the next `?`.
    pub(super) fn bind<'q, T: Encode<'q, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        self.unbound = self.unbound.take().or(sqlx::Arguments::add(&mut self.arguments, value).err());
        self
    }

    /// Adds as many statements as these rows take, and executes what gets long. A statement is its beginning, its rows with
    /// a comma in between, and its end.
    pub(super) async fn rows<R>(
        &mut self,
        connection: &mut SqliteConnection,
        (beginning, row, end): (&str, &str, &str),
        mut rows: &[R],
        bind: impl Fn(&mut Self, &R),
    ) -> Result<()> {
        while let Some(count) = ROWS.into_iter().find(|count| *count <= rows.len()) {
            let (some, rest) = rows.split_at(count);
            rows = rest;
            if count > FEW {
                self.execute(connection).await?;
            }
            self.add(&format!("{beginning}{}{end}", vec![row; count].join(", ")));
            some.iter().for_each(|row| bind(self, row));
            if count > FEW {
                self.execute(connection).await?;
            }
        }
        Ok(())
    }

    /// Executes what there is, and begins anew.
    pub(super) async fn execute(&mut self, connection: &mut SqliteConnection) -> Result<()> {
        let Self { sql, statements, arguments, unbound } = std::mem::take(self);
        let writing = failed("writing to the store");
        if let Some(why) = unbound {
            return Err(writing(sqlx::Error::Encode(why)));
        }
        if statements == 0 {
            return Ok(());
        }
        let kept = statements == 1 || sql.len() < KEPT;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(kept);
        query.execute(connection).await.map(drop).map_err(writing)
    }
}
