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

use crate::model::{BucketUrl, ObjectRef, Timestamp};
use crate::objects::Buckets;
use crate::pipeline::Pipeline;
use crate::queue::{Lane, NewMessage, Queue};
use crate::store::{Counters, Job, JobId, JobSource, JobState, JobStore, NewJob, Rescan, ShardRange};
use crate::{Error, ErrorKind, Result};

pub(crate) use message::JobMessage;
pub use outcome::Outcome;
pub(crate) use outcome::short;

/// A shard that nobody has moved on for this long is rung for again: its message may have been lost with a queue.
const SILENT: Duration = Duration::from_secs(600);

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
            (0..).zip(&job.shards).map(|(shard, _)| shard_message(&job.id, &job.source, shard, 0)).collect();
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
            JobMessage::Shard { job, shard } => self.shard(&job, shard).await,
            JobMessage::Chunk { job, shard, chunk, bucket, objects } => {
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

/// Counts the objects of a chunk that is given up as failed.
pub(crate) async fn count_lost(store: &dyn JobStore, message: &JobMessage) {
    let JobMessage::Chunk { job, shard, chunk, objects, .. } = message else { return };
    let counters = Counters { failed: objects.len() as u64, ..Counters::default() };
    if let Err(why) = store.count(job, *shard, *chunk, &counters).await {
        tracing::warn!(%job, error = %why, "a chunk that is dead could not be counted");
    }
}

/// Rings for shards that nobody has moved on for long. One ring too many is harmless: the cursor decides.
pub(crate) async fn ring(store: &dyn JobStore, queue: &dyn Queue) -> Result<()> {
    for job in store.jobs(None, 100).await?.into_iter().filter(|job| job.state == JobState::Running) {
        let Some(job) = store.job(&job.id).await? else { continue };
        let now = Timestamp::now();
        let silent = job.shards.iter().filter(|shard| !shard.ended && now.since(shard.updated) >= SILENT);
        let messages: Vec<_> =
            silent.map(|shard| shard_message(&job.id, &job.source, shard.number, shard.chunks)).collect();
        enqueue(queue, &messages).await?;
    }
    Ok(())
}

/// A message that a shard is to be listed. Those with the same number of chunks are one.
fn shard_message(job: &JobId, source: &JobSource, shard: u32, chunks: u64) -> NewMessage {
    let body = JobMessage::Shard { job: job.clone(), shard }.to_json();
    NewMessage::new(body)
        .tenant(source.bucket().as_str())
        .lane(Lane::Bulk)
        .dedupe(format!("{job}/{shard}/list/{chunks}"))
}

async fn enqueue(queue: &dyn Queue, messages: &[NewMessage]) -> Result<()> {
    for answer in queue.enqueue(messages).await? {
        answer?;
    }
    Ok(())
}
