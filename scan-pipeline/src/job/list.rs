//! Listing a shard: pages become chunks, and the cursor is stored before each of them is handed out.
//!
//! A page that is listed again is another one, since objects are moved as soon as their chunk is worked on. So its bounds
//! are on record before any chunk of it is enqueued, and whoever goes on there makes the same chunks of what is left.

use super::message::{ChunkObject, LARGEST};
use super::{Around, JobMessage, Outcome, enqueue, find, shard_message};
use crate::model::{BucketUrl, ObjectRef};
use crate::objects::{KeyRange, ObjectOps, Page};
use crate::queue::{Lane, NewMessage};
use crate::store::{Advance, Job, JobId, JobSource, JobState, OpenPage, Shard};
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
        if let Some(open) = shard.open.take() {
            self.hand_out_again(job, &shard, open, &**bucket, &range).await?;
        }
        for _ in 0..PAGES {
            let page = bucket.list(&range).await?;
            let listed = listed(page);
            let next = listed.next.clone();
            if !self.hand_out(job, &mut shard, range.after.take(), listed).await? {
                return Ok(Outcome::Done);
            }
            range.after = next;
        }
        // The last page is handed out as well: whoever goes on need not do it again.
        let (from, cursor) = (shard.chunks, shard.cursor.clone());
        let closed = Advance { from, chunks: from, cursor, ..Advance::default() };
        if self.jobs.advance(&job.id, shard.number, &closed).await? != Some(JobState::Running) {
            return Ok(Outcome::Done);
        }
        enqueue(self.queue, &[shard_message(&job.id, &job.source, &shard)]).await?;
        Ok(Outcome::Done)
    }

    /// Moves the cursor behind a page that begins behind `after`, then enqueues its chunks. Whether there is more to list,
    /// and we are the ones to do it.
    async fn hand_out(&self, job: &Job, shard: &mut Shard, after: Option<String>, listed: Listed) -> Result<bool> {
        let Listed { objects, bad, next } = listed;
        let count = objects.len() as u64;
        let groups = groups(job.chunk as usize, objects);
        let mut bounds: Vec<_> = groups.iter().filter_map(|group| Some(group.last()?.key.clone())).collect();
        if let (Some(bound), Some(next)) = (bounds.last_mut(), &next) {
            bound.clone_from(next);
        }
        let (from, ended) = (shard.chunks, next.is_none());
        shard.chunks += groups.len() as u64;
        shard.cursor = next.or_else(|| bounds.last().cloned()).or_else(|| shard.cursor.take());
        let open = (!bounds.is_empty()).then_some(OpenPage { after, bounds });
        let step = Advance {
            from,
            chunks: shard.chunks,
            cursor: shard.cursor.clone(),
            listed: count,
            bad,
            ended: ended && open.is_none(),
            open,
        };
        let is_open = step.open.is_some();
        if self.jobs.advance(&job.id, shard.number, &step).await? != Some(JobState::Running) {
            return Ok(false);
        }
        enqueue(self.queue, &messages(job, shard.number, from, groups)).await?;
        if ended && is_open {
            let (from, cursor) = (shard.chunks, shard.cursor.clone());
            let end = Advance { from, chunks: from, cursor, ended, ..Advance::default() };
            self.jobs.advance(&job.id, shard.number, &end).await?;
        }
        Ok(!ended)
    }

    /// Enqueues the chunks of a page that somebody has not come to the end of. Where the queue cannot tell those that it
    /// has already, they are worked on twice, which finds everything done, and counted once.
    async fn hand_out_again(
        &self,
        job: &Job,
        shard: &Shard,
        open: OpenPage,
        bucket: &dyn ObjectOps,
        range: &KeyRange,
    ) -> Result<()> {
        let OpenPage { after, bounds } = open;
        let mut groups: Vec<Vec<ChunkObject>> = vec![Vec::new(); bounds.len()];
        let mut range = KeyRange { after, ..range.clone() };
        'pages: loop {
            let page = bucket.list(&range).await?;
            for object in page.entries.into_iter().flatten() {
                match groups.get_mut(bounds.partition_point(|bound| *bound < object.key)) {
                    Some(group) => group.push(ChunkObject::new(object)),
                    None => break 'pages,
                }
            }
            match page.next {
                Some(next) if bounds.last().is_some_and(|last| next < *last) => range.after = Some(next),
                _ => break,
            }
        }
        groups.iter_mut().for_each(fit);
        let first = shard.chunks.saturating_sub(bounds.len() as u64);
        enqueue(self.queue, &messages(job, shard.number, first, groups)).await
    }

    /// Enqueues chunks, then moves the cursor: for a list that is the same whenever it is read. A crash in between
    /// enqueues the same chunks again, with the same numbers.
    pub(super) async fn hand_out_rows(&self, job: &Job, shard: &mut Shard, listed: Listed) -> Result<bool> {
        let (count, ended) = (listed.objects.len() as u64, listed.next.is_none());
        let messages = messages(job, shard.number, shard.chunks, groups(job.chunk as usize, listed.objects));
        enqueue(self.queue, &messages).await?;
        let step = Advance {
            from: shard.chunks,
            chunks: shard.chunks + messages.len() as u64,
            cursor: listed.next.clone().or_else(|| shard.cursor.clone()),
            listed: count,
            bad: listed.bad,
            ended,
            open: None,
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
fn groups(most: usize, objects: Vec<ObjectRef>) -> Vec<Vec<ChunkObject>> {
    let mut groups: Vec<Vec<ChunkObject>> = Vec::new();
    let mut room = 0;
    for object in objects.into_iter().map(ChunkObject::new) {
        let bytes = object.bytes();
        match groups.last_mut() {
            Some(group) if group.len() < most && bytes <= room => {
                room -= bytes;
                group.push(object);
            }
            _ => {
                room = LARGEST.saturating_sub(bytes);
                groups.push(vec![object]);
            }
        }
    }
    groups
}

/// What was in a chunk fits into it. Where more has come since, the latest is left out: it is no part of the job.
fn fit(group: &mut Vec<ChunkObject>) {
    if group.iter().map(ChunkObject::bytes).sum::<usize>() <= LARGEST {
        return;
    }
    group.sort_by_key(|object| object.modified);
    let mut room = LARGEST;
    let fits = group.iter().take_while(|object| {
        let left = room.checked_sub(object.bytes());
        room = left.unwrap_or_default();
        left.is_some()
    });
    group.truncate(fits.count());
}

fn messages(job: &Job, shard: u32, first: u64, groups: Vec<Vec<ChunkObject>>) -> Vec<NewMessage> {
    let bucket = job.source.bucket();
    let message = |(chunk, objects)| {
        let job = job.id.clone();
        let dedupe = format!("{job}/{shard}/{chunk}");
        let body = JobMessage::Chunk { job, shard, chunk, bucket: bucket.clone(), objects, tries: 0 }.to_json();
        NewMessage::new(body).tenant(bucket.as_str()).lane(Lane::Bulk).dedupe(dedupe)
    };
    (first..).zip(groups).map(message).collect()
}

/// A cursor that is no number, in an inventory.
pub(super) fn damaged(job: &Job) -> Error {
    Error::new(ErrorKind::Corrupt, "has a cursor that cannot be read: begin another job")
        .about(format!("job {}", job.id))
}
