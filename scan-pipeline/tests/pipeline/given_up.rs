//! What is given up: parts of jobs that come too often, and work when a worker is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scan_pipeline::engine::{Engine, ScanContext};
use scan_pipeline::job::{JobOptions, Jobs};
use scan_pipeline::model::{EngineInfo, Report};
use scan_pipeline::objects::{Buckets, ObjectOps};
use scan_pipeline::queue::{
    DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle, SqliteQueue,
    TestClock,
};
use scan_pipeline::store::JobState;
use scan_pipeline::testkit::{Interleaved, Moment, Op};
use scan_pipeline::worker::{Worker, WorkerOptions};
use scan_pipeline::workflow::RetryPolicy;
use scan_pipeline::{Pipeline, Result};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::common::{Rig, engine, get, put, quick};
use crate::jobs::{Set, fill, small};
use crate::worker::{PATIENCE, message, options, queue, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_listing_kills_its_workers_has_failed() {
    let set = Set::new().await;
    fill(&set, 5).await;
    let options = JobOptions { shards: 1, ..small() };
    let id = set.jobs().scan_prefix("quarantine", &options).await.expect("it begins");
    let once = WorkerOptions { retry: RetryPolicy { max_attempts: 1, ..quick() }, ..crate::worker::options() };
    let queue = Arc::clone(&set.queue) as Arc<dyn Queue>;
    let worker = Worker::with_jobs(set.pipeline("1"), queue, Arc::new(set.store.clone()), once).expect("a worker");
    for _ in 0..100 {
        let leased = set.queue.lease(1, Duration::from_millis(1), Duration::from_secs(60)).await.expect("leased");
        assert_eq!(leased.len(), 1);
    }
    let job = set.finish(&worker, &id).await;
    assert_eq!((job.state, set.dead().await), (JobState::Failed, 1));
    let why = job.error.expect("it says why");
    assert!(why.contains("shard 0") && why.contains("delivered 100 times"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_came_too_often_to_a_function_is_counted_before_the_queue_moves_it_away() {
    let set = Set::new().await;
    fill(&set, 5).await;
    let id = set.jobs().scan_prefix("quarantine", &JobOptions { shards: 1, ..small() }).await.expect("it begins");
    let worker = set.worker(set.pipeline("1"), Arc::new(set.store.clone()));
    let shard = set.queue.lease(1, Duration::from_secs(60), Duration::ZERO).await.expect("leased").remove(0);
    assert_eq!(worker.handle(&shard.body).await, scan_pipeline::worker::Outcome::Done);
    let chunk = set.queue.lease(1, Duration::from_secs(60), Duration::ZERO).await.expect("leased").remove(0);
    let come = async |count: u32| {
        let batch = serde_json::json!({ "Records": [{ "messageId": "1", "eventSource": "aws:sqs",
            "body": String::from_utf8_lossy(&chunk.body), "attributes": { "ApproximateReceiveCount": count.to_string() } }] });
        let handled =
            scan_pipeline::worker::lambda::handle(&worker, batch.to_string().as_bytes(), Duration::from_secs(60)).await;
        handled.expect("a batch").ids().count()
    };
    // It has six attempts.
    assert_eq!(come(7).await, 1, "it stays, for the queue to move it");
    let job = set.jobs().get(&id).await.expect("known");
    assert_eq!((job.state, job.totals.failed, set.rig.scans.get()), (JobState::Done, 5, 0));
}

/// As SQS does it: what was received too often is among the dead letters, and nobody is told.
#[derive(Debug)]
struct Broker {
    queue: Arc<SqliteQueue>,
    most: u32,
    deliveries: AtomicU64,
}

#[async_trait]
impl Queue for Broker {
    fn caps(&self) -> QueueCaps {
        self.queue.caps()
    }
    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        self.queue.enqueue(messages).await
    }
    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        let mut good = Vec::new();
        for delivery in self.queue.lease(most, ttl, wait).await? {
            self.deliveries.fetch_add(1, Ordering::SeqCst);
            if delivery.attempt > self.most {
                let dead = Settle::Dead { reason: String::from("the broker moved it") };
                self.queue.settle(&[(delivery.receipt, dead)]).await?;
            } else {
                good.push(delivery);
            }
        }
        Ok(good)
    }
    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        self.queue.extend(leases).await
    }
    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        self.queue.settle(messages).await
    }
    async fn depth(&self) -> Result<Depth> {
        self.queue.depth().await
    }
    fn dead_letters(&self) -> &dyn DeadLetters {
        self.queue.dead_letters()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_waits_for_room_is_not_taken_for_poison_by_the_broker() {
    let set = Set::new().await;
    for number in 0..3 {
        put(&*set.rig.quarantine, &format!("{number}"), "fine").await;
    }
    let clock = TestClock::default();
    let queue = Arc::new(SqliteQueue::memory().clock(clock.clone()).open().await.expect("a queue"));
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let gated = Interleaved::new(Arc::clone(&set.rig.quarantine) as Arc<dyn ObjectOps>, move |moment, _, op| {
        let (gate, waits) = (Arc::clone(&opened), (moment, op) == (Moment::Before, Op::Read));
        async move {
            if waits {
                gate.acquire().await.expect("it is not closed").forget();
            }
            Ok(())
        }
    });
    let mut buckets = Buckets::new();
    buckets.insert("quarantine", Arc::clone(&set.rig.quarantine) as Arc<dyn ObjectOps>);
    let jobs = Jobs::new(buckets, Arc::clone(&queue) as Arc<dyn Queue>, Arc::new(set.store.clone()));
    let options = JobOptions { shards: 1, chunk: 1, ..JobOptions::default() };
    let id = jobs.scan_prefix("quarantine", &options).await.expect("it begins");
    let builder = Pipeline::builder().engine(engine(&set.rig.scans)).bucket("quarantine", Arc::new(gated));
    let pipeline = builder.store(set.store.clone()).build().expect("a pipeline");
    // Two more than the worker's own, as it is set up.
    let broker = Arc::new(Broker { queue: Arc::clone(&queue), most: 4, deliveries: AtomicU64::new(0) });
    let retry = RetryPolicy { max_attempts: 2, ..quick() };
    let options = WorkerOptions { retry, bulk: 1, lease: Duration::from_secs(36_000), ..crate::worker::options() };
    let worker =
        Worker::with_jobs(pipeline, Arc::clone(&broker) as Arc<dyn Queue>, Arc::new(set.store.clone()), options);
    let done = || async {
        clock.advance(Duration::from_secs(1));
        // One chunk waits at the gate, and the other two for room, far more often than the broker bears.
        if broker.deliveries.load(Ordering::SeqCst) >= 16 {
            gate.add_permits(3);
        }
        jobs.get(&id).await.expect("known").state != JobState::Running
    };
    until(&worker.expect("a worker"), done).await;
    let dead = queue.dead_letters().list(None, 10).await.expect("the dead letters");
    assert_eq!(dead.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(), Vec::<&str>::new());
    let job = jobs.get(&id).await.expect("known");
    assert_eq!((job.state, job.totals.clean), (JobState::Done, 3));
}

/// A queue that answers nothing any more from some moment on, but for leases.
#[derive(Debug)]
struct Silent(Arc<SqliteQueue>, CancellationToken);

impl Silent {
    async fn unless_silent<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        if self.1.is_cancelled() {
            return std::future::pending().await;
        }
        call.await
    }
}

#[async_trait]
impl Queue for Silent {
    fn caps(&self) -> QueueCaps {
        self.0.caps()
    }
    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        self.unless_silent(self.0.enqueue(messages)).await
    }
    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        self.0.lease(most, ttl, wait).await
    }
    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        self.unless_silent(self.0.extend(leases)).await
    }
    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        self.unless_silent(self.0.settle(messages)).await
    }
    async fn depth(&self) -> Result<Depth> {
        self.0.depth().await
    }
    fn dead_letters(&self) -> &dyn DeadLetters {
        self.0.dead_letters()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_ends_though_the_broker_answers_nothing() {
    let rig = Rig::new();
    let object = rig.drop_in("a", "fine").await;
    let endless = rig.drop_in("b", "fine").await;
    let engine = Stuck(crate::common::engine(&rig.scans));
    let pipeline = rig.builder().await.engine(engine).build().expect("a pipeline");
    let inner = queue(&[message(&object), message(&endless)]).await;
    let silent = CancellationToken::new();
    let queue: Arc<dyn Queue> = Arc::new(Silent(Arc::clone(&inner), silent.clone()));
    let worker = Worker::new(pipeline, queue, options()).expect("a worker");
    silent.cancel();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, stop) = (worker.clone(), stop.clone());
        async move { worker.run(stop).await }
    });
    // One is done and cannot be told of, the other one never ends.
    let begun = async {
        while get(&*rig.clean, "a").await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("it begins");
    stop.cancel();
    tokio::time::timeout(PATIENCE, running).await.expect("it ends").expect("no panic");
    // Nobody was told, so both come again.
    let leased = inner.depth().await.expect("a depth");
    assert_eq!(leased.leased + leased.ready, 2);
}

/// Never comes to an end with one name.
#[derive(Debug)]
struct Stuck<E>(E);

#[async_trait]
impl<E: Engine> Engine for Stuck<E> {
    fn info(&self) -> EngineInfo {
        self.0.info()
    }

    async fn scan(&self, content: &scan_pipeline::content::Content, cx: &ScanContext) -> Result<Report> {
        if cx.name == "b" {
            return std::future::pending().await;
        }
        self.0.scan(content, cx).await
    }
}
