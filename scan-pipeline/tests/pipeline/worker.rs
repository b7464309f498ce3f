//! Workers: what becomes of messages, and of objects because of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scan_pipeline::engine::{Engine, ScanContext};
use scan_pipeline::event::TaskMessage;
use scan_pipeline::health::{BreakerOptions, Health};
use scan_pipeline::model::{EngineInfo, ObjectRef, Report, TaskId};
use scan_pipeline::objects::{MemoryBucket, ObjectOps};
use scan_pipeline::queue::{
    DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle, SqliteQueue, Which,
};
use scan_pipeline::store::{Claim, ClaimRequest, TaskState};
use scan_pipeline::testkit::{Interleaved, Moment, Op};
use scan_pipeline::worker::{Worker, WorkerOptions};
use scan_pipeline::workflow::RetryPolicy;
use scan_pipeline::{Error, ErrorKind, Pipeline, Result};
use tokio_util::sync::CancellationToken;

use crate::common::{Rig, get, quick, whole};

/// No test waits for as long as this, unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn options() -> WorkerOptions {
    let millis = Duration::from_millis;
    WorkerOptions {
        retry: RetryPolicy { max_attempts: 6, initial: millis(1), factor: 1.0, cap: millis(5) },
        wait: millis(200),
        resume: millis(20),
        drain: millis(200),
        ..WorkerOptions::default()
    }
}

pub(crate) fn message(object: &ObjectRef) -> NewMessage {
    NewMessage::new(TaskMessage::new(object).to_json()).tenant(object.bucket.as_str())
}

pub(crate) async fn queue(messages: &[NewMessage]) -> Arc<SqliteQueue> {
    let queue = Arc::new(SqliteQueue::in_memory().await.expect("a queue"));
    for answer in queue.enqueue(messages).await.expect("enqueued") {
        answer.expect("enqueued");
    }
    queue
}

/// Runs a worker until something is so, and stops it.
pub(crate) async fn until<F: Future<Output = bool>>(worker: &Worker, so: impl Fn() -> F) -> usize {
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, stop) = (worker.clone(), stop.clone());
        async move { worker.run(stop).await }
    });
    let waited = tokio::time::timeout(PATIENCE, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it comes to be so");
    stop.cancel();
    running.await.expect("no panic").abandoned
}

/// Nothing waits and nothing is leased.
pub(crate) async fn is_empty(queue: &dyn Queue) -> bool {
    let depth = queue.depth().await.expect("a depth");
    depth.ready + depth.delayed + depth.leased == 0
}

async fn dead(queue: &dyn Queue) -> Vec<String> {
    let letters = queue.dead_letters().list(None, 100).await.expect("the dead letters");
    letters.into_iter().map(|letter| letter.reason).collect()
}

fn worker(pipeline: &Pipeline, queue: &Arc<SqliteQueue>) -> Worker {
    Worker::new(pipeline.clone(), Arc::clone(queue) as Arc<dyn Queue>, options()).expect("a worker")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_is_handled_once_however_often_it_is_rung_for() {
    let rig = Rig::with(MemoryBucket::versioned("quarantine").expect("a bucket"));
    let pipeline = rig.pipeline().await;
    let mut messages = Vec::new();
    for number in 0..30 {
        let text = ["fine", "infected", "locked"][number % 3];
        let object = rig.drop_in(&format!("{number}"), &format!("{text} {number}")).await;
        messages.extend((0..4).map(|_| message(&object)));
    }
    fastrand::shuffle(&mut messages);
    let queue = queue(&messages).await;
    let worker = worker(&pipeline, &queue);
    until(&worker, || is_empty(&*queue)).await;
    assert_eq!((rig.scans.get(), rig.notified().len()), (30, 30));
    assert_eq!(dead(&*queue).await, Vec::<String>::new());
    assert_eq!(get(&*rig.clean, "0").await.as_deref(), Some("fine 0"));
    assert_eq!(get(&*rig.infected, "1").await.as_deref(), Some("infected 1"));
    assert_eq!(get(&*rig.quarantine, "2").await.as_deref(), Some("locked 2"));
    whole(&pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_dead_with_its_reason_and_stops_nothing() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let object = rig.drop_in("a", "fine").await;
    let elsewhere = ObjectRef::new("s3://nobody-has-it".parse().expect("an address"), "k").with_etag("1");
    let test_event =
        br#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-01-01T00:00:00Z", "Bucket": "b"}"#;
    let queue = queue(&[
        NewMessage::new("not json"),
        NewMessage::new(r#"{"scan_pipeline":"shard/9"}"#),
        message(&elsewhere),
        NewMessage::new(&test_event[..]),
        message(&object),
    ])
    .await;
    let worker = worker(&pipeline, &queue);
    until(&worker, || is_empty(&*queue)).await;
    let reasons = dead(&*queue).await;
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons.iter().any(|why| why.contains("no bucket of this name")), "{reasons:?}");
    assert_eq!((worker.counts().done, worker.counts().dead), (2, 3));
    assert_eq!(get(&*rig.clean, "a").await.as_deref(), Some("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_delivered_too_often_is_not_looked_at() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let object = rig.drop_in("a", "fine").await;
    let queue = queue(&[message(&object)]).await;
    // As workers would that die of it.
    for attempt in 1..=6 {
        let lease = queue.lease(1, Duration::from_millis(1), PATIENCE).await.expect("leased");
        assert_eq!(lease[0].attempt, attempt);
    }
    until(&worker(&pipeline, &queue), || is_empty(&*queue)).await;
    assert_eq!(dead(&*queue).await, ["was delivered 6 times without coming to an end"]);
    assert_eq!(rig.scans.get(), 0);
    // Put back, it has all its attempts before it.
    assert_eq!(queue.dead_letters().redrive(&Which::all(), 10).await.expect("put back"), 1);
    until(&worker(&pipeline, &queue), || is_empty(&*queue)).await;
    assert_eq!(get(&*rig.clean, "a").await.as_deref(), Some("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_kills_no_message_and_is_over_when_it_is_over() {
    let rig = Rig::new();
    let object = rig.drop_in("a", "fine").await;
    let refusals = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&refusals);
    // Far more failures than a message has attempts, and than a breaker bears.
    let far = Interleaved::new(Arc::clone(&rig.quarantine) as Arc<dyn ObjectOps>, move |moment, _, op| {
        let down = moment == Moment::Before && op == Op::Stat && seen.fetch_add(1, Ordering::SeqCst) < 25;
        Box::pin(async move {
            match down {
                true => Err(Error::new(ErrorKind::Unavailable, "connection refused")),
                false => Ok(()),
            }
        })
    });
    let short =
        BreakerOptions { first_pause: Duration::from_millis(2), longest_pause: Duration::from_millis(5), failures: 3 };
    let pipeline = rig.builder().await.bucket("quarantine", Arc::new(far)).health(Health::new(short));
    let pipeline = pipeline.build().expect("a pipeline");
    let queue = queue(&[message(&object)]).await;
    let worker = worker(&pipeline, &queue);
    until(&worker, || is_empty(&*queue)).await;
    assert_eq!(dead(&*queue).await, Vec::<String>::new());
    assert_eq!(get(&*rig.clean, "a").await.as_deref(), Some("fine"));
    assert!(refusals.load(Ordering::SeqCst) > 25);
    assert!(worker.health().is_ready(), "{:?}", worker.health());
    whole(&pipeline).await;
}

/// An engine that never comes to an end with what says so.
#[derive(Debug)]
struct Endless(AtomicU32);

#[async_trait]
impl Engine for Endless {
    fn info(&self) -> EngineInfo {
        EngineInfo::new("endless", "", "1")
    }

    async fn scan(&self, _: &scan_pipeline::content::Content, _: &ScanContext) -> Result<Report> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_in_time_is_given_back_and_uses_up_no_attempt_of_its_scan() {
    let rig = Rig::new();
    let object = rig.drop_in("a", "fine").await;
    let pipeline = rig.builder().await.engine(Endless(AtomicU32::new(0))).build().expect("a pipeline");
    let queue = queue(&[message(&object)]).await;
    let worker = worker(&pipeline, &queue);
    let id = TaskId::of(&rig.quarantine.stat(&object).await.expect("there").object, 0);
    let scanning = || async {
        let task = pipeline.store().task(id).await.expect("the store reads");
        task.is_some_and(|task| task.state == TaskState::Scanning)
    };
    assert_eq!(until(&worker, scanning).await, 1, "one was abandoned");
    let lease = queue.lease(1, PATIENCE, PATIENCE).await.expect("at once, and not when the old lease is over");
    assert_eq!(lease[0].attempt, 2);
    let task = tokio::time::timeout(PATIENCE, async {
        loop {
            let task = pipeline.store().task(id).await.expect("the store reads").expect("known");
            if task.state == TaskState::Pending {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(task.await.expect("it is given back").attempts, 0);
}

/// A queue whose leases cannot be extended.
#[derive(Debug)]
struct Slippery(Arc<SqliteQueue>);

#[async_trait]
impl Queue for Slippery {
    fn caps(&self) -> QueueCaps {
        self.0.caps()
    }
    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        self.0.enqueue(messages).await
    }
    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        self.0.lease(most, ttl, wait).await
    }
    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        Ok(vec![Held::Lost; leases.len()])
    }
    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        self.0.settle(messages).await
    }
    async fn depth(&self) -> Result<Depth> {
        self.0.depth().await
    }
    fn dead_letters(&self) -> &dyn DeadLetters {
        self.0.dead_letters()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_given_up_when_its_lease_is_lost() {
    let rig = Rig::new();
    let object = rig.drop_in("a", "fine").await;
    let pipeline = rig.builder().await.engine(Endless(AtomicU32::new(0))).build().expect("a pipeline");
    let inner = queue(&[message(&object)]).await;
    let options = WorkerOptions { lease: Duration::from_millis(500), resume: PATIENCE, ..options() };
    let queue: Arc<dyn Queue> = Arc::new(Slippery(Arc::clone(&inner)));
    let worker = Worker::new(pipeline.clone(), queue, options).expect("a worker");
    let id = TaskId::of(&rig.quarantine.stat(&object).await.expect("there").object, 0);
    // Begun and given back, more than once: each lease that is lost ends its scan, and the message comes again.
    let begun = AtomicU32::new(0);
    let twice = || async {
        let lease = pipeline.store().task(id).await.expect("the store reads");
        if lease.is_some_and(|task| task.state == TaskState::Pending) {
            begun.fetch_add(1, Ordering::SeqCst);
        }
        begun.load(Ordering::SeqCst) >= 2
    };
    until(&worker, twice).await;
    assert_eq!(worker.counts().done, 0, "nothing was settled under a lost lease");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_about_a_task_that_somebody_else_has_is_done_and_the_task_is_not_forgotten() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let object = rig.drop_in("a", "fine").await;
    let now = rig.quarantine.stat(&object).await.expect("there").object;
    let request = ClaimRequest {
        id: TaskId::of(&now, 0),
        object: now.clone(),
        owner: String::from("a worker that has died"),
        ttl: Duration::from_millis(300),
    };
    assert!(matches!(pipeline.store().claim(&request).await.expect("claimed"), Claim::Mine(..)));
    let queue = queue(&[message(&object)]).await;
    let worker = worker(&pipeline, &queue);
    let done = || async { get(&*rig.clean, "a").await.is_some() };
    until(&worker, done).await;
    assert!(is_empty(&*queue).await);
    assert_eq!(rig.scans.get(), 1);
}

fn guardduty(object: &ObjectRef, status: &str, threats: &str) -> NewMessage {
    let (bucket, etag) = (object.bucket.rest(), object.etag.as_deref().expect("pinned"));
    NewMessage::new(format!(
        r#"{{"detail-type": "GuardDuty Malware Protection Object Scan Result", "source": "aws.guardduty",
        "detail": {{"schemaVersion": "1.0", "scanStatus": "COMPLETED", "resourceType": "S3_OBJECT",
        "s3ObjectDetails": {{"bucketName": "{bucket}", "objectKey": "{}", "eTag": "{etag}", "versionId": null, "s3Throttled": false}},
        "scanResultDetails": {{"scanResultStatus": "{status}", "threats": {threats}}}}}}}"#,
        object.key
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_from_elsewhere_goes_through_the_same_policy_without_a_scan() {
    for (accept, goes_to_clean) in [(false, false), (true, true)] {
        // The event knows S3 only, so the buckets have to be called so.
        let s3 = |name: &str| MemoryBucket::at(format!("s3://{name}").parse().expect("an address"));
        let rig = Rig::with(s3("quarantine"));
        let policy = rig.policy().accept_unproven(accept);
        let pipeline = rig.builder().await.policy(policy).build().expect("a pipeline");
        let bad = rig.drop_in("bad", "looks fine").await;
        let good = rig.drop_in("good", "looks fine, too").await;
        let odd = rig.drop_in("odd", "who knows").await;
        let queue = queue(&[
            guardduty(&bad, "THREATS_FOUND", r#"[{"name": "EICAR-Test-File"}]"#),
            guardduty(&good, "NO_THREATS_FOUND", "null"),
            guardduty(&odd, "ACCESS_DENIED", "null"),
        ])
        .await;
        until(&worker(&pipeline, &queue), || is_empty(&*queue)).await;
        assert_eq!(dead(&*queue).await, Vec::<String>::new());
        assert_eq!(rig.scans.get(), 0);
        assert!(get(&*rig.infected, "bad").await.is_some());
        assert_eq!(get(&*rig.clean, "good").await.is_some(), goes_to_clean, "its word alone is no proof");
        assert_eq!(get(&*rig.quarantine, "good").await.is_some(), !goes_to_clean);
        assert!(get(&*rig.quarantine, "odd").await.is_some(), "what it could not see is never clean");
        whole(&pipeline).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_verdict_never_overrides_a_newer_object() {
    let rig = Rig::with(MemoryBucket::at("s3://quarantine".parse().expect("an address")));
    let pipeline = rig.builder().await.policy(rig.policy().accept_unproven(true)).build().expect("a pipeline");
    let old = rig.drop_in("a", "looks fine").await;
    rig.drop_in("a", "infected").await;
    let queue = queue(&[guardduty(&old, "NO_THREATS_FOUND", "null")]).await;
    until(&worker(&pipeline, &queue), || is_empty(&*queue)).await;
    assert_eq!(get(&*rig.clean, "a").await, None);
    assert_eq!(get(&*rig.infected, "a").await.as_deref(), Some("infected"), "what is there now was scanned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_does_not_say_of_which_bytes_is_not_taken_for_what_is_there() {
    let rig = Rig::with(MemoryBucket::at("s3://quarantine".parse().expect("an address")));
    let pipeline = rig.builder().await.policy(rig.policy().accept_unproven(true)).build().expect("a pipeline");
    let object = rig.drop_in("a", "infected").await;
    let text = guardduty(&object, "NO_THREATS_FOUND", "null").body;
    let text = String::from_utf8_lossy(&text).replace(object.etag.as_deref().expect("pinned"), "");
    let queue = queue(&[NewMessage::new(text)]).await;
    until(&worker(&pipeline, &queue), || is_empty(&*queue)).await;
    assert_eq!((dead(&*queue).await, rig.scans.get()), (Vec::new(), 1));
    assert_eq!((get(&*rig.clean, "a").await, get(&*rig.infected, "a").await.is_some()), (None, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_larger_than_the_limit_on_bytes_is_worked_on_alone() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let mut messages = Vec::new();
    for number in 0..4 {
        messages.push(message(&rig.drop_in(&format!("{number}"), &format!("fine {number} ").repeat(100_000)).await));
    }
    let queue = queue(&messages).await;
    let options = WorkerOptions { bytes: 200_000, ..options() };
    let worker = Worker::new(pipeline, Arc::clone(&queue) as Arc<dyn Queue>, options).expect("a worker");
    until(&worker, || is_empty(&*queue)).await;
    assert_eq!(rig.scans.get(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_one_bucket_does_not_starve_another() {
    let rig = Rig::new();
    let small = MemoryBucket::new("small").expect("a bucket");
    let builder = rig.builder().await.bucket("small", Arc::new(small.clone())).policy(scan_pipeline::Policy::new());
    let pipeline = builder.concurrency(4).build().expect("a pipeline");
    let notice = |object: &ObjectRef| NewMessage::new(TaskMessage::new(object).to_json());
    let mut burst = Vec::new();
    for number in 0..10_000 {
        burst.push(notice(&rig.drop_in(&format!("{number}"), "fine").await));
    }
    // Nobody says whose they are, as it is with notifications.
    let queue = queue(&burst).await;
    let (mut few, mut ids) = (Vec::new(), Vec::new());
    for number in 0..5 {
        let object = crate::common::put(&small, &format!("few {number}"), "fine").await;
        ids.push(TaskId::of(&small.stat(&object).await.expect("there").object, 0));
        few.push(notice(&object));
    }
    queue.enqueue(&few).await.expect("enqueued");
    let worker = worker(&pipeline, &queue);
    let through = || async {
        for id in &ids {
            match pipeline.store().task(*id).await.expect("the store reads") {
                Some(task) if task.state == TaskState::Done => {}
                _ => return false,
            }
        }
        true
    };
    until(&worker, through).await;
    let left = queue.depth().await.expect("a depth").ready;
    assert!(left > 9_000, "{left} of the burst were left when the few were through");
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let queue = queue(&[]).await;
    for options in [
        WorkerOptions { bulk: 0, ..options() },
        WorkerOptions { lease: Duration::from_millis(1), ..options() },
        WorkerOptions { retry: RetryPolicy { max_attempts: 0, ..quick() }, ..options() },
    ] {
        let refused =
            Worker::new(pipeline.clone(), Arc::clone(&queue) as Arc<dyn Queue>, options).expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Config);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_names_just_the_messages_that_have_to_come_back() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let good = rig.drop_in("good", "fine").await;
    let broken = rig.drop_in("broken", "broken").await;
    let queue = queue(&[]).await;
    let worker = worker(&pipeline, &queue);
    let record = |id: &str, body: &str, arn: &str| {
        serde_json::json!({ "messageId": id, "receiptHandle": "r", "body": body, "eventSource": "aws:sqs",
            "attributes": { "ApproximateReceiveCount": "1" }, "eventSourceARN": arn })
    };
    let task = |object: &ObjectRef| TaskMessage::new(object).to_json();
    let handle = async |records: Vec<serde_json::Value>| {
        let event = serde_json::json!({ "Records": records }).to_string();
        let failures =
            scan_pipeline::worker::lambda::handle(&worker, event.as_bytes(), PATIENCE).await.expect("a batch");
        failures.ids().map(str::to_owned).collect::<Vec<_>>()
    };
    let (standard, fifo) = ("arn:aws:sqs:eu-central-1:1:q", "arn:aws:sqs:eu-central-1:1:q.fifo");
    assert_eq!(handle(Vec::new()).await, Vec::<String>::new(), "nothing fails in an empty batch");
    let all = vec![
        record("1", "poison", standard),
        record("2", &task(&good), standard),
        record("3", &task(&broken), standard),
        record("4", "{\"Event\": \"s3:TestEvent\", \"Service\": \"Amazon S3\", \"Bucket\": \"b\"}", standard),
    ];
    assert_eq!(handle(all).await, ["1", "3"]);
    assert_eq!(get(&*rig.clean, "good").await.as_deref(), Some("fine"));
    let next = rig.drop_in("next", "fine").await;
    let all = vec![record("1", &task(&good), fifo), record("2", "poison", fifo), record("3", &task(&next), fifo)];
    assert_eq!(handle(all).await, ["2", "3"]);
    assert_eq!(get(&*rig.clean, "next").await, None, "nothing behind the first failure was begun");
    let garbled = scan_pipeline::worker::lambda::handle(&worker, b"{}", PATIENCE).await.expect_err("no batch");
    assert_eq!(garbled.kind(), ErrorKind::InvalidInput);
    let late = serde_json::json!({ "Records": [record("1", &task(&next), standard)] }).to_string();
    let failures =
        scan_pipeline::worker::lambda::handle(&worker, late.as_bytes(), Duration::ZERO).await.expect("a batch");
    assert_eq!(failures.ids().collect::<Vec<_>>(), ["1"], "there was no time");
}

/// Takes its time over each content.
#[derive(Debug)]
struct Slow<E>(E);

#[async_trait]
impl<E: Engine> Engine for Slow<E> {
    fn info(&self) -> EngineInfo {
        self.0.info()
    }

    async fn scan(&self, content: &scan_pipeline::content::Content, cx: &ScanContext) -> Result<Report> {
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.0.scan(content, cx).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_in_the_batch_of_a_function_need_not_come_back() {
    let rig = Rig::new();
    let pipeline = rig.builder().await.engine(Slow(crate::common::engine(&rig.scans))).build().expect("a pipeline");
    let body = TaskMessage::new(&rig.drop_in("a", "fine").await).to_json();
    let worker = worker(&pipeline, &queue(&[]).await);
    let records: Vec<_> = (0..5)
        .map(|at| serde_json::json!({ "messageId": format!("{at}"), "body": body, "eventSource": "aws:sqs" }))
        .collect();
    let event = serde_json::json!({ "Records": records }).to_string();
    let failures = scan_pipeline::worker::lambda::handle(&worker, event.as_bytes(), PATIENCE).await.expect("a batch");
    assert_eq!(failures.ids().collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!((rig.scans.get(), rig.notified().len()), (1, 1));
}
