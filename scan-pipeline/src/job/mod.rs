//! Bulk jobs: every object under a prefix, or in an inventory, through the same pipeline as the ones that arrive.
//!
//! A job is cut into shards by ranges of keys. Listing a shard is a message in the queue like any other, so the workers
//! share the listing; it hands out chunks of keys, which are messages as well, and stores its cursor after each page. A
//! worker that dies leaves a message that comes again and a cursor where the listing goes on. Nothing is counted twice,
//! since a chunk's counters replace those of an earlier try.
//!
//! ```no_run
//! # async fn example(buckets: scan_pipeline::objects::Buckets, queue: std::sync::Arc<dyn scan_pipeline::queue::Queue>,
//! #     store: std::sync::Arc<scan_pipeline::store::SqliteStore>) -> Result<(), scan_pipeline::Error> {
//! use scan_pipeline::job::{JobOptions, Jobs};
//!
//! let jobs = Jobs::new(buckets, queue, store);
//! let id = jobs.scan_prefix("s3://uploads/2026/", &JobOptions::default()).await?;
//! let job = jobs.get(&id).await?;
//! println!("{}: {} of {} objects", job.state, job.totals.objects(), job.listed());
//! # Ok(()) }
//! ```

mod bounds;
mod chunk;
mod inventory;
mod list;
mod message;
mod outcome;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::model::{BucketUrl, ContentDigest, ObjectRef, Timestamp};
use crate::objects::Buckets;
use crate::pipeline::Pipeline;
use crate::queue::{Lane, NewMessage, Queue};
use crate::store::{Counters, Job, JobId, JobSource, JobState, JobStore, NewJob, Rescan, Shard, ShardRange};
use crate::{Error, ErrorKind, Result};

pub(crate) use message::JobMessage;
pub use outcome::Outcome;
pub(crate) use outcome::short;

/// A shard that nobody has moved on for this long is rung for again: its message may have been lost with a queue.
const SILENT: Duration = Duration::from_secs(600);
/// Jobs of one look for such shards.
const JOBS: usize = 100;

/// How a job is cut up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOptions {
    /// About how many shards are listed side by side, 1 to 1,000. Default 32.
    pub shards: usize,
    /// Most keys of a chunk, 1 to 1,000. Default 500.
    pub chunk: u32,
    /// What happens to objects that were handled before.
    pub rescan: Rescan,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self { shards: 32, chunk: 500, rescan: Rescan::default() }
    }
}

impl JobOptions {
    fn check(&self) -> Result<()> {
        if (1..=1000).contains(&self.shards) && (1..=1000).contains(&self.chunk) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, "a job has 1 to 1,000 shards, and chunks of 1 to 1,000 keys"))
    }
}

/// Begins jobs and looks after them. The work is done by [workers](crate::worker::Worker::with_jobs) on the same queue and store.
#[derive(Clone)]
pub struct Jobs {
    buckets: Buckets,
    queue: Arc<dyn Queue>,
    store: Arc<dyn JobStore>,
}

impl Jobs {
    /// Jobs about objects of these buckets.
    pub fn new(buckets: Buckets, queue: Arc<dyn Queue>, store: Arc<dyn JobStore>) -> Self {
        Self { buckets, queue, store }
    }

    /// Begins to scan everything under an address such as `s3://uploads/2026/`, or under a bucket's short name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when the address is in none of the buckets; the bucket, the queue or the store failed.
    pub async fn scan_prefix(&self, url: &str, options: &JobOptions) -> Result<JobId> {
        options.check()?;
        let (bucket, prefix) = self.buckets.within(url)?;
        let shards = bounds::shards(&**bucket, &prefix, options.shards, options.chunk).await?;
        let source = JobSource::Prefix { bucket: bucket.url().clone(), prefix };
        self.begin(source, shards, options).await
    }

    /// Begins to scan everything in an S3 Inventory of a bucket, whose manifest is this object.
    ///
    /// # Errors
    ///
    /// As [`scan_prefix`](Self::scan_prefix), and [`ErrorKind::InvalidInput`] for a manifest that cannot be used or is
    /// of another bucket. A file that is missing or not the one that it means fails the job when a worker reads it.
    pub async fn scan_inventory(
        &self,
        manifest: &ObjectRef,
        bucket: &BucketUrl,
        options: &JobOptions,
    ) -> Result<JobId> {
        options.check()?;
        self.buckets.get(bucket.as_str())?;
        // Pinned: the shards are the files of this manifest and no other, by their place in it.
        let (manifest, files) = inventory::files(&self.buckets, manifest, bucket).await?;
        let source = JobSource::Inventory { bucket: bucket.clone(), manifest };
        self.begin(source, vec![ShardRange::default(); files], options).await
    }

    /// The object at an address in one of the buckets, such as that of a manifest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when it is in none of them.
    pub fn manifest(&self, url: &str) -> Result<ObjectRef> {
        let (bucket, key) = self.buckets.within(url)?;
        Ok(ObjectRef::new(bucket.url().clone(), key))
    }

    async fn begin(&self, source: JobSource, shards: Vec<ShardRange>, options: &JobOptions) -> Result<JobId> {
        let job = NewJob { id: JobId::new(), source, rescan: options.rescan, chunk: options.chunk, shards };
        self.store.create_job(&job).await?;
        if job.shards.is_empty() {
            // Nobody will ever come to the end of it.
            self.store.end_job(&job.id, JobState::Done, None).await?;
        }
        let messages: Vec<_> =
            (0..).zip(&job.shards).map(|(shard, _)| list_message(&job.id, &job.source, shard, 0, None)).collect();
        enqueue(&*self.queue, &messages).await?;
        Ok(job.id)
    }

    /// A job as it stands.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when there is no such job; the store failed.
    pub async fn get(&self, id: &JobId) -> Result<Job> {
        find(&*self.store, id).await
    }

    /// Jobs, the newest first.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn list(&self, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
        self.store.jobs(before, most).await
    }

    /// Stops a job: nothing more of it is listed, and chunks that nobody has begun are left alone. What has begun comes to
    /// its end.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn cancel(&self, id: &JobId) -> Result<JobState> {
        self.get(id).await?;
        self.store.end_job(id, JobState::Cancelled, Some("somebody cancelled it")).await
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("queue", &self.queue).field("store", &self.store).finish_non_exhaustive()
    }
}

/// What the parts of a job have around them.
pub(crate) struct Around<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) jobs: &'a dyn JobStore,
    pub(crate) queue: &'a dyn Queue,
    /// How many objects of jobs are at work at a time.
    pub(crate) share: &'a Semaphore,
}

impl Around<'_> {
    /// Does one part of a job.
    pub(crate) async fn handle(&self, message: JobMessage) -> Outcome {
        let done = match message {
            JobMessage::Shard { job, shard, .. } => self.shard(&job, shard).await,
            JobMessage::Chunk { job, shard, chunk, bucket, objects, .. } => {
                self.chunk(&job, (shard, chunk), &bucket, objects).await
            }
        };
        done.unwrap_or_else(|why| Outcome::of(&why))
    }
}

async fn find(store: &dyn JobStore, id: &JobId) -> Result<Job> {
    found(store.job(id).await?, id)
}

fn found(job: Option<Job>, id: &JobId) -> Result<Job> {
    let missing =
        || Error::new(ErrorKind::InvalidInput, "there is no such job in this store").about(format!("job {id}"));
    job.ok_or_else(missing)
}

/// Notes that a message is given up: the objects of a chunk are counted as failed, and a job that cannot be listed on has
/// failed, so that either way it comes to an end.
pub(crate) async fn lost(store: &dyn JobStore, message: &JobMessage, why: &str) {
    let (job, noted) = match message {
        JobMessage::Chunk { job, shard, chunk, objects, .. } => {
            let counters = Counters { failed: objects.len() as u64, ..Counters::default() };
            (job, store.count(job, *shard, *chunk, &counters).await)
        }
        JobMessage::Shard { job, shard, .. } => {
            let why = format!("shard {shard} cannot be listed: {why}");
            (job, store.end_job(job, JobState::Failed, Some(&why)).await)
        }
    };
    if let Err(why) = noted {
        tracing::warn!(%job, error = %why, "a part of a job is dead, which could not be noted");
    }
}

/// Rings for shards that nobody has moved on for long. One ring too many is harmless: the cursor decides.
pub(crate) async fn ring(store: &dyn JobStore, queue: &dyn Queue) -> Result<()> {
    let mut before = None;
    loop {
        let page = store.jobs(before.as_ref(), JOBS).await?;
        let Some(last) = page.last() else { return Ok(()) };
        before = Some(last.id.clone());
        for job in page.into_iter().filter(|job| job.state == JobState::Running) {
            let Some(job) = store.job(&job.id).await? else { continue };
            let now = Timestamp::now();
            let silent = job.shards.iter().filter(|shard| !shard.ended && now.since(shard.updated) >= SILENT);
            let messages: Vec<_> = silent.map(|shard| shard_message(&job.id, &job.source, shard)).collect();
            enqueue(queue, &messages).await?;
        }
    }
}

/// A message that a shard is to be listed on.
fn shard_message(job: &JobId, source: &JobSource, shard: &Shard) -> NewMessage {
    list_message(job, source, shard.number, shard.chunks, shard.cursor.as_deref())
}

/// Those from the same place are one. A cursor moves on without chunks where no entry could be used.
fn list_message(job: &JobId, source: &JobSource, shard: u32, chunks: u64, cursor: Option<&str>) -> NewMessage {
    let body = JobMessage::Shard { job: job.clone(), shard, tries: 0 }.to_json();
    let place = cursor.map(|cursor| ContentDigest::of(cursor.as_bytes()).to_string()).unwrap_or_default();
    let place: String = place.chars().take(16).collect();
    NewMessage::new(body)
        .tenant(source.bucket().as_str())
        .lane(Lane::Bulk)
        .dedupe(format!("{job}/{shard}/list/{chunks}/{place}"))
}

async fn enqueue(queue: &dyn Queue, messages: &[NewMessage]) -> Result<()> {
    for answer in queue.enqueue(messages).await? {
        answer?;
    }
    Ok(())
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::queue::SqliteQueue;
    use crate::sql::fixture::{execute, raw};
    use crate::store::SqliteStore;

    #[test]
    fn a_shard_that_moved_on_without_chunks_is_rung_for_by_another_name() {
        let (job, bucket) = (JobId::new(), "memory://a".parse().expect("an address"));
        let source = JobSource::Prefix { bucket, prefix: String::new() };
        let key = |chunks, cursor| list_message(&job, &source, 0, chunks, cursor).dedupe;
        assert_eq!(key(3, Some("a")), key(3, Some("a")));
        assert_ne!(key(3, Some("a")), key(3, Some("b")));
        assert_ne!(key(3, Some("a")), key(4, Some("a")));
        assert_ne!(key(0, None), key(0, Some("")));
    }

    #[tokio::test]
    async fn a_job_behind_many_newer_ones_is_not_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.db");
        let store = SqliteStore::open(&path).await.expect("a store");
        let bucket: BucketUrl = "memory://a".parse().expect("an address");
        for number in 0..250_u32 {
            let source = JobSource::Prefix { bucket: bucket.clone(), prefix: String::new() };
            let id: JobId = format!("{number:028x}").parse().expect("an id");
            let (rescan, shards) = (Rescan::Never, vec![ShardRange::default()]);
            store.create_job(&NewJob { id: id.clone(), source, rescan, chunk: 10, shards }).await.expect("begun");
            if number > 0 {
                store.end_job(&id, JobState::Cancelled, None).await.expect("ended");
            }
        }
        let queue = SqliteQueue::in_memory().await.expect("a queue");
        ring(&store, &queue).await.expect("looked at");
        assert_eq!(queue.depth().await.expect("a depth").ready, 0, "it was moved on a moment ago");
        execute(&mut raw(&path).await, "UPDATE job_shards SET updated = 1").await;
        for _ in 0..2 {
            ring(&store, &queue).await.expect("looked at");
            assert_eq!(queue.depth().await.expect("a depth").ready, 1);
        }
    }
}
