//! PostgreSQL: connections with bounds on their number and on every call's time.
//!
//! No call hangs for ever, whatever the server or the network does: each has a time limit here, the server has a
//! shorter one for its statements, and it ends the transactions of clients who froze or vanished, so that nobody waits for their
//! locks. After an error that may be the connection's it is closed, and the next call opens another.

mod error;
mod migrate;
#[cfg(test)]
mod tests;
mod text;
mod url;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use self::error::failed;
pub(crate) use self::migrate::Part;
pub(crate) use self::text::escape;
pub use self::url::PostgresUrl;
use crate::{Error, ErrorKind, Result};

/// Begins a transaction that writes, whatever the database's defaults are. Each statement sees what others committed
/// before it began.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
/// Begins one that reads, all of it at one moment.
pub(crate) const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The oldest server whose features are used here and which still gets updates.
const OLDEST: u32 = 14;
/// A connection that lay idle for longer is asked whether it still works before it is used.
const STALE: Duration = Duration::from_secs(1);
/// The share of a call's time that such a question gets.
const PATIENCE: u32 = 6;

/// A database, with its connections. Clones share them. It belongs to the Tokio runtime that it is used on.
///
/// ```no_run
/// # async fn example() -> Result<(), scan_pipeline::Error> {
/// use scan_pipeline::sql::postgres::Postgres;
/// let database = Postgres::builder("postgres://scan@db.example/scans?sslmode=verify-full")?.connections(20).connect().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Postgres(Arc<Inner>);

struct Inner {
    config: Config,
    idle: Mutex<Vec<Idle>>,
    permits: Arc<Semaphore>,
}

struct Idle {
    connection: PgConnection,
    since: Instant,
}

#[derive(Debug, Clone)]
struct Config {
    url: PostgresUrl,
    schema: String,
    connections: usize,
    connect_timeout: Duration,
    timeout: Duration,
}

/// How a [`Postgres`] is connected to.
#[derive(Debug, Clone)]
#[must_use]
pub struct PostgresBuilder(Config);

impl PostgresBuilder {
    /// The schema for the tables, made if it is not there. Two pipelines in one database take two. Default
    /// `scan_pipeline`.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.0.schema = name.into();
        self
    }

    /// Most connections at a time, at least two. Default 10.
    pub fn connections(mut self, most: usize) -> Self {
        self.0.connections = most;
        self
    }

    /// How long connecting may take, and waiting for a connection that is free. Default 10 seconds.
    pub fn connect_timeout(mut self, most: Duration) -> Self {
        self.0.connect_timeout = most;
        self
    }

    /// How long a call may take. When it takes longer it fails with [`ErrorKind::Timeout`], and what it was to write is
    /// there either whole or not at all. Default 30 seconds, at least one.
    pub fn timeout(mut self, most: Duration) -> Self {
        self.0.timeout = most;
        self
    }

    /// Connects, and looks at what the server is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] where nobody answers, [`ErrorKind::Denied`] where the server does not let us in,
    /// [`ErrorKind::Config`] for a database that cannot be used, [`ErrorKind::Unsupported`] for a server that is too old.
    pub async fn connect(mut self) -> Result<Postgres> {
        let config = &mut self.0;
        config.connections = config.connections.max(2);
        config.timeout = config.timeout.max(Duration::from_secs(1));
        let mut letters = config.schema.bytes();
        let named = letters.next().is_some_and(|first| first == b'_' || first.is_ascii_lowercase())
            && letters.all(|next| next == b'_' || next.is_ascii_lowercase() || next.is_ascii_digit());
        if !named || config.schema.len() > 63 || config.schema.starts_with("pg_") {
            let why = "a schema is named with lower-case letters, digits and _, at most 63 of them, and not pg_";
            return Err(Error::new(ErrorKind::Config, why).about(config.url.to_string()));
        }
        let permits = Arc::new(Semaphore::new(config.connections));
        let database = Postgres(Arc::new(Inner { config: self.0, idle: Mutex::default(), permits }));
        let looking = async {
            let mut session = database.session().await?;
            database.run("looking at the server", check(session.connection())).await?;
            session.done();
            Ok(())
        };
        looking.await.map_err(|error: Error| error.about(database.name()))?;
        Ok(database)
    }
}

impl Postgres {
    /// Starts with the address of a database, as [`PostgresUrl`] describes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for what is no such address, [`ErrorKind::Unsupported`] for TLS in a build without it.
    pub fn builder(url: &str) -> Result<PostgresBuilder> {
        Ok(Self::at(url.parse()?))
    }

    /// The same with an address that was read before.
    pub fn at(url: PostgresUrl) -> PostgresBuilder {
        PostgresBuilder(Config {
            url,
            schema: String::from("scan_pipeline"),
            connections: 10,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        })
    }

    /// Which one it is, without a password: what errors are about.
    pub fn name(&self) -> String {
        self.0.config.url.to_string()
    }

    /// The schema of the tables.
    pub(crate) fn schema(&self) -> &str {
        &self.0.config.schema
    }

    /// Waits for the connections that are in use, closes all of them, and gives out no more.
    pub async fn close(&self) {
        let all = u32::try_from(self.0.config.connections).unwrap_or(u32::MAX);
        let held = self.0.permits.acquire_many(all).await;
        self.0.permits.close();
        drop(held);
        let idle = std::mem::take(&mut *self.idle());
        for one in idle {
            // Nothing is lost when it cannot be told.
            let _ = tokio::time::timeout(STALE, one.connection.close()).await;
        }
    }

    /// Brings the tables of a part to this program's version. Several processes may do so at the same time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] for tables that are newer than this program, or another program's.
    pub(crate) async fn migrate(&self, part: Part) -> Result<()> {
        let mut session = self.session().await?;
        while self.run("migrating", migrate::step(session.connection(), &self.0.config.schema, part)).await? {}
        session.done();
        Ok(())
    }

    /// Whether the tables of a part are there.
    pub(crate) async fn holds(&self, part: Part) -> Result<bool> {
        let mut session = self.session().await?;
        let version = migrate::version(session.connection(), &self.0.config.schema, part);
        let version = self.run("looking at the tables", version).await?;
        session.done();
        Ok(version.is_some_and(|version| version > 0))
    }

    /// A connection for one caller. It is given back with [`Session::done`]; dropped without, it is closed.
    pub(crate) async fn session(&self) -> Result<Session> {
        let wait = self.0.config.connect_timeout;
        let permit = tokio::time::timeout(wait, Arc::clone(&self.0.permits).acquire_owned()).await;
        let permit = permit
            .map_err(|_| Error::new(ErrorKind::Busy, "every connection to the database is in use"))?
            .map_err(|_| closed())?;
        let idle = self.idle().pop();
        if let Some(Idle { mut connection, since }) = idle
            && (since.elapsed() < STALE || self.answers(&mut connection).await)
        {
            return Ok(Session { connection, database: self.clone(), _permit: permit });
        }
        let connection = self.connect().await?;
        Ok(Session { connection, database: self.clone(), _permit: permit })
    }

    async fn answers(&self, connection: &mut PgConnection) -> bool {
        let patience = self.0.config.timeout / PATIENCE;
        let alive = matches!(tokio::time::timeout(patience, connection.ping()).await, Ok(Ok(())));
        if !alive {
            // What happened to one has probably happened to all of them.
            self.idle().clear();
        }
        alive
    }

    async fn connect(&self) -> Result<PgConnection> {
        let config = &self.0.config;
        let url = config.url.clone();
        // It may read a file.
        let options = tokio::task::spawn_blocking(move || url.options());
        let options = options.await.map_err(|why| Error::unfinished("connecting to the database", why))??;
        let connecting = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            set_up(&mut connection, config).await?;
            Ok(connection)
        };
        match tokio::time::timeout(config.connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(failed("connecting to the database")),
            Err(_) => Err(late("connecting to the database", config.connect_timeout)),
        }
    }

    /// Gives something the time of a call. What runs out of it leaves its connection in the midst of something, to be
    /// dropped.
    pub(crate) async fn run<T>(&self, doing: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let most = self.0.config.timeout;
        tokio::time::timeout(most, work).await.unwrap_or_else(|_| Err(late(doing, most)))
    }

    /// A connection of its own that hears what is sent with `NOTIFY`. It may miss some: who waits has to look from time
    /// to time all the same.
    #[allow(dead_code, reason = "for queues, which come next")]
    pub(crate) async fn listener(&self, channel: &str) -> Result<PgListener> {
        let config = &self.0.config;
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(config.connect_timeout);
        let pool = pool.connect_lazy_with(config.url.options()?);
        let doing = "listening to the database";
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await.map_err(failed(doing))?;
            listener.listen(channel).await.map_err(failed(doing))?;
            Ok(listener)
        };
        self.run(doing, listening).await
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// A connection in somebody's hands.
pub(crate) struct Session {
    connection: PgConnection,
    database: Postgres,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Gives it back, out of any transaction and with every answer read.
    pub(crate) fn done(self) {
        let Self { connection, database, _permit } = self;
        database.idle().push(Idle { connection, since: Instant::now() });
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the database is closed").retryable(false)
}

fn late(doing: &str, most: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("{doing}: the database did not answer within {most:?}"))
}

/// Makes a connection independent of what the database, the user or the server have as defaults.
async fn set_up(connection: &mut PgConnection, config: &Config) -> Result<(), sqlx::Error> {
    let limit = config.timeout.as_millis();
    let seconds = config.timeout.as_secs().max(1);
    // Each statement is planned once. It finds its rows by an index, whatever they are, so another plan for other values
    // would be the same one; and nobody scans a table because it was small, or never analysed, when the plan was made.
    let sql = format!(
        "SET search_path TO \"{}\"; SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}; SET idle_session_timeout = 0; \
         SET tcp_keepalives_idle = {}; SET tcp_keepalives_interval = {}; SET tcp_keepalives_count = 3; \
         SET tcp_user_timeout = {limit}; \
         SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local')",
        config.schema,
        // Before we give up, so that it can be said what took so long.
        limit * 4 / 5,
        limit * 2 / 3,
        limit / 3,
        seconds.div_ceil(3),
        seconds.div_ceil(10),
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

async fn check(connection: &mut PgConnection) -> Result<()> {
    let version = connection.server_version_num().unwrap_or(0) / 10_000;
    if version < OLDEST {
        let message = format!("the server is PostgreSQL {version}, and {OLDEST} or later is needed");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let row = sqlx::query("SELECT current_setting('server_encoding'), current_setting('fsync')")
        .fetch_one(connection)
        .await
        .map_err(failed("looking at the server"))?;
    let read = |column| row.try_get::<String, usize>(column).map_err(failed("looking at the server"));
    let (encoding, fsync) = (read(0)?, read(1)?);
    if encoding != "UTF8" {
        let message =
            format!("the database has the encoding {encoding}, and not every text fits: make one with ENCODING 'UTF8'");
        return Err(Error::new(ErrorKind::Config, message));
    }
    if fsync == "off" {
        tracing::warn!("PostgreSQL runs with fsync = off: what it acknowledges is lost when its machine fails");
    }
    Ok(())
}
