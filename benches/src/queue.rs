//! Messages claimed and acknowledged a second: by the queues on SQL, and by the fewest statements that do so on the same
//! tables.

use std::path::Path;
use std::time::{Duration, Instant};

use scan_pipeline::queue::{Held, NewMessage, PostgresQueue, Queue, Settle, SqliteQueue};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::Result;

const TTL: Duration = Duration::from_secs(600);

/// As many messages as a pass works off, of ten tenants, each as long as an event of S3.
async fn fill(queue: &dyn Queue, count: usize) -> Result<()> {
    let body = "x".repeat(700);
    let messages: Vec<_> =
        (0..count).map(|number| NewMessage::new(body.clone()).tenant(format!("s3://bucket-{}", number % 10))).collect();
    for answer in queue.enqueue(&messages).await? {
        answer?;
    }
    Ok(())
}

/// Works off all messages, so many at a time, and says how many a second that were.
///
/// # Errors
///
/// The queue's own, and when a message is missing.
pub async fn ours(queue: &dyn Queue, count: usize, batch: usize) -> Result<f64> {
    fill(queue, count).await?;
    let (started, mut done) = (Instant::now(), 0);
    loop {
        let leased = queue.lease(batch, TTL, Duration::ZERO).await?;
        if leased.is_empty() {
            break;
        }
        let settle: Vec<_> = leased.into_iter().map(|delivery| (delivery.receipt, Settle::Done)).collect();
        done += queue.settle(&settle).await?.into_iter().filter(|held| *held == Held::Held).count();
    }
    rate(started, done, count)
}

fn rate(started: Instant, done: usize, count: usize) -> Result<f64> {
    let seconds = started.elapsed().as_secs_f64();
    if done == count { Ok(count as f64 / seconds) } else { Err(format!("{done} of {count} messages").into()) }
}

/// A file of ours, and a connection to it that brings each commit to the disk as ours does.
///
/// # Errors
///
/// The queue's own.
pub async fn sqlite(path: &Path) -> Result<(SqliteQueue, SqliteConnection)> {
    let queue = SqliteQueue::open(path).await?;
    let options = SqliteConnectOptions::new().filename(path).disable_statement_logging();
    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    Ok((queue, options.connect().await?))
}

/// Two statements for each batch, each a transaction.
///
/// # Errors
///
/// SQLite's own, and when a message is missing.
pub async fn bare_sqlite(
    queue: &SqliteQueue,
    connection: &mut SqliteConnection,
    count: usize,
    batch: usize,
) -> Result<f64> {
    fill(queue, count).await?;
    let (started, mut done) = (Instant::now(), 0);
    loop {
        let leased: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "UPDATE messages SET rank = NULL, due = 1, attempt = attempt + 1, fence = fence + 1, leased = 1 WHERE id IN \
             (SELECT id FROM messages WHERE rank IS NOT NULL ORDER BY rank, id LIMIT ?) \
             RETURNING id, (SELECT body FROM bodies WHERE bodies.id = messages.id)",
        )
        .bind(batch as i64)
        .fetch_all(&mut *connection)
        .await?;
        if leased.is_empty() {
            break;
        }
        let ids: Vec<_> = leased.iter().map(|(id, _)| id.to_string()).collect();
        let gone = sqlx::query("DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))")
            .bind(format!("[{}]", ids.join(",")))
            .execute(&mut *connection)
            .await?;
        done += gone.rows_affected() as usize;
    }
    rate(started, done, count)
}

/// A queue of ours, and a connection to its tables.
///
/// # Errors
///
/// The queue's own.
pub async fn postgres(url: &str) -> Result<(PostgresQueue, PgConnection)> {
    let queue = PostgresQueue::open(url).await?;
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query("SET search_path TO scan_pipeline").execute(&mut connection).await?;
    Ok((queue, connection))
}

/// Two statements for each batch, each a transaction.
///
/// # Errors
///
/// PostgreSQL's own, and when a message is missing.
pub async fn bare_postgres(
    queue: &PostgresQueue,
    connection: &mut PgConnection,
    count: usize,
    batch: usize,
) -> Result<f64> {
    fill(queue, count).await?;
    let (started, mut done) = (Instant::now(), 0);
    loop {
        let leased: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "UPDATE queue_messages SET rank = NULL, due = 1, attempt = attempt + 1, fence = fence + 1, leased = true \
             WHERE id IN (SELECT id FROM queue_messages WHERE rank IS NOT NULL ORDER BY rank, id LIMIT $1 \
             FOR UPDATE SKIP LOCKED) RETURNING id, body",
        )
        .bind(batch as i64)
        .fetch_all(&mut *connection)
        .await?;
        if leased.is_empty() {
            break;
        }
        let ids: Vec<_> = leased.iter().map(|(id, _)| *id).collect();
        let gone = sqlx::query("DELETE FROM queue_messages WHERE id = ANY ($1)").bind(ids);
        done += gone.execute(&mut *connection).await?.rows_affected() as usize;
    }
    rate(started, done, count)
}
