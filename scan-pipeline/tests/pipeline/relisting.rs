//! Pages of bulk jobs that are listed again while their objects are moved: none is lost, and each is counted once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use scan_pipeline::health::BreakerState;
use scan_pipeline::job::JobOptions;
use scan_pipeline::objects::{KeyRange, ObjectOps};
use scan_pipeline::queue::{
    DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle, SqliteQueue,
};
use scan_pipeline::store::{Advance, Counters, Job, JobId, JobState, JobStore, NewJob, SqliteStore};
use scan_pipeline::worker::{Outcome, Worker};
use scan_pipeline::workflow::Workflow;
use scan_pipeline::{Error, ErrorKind, Policy, Result};

use crate::common::{get, put};
use crate::jobs::Set;

/// A page of the bucket has a thousand.
const OBJECTS: usize = 1150;
/// Receipts hold for as long as a test.
const LEASE: Duration = Duration::from_secs(600);

/// Calls of a lister.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// The job is about to be read.
    Read,
    /// The cursor is about to be moved.
    Advance,
    /// It was.
    Advanced,
    /// Chunks are about to be enqueued.
    Enqueue,
    /// Half of them were.
    Half,
    /// They were.
    Enqueued,
}

/// Those that change something.
const CALLS: [Call; 5] = [Call::Advance, Call::Advanced, Call::Enqueue, Call::Half, Call::Enqueued];

type Between = dyn Fn(Call) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// A store of jobs, and a queue that may know no duplicates, with something that happens at each of these calls.
#[derive(Clone)]
struct Around {
    store: SqliteStore,
    queue: Arc<SqliteQueue>,
    dedupe: bool,
    between: Arc<Between>,
}

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}

#[async_trait]
impl JobStore for Around {
    async fn create_job(&self, job: &NewJob) -> Result<()> {
        self.store.create_job(job).await
    }
    async fn job(&self, id: &JobId) -> Result<Option<Job>> {
        (self.between)(Call::Read).await?;
        self.store.job(id).await
    }
    async fn job_head(&self, id: &JobId) -> Result<Option<Job>> {
        self.store.job_head(id).await
    }
    async fn jobs(&self, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
        self.store.jobs(before, most).await
    }
    async fn advance(&self, id: &JobId, shard: u32, step: &Advance) -> Result<Option<JobState>> {
        (self.between)(Call::Advance).await?;
        let state = self.store.advance(id, shard, step).await?;
        (self.between)(Call::Advanced).await?;
        Ok(state)
    }
    async fn count(&self, id: &JobId, shard: u32, chunk: u64, counters: &Counters) -> Result<JobState> {
        self.store.count(id, shard, chunk, counters).await
    }
    async fn end_job(&self, id: &JobId, state: JobState, why: Option<&str>) -> Result<JobState> {
        self.store.end_job(id, state, why).await
    }
}

#[async_trait]
impl Queue for Around {
    fn caps(&self) -> QueueCaps {
        self.queue.caps()
    }
    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        let mut messages = messages.to_vec();
        if !self.dedupe {
            messages.iter_mut().for_each(|message| message.dedupe = None);
        }
        let (first, second) = messages.split_at(messages.len() / 2);
        (self.between)(Call::Enqueue).await?;
        let mut answers = self.queue.enqueue(first).await?;
        (self.between)(Call::Half).await?;
        answers.extend(self.queue.enqueue(second).await?);
        (self.between)(Call::Enqueued).await?;
        Ok(answers)
    }
    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        self.queue.lease(most, ttl, wait).await
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

/// Works on everything that waits.
async fn work_off(queue: &SqliteQueue, worker: &Worker) {
    loop {
        let leased = queue.lease(10, LEASE, Duration::ZERO).await.expect("leased");
        if leased.is_empty() {
            return;
        }
        for delivery in leased {
            assert_eq!(worker.handle(&delivery.body).await, Outcome::Done);
            queue.settle(&[(delivery.receipt, Settle::Done)]).await.expect("settled");
        }
    }
}

/// A job over everything in a bucket, and who works on it.
struct Scene {
    set: Arc<Set>,
    worker: Worker,
    id: JobId,
    shard: Delivery,
}

impl Scene {
    async fn new() -> Self {
        Self::of(OBJECTS, 100).await
    }

    /// With so many objects, and as many in a chunk.
    async fn of(objects: usize, chunk: u32) -> Self {
        let set = Set::new().await;
        for number in 0..objects {
            put(&*set.rig.quarantine, &format!("{number:05}"), &format!("fine {number}")).await;
        }
        let options = JobOptions { shards: 1, chunk, ..JobOptions::default() };
        let id = set.jobs().scan_prefix("quarantine", &options).await.expect("it begins");
        let shard = set.queue.lease(1, LEASE, Duration::ZERO).await.expect("leased").remove(0);
        let worker = set.worker(Self::pipeline(&set), Arc::new(set.store.clone()));
        Self { set: Arc::new(set), worker, id, shard }
    }

    /// It moves what is clean, so that a page that is listed later has others in it.
    fn pipeline(set: &Set) -> scan_pipeline::Pipeline {
        let away = Workflow::new("away").then(scan_pipeline::handler::relocate("infected"));
        set.with(Policy::new().clean(away), "1")
    }

    /// A lister at whose calls something happens.
    fn lister(&self, dedupe: bool, between: Arc<Between>) -> Worker {
        let (store, queue) = (self.set.store.clone(), Arc::clone(&self.set.queue));
        let around = Arc::new(Around { store, queue, dedupe, between });
        let options = crate::worker::options();
        Worker::with_jobs(Self::pipeline(&self.set), Arc::clone(&around) as _, around, options).expect("a worker")
    }

    /// Everything is where it belongs, and was counted.
    async fn check(&self, about: &str) {
        let (set, job) = (&self.set, self.set.jobs().get(&self.id).await.expect("known"));
        let left = set.rig.quarantine.list(&KeyRange::default()).await.expect("a page").entries.len();
        assert_eq!((left, set.rig.scans.get() as usize), (0, OBJECTS), "{about}: {:?}", job.totals);
        assert!(get(&*set.rig.infected, "01149").await.is_some(), "{about}");
        assert_eq!((job.state, job.totals.clean, job.totals.objects()), (JobState::Done, 1150, 1150), "{about}");
        assert_eq!((job.listed(), set.dead().await), (1150, 0), "{about}");
    }
}

/// Whether this is the call of this kind and number.
fn nth(wanted: (Call, u64)) -> impl Fn(Call) -> bool {
    let count = AtomicU64::new(0);
    move |call| call == wanted.0 && count.fetch_add(1, Ordering::SeqCst) == wanted.1
}

#[tokio::test(flavor = "multi_thread")]
async fn no_object_is_lost_when_a_lister_fails_and_its_chunks_are_worked_on_before_the_next() {
    for (call, at) in CALLS.into_iter().flat_map(|call| [(call, 0), (call, 1)]) {
        // A queue without duplicates is tried where some are there already.
        for dedupe in [true, false].into_iter().filter(|dedupe| *dedupe || call == Call::Half) {
            let about = format!("{call:?} {at}, dedupe {dedupe}");
            let scene = Scene::new().await;
            let is_it = nth((call, at));
            let fails = move |call: Call| -> BoxFuture<'static, Result<()>> {
                let down = is_it(call);
                Box::pin(async move {
                    if down { Err(Error::new(ErrorKind::Unavailable, "connection reset")) } else { Ok(()) }
                })
            };
            let failed = scene.lister(dedupe, Arc::new(fails)).handle(&scene.shard.body).await;
            assert!(matches!(failed, Outcome::Retry { .. }), "{about}: {failed:?}");
            work_off(&scene.set.queue, &scene.worker).await;
            let calm = scene.lister(dedupe, Arc::new(|_| Box::pin(async { Ok(()) })));
            assert_eq!(calm.handle(&scene.shard.body).await, Outcome::Done, "{about}");
            work_off(&scene.set.queue, &scene.worker).await;
            scene.check(&about).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_object_is_lost_between_two_listers_of_one_shard() {
    for (call, at) in CALLS.into_iter().flat_map(|call| [(call, 0), (call, 1)]) {
        let about = format!("{call:?} {at}");
        let scene = Scene::new().await;
        let is_it = nth((call, at));
        let (set, worker, shard) = (Arc::clone(&scene.set), scene.worker.clone(), scene.shard.body.clone());
        // The other one does all that there is to do while this one waits.
        let other = move |call: Call| -> BoxFuture<'static, Result<()>> {
            let now = is_it(call);
            let (set, worker, shard) = (Arc::clone(&set), worker.clone(), shard.clone());
            Box::pin(async move {
                if now {
                    work_off(&set.queue, &worker).await;
                    assert_eq!(worker.handle(&shard).await, Outcome::Done);
                    work_off(&set.queue, &worker).await;
                }
                Ok(())
            })
        };
        assert_eq!(scene.lister(true, Arc::new(other)).handle(&scene.shard.body).await, Outcome::Done, "{about}");
        work_off(&scene.set.queue, &scene.worker).await;
        scene.check(&about).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_store_of_jobs_or_of_the_queue_is_seen_as_one() {
    for (down, name) in [(Call::Read, "store"), (Call::Enqueue, "queue")] {
        let scene = Scene::new().await;
        let fails = move |call: Call| -> BoxFuture<'static, Result<()>> {
            Box::pin(async move {
                if call == down { Err(Error::new(ErrorKind::Unavailable, "connection refused")) } else { Ok(()) }
            })
        };
        let lister = scene.lister(true, Arc::new(fails));
        let state = || lister.health().breaker(name).dependency().state;
        for _ in 0..20 {
            let outcome = lister.handle(&scene.shard.body).await;
            assert!(matches!(outcome, Outcome::Retry { outage: true, .. }), "{name}: {outcome:?}");
        }
        assert_eq!(state(), BreakerState::Open, "{name}");
    }
}

/// A queue without duplicates would have them worked on twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_takes_its_place_again_hands_out_nothing_again() {
    // A turn is fifty pages.
    let scene = Scene::of(50_500, 1000).await;
    let lister = scene.lister(false, Arc::new(|_| Box::pin(async { Ok(()) })));
    for _ in 0..2 {
        assert_eq!(lister.handle(&scene.shard.body).await, Outcome::Done);
    }
    let job = scene.set.jobs().get(&scene.id).await.expect("known");
    assert!(job.is_listed() && job.listed() == 50_500, "{job:?}");
    let ready = scene.set.queue.depth().await.expect("counted").ready;
    assert_eq!(ready, 51 + 1, "chunks, and the message for the second turn");
}
