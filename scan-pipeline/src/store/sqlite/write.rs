//! What is written, call by call, within the transaction of a batch.

use sqlx::sqlite::SqliteConnection;

use super::error::failed;
use super::rows::{self, TaskRow};
use crate::handler::Place;
use crate::model::{ObjectRef, Report, Tags, Timestamp};
use crate::store::audit::unique_findings;
use crate::store::{AuditHead, CacheKey, Changes, Claim, ClaimRequest, Lease, LeaseChange, StepRecord, TaskState};
use crate::{Error, ErrorKind, Result};

/// Changes with everything made into text that can be, which is the caller's work and not the writer's.
#[derive(Debug)]
pub(super) struct Prepared {
    changes: Changes,
    report: Option<String>,
    cached: Option<String>,
}

impl Prepared {
    pub(super) fn new(changes: Changes) -> Result<Self> {
        changes.check()?;
        let without_findings = |report: &Report| Report { findings: Vec::new(), ..report.clone() };
        if let Some(report) = &changes.report
            && report.findings.iter().any(|finding| !finding.confidence.is_finite())
        {
            return Err(Error::new(ErrorKind::InvalidInput, "a finding's confidence is not a number"));
        }
        let report = changes.report.as_ref().map(|report| json(&without_findings(report))).transpose()?;
        let cached = changes.cache.as_ref().map(|(_, cached)| json(cached)).transpose()?;
        Ok(Self { changes, report, cached })
    }
}

/// Takes a task's lease, or says why not.
pub(super) async fn claim(connection: &mut SqliteConnection, request: &ClaimRequest) -> Result<Claim> {
    let now = Timestamp::now();
    let Some(mut row) = rows::task_row(connection, request.id).await? else {
        return first_claim(connection, request, now).await;
    };
    if row.state.is_terminal() {
        return Ok(Claim::Finished(Box::new(row.record(connection, true).await?)));
    }
    if let (Some(owner), Some(until)) = (&row.lease_owner, row.lease_until)
        && until > now.0
    {
        return Ok(Claim::Busy { owner: owner.clone(), until: Timestamp(until) });
    }
    if let Some(until) = row.next_at.filter(|at| *at > now.0) {
        return Ok(Claim::NotYet { until: Timestamp(until), record: Box::new(row.record(connection, true).await?) });
    }
    row.fence += 1;
    if row.state != TaskState::Handling {
        row.attempts = row.attempts.saturating_add(1);
        row.state = TaskState::Scanning;
    }
    row.updated = now.0;
    row.lease_owner = Some(request.owner.clone());
    row.lease_until = Some(now.plus(request.ttl).0);
    save(connection, &row).await?;
    let lease = Lease { task: row.id, fence: row.fence.cast_unsigned() };
    Ok(Claim::Mine(lease, Box::new(row.record(connection, true).await?)))
}

/// Makes the task and takes its lease, in one statement: nothing else can be known of it.
async fn first_claim(connection: &mut SqliteConnection, request: &ClaimRequest, now: Timestamp) -> Result<Claim> {
    let row = TaskRow {
        id: request.id,
        object: json(&request.object)?,
        state: TaskState::Scanning,
        attempts: 1,
        workflow: None,
        place: json(&Place::Here)?,
        next_at: None,
        error: None,
        created: now.0,
        updated: now.0,
        fence: 1,
        lease_owner: Some(request.owner.clone()),
        lease_until: Some(now.plus(request.ttl).0),
    };
    sqlx::query(
        "INSERT INTO tasks (id, object, state, attempts, place, created, updated, fence, lease_owner, lease_until) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9)",
    )
    .bind(row.id.0.0.to_vec())
    .bind(row.object.clone())
    .bind(row.state.as_str())
    .bind(row.attempts)
    .bind(row.place.clone())
    .bind(now.0)
    .bind(row.fence)
    .bind(row.lease_owner.clone())
    .bind(row.lease_until)
    .execute(connection)
    .await
    .map_err(failed("writing a task"))?;
    let lease = Lease { task: row.id, fence: row.fence.cast_unsigned() };
    Ok(Claim::Mine(lease, Box::new(row.alone()?)))
}

/// Writes what happened. `head` is the end of the audit log as this transaction has it.
pub(super) async fn commit(
    connection: &mut SqliteConnection,
    lease: &Lease,
    prepared: &Prepared,
    cache_entries: u32,
    head: &mut AuditHead,
) -> Result<Timestamp> {
    let now = Timestamp::now();
    let changes = &prepared.changes;
    let fenced = |why: &str| Err(Error::new(ErrorKind::Fenced, format!("nothing was recorded: {why}")));
    let Some(mut row) = rows::task_row(connection, lease.task).await? else {
        return fenced("the task is not known");
    };
    if row.fence.cast_unsigned() != lease.fence {
        return fenced("another worker has claimed the task since");
    }
    if row.state.is_terminal() {
        return fenced("the task has come to its end");
    }
    if row.lease_owner.is_none() {
        return fenced("the lease was given back");
    }
    change(&mut row, changes, now)?;
    save(connection, &row).await?;
    if let (Some(report), Some(text)) = (&changes.report, &prepared.report) {
        write_report(connection, lease, report, text).await?;
    }
    for step in &changes.steps {
        write_step(connection, lease, step).await?;
    }
    if let (Some((key, _)), Some(text)) = (&changes.cache, &prepared.cached) {
        write_cache(connection, key, text, cache_entries).await?;
    }
    for new in &changes.audit {
        let entry = head.next(now, lease.task, new);
        *head = entry.head();
        sqlx::query("INSERT INTO audit (seq, at, task, kind, body, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(entry.seq.cast_signed())
            .bind(entry.at.0)
            .bind(entry.task.0.0.to_vec())
            .bind(entry.kind)
            .bind(entry.body)
            .bind(entry.previous.0.to_vec())
            .bind(entry.hash.0.to_vec())
            .execute(&mut *connection)
            .await
            .map_err(failed("writing the audit log"))?;
    }
    Ok(now)
}

fn change(row: &mut TaskRow, changes: &Changes, now: Timestamp) -> Result<()> {
    row.updated = now.0;
    if let Some(state) = changes.state {
        row.state = state;
    }
    if let Some(workflow) = &changes.workflow {
        row.workflow = Some(workflow.clone());
    }
    if let Some(place) = &changes.place {
        row.place = json(place)?;
    }
    if let Some(next_at) = changes.next_at {
        row.next_at = next_at.map(|at| at.0);
    }
    if let Some(error) = &changes.error {
        row.error = error.clone();
    }
    match changes.lease {
        _ if row.state.is_terminal() => (row.lease_owner, row.lease_until) = (None, None),
        LeaseChange::Keep => {}
        LeaseChange::Extend(ttl) => row.lease_until = Some(now.plus(ttl).0),
        LeaseChange::Release => (row.lease_owner, row.lease_until) = (None, None),
        LeaseChange::Return => {
            (row.lease_owner, row.lease_until) = (None, None);
            if row.state == TaskState::Scanning {
                row.attempts = row.attempts.saturating_sub(1);
                row.state = TaskState::Pending;
            }
        }
    }
    Ok(())
}

async fn save(connection: &mut SqliteConnection, row: &TaskRow) -> Result<()> {
    sqlx::query(
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
    .bind(row.id.0.0.to_vec())
    .execute(connection)
    .await
    .map_err(failed("writing a task"))?;
    Ok(())
}

async fn write_report(connection: &mut SqliteConnection, lease: &Lease, report: &Report, text: &str) -> Result<()> {
    let task = lease.task.0.0.to_vec();
    let writing = failed("writing a report");
    sqlx::query("INSERT INTO reports VALUES (?, ?) ON CONFLICT DO UPDATE SET report = excluded.report")
        .bind(task.clone())
        .bind(text.to_owned())
        .execute(&mut *connection)
        .await
        .map_err(&writing)?;
    let old = sqlx::query("DELETE FROM findings WHERE task = ?").bind(task.clone()).execute(&mut *connection).await;
    old.map_err(&writing)?;
    for (place, finding) in (0_i64..).zip(unique_findings(report)) {
        sqlx::query(
            "INSERT INTO findings (task, layer_path, detector, byte_offset, place, masked_match, context, confidence) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(task.clone())
        .bind(finding.layer_path.clone())
        .bind(finding.detector.clone())
        .bind(finding.byte_offset.cast_signed())
        .bind(place)
        .bind(finding.masked_match.clone())
        .bind(finding.context.clone())
        .bind(finding.confidence)
        .execute(&mut *connection)
        .await
        .map_err(&writing)?;
    }
    Ok(())
}

async fn write_step(connection: &mut SqliteConnection, lease: &Lease, step: &StepRecord) -> Result<()> {
    sqlx::query(
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
    .bind(step.output.as_ref().map(json).transpose()?)
    .bind(step.error.clone())
    .bind(step.next_at.map(|at| at.0))
    .bind(step.updated.0)
    .execute(connection)
    .await
    .map_err(failed("writing a step"))?;
    Ok(())
}

/// Numbers only grow, so all that is `most` below the new one is the oldest, and finding it costs nothing. Entries that
/// were replaced leave gaps: then a few fewer are kept.
async fn write_cache(connection: &mut SqliteConnection, key: &CacheKey, text: &str, most: u32) -> Result<()> {
    let writing = failed("writing the verdict cache");
    let written =
        sqlx::query("INSERT OR REPLACE INTO cache (sha256, generation, settings, report) VALUES (?, ?, ?, ?)")
            .bind(key.sha256.0.to_vec())
            .bind(key.generation.clone())
            .bind(key.settings.clone())
            .bind(text.to_owned())
            .execute(&mut *connection)
            .await
            .map_err(&writing)?;
    let oldest = written.last_insert_rowid() - i64::from(most);
    sqlx::query("DELETE FROM cache WHERE number <= ?").bind(oldest).execute(connection).await.map_err(&writing)?;
    Ok(())
}

/// Replaces the tags of one state of an object.
pub(super) async fn set_tags(connection: &mut SqliteConnection, object: &ObjectRef, tags: &Tags) -> Result<()> {
    let writing = failed("writing tags");
    let pin = rows::pin(object);
    // What a key without versions held before does not come back, and neither do its tags.
    sqlx::query("DELETE FROM tags WHERE bucket = ?1 AND key = ?2 AND (pin = ?3 OR (NOT ?4 AND pin NOT GLOB 'v:*'))")
        .bind(object.bucket.as_str().to_owned())
        .bind(object.key.clone())
        .bind(pin.clone())
        .bind(object.version.is_some())
        .execute(&mut *connection)
        .await
        .map_err(&writing)?;
    if tags.is_empty() {
        return Ok(());
    }
    sqlx::query("INSERT INTO tags (bucket, key, pin, tags) VALUES (?, ?, ?, ?)")
        .bind(object.bucket.as_str().to_owned())
        .bind(object.key.clone())
        .bind(pin)
        .bind(json(tags)?)
        .execute(connection)
        .await
        .map_err(&writing)?;
    Ok(())
}

pub(super) async fn save_head(connection: &mut SqliteConnection, head: AuditHead) -> Result<()> {
    sqlx::query("UPDATE audit_head SET seq = ?, hash = ? WHERE one = 1")
        .bind(head.seq.cast_signed())
        .bind(head.hash.0.to_vec())
        .execute(connection)
        .await
        .map_err(failed("writing the audit log"))?;
    Ok(())
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, "cannot be written as JSON").with_source(error))
}
