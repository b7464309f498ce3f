//! What the tests of stores and queues on SQL share: what an error has to be, and a file of SQLite behind their back.

use crate::{Error, ErrorKind};

#[track_caller]
pub(crate) fn is(error: &Error, kind: ErrorKind, retryable: bool, words: &str) {
    assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[cfg(feature = "sqlite")]
pub(crate) use self::file::{execute, raw, refused};

#[cfg(feature = "sqlite")]
mod file {
    use std::path::Path;

    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{AssertSqlSafe, ConnectOptions as _};

    use crate::{Error, Result};

    /// A connection that knows nothing of what the file is.
    pub(crate) async fn raw(path: &Path) -> SqliteConnection {
        SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.expect("opens")
    }

    pub(crate) async fn execute(connection: &mut SqliteConnection, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect(sql);
    }

    /// The error with which the file could not be opened, which names it.
    #[track_caller]
    pub(crate) fn refused<T: std::fmt::Debug>(path: &Path, opened: Result<T>) -> Error {
        let error = opened.expect_err("this has to fail");
        let name = std::path::absolute(path).expect("a path").display().to_string();
        assert_eq!(error.context(), Some(name.as_str()), "{error}");
        error
    }
}
