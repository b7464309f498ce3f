//! Listing a shard: pages become chunks, and the cursor is stored behind each.

use super::message::{ChunkObject, LARGEST};
use super::{Around, JobMessage, Outcome, enqueue, find, shard_message};
use crate::model::{BucketUrl, ObjectRef};
use crate::objects::{KeyRange, Page};
use crate::queue::{Lane, NewMessage};
use crate::store::{Advance, Job, JobId, JobSource, JobState, Shard};
use crate::{Error, ErrorKind, Result};

/// Pages of one turn. Then the shard takes its place in the queue again, behind others who wait.
const PAGES: usize = 50;

/// What a part of a listing gave.
pub(super) struct Listed {
    pub(super) objects: Vec<ObjectRef>,
    pub(super) bad: u64,
    /// Where the next part begins; `None` at the end.
    pub(super) next: Option<String>,
}

impl Around<'_> {
    /// Lists a shard on, for one turn.
    pub(super) async fn shard(&self, id: &JobId, number: u32) -> Result<Outcome> {
        let job = find(self.jobs, id).await?;
        let Some(shard) = job.shards.iter().find(|shard| shard.number == number) else {
            return Ok(Outcome::dead(format!("job {id} has no shard {number}")));
        };
        if job.state != JobState::Running || shard.ended {
            return Ok(Outcome::Done);
        }
        let listed = match &job.source {
            JobSource::Prefix { bucket, prefix } => self.list(&job, shard.clone(), bucket, prefix).await,
            JobSource::Inventory { .. } => self.read_inventory(&job, shard.clone()).await,
        };
        match listed {
            Err(why) if !why.is_retryable() => {
                // No worker will get further.
                self.jobs.end_job(id, JobState::Failed, Some(&why.to_string())).await?;
                Ok(Outcome::dead(why))
            }
            other => other,
        }
    }

    async fn list(&self, job: &Job, mut shard: Shard, bucket: &BucketUrl, prefix: &str) -> Result<Outcome> {
        let bucket = self.pipeline.buckets().get(bucket.as_str())?;
        let mut range = KeyRange {
            prefix: prefix.to_owned(),
            after: shard.cursor.clone().or_else(|| shard.range.after.clone()),
            before: shard.range.before.clone(),
            // As many as the bucket gives at once: a page costs a request, or the reading of a directory from its
            // start, however few of its keys are wanted.
            most: 0,
        };
        for _ in 0..PAGES {
            let page = bucket.list(&range).await?;
            let listed = listed(page);
            range.after.clone_from(&listed.next);
            if !self.hand_out(job, &mut shard, listed).await? {
                return Ok(Outcome::Done);
            }
        }
        enqueue(self.queue, &[shard_message(&job.id, &job.source, shard.number, shard.chunks)]).await?;
        Ok(Outcome::Done)
    }

    /// Enqueues chunks, then moves the cursor. Whether there is more to list, and we are the ones to do it.
    ///
    /// A crash in between enqueues the same chunks again, with the same numbers: where the queue cannot tell, they are
    /// worked on twice, which finds everything done, and counted once.
    pub(super) async fn hand_out(&self, job: &Job, shard: &mut Shard, listed: Listed) -> Result<bool> {
        let (count, ended) = (listed.objects.len() as u64, listed.next.is_none());
        let messages = chunks(job, shard, listed.objects);
        enqueue(self.queue, &messages).await?;
        let step = Advance {
            from: shard.chunks,
            chunks: shard.chunks + messages.len() as u64,
            cursor: listed.next.clone().or_else(|| shard.cursor.clone()),
            listed: count,
            bad: listed.bad,
            ended,
        };
        let state = self.jobs.advance(&job.id, shard.number, &step).await?;
        shard.chunks = step.chunks;
        shard.cursor = step.cursor;
        Ok(state == Some(JobState::Running) && !ended)
    }
}

fn listed(page: Page) -> Listed {
    let (mut objects, mut bad) = (Vec::with_capacity(page.entries.len()), 0);
    for entry in page.entries {
        match entry {
            Ok(object) => objects.push(object),
            Err(why) => {
                bad += 1;
                tracing::warn!(error = %why, "an entry of a listing cannot be used");
            }
        }
    }
    Listed { objects, bad, next: page.next }
}

/// Chunks of at most as many keys as the job wants, and as many bytes as a message may have.
fn chunks(job: &Job, shard: &Shard, objects: Vec<ObjectRef>) -> Vec<NewMessage> {
    let mut groups: Vec<Vec<ChunkObject>> = Vec::new();
    let mut room = 0;
    for object in objects.into_iter().map(ChunkObject::new) {
        let bytes = object.bytes();
        match groups.last_mut() {
            Some(group) if group.len() < job.chunk as usize && bytes <= room => {
                room -= bytes;
                group.push(object);
            }
            _ => {
                room = LARGEST.saturating_sub(bytes);
                groups.push(vec![object]);
            }
        }
    }
    let bucket = job.source.bucket();
    (shard.chunks..)
        .zip(groups)
        .map(|(chunk, objects)| {
            let (job, shard) = (job.id.clone(), shard.number);
            let dedupe = format!("{job}/{shard}/{chunk}");
            let body = JobMessage::Chunk { job, shard, chunk, bucket: bucket.clone(), objects }.to_json();
            NewMessage::new(body).tenant(bucket.as_str()).lane(Lane::Bulk).dedupe(dedupe)
        })
        .collect()
}

/// A cursor that is no number, in an inventory.
pub(super) fn damaged(job: &Job) -> Error {
    Error::new(ErrorKind::Corrupt, "has a cursor that cannot be read: begin another job")
        .about(format!("job {}", job.id))
}
