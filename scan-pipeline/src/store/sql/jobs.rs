//! What the stores of bulk jobs on SQL have in common: their calls, and their rows.

use super::json;
use crate::model::Timestamp;
use crate::sql::{Columns, damaged, word};
use crate::store::{Advance, Counters, Job, JobId, JobSource, JobState, NewJob, Rescan, Shard, ShardRange};
use crate::{Error, ErrorKind, Result};

/// What is written about jobs.
#[derive(Debug)]
pub(in crate::store) enum JobCall {
    Create(NewJob),
    Advance(JobId, u32, Advance),
    Count(JobId, u32, u64, Counters),
    End(JobId, JobState, Option<String>),
}

/// What a call comes to before anything is written, when the job is in this state.
#[derive(Debug)]
pub(in crate::store) enum Known {
    /// It is to be done.
    Runs,
    /// That is the answer.
    Answer(Result<Option<JobState>>),
}

impl JobCall {
    /// The job that it is about.
    pub(in crate::store) fn id(&self) -> &JobId {
        match self {
            Self::Create(job) => &job.id,
            Self::Advance(id, ..) | Self::Count(id, ..) | Self::End(id, ..) => id,
        }
    }

    /// Whether the job's state lets it be done.
    pub(in crate::store) fn known(&self, state: Option<JobState>) -> Known {
        match (self, state) {
            (Self::Create(_), _) | (_, Some(JobState::Running)) => Known::Runs,
            (Self::Advance(..), Some(_)) => Known::Answer(Ok(None)),
            (_, Some(ended)) => Known::Answer(Ok(Some(ended))),
            (_, None) => {
                let unknown = Error::new(ErrorKind::InvalidInput, "there is no such job in this store");
                Known::Answer(Err(unknown.about(format!("job {}", self.id()))))
            }
        }
    }
}

/// The columns of a [`Job`], in this order.
macro_rules! select_job {
    ($rest:literal) => {
        concat!("SELECT id, source, rescan, chunk, state, error, created, updated FROM jobs ", $rest)
    };
}
pub(in crate::store) use select_job;

/// The columns of a [`Shard`], in this order.
macro_rules! select_shards {
    ($rest:literal) => {
        concat!(
            "SELECT shard, range, cursor, listed, bad, chunks, counted, ended, updated, open FROM job_shards ",
            $rest
        )
    };
}
pub(in crate::store) use select_shards;

/// How many objects chunks came to.
macro_rules! select_objects {
    ($rest:literal) => {
        concat!("SELECT clean + infected + unscannable + skipped + gone + failed FROM job_chunks ", $rest)
    };
}
pub(in crate::store) use select_objects;

/// From a row of `select_job!`, without shards and totals.
pub(in crate::store) fn job(row: &impl Columns) -> Result<Job> {
    Ok(Job {
        id: row.text(0)?.parse().map_err(|_| damaged("a job has no id"))?,
        source: json::<JobSource>(&row.text(1)?)?,
        rescan: word(row, 2, &Rescan::ALL, Rescan::as_str)?,
        chunk: super::count(row, 3)?,
        state: word(row, 4, &JobState::ALL, JobState::as_str)?,
        error: row.any_text_or_null(5)?,
        totals: Counters::default(),
        shards: Vec::new(),
        created: Timestamp(row.number(6)?),
        updated: Timestamp(row.number(7)?),
    })
}

/// From a row of `select_shards!`.
pub(in crate::store) fn shard(row: &impl Columns) -> Result<Shard> {
    Ok(Shard {
        number: super::count(row, 0)?,
        range: json::<ShardRange>(&row.text(1)?)?,
        cursor: row.text_or_null(2)?.as_deref().map(json).transpose()?,
        listed: row.number(3)?.cast_unsigned(),
        bad: row.number(4)?.cast_unsigned(),
        chunks: row.number(5)?.cast_unsigned(),
        counted: row.number(6)?.cast_unsigned(),
        ended: row.number(7)? != 0,
        updated: Timestamp(row.number(8)?),
        open: row.text_or_null(9)?.as_deref().map(json).transpose()?,
    })
}

/// From `clean, infected, unscannable, skipped, gone, failed, bytes`.
pub(in crate::store) fn counters(row: &impl Columns, first: usize) -> Result<Counters> {
    let number = |column: usize| row.number(first + column).map(i64::cast_unsigned);
    Ok(Counters {
        clean: number(0)?,
        infected: number(1)?,
        unscannable: number(2)?,
        skipped: number(3)?,
        gone: number(4)?,
        failed: number(5)?,
        bytes: number(6)?,
    })
}

/// Counters in the order of [`counters`].
pub(in crate::store) fn numbers(counters: &Counters) -> [i64; 7] {
    let Counters { clean, infected, unscannable, skipped, gone, failed, bytes } = *counters;
    [clean, infected, unscannable, skipped, gone, failed, bytes].map(u64::cast_signed)
}

/// A job with its shards. What was done last may have been a chunk.
pub(in crate::store) fn whole(mut job: Job, shards: Vec<Shard>, totals: Counters) -> Job {
    let latest = shards.iter().map(|shard| shard.updated).max();
    job.updated = latest.map_or(job.updated, |latest| latest.max(job.updated));
    (job.shards, job.totals) = (shards, totals);
    job
}
