//! Results a second into a store, beside the same rows by bare SQL.
//!
//! A result is what the pipeline commits for an object that no workflow follows: the task's new state, its report and two
//! entries of the audit log. The bare SQL writes the same rows of the same tables in transactions of the same size, from
//! one connection, with every text and hash made before the clock starts, and looks at nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use scan_pipeline::model::{ObjectRef, Report, TaskId, Timestamp};
use scan_pipeline::store::{AuditEntry, AuditHead, Changes, Claim, ClaimRequest, Lease, NewAudit, Store, TaskState};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::Result;
use crate::rates::scanned;

/// Results in one transaction, ours and the bare ones.
pub const BATCH: usize = 256;

/// A result, and what it is about.
#[derive(Debug)]
pub struct Work {
    object: ObjectRef,
    report: Report,
}

/// The rows of a result, as text and bytes.
#[derive(Debug)]
pub struct Row {
    id: Vec<u8>,
    object: String,
    report: String,
    audit: Vec<AuditEntry>,
}

/// So many results.
///
/// # Errors
///
/// None that can happen.
pub fn work(count: usize) -> Result<Vec<Work>> {
    let one = |number| {
        let (_, report) = scanned(number);
        let key = format!("a/prefix/of/some/length/object-{number:08}.pdf");
        Ok(Work { object: ObjectRef::new("s3://a-bucket".parse()?, key).with_version("3sL4kqtJlcpXroDTDmJ"), report })
    };
    (0..count).map(one).collect()
}

fn audit(work: &Work) -> Vec<NewAudit> {
    let end = NewAudit::task(TaskState::Done, serde_json::json!({}));
    vec![NewAudit::scanned(&work.report, None, &work.object), end]
}

/// The rows of these results.
///
/// # Errors
///
/// None that can happen.
pub fn rows(work: &[Work]) -> Result<Vec<Row>> {
    let mut head = AuditHead::EMPTY;
    let mut row = |work: &Work| {
        let id = TaskId::of(&work.object, 0);
        let mut log = Vec::new();
        for new in audit(work) {
            let entry = head.next(Timestamp(1), id, &new);
            head = entry.head();
            log.push(entry);
        }
        let (object, report) = (serde_json::to_string(&work.object)?, serde_json::to_string(&work.report)?);
        Ok(Row { id: id.0.0.to_vec(), object, report, audit: log })
    };
    work.iter().map(&mut row).collect()
}

/// Claims a second and results a second of a store, from many callers at once.
///
/// # Errors
///
/// The store fails.
pub async fn ours(store: Arc<dyn Store>, work: &[Work]) -> Result<(f64, f64)> {
    let store = &store;
    let started = Instant::now();
    let claims: Vec<_> = work
        .iter()
        .map(|work| async move {
            let (id, object) = (TaskId::of(&work.object, 0), work.object.clone());
            let request = ClaimRequest { id, object, owner: String::from("bench"), ttl: Duration::from_secs(3600) };
            match store.claim(&request).await? {
                Claim::Mine(lease, _) => Ok::<Lease, Box<dyn std::error::Error + Send + Sync>>(lease),
                other => Err(format!("no lease, but {other:?}").into()),
            }
        })
        .collect();
    let leases: Vec<_> = stream::iter(claims).buffered(2 * BATCH).try_collect().await?;
    let claimed = work.len() as f64 / started.elapsed().as_secs_f64();
    // Made before the clock starts, as a worker has them.
    let changes: Vec<_> = work
        .iter()
        .map(|work| Changes {
            state: Some(TaskState::Done),
            report: Some(work.report.clone()),
            audit: audit(work),
            ..Changes::default()
        })
        .collect();
    let started = Instant::now();
    let commits = leases.iter().zip(changes).map(|(lease, changes)| store.commit(lease, changes));
    stream::iter(commits).buffer_unordered(2 * BATCH).try_for_each(|_| async { Ok(()) }).await?;
    Ok((claimed, work.len() as f64 / started.elapsed().as_secs_f64()))
}

/// Results a second by bare SQL, into the tables of the first migration.
///
/// # Errors
///
/// The database fails.
pub async fn bare_sqlite(path: &std::path::Path, rows: &[Row]) -> Result<f64> {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let tables = include_str!("../../scan-pipeline/src/store/migrations/sqlite/0001_start.sql");
    sqlx::raw_sql(tables).execute(&mut connection).await?;
    for chunk in rows.chunks(BATCH) {
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await?;
        for row in chunk {
            let new = "INSERT INTO tasks (id, object, state, attempts, place, created, updated, fence, lease_owner, \
                       lease_until) VALUES (?, ?, 'scanning', 1, '{\"place\":\"here\"}', 1, 1, 1, 'bench', 9)";
            sqlx::query(new).bind(&row.id).bind(&row.object).execute(&mut connection).await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut connection).await?;
    }
    // As many rows a statement as the rows of a result, since the way to SQLite's thread costs more than the statement.
    let entry = "INSERT INTO audit (seq, at, task, kind, body, previous, hash) VALUES (?, 1, ?, ?, ?, ?, ?);";
    let result = format!(
        "UPDATE tasks SET state = 'done', updated = 2, lease_owner = NULL, lease_until = NULL WHERE id = ?; \
         INSERT INTO reports VALUES (?, ?); {entry} {entry}"
    );
    let started = Instant::now();
    for chunk in rows.chunks(BATCH) {
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await?;
        for row in chunk {
            let mut query = sqlx::query(AssertSqlSafe(result.as_str()));
            query = query.bind(&row.id).bind(&row.id).bind(&row.report);
            for entry in &row.audit {
                query = query.bind(entry.seq.cast_signed()).bind(&row.id).bind(&entry.kind).bind(&entry.body);
                query = query.bind(entry.previous.0.as_slice()).bind(entry.hash.0.as_slice());
            }
            query.execute(&mut connection).await?;
        }
        if let Some(last) = chunk.last().and_then(|row| row.audit.last()) {
            let head = sqlx::query("UPDATE audit_head SET seq = ?, hash = ?");
            head.bind(last.seq.cast_signed()).bind(last.hash.0.as_slice()).execute(&mut connection).await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut connection).await?;
    }
    let rate = rows.len() as f64 / started.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(rate)
}

/// The same on PostgreSQL, in a database without tables.
///
/// # Errors
///
/// The database fails.
pub async fn bare_postgres(url: &str, rows: &[Row]) -> Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let tables = include_str!("../../scan-pipeline/src/store/migrations/postgres/0001_start.sql");
    sqlx::raw_sql(tables).execute(&mut connection).await?;
    for chunk in rows.chunks(BATCH) {
        sqlx::query(
            "INSERT INTO tasks (id, object, state, attempts, place, created, updated, fence, lease_owner, lease_until) \
             SELECT *, 'scanning', 1, '{\"place\":\"here\"}', 1, 1, 1, 'bench', 9 FROM unnest($1::bytea[], $2::text[])",
        )
        .bind(chunk.iter().map(|row| row.id.as_slice()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|row| row.object.as_str()).collect::<Vec<_>>())
        .execute(&mut connection)
        .await?;
    }
    let started = Instant::now();
    for chunk in rows.chunks(BATCH) {
        let ids: Vec<_> = chunk.iter().map(|row| row.id.as_slice()).collect();
        let reports: Vec<_> = chunk.iter().map(|row| row.report.as_str()).collect();
        let log: Vec<_> = chunk.iter().flat_map(|row| &row.audit).collect();
        sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
        sqlx::query(
            "UPDATE tasks SET state = 'done', updated = 2, lease_owner = NULL, lease_until = NULL WHERE id = ANY($1)",
        )
        .bind(&ids)
        .execute(&mut connection)
        .await?;
        let reported = sqlx::query("INSERT INTO reports SELECT * FROM unnest($1::bytea[], $2::text[])");
        reported.bind(&ids).bind(reports).execute(&mut connection).await?;
        sqlx::query(
            "INSERT INTO audit (at, seq, task, kind, body, previous, hash) SELECT 1, * FROM unnest($1::bigint[], \
             $2::bytea[], $3::text[], $4::text[], $5::bytea[], $6::bytea[])",
        )
        .bind(log.iter().map(|entry| entry.seq.cast_signed()).collect::<Vec<_>>())
        .bind(log.iter().map(|entry| entry.task.0.0.as_slice()).collect::<Vec<_>>())
        .bind(log.iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>())
        .bind(log.iter().map(|entry| entry.body.as_str()).collect::<Vec<_>>())
        .bind(log.iter().map(|entry| entry.previous.0.as_slice()).collect::<Vec<_>>())
        .bind(log.iter().map(|entry| entry.hash.0.as_slice()).collect::<Vec<_>>())
        .execute(&mut connection)
        .await?;
        if let Some(last) = log.last() {
            let head = sqlx::query("UPDATE audit_head SET seq = $1, hash = $2");
            head.bind(last.seq.cast_signed()).bind(last.hash.0.as_slice()).execute(&mut connection).await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut connection).await?;
    }
    let rate = rows.len() as f64 / started.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(rate)
}

/// Whether the log that was measured is whole: a store that is fast and wrong is no use.
///
/// # Errors
///
/// It is not.
pub async fn whole(store: &dyn Store, work: &[Work]) -> Result<()> {
    let verified = scan_pipeline::store::audit::verify(store).await?;
    scan_pipeline::store::audit::require(&verified)?;
    let seq = verified.head.seq;
    if seq == 2 * work.len() as u64 { Ok(()) } else { Err(format!("{seq} entries").into()) }
}
