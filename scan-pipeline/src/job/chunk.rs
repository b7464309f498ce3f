//! Working on a chunk.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::message::ChunkObject;
use super::{Around, Outcome, found, short};
use crate::model::{BucketUrl, ObjectRef, Verdict};
use crate::pipeline::{Again, Attended, Processed};
use crate::store::{Counters, Job, JobId, JobSource, JobState, Rescan, TaskState};
use crate::{Error, ErrorKind, Result};

/// Objects of one chunk at work at a time; the share of all chunks is divided among them as they come.
const AT_A_TIME: usize = 64;
/// How long a chunk waits for objects that somebody else works on.
const ELSEWHERE: Duration = Duration::from_secs(10);

/// What became of one object.
enum One {
    Counted(Counters),
    /// It is not settled yet: the chunk comes again.
    Later(Outcome),
}

impl Around<'_> {
    pub(super) async fn chunk(
        &self,
        id: &JobId,
        (shard, chunk): (u32, u64),
        bucket: &BucketUrl,
        objects: Vec<ChunkObject>,
    ) -> Result<Outcome> {
        let job = found(self.jobs.job_head(id).await?, id)?;
        // One that was given up and put back is worked on, though its job has come to its end without it, and stays so.
        if !matches!(job.state, JobState::Running | JobState::Done) {
            return Ok(Outcome::Done);
        }
        let again = match job.rescan {
            Rescan::Never => Again::Never,
            Rescan::Outdated => Again::Outdated,
            Rescan::Always => Again::Once(format!("job {id}")),
        };
        let all = objects.into_iter().map(|object| self.one(&job, object.object(bucket), &again));
        let mut ends = stream::iter(all).buffer_unordered(AT_A_TIME);
        let (mut counters, mut later) = (Counters::default(), None);
        while let Some(one) = ends.next().await {
            match one {
                One::Counted(one) => counters.add(&one),
                One::Later(outcome) => later = Some(outcome),
            }
        }
        if let Some(later) = later {
            return Ok(later);
        }
        self.jobs.count(id, shard, chunk, &counters).await?;
        Ok(Outcome::Done)
    }

    async fn one(&self, job: &Job, object: ObjectRef, again: &Again) -> One {
        let Ok(_share) = self.share.acquire().await else {
            return One::Later(Outcome::retry(&Error::new(ErrorKind::Cancelled, "the worker is shut down")));
        };
        let about = object.to_string();
        let attended = match job.source {
            JobSource::Prefix { .. } => self.pipeline.attend_listed(object, again).await,
            // A row is a day old, and has the columns that somebody chose: what it does not say has to be asked, or the
            // task would not be pinned, or be another one than that of an event about the same object.
            JobSource::Inventory { .. } => self.pipeline.attend(object, again).await,
        };
        match attended {
            Ok(Attended::Done(done)) => count(job, &done),
            Ok(Attended::Known(known)) => {
                let why = Error::from(known);
                let after = why.retry_after().unwrap_or(ELSEWHERE).max(Duration::from_secs(1));
                One::Later(Outcome::Retry { after: Some(after.min(ELSEWHERE)), outage: true, why: short(&why) })
            }
            Err(why) if matches!(why.kind(), ErrorKind::Gone | ErrorKind::Superseded) => {
                One::Counted(Counters { gone: 1, ..Counters::default() })
            }
            Err(why) => match Outcome::of(&why) {
                Outcome::Dead { .. } => {
                    tracing::warn!(job = %job.id, object = about, error = %why, "an object of a job failed");
                    One::Counted(Counters { failed: 1, ..Counters::default() })
                }
                later => One::Later(later),
            },
        }
    }
}

fn count(job: &Job, done: &Processed) -> One {
    let record = &done.record;
    let mut counters = Counters::default();
    // A chunk that came again finds what it has done itself.
    if done.repeated && record.updated < job.created {
        counters.skipped = 1;
        return One::Counted(counters);
    }
    match (record.state, record.report.as_ref()) {
        (TaskState::Dead, _) => counters.failed = 1,
        (TaskState::Gone | TaskState::Superseded, _) => counters.gone = 1,
        (_, Some(report)) => {
            counters.bytes = report.size.unwrap_or_default();
            match report.verdict {
                Verdict::Clean => counters.clean = 1,
                Verdict::Infected { .. } => counters.infected = 1,
                Verdict::Unscannable { .. } => counters.unscannable = 1,
            }
        }
        (_, None) => counters.failed = 1,
    }
    One::Counted(counters)
}
