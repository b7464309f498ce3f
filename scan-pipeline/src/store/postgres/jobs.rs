//! Bulk jobs in PostgreSQL: what the writer does with their calls, and how they are read.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;

use super::read::execute;
use crate::Result;
use crate::model::Timestamp;
use crate::sql::postgres::{BEGIN_READING, escape, failed};
use crate::sql::{Columns, word};
use crate::store::sql::jobs::{self, JobCall, Known, select_job, select_objects, select_shards};
use crate::store::sql::to_json;
use crate::store::{Advance, Counters, Job, JobId, JobState, NewJob, Shard};

/// Within the transaction of a batch. The inner result is the answer: `None` where nothing was changed.
pub(super) async fn run(
    connection: &mut PgConnection,
    call: &JobCall,
    now: Timestamp,
) -> Result<Result<Option<JobState>>> {
    if let Known::Answer(answer) = call.known(lock(connection, call.id()).await?) {
        return Ok(answer);
    }
    Ok(Ok(match call {
        JobCall::Create(job) => create(connection, job, now).await.map(|()| Some(JobState::Running))?,
        JobCall::Advance(id, shard, step) => advance(connection, id, *shard, step, now).await?,
        JobCall::Count(id, shard, chunk, counters) => {
            count(connection, id, (*shard, *chunk), counters, now).await.map(Some)?
        }
        JobCall::End(id, to, why) => {
            sqlx::query("UPDATE jobs SET state = $1, error = $2, updated = $3 WHERE id = $4")
                .bind(to.as_str())
                .bind(why.as_deref().map(escape))
                .bind(now.0)
                .bind(id.as_str())
                .execute(connection)
                .await
                .map_err(failed("writing a job"))?;
            Some(*to)
        }
    }))
}

/// The state of a job, which nobody else writes about until this transaction ends.
async fn lock(connection: &mut PgConnection, id: &JobId) -> Result<Option<JobState>> {
    let row = sqlx::query("SELECT state FROM jobs WHERE id = $1 FOR UPDATE").bind(id.as_str());
    let row = row.fetch_optional(connection).await.map_err(failed("reading a job"))?;
    row.map(|row| word(&row, 0, &JobState::ALL, JobState::as_str)).transpose()
}

async fn create(connection: &mut PgConnection, job: &NewJob, now: Timestamp) -> Result<()> {
    let writing = failed("writing a job");
    let made = sqlx::query(
        "INSERT INTO jobs (id, source, rescan, chunk, state, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $6) \
         ON CONFLICT DO NOTHING",
    )
    .bind(job.id.as_str())
    .bind(to_json(&job.source)?)
    .bind(job.rescan.as_str())
    .bind(i64::from(job.chunk))
    .bind(JobState::Running.as_str())
    .bind(now.0)
    .execute(&mut *connection)
    .await
    .map_err(&writing)?;
    if made.rows_affected() == 0 {
        return Ok(());
    }
    let ranges = job.shards.iter().map(to_json).collect::<Result<Vec<_>>>()?;
    sqlx::query(
        "INSERT INTO job_shards (job, shard, range, listed, bad, chunks, counted, ended, updated) \
         SELECT $1, number - 1, range, 0, 0, 0, 0, 0, $3 FROM unnest($2::text[]) WITH ORDINALITY AS all_of (range, number)",
    )
    .bind(job.id.as_str())
    .bind(ranges)
    .bind(now.0)
    .execute(connection)
    .await
    .map(drop)
    .map_err(writing)
}

async fn advance(
    connection: &mut PgConnection,
    id: &JobId,
    shard: u32,
    step: &Advance,
    now: Timestamp,
) -> Result<Option<JobState>> {
    let moved = sqlx::query(
        "UPDATE job_shards SET cursor = $1, listed = listed + $2, bad = bad + $3, chunks = $4, ended = $5, updated = $6, \
         open = $10 WHERE job = $7 AND shard = $8 AND chunks = $9 AND ended = 0",
    )
    .bind(step.cursor.as_ref().map(to_json).transpose()?)
    .bind(step.listed.cast_signed())
    .bind(step.bad.cast_signed())
    .bind(step.chunks.cast_signed())
    .bind(i64::from(step.ended))
    .bind(now.0)
    .bind(id.as_str())
    .bind(i64::from(shard))
    .bind(step.from.cast_signed())
    .bind(step.open.as_ref().map(to_json).transpose()?)
    .execute(&mut *connection)
    .await
    .map_err(failed("writing a job"))?;
    match moved.rows_affected() {
        0 => Ok(None),
        _ => conclude(connection, id, now).await.map(Some),
    }
}

async fn count(
    connection: &mut PgConnection,
    id: &JobId,
    (shard, chunk): (u32, u64),
    counters: &Counters,
    now: Timestamp,
) -> Result<JobState> {
    let writing = failed("writing a job");
    let known = sqlx::query(select_objects!("WHERE job = $1 AND shard = $2 AND chunk = $3"))
        .bind(id.as_str())
        .bind(i64::from(shard))
        .bind(chunk.cast_signed())
        .fetch_optional(&mut *connection)
        .await
        .map_err(&writing)?;
    let known = known.map(|row| row.number(0)).transpose()?;
    if known.is_some_and(|objects| objects > counters.objects().cast_signed()) {
        return Ok(JobState::Running);
    }
    sqlx::query("DELETE FROM job_chunks WHERE job = $1 AND shard = $2 AND chunk = $3")
        .bind(id.as_str())
        .bind(i64::from(shard))
        .bind(chunk.cast_signed())
        .execute(&mut *connection)
        .await
        .map_err(&writing)?;
    let mut insert = sqlx::query("INSERT INTO job_chunks VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
        .bind(id.as_str())
        .bind(i64::from(shard))
        .bind(chunk.cast_signed());
    for number in jobs::numbers(counters) {
        insert = insert.bind(number);
    }
    insert.execute(&mut *connection).await.map_err(&writing)?;
    sqlx::query(
        "UPDATE job_shards SET counted = counted + $1, updated = greatest(updated, $2) WHERE job = $3 AND shard = $4",
    )
    .bind(i64::from(known.is_none()))
    .bind(now.0)
    .bind(id.as_str())
    .bind(i64::from(shard))
    .execute(&mut *connection)
    .await
    .map_err(writing)?;
    conclude(connection, id, now).await
}

/// A job that runs is done when every shard has ended and every chunk was counted.
async fn conclude(connection: &mut PgConnection, id: &JobId, now: Timestamp) -> Result<JobState> {
    let done = sqlx::query(
        "UPDATE jobs SET state = 'done', updated = $1 WHERE id = $2 AND state = 'running' AND NOT EXISTS \
         (SELECT FROM job_shards WHERE job = $2 AND (ended = 0 OR counted < chunks))",
    )
    .bind(now.0)
    .bind(id.as_str())
    .execute(connection)
    .await
    .map_err(failed("writing a job"))?;
    Ok(if done.rows_affected() == 0 { JobState::Running } else { JobState::Done })
}

/// A job without its shards and totals.
pub(super) async fn head(connection: &mut PgConnection, id: &JobId) -> Result<Option<Job>> {
    let row = sqlx::query(select_job!("WHERE id = $1")).bind(id.as_str());
    let row = row.fetch_optional(connection).await.map_err(failed("reading a job"))?;
    row.as_ref().map(jobs::job).transpose()
}

/// A job with its shards and totals.
pub(super) async fn job(connection: &mut PgConnection, id: &JobId) -> Result<Option<Job>> {
    let reading = failed("reading a job");
    execute(connection, BEGIN_READING).await?;
    let job = match head(connection, id).await? {
        Some(job) => {
            let shards = sqlx::query(select_shards!("WHERE job = $1 ORDER BY shard")).bind(id.as_str());
            let shards = shards.fetch_all(&mut *connection).await.map_err(&reading)?;
            let shards = shards.iter().map(jobs::shard).collect::<Result<Vec<Shard>>>()?;
            let totals = totals(connection, &[id.as_str()]).await?.remove(id.as_str()).unwrap_or_default();
            Some(jobs::whole(job, shards, totals))
        }
        None => None,
    };
    execute(connection, "COMMIT").await?;
    Ok(job)
}

/// Jobs without their shards, the newest first.
pub(super) async fn jobs(connection: &mut PgConnection, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
    execute(connection, BEGIN_READING).await?;
    let rows = sqlx::query(select_job!("WHERE $1 IS NULL OR id < $1 ORDER BY id DESC LIMIT $2"))
        .bind(before.map(JobId::as_str))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("listing jobs"))?;
    let mut jobs = rows.iter().map(jobs::job).collect::<Result<Vec<_>>>()?;
    let mut totals = totals(connection, &jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>()).await?;
    execute(connection, "COMMIT").await?;
    for job in &mut jobs {
        job.totals = totals.remove(job.id.as_str()).unwrap_or_default();
    }
    Ok(jobs)
}

async fn totals(connection: &mut PgConnection, ids: &[&str]) -> Result<HashMap<String, Counters>> {
    let rows = sqlx::query(
        "SELECT job, sum(clean)::bigint, sum(infected)::bigint, sum(unscannable)::bigint, sum(skipped)::bigint, \
         sum(gone)::bigint, sum(failed)::bigint, sum(bytes)::bigint FROM job_chunks WHERE job = ANY($1) GROUP BY job",
    );
    let rows = rows.bind(ids).fetch_all(connection).await.map_err(failed("reading a job"))?;
    rows.iter().map(|row| Ok((row.text(0)?, jobs::counters(row, 1)?))).collect()
}
