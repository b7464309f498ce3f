//! From an object to the last action that follows from its scan, once.
//!
//! This is the only place that knows the whole order: pin the object, claim its task, read it, scan it, record what was
//! found, run the workflow that the policy names, record the end. Every arrow is journalled in the store, so a process
//! that dies anywhere leaves a task that [`Pipeline::resume`] takes up where it stopped.

mod adopt;
mod attend;
mod builder;
mod follow;
mod lease;
mod prefix;
mod resume;
mod scan;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::content::Spool;
use crate::engine::{Engine, VerdictCache};
use crate::handler::Place;
use crate::health::Health;
use crate::model::{ObjectRef, Report, TaskId, Timestamp};
use crate::objects::{Buckets, ObjectOps};
use crate::policy::Policy;
use crate::store::{Changes, Claim, ClaimRequest, LeaseChange, Store, TaskFilter, TaskRecord, TaskState};
use crate::workflow::Run;
use crate::{Error, ErrorKind, Result};

pub use attend::{Again, Attended, Known};
pub use builder::PipelineBuilder;
pub use prefix::Progress;
pub use resume::Resumed;
pub use upload::{Upload, UploadRequest};

use lease::{Held, Permit};

/// The scheme of the pseudo-buckets of uploads, which are no objects.
pub(crate) const UPLOAD_SCHEME: &str = "upload";
/// How many times the time to settle is waited for an object that is still written to.
const MOST_SETTLING: u32 = 5;
/// How often the same bytes may come back under the same key, at the same instant, and be handled anew.
const MOST_INCARNATIONS: u32 = 1000;

/// The whole path, set up once and shared: clones are cheap.
///
/// ```
/// use std::sync::Arc;
/// use scan_pipeline::engine::Closure;
/// use scan_pipeline::handler::{relocate, tag};
/// use scan_pipeline::model::{ObjectRef, Verdict};
/// use scan_pipeline::objects::LocalBucket;
/// use scan_pipeline::store::SqliteStore;
/// use scan_pipeline::workflow::Workflow;
/// use scan_pipeline::{Pipeline, Policy};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// # let dir = tempfile::tempdir().unwrap();
/// # for name in ["quarantine", "clean"] { std::fs::create_dir(dir.path().join(name)).unwrap(); }
/// # std::fs::write(dir.path().join("quarantine/letter.txt"), "Dear Sir or Madam").unwrap();
/// # let (quarantine, clean) = (dir.path().join("quarantine"), dir.path().join("clean"));
/// let pipeline = Pipeline::builder()
///     .engine(Closure::new("none", |_, _| Ok(Verdict::Clean))) // in real life: ClamAv::builder().build().await?
///     .bucket("quarantine", Arc::new(LocalBucket::open(quarantine).await?))
///     .bucket("clean", Arc::new(LocalBucket::open(clean).await?))
///     .policy(Policy::new().clean(Workflow::new("release").then(relocate("clean"))))
///     .store(SqliteStore::in_memory().await?)
///     .build()?;
/// let done = pipeline.process(pipeline.object("quarantine", "letter.txt")?).await?;
/// assert_eq!(done.record.state.as_str(), "done");
/// # assert!(dir.path().join("clean/letter.txt").exists());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<dyn Engine>,
    cache: VerdictCache,
    buckets: Arc<Buckets>,
    policy: Policy,
    store: Arc<dyn Store>,
    spool: Spool,
    options: builder::Options,
    /// One for each task at work.
    permits: Arc<Semaphore>,
    /// What goes on although its caller stopped waiting. Closed from the start, which keeps nothing out: it only lets
    /// everyone who waits for it come to an end.
    running: TaskTracker,
    owner: String,
    health: Health,
}

/// What became of an object.
#[derive(Debug, Clone)]
pub struct Processed {
    /// The task as the store has it.
    pub record: TaskRecord,
    /// Everything had been done before; nothing was done now.
    pub repeated: bool,
    /// How many states of the object were passed over because newer ones took their place.
    pub superseded: u32,
}

impl Processed {
    /// What the scan found, if there was one.
    pub fn report(&self) -> Option<&Report> {
        self.record.report.as_ref()
    }
}

/// How one round with one state of the object ended.
enum Round {
    Ended(Box<Processed>),
    /// Another state is there.
    Superseded,
    /// The store has its task, and this is not the time to work on it.
    Known(attend::Known),
    /// An earlier scan of it may have taken its process with it: it is to be worked on while nothing else is.
    Alone,
}

impl Pipeline {
    /// Begins setting one up.
    pub fn builder() -> PipelineBuilder {
        PipelineBuilder::default()
    }

    /// An object in one of the buckets, by the bucket's short name or address: whatever is there now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is no such bucket.
    pub fn object(&self, bucket: &str, key: impl Into<String>) -> Result<ObjectRef> {
        Ok(ObjectRef::new(self.shared.buckets.get(bucket)?.url().clone(), key))
    }

    /// The buckets.
    pub fn buckets(&self) -> &Buckets {
        &self.shared.buckets
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.shared.policy
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.shared.engine
    }

    /// How many tasks are at work at once.
    pub fn concurrency(&self) -> usize {
        self.shared.options.concurrency
    }

    /// What it depends on, and whether that answers.
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// The spool that contents are taken in with.
    pub fn spool(&self) -> &Spool {
        &self.shared.spool
    }

    /// Does everything that has to follow from this object, once. A task that is done is not done again; one that was
    /// left in the middle is taken up there; a state that is not there any more gives way to the current one.
    ///
    /// Dropping the future ends a scan. A workflow that has begun goes on; [`Pipeline::drain`] waits for it.
    ///
    /// # Errors
    ///
    /// The object is not there ([`ErrorKind::Gone`], when the reference was not pinned); somebody else works on it
    /// ([`ErrorKind::Busy`]); bucket, engine or store failed. A retryable error can be tried again as it is.
    pub async fn process(&self, object: ObjectRef) -> Result<Processed> {
        match self.attend(object, &Again::Never).await? {
            Attended::Done(done) => Ok(*done),
            Attended::Known(known) => Err(known.into()),
        }
    }

    /// The same with an object of a listing of just now.
    pub(crate) async fn process_listed(&self, object: ObjectRef) -> Result<Processed> {
        match self.attend_listed(object, &Again::Never).await? {
            Attended::Done(done) => Ok(*done),
            Attended::Known(known) => Err(known.into()),
        }
    }

    /// What has become of the workflow of a task, as a tree.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub async fn show(&self, task: TaskId) -> Result<Option<Run>> {
        let Some(record) = self.shared.store.task(task).await? else { return Ok(None) };
        let Some(name) = &record.workflow else { return Ok(None) };
        Ok(Some(match self.shared.policy.workflows().find(|workflow| workflow.name() == name) {
            Some(workflow) => Run::new(workflow, &record.steps),
            None => Run::of_unknown(name, &record.steps),
        }))
    }

    /// Waits until the workflows that have begun are at an end. New ones may begin meanwhile: stop calling first.
    pub async fn drain(&self) {
        self.shared.running.wait().await;
    }

    async fn permit(&self) -> Result<Permit> {
        let closed = |_| Error::new(ErrorKind::Cancelled, "the pipeline is shut down");
        Arc::clone(&self.shared.permits).acquire_owned().await.map(Permit::new).map_err(closed)
    }

    /// The right to be the only one at work. It comes when those who are there have come to an end.
    async fn permit_alone(&self) -> Result<Permit> {
        let closed = |_| Error::new(ErrorKind::Cancelled, "the pipeline is shut down");
        let all = Arc::clone(&self.shared.permits).acquire_many_owned(self.all_permits());
        all.await.map(Permit::new).map_err(closed)
    }

    fn all_permits(&self) -> u32 {
        u32::try_from(self.shared.options.concurrency).unwrap_or(u32::MAX)
    }

    fn is_alone(&self, permit: &Permit) -> bool {
        permit.num_permits() >= self.shared.options.concurrency
    }

    /// One round with one state of an object.
    async fn round(&self, wanted: &ObjectRef, again: &Again, permit: &Permit) -> Result<Round> {
        let bucket = self.shared.buckets.of(wanted)?;
        // A version is an identity of its own: what is finished needs no look at the object, which may have moved.
        if wanted.version.is_some()
            && let Some(record) = self.shared.store.task(TaskId::of(wanted, 0)).await?
            && matches!(record.state, TaskState::Done | TaskState::Gone | TaskState::Superseded)
            && self.mark(&record, again).is_none()
        {
            return Ok(ended(record, true));
        }
        let object = match self.settled(&**bucket, wanted).await {
            Ok(object) => object,
            Err(why) if why.kind() == ErrorKind::Superseded => return Ok(Round::Superseded),
            Err(why) if why.kind() == ErrorKind::Gone && wanted.is_pinned() => return self.gone(wanted, permit).await,
            Err(why) => return Err(why.about(wanted.to_string())),
        };
        for incarnation in 0..MOST_INCARNATIONS {
            match self.claim(TaskId::of(&object, incarnation), &object).await? {
                // It was moved, deleted or overwritten, and here it is: the same bytes came back under the same key. A
                // version never comes back, so what became of it stays.
                Claim::Finished(record)
                    if object.version.is_none()
                        && (record.place != Place::Here
                            || matches!(record.state, TaskState::Superseded | TaskState::Gone)) => {}
                Claim::Finished(record) if let Some(mark) = self.mark(&record, again) => {
                    let claim = self.claim(TaskId::again(&object, &mark), &object).await?;
                    return self.claimed(claim, &object, permit).await;
                }
                claim => return self.claimed(claim, &object, permit).await,
            }
        }
        Err(Error::new(ErrorKind::Corrupt, "came back too often under the same key").about(object.to_string()))
    }

    /// A round with what a listing has pinned; `None` where one has to look. The listing may be older than the end of
    /// the task, so it does not show that an object came back.
    async fn round_of_listed(&self, object: &ObjectRef, again: &Again, permit: &Permit) -> Result<Option<Round>> {
        match self.claim(TaskId::of(object, 0), object).await? {
            Claim::Finished(record) if record.state != TaskState::Done || record.place != Place::Here => Ok(None),
            Claim::Finished(record) if let Some(mark) = self.mark(&record, again) => {
                let claim = self.claim(TaskId::again(object, &mark), object).await?;
                self.claimed(claim, object, permit).await.map(Some)
            }
            claim => self.claimed(claim, object, permit).await.map(Some),
        }
    }

    /// What is there, once nobody seems to write to it any more.
    async fn settled(&self, bucket: &dyn ObjectOps, wanted: &ObjectRef) -> Result<ObjectRef> {
        let settle = self.shared.options.settle;
        let give_up = tokio::time::Instant::now() + settle.saturating_mul(MOST_SETTLING);
        loop {
            let object = bucket.stat(wanted).await?.object;
            let Some(left) = self.unsettled(bucket, &object) else { return Ok(object) };
            if tokio::time::Instant::now() >= give_up {
                let why = "is still being written to; come back when it has not changed for a while";
                return Err(Error::new(ErrorKind::Busy, why).about(wanted.to_string()));
            }
            tokio::time::sleep(left).await;
        }
    }

    /// How long an object has to stay unchanged yet.
    fn unsettled(&self, bucket: &dyn ObjectOps, object: &ObjectRef) -> Option<Duration> {
        let (now, modified) = (Timestamp::now(), object.modified?);
        // A time in the future says nothing about when it was written.
        if bucket.caps().whole_objects || modified > now {
            return None;
        }
        self.shared.options.settle.checked_sub(now.since(modified)).filter(|left| !left.is_zero())
    }

    async fn claim(&self, id: TaskId, object: &ObjectRef) -> Result<Claim> {
        self.shared.store.claim(&self.request(id, object)?).await
    }

    fn request(&self, id: TaskId, object: &ObjectRef) -> Result<ClaimRequest> {
        // Its tasks wait until their bucket is set up again, or for the pipeline that has it.
        if object.bucket.scheme() != UPLOAD_SCHEME {
            self.shared.buckets.of(object)?;
        }
        let ttl = self.shared.options.lease;
        Ok(ClaimRequest { id, object: object.clone(), owner: self.shared.owner.clone(), ttl })
    }

    fn held(&self, lease: crate::store::Lease, permit: &Permit) -> Held {
        Held::new(lease, Arc::clone(&self.shared.store), self.shared.options.lease, Permit::clone(permit))
    }

    async fn claimed(&self, claim: Claim, object: &ObjectRef, permit: &Permit) -> Result<Round> {
        match claim {
            Claim::Mine(lease, record) if is_suspect(&record) && !self.is_alone(permit) => {
                let mut held = self.held(lease, permit);
                // Nothing was tried.
                held.commit(Changes { lease: LeaseChange::Return, ..Changes::default() }).await?;
                Ok(Round::Alone)
            }
            Claim::Mine(lease, record) => self.work(self.held(lease, permit), *record).await,
            Claim::Finished(record) => Ok(ended(*record, true)),
            // A workflow that waits needs nobody; a scan that waits has failed, and its caller should know.
            Claim::NotYet { record, .. } if record.state == TaskState::Handling => Ok(ended(*record, true)),
            Claim::NotYet { until, record } => Ok(Round::Known(attend::Known::Waits { until, record })),
            Claim::Busy { owner, until } => {
                let object = object.clone();
                Ok(Round::Known(attend::Known::Busy { object, owner, until }))
            }
        }
    }

    /// The object of an event is not there: that is on record, and it is not clean. Where a workflow is under way, it
    /// may be the workflow that has moved it, and goes on.
    async fn gone(&self, wanted: &ObjectRef, permit: &Permit) -> Result<Round> {
        let under_way = self.under_way(wanted).await?;
        let (id, object) =
            under_way.map_or_else(|| (TaskId::of(wanted, 0), wanted.clone()), |record| (record.id, record.object));
        match self.claim(id, &object).await? {
            Claim::Mine(lease, record) if record.state != TaskState::Handling => {
                let why = "was not there any more";
                self.end(self.held(lease, permit), *record, Changes::default(), TaskState::Gone, why).await
            }
            claim => self.claimed(claim, &object, permit).await,
        }
    }

    /// The task of a state that is not there any more, if it has not come to its end. Without a version its id holds the
    /// time of the state as well, which an event does not tell and nobody can look up now. Where nobody resumes, as in a
    /// function, what that task has left to do would otherwise be left for ever.
    async fn under_way(&self, wanted: &ObjectRef) -> Result<Option<TaskRecord>> {
        if wanted.version.is_some() || wanted.modified.is_some() {
            return Ok(None);
        }
        let states = vec![TaskState::Pending, TaskState::Scanning, TaskState::Handling];
        let mut filter = TaskFilter { states, most: 1000, ..TaskFilter::default() };
        loop {
            let page = self.shared.store.tasks(&filter).await?;
            let Some(last) = page.last() else { return Ok(None) };
            filter.after = Some(last.id);
            let state = |object: &ObjectRef| {
                (&object.bucket, &object.key, &object.etag) == (&wanted.bucket, &wanted.key, &wanted.etag)
            };
            if let Some(record) =
                page.into_iter().find(|record| record.object.version.is_none() && state(&record.object))
            {
                return Ok(Some(record));
            }
        }
    }

    /// Goes on with a task from where it stands.
    async fn work(&self, mut held: Held, record: TaskRecord) -> Result<Round> {
        if let (TaskState::Handling, Some(report)) = (record.state, &record.report) {
            let report = report.clone();
            return self.go_on(held, record, report).await;
        }
        match self.scan(&mut held, &record).await? {
            scan::Scan::Found(found) => self.follow(held, record, *found).await,
            scan::Scan::Ended(state, why) => self.end(held, record, Changes::default(), state, &why).await,
        }
    }
}

/// An earlier scan was begun and never came to an end, not even to a failure: perhaps it has killed its process, and
/// whatever else was at work there with it. Alone it can harm nobody else, and nobody else's attempts are used up.
fn is_suspect(record: &TaskRecord) -> bool {
    record.state == TaskState::Scanning && record.attempts > 1 && record.error.is_none()
}

fn ended(record: TaskRecord, repeated: bool) -> Round {
    Round::Ended(Box::new(Processed { record, repeated, superseded: 0 }))
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.shared;
        f.debug_struct("Pipeline")
            .field("engine", &shared.engine.info().name)
            .field("buckets", &shared.buckets)
            .field("policy", &shared.policy.explain())
            .field("store", &shared.store)
            .finish_non_exhaustive()
    }
}
