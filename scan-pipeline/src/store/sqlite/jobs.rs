//! Bulk jobs in SQLite: what the writer does with their calls, and how they are read.

use sqlx::sqlite::SqliteConnection;

use crate::Result;
use crate::model::Timestamp;
use crate::sql::sqlite::failed;
use crate::sql::{Columns, word};
use crate::store::sql::jobs::{self, JobCall, Known, select_job, select_objects, select_shards};
use crate::store::sql::to_json as json;
use crate::store::{Advance, Counters, Job, JobId, JobState, NewJob};

/// Within the transaction of a batch. The inner result is the answer: `None` where nothing was changed.
pub(super) async fn run(connection: &mut SqliteConnection, call: &JobCall) -> Result<Result<Option<JobState>>> {
    let now = Timestamp::now();
    if let Known::Answer(answer) = call.known(state(connection, call.id()).await?) {
        return Ok(answer);
    }
    Ok(Ok(match call {
        JobCall::Create(job) => create(connection, job, now).await.map(|()| Some(JobState::Running))?,
        JobCall::Advance(id, shard, step) => advance(connection, id, *shard, step, now).await?,
        JobCall::Count(id, shard, chunk, counters) => {
            count(connection, id, (*shard, *chunk), counters, now).await.map(Some)?
        }
        JobCall::End(id, to, why) => {
            end(connection, id, *to, why.as_deref(), now).await?;
            Some(*to)
        }
    }))
}

async fn create(connection: &mut SqliteConnection, job: &NewJob, now: Timestamp) -> Result<()> {
    let writing = failed("writing a job");
    let made = sqlx::query(
        "INSERT OR IGNORE INTO jobs (id, source, rescan, chunk, state, created, updated) VALUES (?, ?, ?, ?, ?, ?6, ?6)",
    )
    .bind(job.id.as_str().to_owned())
    .bind(json(&job.source)?)
    .bind(job.rescan.as_str())
    .bind(job.chunk)
    .bind(JobState::Running.as_str())
    .bind(now.0)
    .execute(&mut *connection)
    .await
    .map_err(&writing)?;
    if made.rows_affected() == 0 {
        return Ok(());
    }
    for (number, range) in (0_u32..).zip(&job.shards) {
        sqlx::query(
            "INSERT INTO job_shards (job, shard, range, listed, bad, chunks, counted, ended, updated) \
             VALUES (?, ?, ?, 0, 0, 0, 0, 0, ?)",
        )
        .bind(job.id.as_str().to_owned())
        .bind(number)
        .bind(json(range)?)
        .bind(now.0)
        .execute(&mut *connection)
        .await
        .map_err(&writing)?;
    }
    Ok(())
}

async fn state(connection: &mut SqliteConnection, id: &JobId) -> Result<Option<JobState>> {
    let row = sqlx::query("SELECT state FROM jobs WHERE id = ?").bind(id.as_str().to_owned());
    let row = row.fetch_optional(connection).await.map_err(failed("reading a job"))?;
    row.map(|row| word(&row, 0, &JobState::ALL, JobState::as_str)).transpose()
}

async fn advance(
    connection: &mut SqliteConnection,
    id: &JobId,
    shard: u32,
    step: &Advance,
    now: Timestamp,
) -> Result<Option<JobState>> {
    let cursor = step.cursor.as_ref().map(json).transpose()?;
    let moved = sqlx::query(
        "UPDATE job_shards SET cursor = ?, listed = listed + ?, bad = bad + ?, chunks = ?, ended = ?, updated = ?, \
         open = ? WHERE job = ? AND shard = ? AND chunks = ? AND ended = 0",
    )
    .bind(cursor)
    .bind(step.listed.cast_signed())
    .bind(step.bad.cast_signed())
    .bind(step.chunks.cast_signed())
    .bind(step.ended)
    .bind(now.0)
    .bind(step.open.as_ref().map(json).transpose()?)
    .bind(id.as_str().to_owned())
    .bind(shard)
    .bind(step.from.cast_signed())
    .execute(&mut *connection)
    .await
    .map_err(failed("writing a job"))?;
    match moved.rows_affected() {
        0 => Ok(None),
        _ => conclude(connection, id, now).await.map(Some),
    }
}

async fn count(
    connection: &mut SqliteConnection,
    id: &JobId,
    (shard, chunk): (u32, u64),
    counters: &Counters,
    now: Timestamp,
) -> Result<JobState> {
    let writing = failed("writing a job");
    let known = sqlx::query(select_objects!("WHERE job = ? AND shard = ? AND chunk = ?"))
        .bind(id.as_str().to_owned())
        .bind(shard)
        .bind(chunk.cast_signed())
        .fetch_optional(&mut *connection)
        .await
        .map_err(&writing)?;
    let known = known.map(|row| row.number(0)).transpose()?;
    if known.is_some_and(|objects| objects > counters.objects().cast_signed()) {
        return Ok(JobState::Running);
    }
    sqlx::query("DELETE FROM job_chunks WHERE job = ? AND shard = ? AND chunk = ?")
        .bind(id.as_str().to_owned())
        .bind(shard)
        .bind(chunk.cast_signed())
        .execute(&mut *connection)
        .await
        .map_err(&writing)?;
    let mut insert = sqlx::query("INSERT INTO job_chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(id.as_str().to_owned())
        .bind(shard)
        .bind(chunk.cast_signed());
    for number in jobs::numbers(counters) {
        insert = insert.bind(number);
    }
    insert.execute(&mut *connection).await.map_err(&writing)?;
    sqlx::query("UPDATE job_shards SET counted = counted + ?, updated = max(updated, ?) WHERE job = ? AND shard = ?")
        .bind(i64::from(known.is_none()))
        .bind(now.0)
        .bind(id.as_str().to_owned())
        .bind(shard)
        .execute(&mut *connection)
        .await
        .map_err(&writing)?;
    conclude(connection, id, now).await
}

/// A job that runs is done when every shard has ended and every chunk was counted.
async fn conclude(connection: &mut SqliteConnection, id: &JobId, now: Timestamp) -> Result<JobState> {
    let done = sqlx::query(
        "UPDATE jobs SET state = 'done', updated = ?1 WHERE id = ?2 AND state = 'running' AND NOT EXISTS \
         (SELECT 1 FROM job_shards WHERE job = ?2 AND (ended = 0 OR counted < chunks))",
    )
    .bind(now.0)
    .bind(id.as_str().to_owned())
    .execute(connection)
    .await
    .map_err(failed("writing a job"))?;
    Ok(if done.rows_affected() == 0 { JobState::Running } else { JobState::Done })
}

async fn end(
    connection: &mut SqliteConnection,
    id: &JobId,
    state: JobState,
    why: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    sqlx::query("UPDATE jobs SET state = ?, error = ?, updated = ? WHERE id = ?")
        .bind(state.as_str())
        .bind(why.map(str::to_owned))
        .bind(now.0)
        .bind(id.as_str().to_owned())
        .execute(connection)
        .await
        .map_err(failed("writing a job"))?;
    Ok(())
}

/// A job without its shards and totals.
pub(super) async fn head(connection: &mut SqliteConnection, id: &JobId) -> Result<Option<Job>> {
    let row = sqlx::query(select_job!("WHERE id = ?")).bind(id.as_str().to_owned());
    let row = row.fetch_optional(connection).await.map_err(failed("reading a job"))?;
    row.as_ref().map(jobs::job).transpose()
}

/// A job with its shards and totals.
pub(super) async fn job(connection: &mut SqliteConnection, id: &JobId) -> Result<Option<Job>> {
    let Some(job) = head(connection, id).await? else { return Ok(None) };
    let shards = sqlx::query(select_shards!("WHERE job = ? ORDER BY shard")).bind(id.as_str().to_owned());
    let shards = shards.fetch_all(&mut *connection).await.map_err(failed("reading a job"))?;
    let shards = shards.iter().map(jobs::shard).collect::<Result<_>>()?;
    Ok(Some(jobs::whole(job, shards, totals(connection, id).await?)))
}

/// Jobs without their shards, the newest first.
pub(super) async fn jobs(connection: &mut SqliteConnection, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
    let rows = sqlx::query(select_job!("WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2"))
        .bind(before.map(|id| id.as_str().to_owned()))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("listing jobs"))?;
    let mut all = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut job = jobs::job(row)?;
        job.totals = totals(connection, &job.id).await?;
        all.push(job);
    }
    Ok(all)
}

async fn totals(connection: &mut SqliteConnection, id: &JobId) -> Result<Counters> {
    let row = sqlx::query(
        "SELECT coalesce(sum(clean), 0), coalesce(sum(infected), 0), coalesce(sum(unscannable), 0), \
         coalesce(sum(skipped), 0), coalesce(sum(gone), 0), coalesce(sum(failed), 0), coalesce(sum(bytes), 0) \
         FROM job_chunks WHERE job = ?",
    );
    let row = row.bind(id.as_str().to_owned()).fetch_one(connection).await.map_err(failed("reading a job"))?;
    jobs::counters(&row, 0)
}
