//! Listing a bucket: by a bulk job, which leaves chunks in a queue and cursors in a store, and by nothing but the calls
//! of the bucket.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use scan_pipeline::content::Content;
use scan_pipeline::engine::Closure;
use scan_pipeline::job::{JobOptions, Jobs};
use scan_pipeline::model::Verdict;
use scan_pipeline::objects::{Buckets, KeyRange, LocalBucket, ObjectOps, PutOptions, S3Bucket, S3Keys};
use scan_pipeline::queue::{
    DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle, SqliteQueue,
};
use scan_pipeline::store::SqliteStore;
use scan_pipeline::worker::{Outcome, Worker, WorkerOptions};
use scan_pipeline::{Error, Pipeline};
use scan_pipeline_tests::servers::Running;

use crate::Result;

/// Shards that are listed at a time, as by one worker with its default options.
const AT_A_TIME: usize = 4;
const BUCKET: &str = "bench";
/// What a message about a shard begins with.
const SHARD: &[u8] = b"{\"scan_pipeline\":\"shard/1\"";

/// A key: a thousand of them share a beginning, as files share a folder.
fn key(number: usize) -> String {
    format!("{:03}/{number:06}.txt", number / 1000)
}

/// A folder with so many small files, as a bucket.
///
/// # Errors
///
/// When they cannot be written.
pub async fn on_disk(dir: &Path, objects: usize) -> Result<Arc<dyn ObjectOps>> {
    for number in 0..objects {
        let path = dir.join(key(number));
        if number.is_multiple_of(1000) {
            std::fs::create_dir_all(path.parent().ok_or("a key has a folder")?)?;
        }
        std::fs::write(path, "small")?;
    }
    Ok(Arc::new(LocalBucket::open(dir).await?))
}

/// A bucket with so many small objects on a server.
///
/// # Errors
///
/// When they cannot be put.
pub async fn on_server(server: &Running, objects: usize) -> Result<Arc<dyn ObjectOps>> {
    // A bucket is a directory to it.
    std::fs::create_dir(server.dir().join("data").join(BUCKET))?;
    let builder = S3Bucket::builder(BUCKET).endpoint(server.endpoint()).region(server.region()).keys(S3Keys::Paths);
    let bucket = builder.credentials(server.access_key(), server.secret_key(), None).build().await?;
    let put = |number| {
        let bucket = &bucket;
        async move {
            let (content, options) = (Content::from_bytes("small"), PutOptions::default());
            bucket.put(&key(number), &content, &options).await.map(drop)
        }
    };
    stream::iter(0..objects).map(put).buffer_unordered(16).try_collect::<()>().await?;
    Ok(Arc::new(bucket))
}

/// Lists all of it, page by page.
///
/// # Errors
///
/// The bucket's own, and when an object is missing.
pub async fn bare(bucket: &dyn ObjectOps, objects: usize) -> Result<()> {
    let (mut range, mut count) = (KeyRange::default(), 0);
    loop {
        let page = bucket.list(&range).await?;
        for entry in page.entries {
            entry?;
            count += 1;
        }
        match page.next {
            Some(next) => range.after = Some(next),
            None => return complete(count, objects),
        }
    }
}

fn complete(count: usize, objects: usize) -> Result<()> {
    if count == objects { Ok(()) } else { Err(format!("{count} of {objects} objects").into()) }
}

/// Begins a job over all of it and lists its shards to their end, with queue and store in new files of a folder. What
/// it hands out stays in the queue.
///
/// # Errors
///
/// What fails of it, and when an object is missing.
pub async fn job(bucket: &Arc<dyn ObjectOps>, dir: &Path, objects: usize) -> Result<()> {
    let store = SqliteStore::open(dir.join("state.db")).await?;
    let inner = SqliteQueue::open(dir.join("queue.db")).await?;
    let queue = Arc::new(Tap { inner: inner.clone(), rung: Mutex::default() });
    let pipeline = Pipeline::builder()
        .engine(Closure::new("none", |_: &[u8], _: &str| Ok::<_, Error>(Verdict::Clean)))
        .bucket(BUCKET, Arc::clone(bucket))
        .store(store.clone())
        .build()?;
    let mut buckets = Buckets::new();
    buckets.insert(BUCKET, Arc::clone(bucket));
    let (tap, kept) = (Arc::clone(&queue) as Arc<dyn Queue>, Arc::new(store.clone()));
    let worker = Worker::with_jobs(pipeline, Arc::clone(&tap), Arc::clone(&kept) as _, WorkerOptions::default())?;
    let jobs = Jobs::new(buckets, tap, kept);
    let id = jobs.scan_prefix(BUCKET, &JobOptions::default()).await?;
    loop {
        let shards = std::mem::take(&mut queue.rung().shards);
        if shards.is_empty() {
            break;
        }
        let mut ends = stream::iter(&shards).map(|body| worker.handle(body)).buffer_unordered(AT_A_TIME);
        while let Some(outcome) = ends.next().await {
            if outcome != Outcome::Done {
                return Err(format!("a shard was not listed: {outcome:?}").into());
            }
        }
    }
    let job = jobs.get(&id).await?;
    let (waiting, rung) = (inner.depth().await?.ready, queue.rung().messages);
    if !job.is_listed() || waiting != rung {
        return Err(format!("{waiting} of {rung} messages are in the queue").into());
    }
    inner.close().await?;
    store.close().await?;
    complete(usize::try_from(job.listed())?, objects)
}

/// What a job has enqueued so far.
#[derive(Debug, Default)]
struct Rung {
    /// Messages about shards that nobody has listed yet.
    shards: Vec<Vec<u8>>,
    /// All messages.
    messages: u64,
}

/// A queue that tells of the shards that are put into it, so that they alone are worked on.
#[derive(Debug)]
struct Tap {
    inner: SqliteQueue,
    rung: Mutex<Rung>,
}

impl Tap {
    fn rung(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Queue for Tap {
    fn caps(&self) -> QueueCaps {
        self.inner.caps()
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> scan_pipeline::Result<Vec<scan_pipeline::Result<MessageId>>> {
        let answers = self.inner.enqueue(messages).await?;
        let mut rung = self.rung();
        rung.messages += answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        let shards = messages.iter().filter(|message| message.body.starts_with(SHARD));
        rung.shards.extend(shards.map(|message| message.body.to_vec()));
        drop(rung);
        Ok(answers)
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> scan_pipeline::Result<Vec<Delivery>> {
        self.inner.lease(most, ttl, wait).await
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> scan_pipeline::Result<Vec<Held>> {
        self.inner.extend(leases).await
    }

    async fn settle(&self, messages: &[(Receipt, Settle)]) -> scan_pipeline::Result<Vec<Held>> {
        self.inner.settle(messages).await
    }

    async fn depth(&self) -> scan_pipeline::Result<Depth> {
        self.inner.depth().await
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.inner.dead_letters()
    }
}
