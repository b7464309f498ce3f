//! Bulk jobs in SQLite: what the writer does with their calls, and how they are read.

use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::model::Timestamp;
use crate::sql::sqlite::{damaged, failed, get, word};
use crate::store::{Advance, Counters, Job, JobId, JobSource, JobState, NewJob, Rescan, Shard, ShardRange};
use crate::{Error, ErrorKind, Result};

/// What is written about jobs.
#[derive(Debug)]
pub(super) enum JobCall {
    Create(NewJob),
    Advance(JobId, u32, Advance),
    Count(JobId, u32, u64, Counters),
    End(JobId, JobState, Option<String>),
}

/// Within the transaction of a batch. The inner result is the answer: `None` where nothing was changed.
pub(super) async fn run(connection: &mut SqliteConnection, call: &JobCall) -> Result<Result<Option<JobState>>> {
    let now = Timestamp::now();
    match call {
        JobCall::Create(job) => create(connection, job, now).await.map(|()| Ok(Some(JobState::Running))),
        JobCall::Advance(id, shard, step) => match state(connection, id).await? {
            Some(JobState::Running) => advance(connection, id, *shard, step, now).await.map(Ok),
            Some(_) => Ok(Ok(None)),
            None => Ok(Err(unknown(id))),
        },
        JobCall::Count(id, shard, chunk, counters) => match state(connection, id).await? {
            Some(JobState::Running) => count(connection, id, (*shard, *chunk), counters, now).await.map(Ok),
            Some(ended) => Ok(Ok(Some(ended))),
            None => Ok(Err(unknown(id))),
        },
        JobCall::End(id, to, why) => match state(connection, id).await? {
            Some(JobState::Running) => {
                end(connection, id, *to, why.as_deref(), now).await?;
                Ok(Ok(Some(*to)))
            }
            Some(ended) => Ok(Ok(Some(ended))),
            None => Ok(Err(unknown(id))),
        },
    }
}

fn unknown(id: &JobId) -> Error {
    Error::new(ErrorKind::InvalidInput, "there is no such job in this store").about(format!("job {id}"))
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
        "UPDATE job_shards SET cursor = ?, listed = listed + ?, bad = bad + ?, chunks = ?, ended = ?, updated = ? \
         WHERE job = ? AND shard = ? AND chunks = ? AND ended = 0",
    )
    .bind(cursor)
    .bind(step.listed.cast_signed())
    .bind(step.bad.cast_signed())
    .bind(step.chunks.cast_signed())
    .bind(step.ended)
    .bind(now.0)
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
) -> Result<Option<JobState>> {
    let writing = failed("writing a job");
    let Counters { clean, infected, unscannable, skipped, gone, failed: dead, bytes } = *counters;
    let known = sqlx::query("DELETE FROM job_chunks WHERE job = ? AND shard = ? AND chunk = ?")
        .bind(id.as_str().to_owned())
        .bind(shard)
        .bind(chunk.cast_signed())
        .execute(&mut *connection)
        .await
        .map_err(&writing)?
        .rows_affected();
    let mut insert = sqlx::query("INSERT INTO job_chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(id.as_str().to_owned())
        .bind(shard)
        .bind(chunk.cast_signed());
    for counter in [clean, infected, unscannable, skipped, gone, dead, bytes] {
        insert = insert.bind(counter.cast_signed());
    }
    insert.execute(&mut *connection).await.map_err(&writing)?;
    sqlx::query("UPDATE job_shards SET counted = counted + ?, updated = max(updated, ?) WHERE job = ? AND shard = ?")
        .bind(i64::from(known == 0))
        .bind(now.0)
        .bind(id.as_str().to_owned())
        .bind(shard)
        .execute(&mut *connection)
        .await
        .map_err(&writing)?;
    conclude(connection, id, now).await.map(Some)
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

macro_rules! select_job {
    ($rest:literal) => {
        concat!("SELECT id, source, rescan, chunk, state, error, created, updated FROM jobs ", $rest)
    };
}

/// A job with its shards and totals.
pub(super) async fn job(connection: &mut SqliteConnection, id: &JobId) -> Result<Option<Job>> {
    let row = sqlx::query(select_job!("WHERE id = ?")).bind(id.as_str().to_owned());
    let row = row.fetch_optional(&mut *connection).await.map_err(failed("reading a job"))?;
    let Some(mut job) = row.as_ref().map(from_row).transpose()? else { return Ok(None) };
    let shards = sqlx::query(
        "SELECT shard, range, cursor, listed, bad, chunks, counted, ended, updated FROM job_shards \
         WHERE job = ? ORDER BY shard",
    );
    let shards = shards.bind(id.as_str().to_owned()).fetch_all(&mut *connection).await;
    job.shards = shards.map_err(failed("reading a job"))?.iter().map(shard).collect::<Result<_>>()?;
    job.totals = totals(connection, id).await?;
    // What was done last may have been a chunk.
    job.updated = job.shards.iter().map(|shard| shard.updated).max().unwrap_or(job.updated).max(job.updated);
    Ok(Some(job))
}

/// Jobs without their shards, the newest first.
pub(super) async fn jobs(connection: &mut SqliteConnection, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
    let rows = sqlx::query(select_job!("WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2"))
        .bind(before.map(|id| id.as_str().to_owned()))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("listing jobs"))?;
    let mut jobs = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut job = from_row(row)?;
        job.totals = totals(connection, &job.id).await?;
        jobs.push(job);
    }
    Ok(jobs)
}

async fn totals(connection: &mut SqliteConnection, id: &JobId) -> Result<Counters> {
    let row = sqlx::query(
        "SELECT coalesce(sum(clean), 0), coalesce(sum(infected), 0), coalesce(sum(unscannable), 0), \
         coalesce(sum(skipped), 0), coalesce(sum(gone), 0), coalesce(sum(failed), 0), coalesce(sum(bytes), 0) \
         FROM job_chunks WHERE job = ?",
    );
    let row = row.bind(id.as_str().to_owned()).fetch_one(connection).await.map_err(failed("reading a job"))?;
    Ok(Counters {
        clean: number(&row, 0)?,
        infected: number(&row, 1)?,
        unscannable: number(&row, 2)?,
        skipped: number(&row, 3)?,
        gone: number(&row, 4)?,
        failed: number(&row, 5)?,
        bytes: number(&row, 6)?,
    })
}

fn from_row(row: &SqliteRow) -> Result<Job> {
    let id: String = get(row, 0)?;
    Ok(Job {
        id: id.parse().map_err(|_| damaged("a job has no id"))?,
        source: from_json::<JobSource>(&get::<String>(row, 1)?)?,
        rescan: word(row, 2, &Rescan::ALL, Rescan::as_str)?,
        chunk: get(row, 3)?,
        state: word(row, 4, &JobState::ALL, JobState::as_str)?,
        error: get(row, 5)?,
        totals: Counters::default(),
        shards: Vec::new(),
        created: Timestamp(get(row, 6)?),
        updated: Timestamp(get(row, 7)?),
    })
}

fn shard(row: &SqliteRow) -> Result<Shard> {
    Ok(Shard {
        number: get(row, 0)?,
        range: from_json::<ShardRange>(&get::<String>(row, 1)?)?,
        cursor: get::<Option<String>>(row, 2)?.as_deref().map(from_json).transpose()?,
        listed: number(row, 3)?,
        bad: number(row, 4)?,
        chunks: number(row, 5)?,
        counted: number(row, 6)?,
        ended: get(row, 7)?,
        updated: Timestamp(get(row, 8)?),
    })
}

fn number(row: &SqliteRow, column: usize) -> Result<u64> {
    Ok(get::<i64>(row, column)?.cast_unsigned())
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, "cannot be written as JSON").with_source(error))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| damaged("a job cannot be read").with_source(error))
}
