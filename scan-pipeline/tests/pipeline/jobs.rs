//! Bulk jobs: every object once, however often it is interrupted, and counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scan_pipeline::job::{JobOptions, Jobs};
use scan_pipeline::objects::{Buckets, ObjectOps};
use scan_pipeline::queue::{Lane, Queue, SqliteQueue, Which};
use scan_pipeline::store::{
    Advance, Counters, Job, JobId, JobState, JobStore, NewJob, Rescan, SqliteStore, TaskFilter, TaskState,
};
use scan_pipeline::testkit::{Interleaved, Moment, Op};
use scan_pipeline::worker::{Worker, WorkerOptions};
use scan_pipeline::workflow::{RetryPolicy, Workflow};
use scan_pipeline::{Error, ErrorKind, Pipeline, Policy, Result};

use crate::common::{Rig, engine, get, put, quick, whole};
use crate::worker::{is_empty, options, until};

pub(crate) struct Set {
    pub(crate) rig: Rig,
    pub(crate) store: SqliteStore,
    pub(crate) queue: Arc<SqliteQueue>,
}

impl Set {
    pub(crate) async fn new() -> Self {
        let store = SqliteStore::in_memory().await.expect("a store");
        Self { rig: Rig::new(), store, queue: Arc::new(SqliteQueue::in_memory().await.expect("a queue")) }
    }

    /// A pipeline that leaves everything where it is.
    pub(crate) fn pipeline(&self, generation: &str) -> Pipeline {
        self.with(Policy::new(), generation)
    }

    pub(crate) fn with(&self, policy: Policy, generation: &str) -> Pipeline {
        let builder = Pipeline::builder().engine(Generation(engine(&self.rig.scans), generation.to_owned()));
        let builder = builder.bucket("quarantine", Arc::clone(&self.rig.quarantine) as Arc<dyn ObjectOps>);
        let builder = builder.bucket("infected", Arc::clone(&self.rig.infected) as Arc<dyn ObjectOps>);
        builder.policy(policy).scan_retry(quick()).store(self.store.clone()).build().expect("a pipeline")
    }

    pub(crate) fn jobs(&self) -> Jobs {
        let mut buckets = Buckets::new();
        buckets.insert("quarantine", Arc::clone(&self.rig.quarantine) as Arc<dyn ObjectOps>);
        Jobs::new(buckets, Arc::clone(&self.queue) as Arc<dyn Queue>, Arc::new(self.store.clone()))
    }

    pub(crate) fn worker(&self, pipeline: Pipeline, jobs: Arc<dyn JobStore>) -> Worker {
        Worker::with_jobs(pipeline, Arc::clone(&self.queue) as Arc<dyn Queue>, jobs, options()).expect("a worker")
    }

    /// Begins a job over everything and sees it to its end.
    async fn run(&self, pipeline: Pipeline, options: &JobOptions) -> Job {
        let id = self.jobs().scan_prefix("quarantine", options).await.expect("it begins");
        self.finish(&self.worker(pipeline, Arc::new(self.store.clone())), &id).await
    }

    pub(crate) async fn finish(&self, worker: &Worker, id: &JobId) -> Job {
        let ended = || async { self.jobs().get(id).await.expect("known").state != JobState::Running };
        until(worker, ended).await;
        self.jobs().get(id).await.expect("known")
    }

    pub(crate) async fn dead(&self) -> usize {
        self.queue.dead_letters().list(None, 100).await.expect("the dead letters").len()
    }
}

/// The engine of the other tests, with definitions that change.
#[derive(Debug)]
struct Generation<E>(E, String);

#[async_trait]
impl<E: scan_pipeline::engine::Engine> scan_pipeline::engine::Engine for Generation<E> {
    fn info(&self) -> scan_pipeline::model::EngineInfo {
        scan_pipeline::model::EngineInfo { generation: self.1.clone(), ..self.0.info() }
    }

    async fn scan(
        &self,
        content: &scan_pipeline::content::Content,
        cx: &scan_pipeline::engine::ScanContext,
    ) -> Result<scan_pipeline::model::Report> {
        let mut report = self.0.scan(content, cx).await?;
        report.engine = self.info();
        Ok(report)
    }
}

/// Keys of every kind, and how many of them say what.
pub(crate) async fn fill(set: &Set, count: usize) -> Counters {
    let mut counters = Counters::default();
    for number in 0..count {
        let key = match number % 7 {
            0 => format!("/{number}"),
            1 => format!("a//{number}"),
            2 => format!("logs/2026/{number:06}"),
            3 => format!("\u{10ffff}{number}"),
            4 => format!("line\nbreak \"{number}\""),
            5 => format!("{number}/"),
            _ => format!("logs/2026/\u{e9}+%2B {number}"),
        };
        let text = match number % 10 {
            0 => "infected",
            1 => "locked",
            _ => "fine",
        };
        let text = format!("{text} {number}");
        put(&*set.rig.quarantine, &key, &text).await;
        match number % 10 {
            0 => counters.infected += 1,
            1 => counters.unscannable += 1,
            _ => counters.clean += 1,
        }
        counters.bytes += text.len() as u64;
    }
    counters
}

pub(crate) fn small() -> JobOptions {
    JobOptions { shards: 8, chunk: 20, ..JobOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_is_scanned_once_and_counted() {
    let set = Set::new().await;
    let expected = fill(&set, 700).await;
    let pipeline = set.pipeline("1");
    let job = set.run(pipeline.clone(), &small()).await;
    assert_eq!((job.state, job.totals, job.listed()), (JobState::Done, expected, 700));
    assert!(job.shards.len() > 3, "{} shards", job.shards.len());
    assert_eq!((set.rig.scans.get(), set.dead().await), (700, 0));
    let done = TaskFilter { states: vec![TaskState::Done], most: 1000, ..TaskFilter::default() };
    assert_eq!(pipeline.store().tasks(&done).await.expect("tasks").len(), 700);
    whole(&pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_listing_is_as_large_as_the_bucket_gives_it_and_not_as_a_chunk() {
    let set = Set::new().await;
    fill(&set, 2500).await;
    let lists = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lists);
    let listed = Interleaved::new(Arc::clone(&set.rig.quarantine) as Arc<dyn ObjectOps>, move |moment, _, op| {
        let lists = (moment, op) == (Moment::Before, Op::List);
        counted.fetch_add(u64::from(lists), Ordering::SeqCst);
        async { Ok(()) }
    });
    let builder = Pipeline::builder().engine(engine(&set.rig.scans)).bucket("quarantine", Arc::new(listed));
    let pipeline = builder.store(set.store.clone()).build().expect("a pipeline");
    let job = set.run(pipeline, &JobOptions { shards: 1, chunk: 100, ..JobOptions::default() }).await;
    assert_eq!((job.state, job.listed(), job.shards[0].chunks), (JobState::Done, 2500, 25));
    assert_eq!(lists.load(Ordering::SeqCst), 3, "a thousand keys a page");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_scanned_with_the_same_definitions_is_skipped() {
    let set = Set::new().await;
    let expected = fill(&set, 60).await;
    set.run(set.pipeline("1"), &small()).await;
    let skipped = Counters { skipped: 60, ..Counters::default() };
    // The job begins in another millisecond than the last task ended in.
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(set.run(set.pipeline("1"), &small()).await.totals, skipped);
    assert_eq!(set.rig.scans.get(), 60);
    assert_eq!(set.run(set.pipeline("2"), &small()).await.totals, expected, "other definitions");
    assert_eq!(set.rig.scans.get(), 120);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(set.run(set.pipeline("2"), &small()).await.totals, skipped);
    let never = JobOptions { rescan: Rescan::Never, ..small() };
    assert_eq!(set.run(set.pipeline("3"), &never).await.totals, skipped);
    assert_eq!(set.rig.scans.get(), 120);
    let always = JobOptions { rescan: Rescan::Always, ..small() };
    assert_eq!(set.run(set.pipeline("2"), &always).await.totals, expected);
    // Complete verdicts are remembered, and what follows from them is done again.
    assert_eq!(set.rig.scans.get(), 120 + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_newer_definitions_find_follows_its_workflow() {
    let set = Set::new().await;
    put(&*set.rig.quarantine, "a", "fine, as far as anybody knows").await;
    set.run(set.pipeline("1"), &small()).await;
    put(&*set.rig.quarantine, "b", "infected").await;
    let isolate = Workflow::new("isolate").then(scan_pipeline::handler::relocate("infected"));
    let job = set.run(set.with(Policy::new().infected(isolate), "2"), &small()).await;
    assert_eq!((job.totals.clean, job.totals.infected), (1, 1));
    assert_eq!(get(&*set.rig.infected, "b").await.as_deref(), Some("infected"));
}

/// A store of jobs in which every third write fails, before or after it was made.
#[derive(Debug)]
struct Shaky(SqliteStore, AtomicU64);

impl Shaky {
    async fn shaken<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let down = || Err(Error::new(ErrorKind::Busy, "the store is locked"));
        match self.1.fetch_add(1, Ordering::SeqCst) % 6 {
            2 => down(),
            5 => {
                call.await?;
                down()
            }
            _ => call.await,
        }
    }
}

#[async_trait]
impl JobStore for Shaky {
    async fn create_job(&self, job: &NewJob) -> Result<()> {
        self.0.create_job(job).await
    }
    async fn job(&self, id: &JobId) -> Result<Option<Job>> {
        self.0.job(id).await
    }
    async fn job_head(&self, id: &JobId) -> Result<Option<Job>> {
        self.0.job_head(id).await
    }
    async fn jobs(&self, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
        self.0.jobs(before, most).await
    }
    async fn advance(&self, id: &JobId, shard: u32, step: &Advance) -> Result<Option<JobState>> {
        self.shaken(self.0.advance(id, shard, step)).await
    }
    async fn count(&self, id: &JobId, shard: u32, chunk: u64, counters: &Counters) -> Result<JobState> {
        self.shaken(self.0.count(id, shard, chunk, counters)).await
    }
    async fn end_job(&self, id: &JobId, state: JobState, why: Option<&str>) -> Result<JobState> {
        self.0.end_job(id, state, why).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_interrupted_everywhere_goes_on_where_it_was() {
    let set = Set::new().await;
    let expected = fill(&set, 200).await;
    let options = JobOptions { shards: 4, chunk: 10, ..JobOptions::default() };
    let id = set.jobs().scan_prefix("quarantine", &options).await.expect("it begins");
    let shaky: Arc<dyn JobStore> = Arc::new(Shaky(set.store.clone(), AtomicU64::new(0)));
    let worker = Worker::with_jobs(
        set.pipeline("1"),
        Arc::clone(&set.queue) as Arc<dyn Queue>,
        shaky,
        // What came to nothing comes again soon.
        WorkerOptions {
            retry: RetryPolicy {
                max_attempts: 6,
                initial: Duration::from_millis(1),
                factor: 1.0,
                cap: Duration::from_millis(20),
            },
            ..crate::worker::options()
        },
    );
    let job = set.finish(&worker.expect("a worker"), &id).await;
    assert_eq!((job.state, job.totals, job.listed()), (JobState::Done, expected, 200));
    assert_eq!((set.rig.scans.get(), set.dead().await), (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_hands_out_nothing_more() {
    let set = Set::new().await;
    fill(&set, 50).await;
    let id = set.jobs().scan_prefix("quarantine", &small()).await.expect("it begins");
    assert_eq!(set.jobs().cancel(&id).await.expect("cancelled"), JobState::Cancelled);
    let worker = set.worker(set.pipeline("1"), Arc::new(set.store.clone()));
    until(&worker, || is_empty(&*set.queue)).await;
    let job = set.jobs().get(&id).await.expect("known");
    assert_eq!((job.state, job.totals, set.rig.scans.get()), (JobState::Cancelled, Counters::default(), 0));
    assert_eq!(set.jobs().cancel(&id).await.expect("again"), JobState::Cancelled);
    let unknown = set.jobs().cancel(&JobId::new()).await.expect_err("nobody knows it");
    assert_eq!(unknown.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_fails_is_counted_and_stops_nothing() {
    let set = Set::new().await;
    for number in 0..9 {
        put(&*set.rig.quarantine, &format!("{number}"), "fine").await;
    }
    put(&*set.rig.quarantine, "5a", "broken").await;
    let job = set.run(set.pipeline("1"), &small()).await;
    assert_eq!((job.state, job.totals.clean, job.totals.failed), (JobState::Done, 9, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_kills_its_workers_is_counted_as_failed() {
    let set = Set::new().await;
    fill(&set, 5).await;
    let options = JobOptions { shards: 1, ..small() };
    let id = set.jobs().scan_prefix("quarantine", &options).await.expect("it begins");
    let pipeline = set.pipeline("1");
    let worker = Worker::with_jobs(
        pipeline,
        Arc::clone(&set.queue) as Arc<dyn Queue>,
        Arc::new(set.store.clone()),
        // One delivery, a hundred for messages of jobs.
        WorkerOptions { retry: RetryPolicy { max_attempts: 1, ..quick() }, ..crate::worker::options() },
    )
    .expect("a worker");
    // The shard is listed, and its one chunk waits.
    let shard = set.queue.lease(1, Duration::from_secs(60), Duration::ZERO).await.expect("leased").remove(0);
    assert_eq!(worker.handle(&shard.body).await, scan_pipeline::worker::Outcome::Done);
    set.queue.settle(&[(shard.receipt, scan_pipeline::queue::Settle::Done)]).await.expect("settled");
    for _ in 0..100 {
        let leased = set.queue.lease(1, Duration::from_millis(1), Duration::from_secs(60)).await.expect("leased");
        assert_eq!(leased.len(), 1);
    }
    let job = set.finish(&worker, &id).await;
    assert_eq!((job.state, job.totals.failed, set.dead().await), (JobState::Done, 5, 1));
    assert_eq!(set.rig.scans.get(), 0);
    // Put back once a worker lives through it, it is worked on. The job stays as it ended.
    let redriven = set.queue.dead_letters().redrive(&Which::all(), 10).await.expect("put back");
    assert_eq!(redriven, 1);
    let again = set.queue.lease(1, Duration::from_secs(60), Duration::from_secs(5)).await.expect("leased").remove(0);
    assert_eq!(worker.handle(&again.body).await, scan_pipeline::worker::Outcome::Done);
    let job = set.jobs().get(&id).await.expect("known");
    assert_eq!((job.state, job.totals.failed, set.rig.scans.get(), set.dead().await), (JobState::Done, 5, 5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_message_does_not_wait_for_the_end_of_a_job() {
    let set = Set::new().await;
    fill(&set, 2000).await;
    let pipeline = set.pipeline("1");
    let options = JobOptions { chunk: 10, ..JobOptions::default() };
    let id = set.jobs().scan_prefix("quarantine", &options).await.expect("it begins");
    let worker = set.worker(pipeline.clone(), Arc::new(set.store.clone()));
    let begun = || async { set.rig.scans.get() > 50 };
    until(&worker, begun).await;
    let urgent = put(&*set.rig.infected, "urgent", "fine").await;
    let message = crate::worker::message(&urgent).lane(Lane::Interactive);
    set.queue.enqueue(&[message]).await.expect("enqueued");
    let is_through = || async {
        let done = TaskFilter { states: vec![TaskState::Done], most: 5000, ..TaskFilter::default() };
        let tasks = pipeline.store().tasks(&done).await.expect("tasks");
        tasks.iter().any(|task| task.object.key == "urgent")
    };
    until(&worker, is_through).await;
    assert_eq!(set.jobs().get(&id).await.expect("known").state, JobState::Running, "much of the job was left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_needs_a_worker_that_takes_part_in_jobs() {
    let set = Set::new().await;
    fill(&set, 3).await;
    set.jobs().scan_prefix("quarantine", &JobOptions { shards: 1, ..small() }).await.expect("it begins");
    let worker = Worker::new(set.pipeline("1"), Arc::clone(&set.queue) as Arc<dyn Queue>, options()).expect("a worker");
    until(&worker, || is_empty(&*set.queue)).await;
    assert_eq!(set.dead().await, 1, "it is kept until somebody puts it back");
}

#[tokio::test]
async fn shards_have_every_key_once() {
    let set = Set::new().await;
    fill(&set, 300).await;
    let mut seen = BTreeSet::new();
    for shards in [1, 2, 5, 40] {
        let options = JobOptions { shards, ..small() };
        let id = set.jobs().scan_prefix("quarantine", &options).await.expect("it begins");
        let job = set.jobs().get(&id).await.expect("known");
        let mut keys = Vec::new();
        for shard in &job.shards {
            let mut range = scan_pipeline::objects::KeyRange {
                after: shard.range.after.clone(),
                before: shard.range.before.clone(),
                ..Default::default()
            };
            loop {
                let page = set.rig.quarantine.list(&range).await.expect("a page");
                keys.extend(page.entries.into_iter().map(|entry| entry.expect("good").key));
                match page.next {
                    Some(next) => range.after = Some(next),
                    None => break,
                }
            }
        }
        assert_eq!(keys.len(), 300, "{shards} shards");
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 300);
        assert!(job.shards.len() <= shards * 2, "{} for {shards}", job.shards.len());
        assert!(shards == 1 || job.shards.len() > 1);
        seen.insert(job.shards.len());
    }
    assert!(seen.len() > 2, "{seen:?}");
}

#[tokio::test]
async fn what_cannot_be_a_job_is_refused() {
    let set = Set::new().await;
    for options in [
        JobOptions { shards: 0, ..small() },
        JobOptions { shards: 1001, ..small() },
        JobOptions { chunk: 0, ..small() },
        JobOptions { chunk: 1001, ..small() },
    ] {
        let refused = set.jobs().scan_prefix("quarantine", &options).await.expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    let elsewhere = set.jobs().scan_prefix("s3://elsewhere/", &small()).await.expect_err("refused");
    assert_eq!(elsewhere.kind(), ErrorKind::Config);
    assert!(set.jobs().list(None, 10).await.expect("none").is_empty());
    let empty = set.run(set.pipeline("1"), &small()).await;
    assert_eq!((empty.state, empty.totals), (JobState::Done, Counters::default()), "nothing to do is done");
}
