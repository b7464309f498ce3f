//! What is read, set by set.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::Result;
use crate::model::{Finding, ObjectRef, Report, Tags, TaskId, Timestamp};
use crate::sql::postgres::{BEGIN_READING, failed};
use crate::sql::{Columns, digest};
use crate::store::sql::{self, AUDIT, TaskRow, finding_columns, json, pin, select_head, task_columns};
use crate::store::{AuditEntry, AuditHead, CacheKey, CachedReport, StepRecord, TaskFilter, TaskRecord};

pub(super) async fn task(connection: &mut PgConnection, id: TaskId) -> Result<Option<TaskRecord>> {
    execute(connection, BEGIN_READING).await?;
    let row = sqlx::query(concat!("SELECT ", task_columns!(), " FROM tasks WHERE id = $1"))
        .bind(id.0.0.as_slice())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("reading a task"))?;
    let rows = row.as_ref().map(TaskRow::read).transpose()?;
    let mut records = whole(connection, rows.into_iter().collect(), true).await?;
    execute(connection, "COMMIT").await?;
    Ok(records.pop())
}

pub(super) async fn tasks(connection: &mut PgConnection, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
    let Some((sql, after, most)) = sql::listing(filter) else { return Ok(Vec::new()) };
    execute(connection, BEGIN_READING).await?;
    let due = if filter.due { Some(now(connection).await?.0) } else { None };
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(most).bind(due);
    let rows = rows.fetch_all(&mut *connection).await.map_err(failed("listing tasks"))?;
    let rows = rows.iter().map(TaskRow::read).collect::<Result<_>>()?;
    let records = whole(connection, rows, false).await?;
    execute(connection, "COMMIT").await?;
    Ok(records)
}

/// The tasks with what the other tables hold of them, in the same order.
pub(super) async fn whole(
    connection: &mut PgConnection,
    rows: Vec<TaskRow>,
    with_steps: bool,
) -> Result<Vec<TaskRecord>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id.0.0.to_vec()).collect();
    let reports = reports(connection, &ids).await?;
    let steps = if with_steps { steps(connection, &ids).await? } else { HashMap::new() };
    let complete = |row: TaskRow| {
        let mut record = row.alone()?;
        // Not taken out, as two claims may be about one task.
        record.report = reports.get(&record.id).cloned();
        record.steps = steps.get(&record.id).cloned().unwrap_or_default();
        Ok(record)
    };
    rows.into_iter().map(complete).collect()
}

async fn reports(connection: &mut PgConnection, ids: &[Vec<u8>]) -> Result<HashMap<TaskId, Report>> {
    let reading = failed("reading reports");
    let rows = sqlx::query("SELECT task, report FROM reports WHERE task = ANY($1)").bind(ids);
    let rows = rows.fetch_all(&mut *connection).await.map_err(&reading)?;
    let mut reports = HashMap::new();
    for row in &rows {
        reports.insert(TaskId(digest(row, 0)?), json::<Report>(&row.text(1)?)?);
    }
    if reports.is_empty() {
        return Ok(reports);
    }
    let rows = sqlx::query(concat!(
        "SELECT task, ",
        finding_columns!(),
        " FROM findings WHERE task = ANY($1) ORDER BY task, place"
    ));
    for row in &rows.bind(ids).fetch_all(connection).await.map_err(&reading)? {
        let found: Finding = sql::finding(row, 1)?;
        if let Some(report) = reports.get_mut(&TaskId(digest(row, 0)?)) {
            report.findings.push(found);
        }
    }
    Ok(reports)
}

async fn steps(connection: &mut PgConnection, ids: &[Vec<u8>]) -> Result<HashMap<TaskId, Vec<StepRecord>>> {
    let rows = sqlx::query(
        "SELECT task, workflow, step, state, attempt, output, error, next_at, updated FROM steps \
         WHERE task = ANY($1) ORDER BY number",
    );
    let rows = rows.bind(ids).fetch_all(connection).await.map_err(failed("reading the steps of tasks"))?;
    let mut steps: HashMap<_, Vec<_>> = HashMap::new();
    for row in &rows {
        steps.entry(TaskId(digest(row, 0)?)).or_default().push(sql::step(row, 1)?);
    }
    Ok(steps)
}

pub(super) async fn audit(connection: &mut PgConnection, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
    let rows = sqlx::query(AUDIT)
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await
        .map_err(failed("reading the audit log"))?;
    rows.iter().map(sql::entry).collect()
}

pub(super) async fn audit_head(connection: &mut PgConnection) -> Result<AuditHead> {
    let row = sqlx::query(select_head!()).fetch_optional(connection).await;
    sql::head(row.map_err(failed("reading the audit log"))?.as_ref())
}

pub(super) async fn cached(connection: &mut PgConnection, key: &CacheKey) -> Result<Option<CachedReport>> {
    let text = sqlx::query_scalar::<_, String>("SELECT report FROM cache WHERE key = $1")
        .bind(cache_key(key))
        .fetch_optional(connection)
        .await;
    text.map_err(failed("reading the verdict cache"))?.as_deref().map(json).transpose()
}

pub(super) async fn tags(connection: &mut PgConnection, object: &ObjectRef) -> Result<Tags> {
    let text = sqlx::query_scalar::<_, String>("SELECT tags FROM tags WHERE id = $1")
        .bind(tags_key(object).1)
        .fetch_optional(connection)
        .await;
    Ok(text.map_err(failed("reading tags"))?.as_deref().map(json).transpose()?.unwrap_or_default())
}

/// The database's clock.
pub(super) async fn now(connection: &mut PgConnection) -> Result<Timestamp> {
    let now = sqlx::query_scalar("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint");
    now.fetch_one(connection).await.map(Timestamp).map_err(failed("reading the clock"))
}

pub(super) async fn execute(connection: &mut PgConnection, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql).execute(connection).await.map(drop).map_err(failed("using the store"))
}

/// Under what a verdict is remembered.
pub(super) fn cache_key(key: &CacheKey) -> Vec<u8> {
    hash(&[&key.sha256.0, key.generation.as_bytes(), key.settings.as_bytes()])
}

/// Under what a step is journalled, within its task.
pub(super) fn step_key(step: &StepRecord) -> Vec<u8> {
    hash(&[step.workflow.as_bytes(), step.step.as_bytes()])
}

/// Under what a finding is kept, within its task: of texts as they are stored, so that a migration can make it as well.
pub(super) fn finding_key(layer_path: &str, detector: &str, byte_offset: u64) -> Vec<u8> {
    hash(&[layer_path.as_bytes(), detector.as_bytes(), &byte_offset.to_be_bytes()])
}

/// The key that tags belong to, and its state.
pub(super) fn tags_key(object: &ObjectRef) -> (Vec<u8>, Vec<u8>) {
    let (bucket, key, pin) = (object.bucket.as_str().as_bytes(), object.key.as_bytes(), pin(object));
    (hash(&[bucket, key]), hash(&[bucket, key, pin.as_bytes()]))
}

/// Each part with its length before it, so that no others give the same bytes.
fn hash(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}
