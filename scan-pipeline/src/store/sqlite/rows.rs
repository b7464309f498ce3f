//! What is read.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use crate::Result;
use crate::model::{ObjectRef, Report, TaskId, Timestamp};
use crate::sql::sqlite::failed;
use crate::store::sql::{self, AUDIT, TaskRow, finding_columns, json, pin, select_head, task_columns};
use crate::store::{AuditEntry, AuditHead, CacheKey, CachedReport, StepRecord, TaskFilter, TaskRecord};

/// The task as others see it, with its report.
pub(super) async fn record(connection: &mut SqliteConnection, row: TaskRow, with_steps: bool) -> Result<TaskRecord> {
    let mut record = row.alone()?;
    record.report = report(connection, record.id).await?;
    if with_steps {
        record.steps = steps(connection, record.id).await?;
    }
    Ok(record)
}

pub(super) async fn task_row(connection: &mut SqliteConnection, id: TaskId) -> Result<Option<TaskRow>> {
    let row = sqlx::query(concat!("SELECT ", task_columns!(), " FROM tasks WHERE id = ?")).bind(id.0.0.to_vec());
    let row = row.fetch_optional(connection).await.map_err(failed("reading a task"))?;
    row.as_ref().map(TaskRow::read).transpose()
}

/// Those of these tasks that are there. All in one statement: the way to SQLite's thread costs more than the reading.
pub(super) async fn task_rows(
    connection: &mut SqliteConnection,
    ids: impl IntoIterator<Item = TaskId>,
) -> Result<HashMap<TaskId, TaskRow>> {
    let ids: Vec<_> = ids.into_iter().map(|id| id.to_string()).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = concat!("SELECT ", task_columns!(), " FROM tasks WHERE id IN (SELECT unhex(value) FROM json_each(?))");
    let rows = sqlx::query(sql).bind(serde_json::Value::from(ids).to_string()).fetch_all(connection).await;
    let rows = rows.map_err(failed("reading tasks"))?;
    rows.iter().map(|row| TaskRow::read(row).map(|row| (row.id, row))).collect()
}

pub(super) async fn task(connection: &mut SqliteConnection, id: TaskId) -> Result<Option<TaskRecord>> {
    match task_row(connection, id).await? {
        Some(row) => record(connection, row, true).await.map(Some),
        None => Ok(None),
    }
}

async fn report(connection: &mut SqliteConnection, id: TaskId) -> Result<Option<Report>> {
    let reading = failed("reading a report");
    let id = id.0.0.to_vec();
    let text = sqlx::query_scalar::<_, String>("SELECT report FROM reports WHERE task = ?")
        .bind(id.clone())
        .fetch_optional(&mut *connection);
    let Some(text) = text.await.map_err(&reading)? else { return Ok(None) };
    let mut report: Report = json(&text)?;
    let rows = sqlx::query(concat!("SELECT ", finding_columns!(), " FROM findings WHERE task = ? ORDER BY place"));
    for row in rows.bind(id).fetch_all(connection).await.map_err(&reading)? {
        report.findings.push(sql::finding(&row, 0)?);
    }
    Ok(Some(report))
}

async fn steps(connection: &mut SqliteConnection, id: TaskId) -> Result<Vec<StepRecord>> {
    let rows = sqlx::query(
        "SELECT workflow, step, state, attempt, output, error, next_at, updated FROM steps WHERE task = ? \
         ORDER BY number",
    );
    let rows = rows.bind(id.0.0.to_vec()).fetch_all(connection).await.map_err(failed("reading the steps of a task"))?;
    rows.iter().map(|row| sql::step(row, 0)).collect()
}

pub(super) async fn tasks(connection: &mut SqliteConnection, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
    let Some((sql, after, most)) = sql::listing(filter) else { return Ok(Vec::new()) };
    let due = filter.due.then(|| Timestamp::now().0);
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(most).bind(due);
    let rows = rows.fetch_all(&mut *connection).await.map_err(failed("listing tasks"))?;
    let mut tasks = Vec::with_capacity(rows.len());
    for row in &rows {
        tasks.push(record(connection, TaskRow::read(row)?, false).await?);
    }
    Ok(tasks)
}

pub(super) async fn audit(connection: &mut SqliteConnection, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
    let rows = sqlx::query(AUDIT)
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await
        .map_err(failed("reading the audit log"))?;
    rows.iter().map(sql::entry).collect()
}

/// Begins a transaction that writes, and gives the end of the log.
pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<AuditHead> {
    head(connection, concat!("BEGIN IMMEDIATE; ", select_head!())).await
}

pub(super) async fn audit_head(connection: &mut SqliteConnection) -> Result<AuditHead> {
    head(connection, select_head!()).await
}

async fn head(connection: &mut SqliteConnection, sql: &'static str) -> Result<AuditHead> {
    let row = sqlx::query(sql).fetch_optional(connection).await;
    sql::head(row.map_err(failed("reading the audit log"))?.as_ref())
}

pub(super) async fn cached(connection: &mut SqliteConnection, key: &CacheKey) -> Result<Option<CachedReport>> {
    let text = sqlx::query_scalar::<_, String>(
        "SELECT report FROM cache WHERE sha256 = ? AND generation = ? AND settings = ?",
    )
    .bind(key.sha256.0.to_vec())
    .bind(key.generation.clone())
    .bind(key.settings.clone())
    .fetch_optional(connection)
    .await;
    text.map_err(failed("reading the verdict cache"))?.as_deref().map(json).transpose()
}

pub(super) async fn tags(connection: &mut SqliteConnection, object: &ObjectRef) -> Result<crate::model::Tags> {
    let text = sqlx::query_scalar::<_, String>("SELECT tags FROM tags WHERE bucket = ? AND key = ? AND pin = ?")
        .bind(object.bucket.as_str().to_owned())
        .bind(object.key.clone())
        .bind(pin(object))
        .fetch_optional(connection)
        .await;
    Ok(text.map_err(failed("reading tags"))?.as_deref().map(json).transpose()?.unwrap_or_default())
}
