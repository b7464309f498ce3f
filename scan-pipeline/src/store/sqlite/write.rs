//! What is written, call by call, within the transaction of a batch.
//!
//! Each of these gives two results in one. The inner one is the answer; a refusal there has written nothing. With the
//! outer one the transaction has failed, and has to be undone.

use std::collections::HashMap;

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Encode, Sqlite, Type};

use super::rows;
use crate::model::{ObjectRef, Report, Tags, TaskId, Timestamp};
use crate::sql::sqlite::failed;
use crate::store::audit::unique_findings;
use crate::store::sql::{Prepared, Taken, TaskRow, begin_anew, pin, to_json};
use crate::store::{AuditHead, CacheKey, Claim, ClaimRequest, Lease, NewAudit, StepRecord};
use crate::{Error, ErrorKind, Result};

/// Findings that one statement writes.
const FINDINGS_AT_ONCE: usize = 64;

/// Takes a task's lease, or says why not. What is kept in `tasks` is kept up.
pub(super) async fn claim(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    tasks: &mut HashMap<TaskId, TaskRow>,
) -> Result<Result<Claim>> {
    let now = Timestamp::now();
    // Most tasks are new.
    let new = match TaskRow::new(request, now) {
        Ok(new) => new,
        Err(refused) => return Ok(Err(refused)),
    };
    if insert(connection, &new).await? {
        let record = new.clone().alone()?;
        let answer = new.answer(Taken::Mine, record);
        tasks.insert(new.id, new);
        return Ok(Ok(answer));
    }
    let Some(mut row) = rows::task_row(connection, request.id).await? else {
        return Err(Error::new(ErrorKind::Corrupt, "a task is there and cannot be found").about(request.id.to_string()));
    };
    let taken = row.claim(request, now);
    // Before anything is written, as what cannot be read is refused.
    let record = match rows::record(connection, row.clone(), true).await {
        Ok(record) => record,
        Err(refused) => return Ok(Err(refused)),
    };
    if matches!(taken, Taken::Mine) {
        let mut all = Together::default();
        save(&mut all, &row);
        all.execute(connection).await?;
    }
    let answer = row.answer(taken, record);
    tasks.insert(row.id, row);
    Ok(Ok(answer))
}

/// As [`claim`], and takes a dead task where it stopped. `head` is the end of the audit log as this transaction has it.
pub(super) async fn reopen(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    head: &mut AuditHead,
    tasks: &mut HashMap<TaskId, TaskRow>,
) -> Result<Result<Claim>> {
    let now = Timestamp::now();
    let Some(mut row) = rows::task_row(connection, request.id).await? else {
        return claim(connection, request, tasks).await;
    };
    let (taken, Some(retried)) = row.reopen(request, now) else {
        return claim(connection, request, tasks).await;
    };
    let mut record = match rows::record(connection, row.clone(), true).await {
        Ok(record) => record,
        Err(refused) => return Ok(Err(refused)),
    };
    record.steps.iter_mut().for_each(StepRecord::begin_anew);
    let mut all = Together::default();
    save(&mut all, &row);
    all.add(begin_anew!("= ?")).bind(row.id.0.0.to_vec());
    log(&mut all, head, now, row.id, &retried);
    all.execute(connection).await?;
    let answer = row.answer(taken, record);
    tasks.insert(row.id, row);
    Ok(Ok(answer))
}

/// Makes the task with its lease taken, unless it is there.
async fn insert(connection: &mut SqliteConnection, row: &TaskRow) -> Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO tasks (id, object, state, attempts, place, created, updated, fence, lease_owner, lease_until) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
    )
    .bind(row.id.0.0.to_vec())
    .bind(row.object.clone())
    .bind(row.state.as_str())
    .bind(row.attempts)
    .bind(row.place.clone())
    .bind(row.created)
    .bind(row.fence)
    .bind(row.lease_owner.clone())
    .bind(row.lease_until)
    .execute(connection)
    .await
    .map_err(failed("writing a task"))?;
    Ok(inserted.rows_affected() > 0)
}

/// Writes what happened. `head` is the end of the audit log as this transaction has it, and `tasks` has the task.
pub(super) async fn commit(
    connection: &mut SqliteConnection,
    lease: &Lease,
    prepared: &Prepared,
    cache_entries: u32,
    head: &mut AuditHead,
    tasks: &mut HashMap<TaskId, TaskRow>,
) -> Result<Result<Timestamp>> {
    let now = Timestamp::now();
    let row = match TaskRow::commit(tasks.get(&lease.task), lease, prepared, now) {
        Ok(row) => row,
        Err(refused) => return Ok(Err(refused)),
    };
    statements(&row, lease, prepared, cache_entries, now, head).execute(connection).await?;
    tasks.insert(row.id, row);
    if let Some(report) = &prepared.changes.report {
        write_findings(connection, lease, report).await?;
    }
    Ok(Ok(now))
}

/// All that a commit writes, but for the findings.
fn statements(
    row: &TaskRow,
    lease: &Lease,
    prepared: &Prepared,
    cache_entries: u32,
    now: Timestamp,
    head: &mut AuditHead,
) -> Together {
    let changes = &prepared.changes;
    let mut all = Together::default();
    save(&mut all, row);
    if let Some(text) = &prepared.report {
        let task = lease.task.0.0.to_vec();
        all.add("INSERT INTO reports VALUES (?, ?) ON CONFLICT DO UPDATE SET report = excluded.report")
            .bind(task.clone())
            .bind(text.to_owned());
        all.add("DELETE FROM findings WHERE task = ?").bind(task);
    }
    for (step, output) in changes.steps.iter().zip(&prepared.outputs) {
        write_step(&mut all, lease, step, output.as_deref());
    }
    if let (Some((key, _)), Some(text)) = (&changes.cache, &prepared.cached) {
        write_cache(&mut all, key, text, cache_entries);
    }
    for new in &changes.audit {
        log(&mut all, head, now, lease.task, new);
    }
    all
}

/// Writes an entry behind the end of the log.
fn log(all: &mut Together, head: &mut AuditHead, now: Timestamp, task: TaskId, new: &NewAudit) {
    let entry = head.next(now, task, new);
    *head = entry.head();
    all.add("INSERT INTO audit (seq, at, task, kind, body, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(entry.seq.cast_signed())
        .bind(entry.at.0)
        .bind(entry.task.0.0.to_vec())
        .bind(entry.kind)
        .bind(entry.body)
        .bind(entry.previous.0.to_vec())
        .bind(entry.hash.0.to_vec());
}

fn save(all: &mut Together, row: &TaskRow) {
    all.add(
        "UPDATE tasks SET state = ?, attempts = ?, workflow = ?, place = ?, next_at = ?, error = ?, updated = ?, \
         fence = ?, lease_owner = ?, lease_until = ? WHERE id = ?",
    )
    .bind(row.state.as_str())
    .bind(row.attempts)
    .bind(row.workflow.clone())
    .bind(row.place.clone())
    .bind(row.next_at)
    .bind(row.error.clone())
    .bind(row.updated)
    .bind(row.fence)
    .bind(row.lease_owner.clone())
    .bind(row.lease_until)
    .bind(row.id.0.0.to_vec());
}

/// Many rows to a statement, as there may be thousands of findings; only the last statement has fewer.
async fn write_findings(connection: &mut SqliteConnection, lease: &Lease, report: &Report) -> Result<()> {
    let findings: Vec<_> = (0_i64..).zip(unique_findings(report)).collect();
    for some in findings.chunks(FINDINGS_AT_ONCE) {
        let rows = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; some.len()].join(", ");
        let sql = format!(
            "INSERT INTO findings (task, layer_path, detector, byte_offset, place, masked_match, context, confidence, \
             raw_offset, tags, fingerprint) VALUES {rows}"
        );
        // Kept where it comes again.
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(some.len() == FINDINGS_AT_ONCE || some.len() == 1);
        for (place, finding) in some {
            query = query
                .bind(lease.task.0.0.to_vec())
                .bind(finding.layer_path.clone())
                .bind(finding.detector.clone())
                .bind(finding.byte_offset.cast_signed())
                .bind(*place)
                .bind(finding.masked_match.clone())
                .bind(finding.context.clone())
                .bind(finding.confidence)
                .bind(finding.raw_offset.map(u64::cast_signed))
                .bind(to_json(&finding.tags)?)
                .bind(finding.fingerprint.clone());
        }
        query.execute(&mut *connection).await.map_err(failed("writing a report"))?;
    }
    Ok(())
}

fn write_step(all: &mut Together, lease: &Lease, step: &StepRecord, output: Option<&str>) {
    all.add(
        "INSERT INTO steps (task, workflow, step, state, attempt, output, error, next_at, updated) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (task, workflow, step) DO UPDATE SET state = excluded.state, \
         attempt = excluded.attempt, output = excluded.output, error = excluded.error, next_at = excluded.next_at, \
         updated = excluded.updated",
    )
    .bind(lease.task.0.0.to_vec())
    .bind(step.workflow.clone())
    .bind(step.step.clone())
    .bind(step.state.as_str())
    .bind(step.attempt)
    .bind(output.map(str::to_owned))
    .bind(step.error.clone())
    .bind(step.next_at.map(|at| at.0))
    .bind(step.updated.0);
}

/// Numbers only grow, so all that is `most` below the new one is the oldest, and finding it costs nothing. Entries that
/// were replaced leave gaps: then a few fewer are kept.
fn write_cache(all: &mut Together, key: &CacheKey, text: &str, most: u32) {
    all.add("INSERT OR REPLACE INTO cache (sha256, generation, settings, report) VALUES (?, ?, ?, ?)")
        .bind(key.sha256.0.to_vec())
        .bind(key.generation.clone())
        .bind(key.settings.clone())
        .bind(text.to_owned());
    all.add("DELETE FROM cache WHERE number <= last_insert_rowid() - ?").bind(i64::from(most));
}

/// Replaces the tags of one state of an object.
pub(super) async fn set_tags(connection: &mut SqliteConnection, object: &ObjectRef, tags: &Tags) -> Result<Result<()>> {
    let text = match to_json(tags) {
        Ok(text) => text,
        Err(refused) => return Ok(Err(refused)),
    };
    let (bucket, pin) = (object.bucket.as_str().to_owned(), pin(object));
    let mut all = Together::default();
    // What a key without versions held before does not come back, and neither do its tags.
    all.add("DELETE FROM tags WHERE bucket = ? AND key = ? AND (pin = ? OR (NOT ? AND pin NOT GLOB 'v:*'))")
        .bind(bucket.clone())
        .bind(object.key.clone())
        .bind(pin.clone())
        .bind(object.version.is_some());
    if !tags.is_empty() {
        all.add("INSERT INTO tags (bucket, key, pin, tags) VALUES (?, ?, ?, ?)")
            .bind(bucket)
            .bind(object.key.clone())
            .bind(pin)
            .bind(text);
    }
    all.execute(connection).await.map(Ok)
}

/// Ends the transaction, with the new end of the log where it has one.
pub(super) async fn end(connection: &mut SqliteConnection, head: Option<AuditHead>) -> Result<()> {
    let mut all = Together::default();
    if let Some(head) = head {
        all.add("UPDATE audit_head SET seq = ?, hash = ? WHERE one = 1")
            .bind(head.seq.cast_signed())
            .bind(head.hash.0.to_vec());
    }
    all.add("COMMIT");
    all.execute(connection).await
}

/// Statements that are executed one after the other until one fails. SQLite has a thread of its own here, and the way
/// there and back costs more than most statements; these go there together.
#[derive(Default)]
struct Together {
    sql: String,
    arguments: SqliteArguments,
    unbound: Option<sqlx::error::BoxDynError>,
}

impl Together {
    fn add(&mut self, sql: &'static str) -> &mut Self {
        self.sql.push_str(sql);
        self.sql.push_str(";\n");
        self
    }

    /// Binds the next `?`.
    fn bind<'q, T: Encode<'q, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        self.unbound = self.unbound.take().or(sqlx::Arguments::add(&mut self.arguments, value).err());
        self
    }

    async fn execute(self, connection: &mut SqliteConnection) -> Result<()> {
        let writing = failed("writing to the store");
        if let Some(why) = self.unbound {
            return Err(writing(sqlx::Error::Encode(why)));
        }
        // What is long is not likely to come again, and not worth being kept.
        let kept = self.sql.len() < 4096;
        let query = sqlx::query_with(AssertSqlSafe(self.sql), self.arguments).persistent(kept);
        query.execute(connection).await.map(drop).map_err(writing)
    }
}
