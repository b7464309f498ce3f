//! Opening the file: what can be wrong with it is said here, before anything is accepted.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::error::failed;
use super::{Config, Format};
use crate::model::Timestamp;
use crate::{Error, ErrorKind, Result};

const PAGE_SIZE: u64 = 4096;

impl Config {
    fn options(&self) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .busy_timeout(self.busy_timeout)
            .foreign_keys(true)
            // Every commit is on the disk before it is answered.
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        match &self.path {
            // An absolute path, set as a path: as a part of a URL, `?` and `%` would mean something.
            Some(path) => options.filename(path),
            None => options.in_memory(true).filename(":memory:"),
        }
    }
}

/// The connection that writes; makes or migrates the database.
pub(super) async fn writer(config: &Config) -> Result<SqliteConnection> {
    if let Some(path) = &config.path {
        prepare_file(path, config.format.name)?;
    }
    let mut options = config.options();
    if let Some(bytes) = config.max_size {
        options = options.pragma("max_page_count", (bytes / PAGE_SIZE).max(1).to_string());
    }
    let mut connection = options.connect().await.map_err(failed("opening the file"))?;
    if config.path.is_some() {
        write_ahead(&mut connection, config.busy_timeout).await?;
    }
    migrate(&mut connection, config.format).await?;
    Ok(connection)
}

/// A connection that only reads. The writer's is there before it and has made the database.
pub(super) async fn reader(config: &Config) -> Result<SqliteConnection> {
    config.options().pragma("query_only", "ON").connect().await.map_err(failed("opening the file"))
}

/// Says in words what SQLite would say with a number, and makes a new file readable by its owner only.
fn prepare_file(path: &Path, name: &str) -> Result<()> {
    let refused = |kind, message: String| Err(Error::new(kind, message));
    let Some(directory) = path.parent().filter(|_| path.file_name().is_some()) else {
        return refused(ErrorKind::Config, format!("the {name} is a file, and this is a directory"));
    };
    if path.to_str().is_none() {
        return refused(ErrorKind::Config, format!("the path of the {name} has to be UTF-8"));
    }
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return refused(ErrorKind::Config, format!("the {name}'s directory is not a directory")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refused(ErrorKind::Config, format!("the {name}'s directory does not exist: create it first"));
        }
        Err(error) => return Err(Error::io(format!("the {name}'s directory cannot be read"), error)),
    }
    // Never by opening an existing file: closing it again would drop the locks that other connections of this process
    // hold on it (POSIX advisory locks belong to the process).
    if access(directory, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let message = format!(
            "the {name}'s directory is not writable for this process; it needs files beside the {name} (-wal, -shm)"
        );
        return refused(ErrorKind::Denied, message);
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            refused(ErrorKind::Config, format!("the {name} is a file, and this is a directory"))
        }
        Ok(_) if access(path, Access::READ_OK | Access::WRITE_OK).is_err() => {
            refused(ErrorKind::Denied, format!("the {name}'s file is not readable and writable for this process"))
        }
        Ok(_) => Ok(()),
        Err(_) => create(path, name),
    }
}

fn create(path: &Path, name: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io(format!("the {name}'s file cannot be created"), error)),
    }
}

/// Readers and the writer do not wait for each other in this mode. The first change to it needs the file alone, which
/// SQLite's own waiting does not cover.
async fn write_ahead(connection: &mut SqliteConnection, busy_timeout: Duration) -> Result<()> {
    let since = Instant::now();
    loop {
        let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await;
        match mode.map_err(failed("opening the file")) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let message = format!("the file system cannot keep a write-ahead log (mode {mode}): use a local disk");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            Err(error) if error.kind() == ErrorKind::Busy && since.elapsed() < busy_timeout => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Brings the file to this version. Each migration is one transaction, so one that was interrupted begins again.
async fn migrate(connection: &mut SqliteConnection, format: &Format) -> Result<()> {
    let migrations = format.migrations;
    loop {
        // Without a lock first: another process may hold it for long, and mostly there is nothing to do.
        if version(connection, format).await? == migrations.len() {
            return Ok(());
        }
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed("migrating the file"))?;
        // Again, with the lock: another process may have been faster.
        let from = version(&mut transaction, format).await?;
        if let Some(sql) = migrations.get(from) {
            let number = from + 1;
            let stamp = format!("PRAGMA application_id = {}; PRAGMA user_version = {number};", format.application);
            let created = format!("INSERT OR IGNORE INTO meta VALUES ('created', '{}');", Timestamp::now());
            for part in [AssertSqlSafe(String::from(*sql)), AssertSqlSafe(stamp), AssertSqlSafe(created)] {
                sqlx::raw_sql(part).execute(&mut *transaction).await.map_err(failed("migrating the file"))?;
            }
        }
        transaction.commit().await.map_err(failed("migrating the file"))?;
    }
}

/// The version of a file, which is one that this program knows; 0 for a new file.
async fn version(connection: &mut SqliteConnection, format: &Format) -> Result<usize> {
    let (name, ours) = (format.name, format.migrations.len());
    let reading = failed("reading the file's version");
    let mut pragma = [0_i64; 3];
    // Another process may be making the file between two of them, so what tells it from a stranger's comes last.
    for (value, sql) in pragma.iter_mut().zip([
        "SELECT count(*) FROM sqlite_schema",
        "SELECT user_version FROM pragma_user_version",
        "SELECT application_id FROM pragma_application_id",
    ]) {
        *value = sqlx::query_scalar(sql).fetch_one(&mut *connection).await.map_err(&reading)?;
    }
    let [tables, version, application] = pragma;
    if application != format.application && (application, version, tables) != (0, 0, 0) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("this is no {name}, but a database of another program, and is left alone"),
        ));
    }
    match usize::try_from(version) {
        Ok(version) if version <= ours => Ok(version),
        _ => {
            let message = format!(
                "the {name} is of version {version}, and this program knows versions up to {ours}: use a newer program"
            );
            Err(Error::new(ErrorKind::Corrupt, message))
        }
    }
}
