//! Rows as the store's types, and what is read.

use serde::de::DeserializeOwned;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::model::{ContentDigest, Finding, ObjectRef, Report, TaskId, Timestamp};
use crate::sql::sqlite::{damaged, failed, get, word};
use crate::store::{
    AuditEntry, AuditHead, CacheKey, CachedReport, StepRecord, StepState, TaskFilter, TaskRecord, TaskState,
};
use crate::{Error, ErrorKind, Result};

/// One row of tasks.
#[derive(Debug, Clone)]
pub(super) struct TaskRow {
    pub(super) id: TaskId,
    pub(super) object: String,
    pub(super) state: TaskState,
    pub(super) attempts: u32,
    pub(super) workflow: Option<String>,
    pub(super) place: String,
    pub(super) next_at: Option<i64>,
    pub(super) error: Option<String>,
    pub(super) created: i64,
    pub(super) updated: i64,
    pub(super) fence: i64,
    pub(super) lease_owner: Option<String>,
    pub(super) lease_until: Option<i64>,
}

macro_rules! select_task {
    ($rest:literal) => {
        concat!(
            "SELECT id, object, state, attempts, workflow, place, next_at, error, created, updated, fence, \
             lease_owner, lease_until ",
            $rest
        )
    };
}

macro_rules! select_head {
    () => {
        "SELECT seq, hash FROM audit_head WHERE one = 1"
    };
}

impl TaskRow {
    fn from(row: &SqliteRow) -> Result<Self> {
        Ok(Self {
            id: TaskId(digest(row, 0)?),
            object: get(row, 1)?,
            state: word(row, 2, &TaskState::ALL, TaskState::as_str)?,
            attempts: get(row, 3)?,
            workflow: get(row, 4)?,
            place: get(row, 5)?,
            next_at: get(row, 6)?,
            error: get(row, 7)?,
            created: get(row, 8)?,
            updated: get(row, 9)?,
            fence: get(row, 10)?,
            lease_owner: get(row, 11)?,
            lease_until: get(row, 12)?,
        })
    }

    /// The task as others see it, with its report.
    pub(super) async fn record(self, connection: &mut SqliteConnection, with_steps: bool) -> Result<TaskRecord> {
        let mut record = self.alone()?;
        record.report = report(connection, record.id).await?;
        if with_steps {
            record.steps = steps(connection, record.id).await?;
        }
        Ok(record)
    }

    /// The task without what the other tables hold of it.
    pub(super) fn alone(self) -> Result<TaskRecord> {
        Ok(TaskRecord {
            id: self.id,
            object: json(&self.object)?,
            state: self.state,
            attempts: self.attempts,
            report: None,
            workflow: self.workflow,
            place: json(&self.place)?,
            next_at: self.next_at.map(Timestamp),
            error: self.error,
            created: Timestamp(self.created),
            updated: Timestamp(self.updated),
            steps: Vec::new(),
        })
    }
}

pub(super) async fn task_row(connection: &mut SqliteConnection, id: TaskId) -> Result<Option<TaskRow>> {
    let row =
        sqlx::query(select_task!("FROM tasks WHERE id = ?")).bind(id.0.0.to_vec()).fetch_optional(connection).await;
    row.map_err(failed("reading a task"))?.as_ref().map(TaskRow::from).transpose()
}

pub(super) async fn task(connection: &mut SqliteConnection, id: TaskId) -> Result<Option<TaskRecord>> {
    match task_row(connection, id).await? {
        Some(row) => row.record(connection, true).await.map(Some),
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
    let rows = sqlx::query(
        "SELECT detector, masked_match, context, layer_path, byte_offset, confidence FROM findings WHERE task = ? \
         ORDER BY place",
    );
    for row in rows.bind(id).fetch_all(connection).await.map_err(&reading)? {
        report.findings.push(Finding {
            detector: get(&row, 0)?,
            masked_match: get(&row, 1)?,
            context: get(&row, 2)?,
            layer_path: get(&row, 3)?,
            byte_offset: get::<i64>(&row, 4)?.cast_unsigned(),
            confidence: get(&row, 5)?,
        });
    }
    Ok(Some(report))
}

async fn steps(connection: &mut SqliteConnection, id: TaskId) -> Result<Vec<StepRecord>> {
    const STATES: [StepState; 4] = [StepState::Running, StepState::Waiting, StepState::Done, StepState::Failed];
    let rows = sqlx::query(
        "SELECT workflow, step, state, attempt, output, error, next_at, updated FROM steps WHERE task = ? \
         ORDER BY number",
    );
    let rows = rows.bind(id.0.0.to_vec()).fetch_all(connection).await.map_err(failed("reading the steps of a task"))?;
    let step = |row: &SqliteRow| {
        Ok(StepRecord {
            workflow: get(row, 0)?,
            step: get(row, 1)?,
            state: word(row, 2, &STATES, StepState::as_str)?,
            attempt: get(row, 3)?,
            output: get::<Option<String>>(row, 4)?.as_deref().map(json).transpose()?,
            error: get(row, 5)?,
            next_at: get::<Option<i64>>(row, 6)?.map(Timestamp),
            updated: Timestamp(get(row, 7)?),
        })
    };
    rows.iter().map(step).collect()
}

pub(super) async fn tasks(connection: &mut SqliteConnection, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
    let most = if filter.most == 0 { 100 } else { i64::try_from(filter.most).unwrap_or(i64::MAX) };
    let mut states = filter.states.clone();
    if states.is_empty() {
        states.extend(TaskState::ALL);
    }
    if filter.due {
        states.retain(|state| !state.is_terminal());
    }
    states.sort();
    states.dedup();
    if states.is_empty() {
        return Ok(Vec::new());
    }
    // Each state by itself comes in the order of an index, so that a page costs what it holds, and one statement sees
    // one moment.
    let parts = states.iter().map(|state| {
        format!(
            "SELECT * FROM (SELECT * FROM tasks WHERE state = '{state}' AND id > ?1 AND (?3 IS NULL OR \
             (coalesce(lease_until, 0) <= ?3 AND coalesce(next_at, 0) <= ?3)) ORDER BY id LIMIT ?2)"
        )
    });
    let from = parts.collect::<Vec<_>>().join(" UNION ALL ");
    let sql = format!("{} ({from}) ORDER BY id LIMIT ?2", select_task!("FROM"));
    let after = filter.after.map_or_else(Vec::new, |id| id.0.0.to_vec());
    let due = filter.due.then(|| Timestamp::now().0);
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(most).bind(due);
    let rows = rows.fetch_all(&mut *connection).await.map_err(failed("listing tasks"))?;
    let mut tasks = Vec::with_capacity(rows.len());
    for row in &rows {
        tasks.push(TaskRow::from(row)?.record(connection, false).await?);
    }
    Ok(tasks)
}

pub(super) async fn audit(connection: &mut SqliteConnection, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
    let rows =
        sqlx::query("SELECT seq, at, task, kind, body, previous, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?")
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
            .map_err(failed("reading the audit log"))?;
    let entry = |row: &SqliteRow| {
        Ok(AuditEntry {
            seq: get::<i64>(row, 0)?.cast_unsigned(),
            at: Timestamp(get(row, 1)?),
            task: TaskId(digest(row, 2)?),
            kind: get(row, 3)?,
            body: get(row, 4)?,
            previous: digest(row, 5)?,
            hash: digest(row, 6)?,
        })
    };
    rows.iter().map(entry).collect()
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
    match row.map_err(failed("reading the audit log"))? {
        Some(row) => Ok(AuditHead { seq: get::<i64>(&row, 0)?.cast_unsigned(), hash: digest(&row, 1)? }),
        None => Err(Error::new(ErrorKind::Corrupt, "the head of the audit log is missing")),
    }
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

/// Which state of an object tags belong to.
pub(super) fn pin(object: &ObjectRef) -> String {
    match (&object.version, &object.etag) {
        (Some(version), _) => format!("v:{version}"),
        (None, Some(etag)) => format!("e:{etag}"),
        (None, None) => String::new(),
    }
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

fn digest(row: &SqliteRow, column: usize) -> Result<ContentDigest> {
    get::<&[u8]>(row, column)?.try_into().map(ContentDigest).map_err(|_| damaged("an id is not 32 bytes long"))
}

pub(super) fn json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| damaged("JSON that is none").with_source(error))
}
