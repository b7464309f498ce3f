//! What is written, call by call, within the transaction of a batch; commits are gathered first ([`pending`](super::pending)).
//!
//! Each of these gives two results in one. The inner one is the answer; a refusal there has written nothing. With the
//! outer one the transaction has failed, and has to be undone.

use std::collections::HashMap;

use sqlx::sqlite::SqliteConnection;

use super::pending::{save, write_log};
use super::rows;
use super::together::Together;
use crate::model::{ObjectRef, Tags, TaskId, Timestamp};
use crate::sql::sqlite::failed;
use crate::store::sql::{Entry, Taken, TaskRow, begin_anew, pin, to_json};
use crate::store::{AuditHead, Claim, ClaimRequest, StepRecord};
use crate::{Error, ErrorKind, Result};

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
        save(&mut all, connection, std::slice::from_ref(&row)).await?;
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
    save(&mut all, connection, std::slice::from_ref(&row)).await?;
    all.add(begin_anew!("= ?")).bind(row.id.0.0.to_vec());
    let body = retried.body.to_string();
    write_log(&mut all, connection, &[Entry::behind(head, now, row.id, (&retried.kind, &body))]).await?;
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
