//! Workers: from a message in a queue to everything that has to follow, on as many machines as share the queue and the
//! store.
//!
//! A message rings; the [`store`](crate::store) knows. So a message is done as soon as its task is on record with
//! somebody who works on it or a time to try again, and [`Pipeline::resume`](crate::Pipeline::resume), which every worker calls from time to time,
//! takes up what nobody has.
//!
//! | What became of the objects of a message | What becomes of the message |
//! |---|---|
//! | handled, or handled before | done |
//! | not there any more | done; where the message named a state, that is on record |
//! | somebody else works on it, or it waits for its next attempt | done: the store has the task |
//! | bucket, store or engine failed in a way that may pass | comes again, later each time |
//! | it cannot be decoded, is about a bucket that nobody set up, or access is denied | dead, with the reason |
//! | delivered too often without an end | dead, without being looked at |
//!
//! An outage is no fault of the message: while the other side does not answer, a message that has come often is enqueued
//! anew instead of coming again, so that it does not die of it.

mod inflight;
pub mod lambda;
mod message;
mod run;
mod settler;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::health::{Guarded, GuardedQueue, Health};
use crate::pipeline::Pipeline;
use crate::queue::Queue;
use crate::store::JobStore;
use crate::workflow::RetryPolicy;
use crate::{Error, ErrorKind, Result};

pub use crate::job::Outcome;
pub use run::Stopped;

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Most messages in hand at a time, without those of bulk jobs. Default: as many as the pipeline has tasks at work.
    pub messages: usize,
    /// Most bytes of objects at work at a time, as far as their messages say how large they are. One that is larger is
    /// worked on alone. Default 4 GiB.
    pub bytes: u64,
    /// How long a message stays with a worker that does not answer any more. Default 1 minute.
    pub lease: Duration,
    /// How long one call waits for messages. Default 20 seconds, the longest of SQS.
    pub wait: Duration,
    /// How often a message is delivered before it is dead, and how long it waits in between. Default 10 times, from a
    /// second to 15 minutes. Keep a limit of the broker's own two or three above it.
    pub retry: RetryPolicy,
    /// How long the work that has begun may go on after the worker was told to stop. Default 30 seconds.
    pub drain: Duration,
    /// How often tasks are looked for whose time has come, or that a process has left. Default 10 seconds.
    pub resume: Duration,
    /// Most messages of bulk jobs in hand at a time; their objects take three quarters of the pipeline at most.
    /// Default 4.
    pub bulk: usize,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        let (initial, cap) = (Duration::from_secs(1), Duration::from_secs(900));
        Self {
            messages: 0,
            bytes: 4 << 30,
            lease: Duration::from_secs(60),
            wait: Duration::from_secs(20),
            retry: RetryPolicy { max_attempts: 10, initial, factor: 2.0, cap },
            drain: Duration::from_secs(30),
            resume: Duration::from_secs(10),
            bulk: 4,
        }
    }
}

/// Takes messages from a queue and gives them to a pipeline. Clones are handles to the same worker.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use scan_pipeline::engine::Closure;
/// use scan_pipeline::model::Verdict;
/// use scan_pipeline::objects::MemoryBucket;
/// use scan_pipeline::queue::{NewMessage, Queue, SqliteQueue};
/// use scan_pipeline::store::SqliteStore;
/// use scan_pipeline::worker::{Worker, WorkerOptions};
/// use scan_pipeline::Pipeline;
/// use tokio_util::sync::CancellationToken;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let pipeline = Pipeline::builder()
///     .engine(Closure::new("none", |_, _| Ok(Verdict::Clean))) // in real life: ClamAv::builder().build().await?
///     .bucket("uploads", Arc::new(MemoryBucket::new("uploads")?))
///     .store(SqliteStore::in_memory().await?)
///     .build()?;
/// let queue = Arc::new(SqliteQueue::in_memory().await?);
/// queue.enqueue(&[NewMessage::new(r#"{"job_id": "1", "bucket": "memory://uploads", "key": "not there"}"#)]).await?;
///
/// let worker = Worker::new(pipeline, queue.clone(), WorkerOptions::default())?;
/// let stop = CancellationToken::new();
/// let running = tokio::spawn({
///     let (worker, stop) = (worker.clone(), stop.clone());
///     async move { worker.run(stop).await }
/// });
/// while queue.depth().await?.ready + queue.depth().await?.leased > 0 {
///     tokio::time::sleep(Duration::from_millis(10)).await;
/// }
/// stop.cancel();
/// assert_eq!(running.await.unwrap().abandoned, 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Worker {
    shared: Arc<Shared>,
}

struct Shared {
    pipeline: Pipeline,
    queue: Arc<dyn Queue>,
    jobs: Option<Arc<dyn JobStore>>,
    options: WorkerOptions,
    /// One for each message in hand.
    messages: Arc<Semaphore>,
    /// In units of [`UNIT`] bytes.
    bytes: Semaphore,
    units: u32,
    bulk: Arc<Semaphore>,
    /// What objects of bulk jobs leave of the pipeline to others.
    share: Semaphore,
    counts: Counts,
}

/// What a call of the queue may take at least, beyond its own waiting.
const LEAST_LIMIT: Duration = Duration::from_secs(5);
/// What the bytes in hand are counted in.
const UNIT: u64 = 64 << 10;

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
}

/// What a worker has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerCounts {
    /// Messages that were dealt with.
    pub done: u64,
    /// Messages that come again.
    pub retried: u64,
    /// Messages that failed for good.
    pub dead: u64,
}

impl Worker {
    /// A worker for this pipeline and this queue.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when a limit cannot be.
    pub fn new(pipeline: Pipeline, queue: Arc<dyn Queue>, options: WorkerOptions) -> Result<Self> {
        Self::build(pipeline, queue, None, options)
    }

    /// A worker that takes part in bulk jobs as well, which this store keeps.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_jobs(
        pipeline: Pipeline,
        queue: Arc<dyn Queue>,
        jobs: Arc<dyn JobStore>,
        options: WorkerOptions,
    ) -> Result<Self> {
        Self::build(pipeline, queue, Some(jobs), options)
    }

    fn build(
        pipeline: Pipeline,
        queue: Arc<dyn Queue>,
        jobs: Option<Arc<dyn JobStore>>,
        mut options: WorkerOptions,
    ) -> Result<Self> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Config, format!("a worker needs {what}")));
        if options.messages == 0 {
            options.messages = pipeline.concurrency();
        }
        if options.messages > Semaphore::MAX_PERMITS || options.bulk == 0 {
            return wrong("room for at least one message, and at least one of bulk jobs");
        }
        if options.lease < Duration::from_millis(500) {
            return wrong("a lease of at least half a second");
        }
        if options.retry.max_attempts == 0 {
            return wrong("at least one attempt for a message");
        }
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let units = u32::try_from(options.bytes.div_ceil(UNIT)).unwrap_or(most).clamp(1, most);
        let share = (pipeline.concurrency() * 3 / 4).max(1);
        let limit = (options.lease / 4).max(LEAST_LIMIT);
        let queue = Arc::new(GuardedQueue::new(queue, pipeline.health().breaker("queue"), limit));
        let (messages, bulk) = (Arc::new(Semaphore::new(options.messages)), Arc::new(Semaphore::new(options.bulk)));
        let (bytes, share) = (Semaphore::new(units as usize), Semaphore::new(share));
        let counts = Counts::default();
        let store = pipeline.health().breaker("store");
        let jobs = jobs.map(|jobs| Arc::new(Guarded::new(jobs, store)) as Arc<dyn JobStore>);
        let shared = Shared { pipeline, queue, jobs, options, messages, bytes, units, bulk, share, counts };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.shared.pipeline
    }

    /// What it depends on, and whether that answers: a worker is ready when all of it does.
    pub fn health(&self) -> &Health {
        self.shared.pipeline.health()
    }

    /// What it has done so far.
    pub fn counts(&self) -> WorkerCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.shared.counts;
        WorkerCounts { done: read(&counts.done), retried: read(&counts.retried), dead: read(&counts.dead) }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("pipeline", &self.shared.pipeline)
            .field("queue", &self.shared.queue)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}
