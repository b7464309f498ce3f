//! Kill -9 at every point: a child process kills itself before or after its n-th call of store or bucket, or around an
//! effect; another goes on where it stopped; then everything must have happened once.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use scan_pipeline::handler::{StepOutput, from_fn, relocate, tag};
use scan_pipeline::model::{TaskId, Timestamp};
use scan_pipeline::objects::{LocalBucket, ObjectOps};
use scan_pipeline::pipeline::Progress;
use scan_pipeline::store::{
    AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Lease, SqliteStore, Store, TaskFilter,
    TaskRecord, TaskState,
};
use scan_pipeline::testkit::{Interleaved, Op};
use scan_pipeline::workflow::{Step, Workflow};
use scan_pipeline::{Pipeline, Policy, Result};

use crate::common::{Count, engine, quick};

const DIR: &str = "SCAN_PIPELINE_CRASH_DIR";
const AT: &str = "SCAN_PIPELINE_CRASH_AT";
pub(crate) const LEASE: Duration = Duration::from_millis(300);
const OBJECTS: [(&str, &str); 3] = [("a.txt", "fine"), ("b.txt", "infected"), ("sub/c.txt", "locked")];

/// Passed so far, and at which of them to die.
#[derive(Debug, Clone)]
pub(crate) struct Points {
    passed: Arc<AtomicU32>,
    deadly: u32,
}

impl Points {
    /// The folder of this process and its points, if it is a child.
    pub(crate) fn of_child() -> Option<(PathBuf, Self)> {
        let dir = PathBuf::from(std::env::var_os(DIR)?);
        let deadly = std::env::var(AT).ok().and_then(|at| at.parse().ok()).unwrap_or(0);
        Some((dir, Self { passed: Arc::default(), deadly }))
    }

    fn pass(&self) {
        if self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.deadly {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal is on its way; nothing more may happen here.
            loop {
                std::thread::park();
            }
        }
    }

    async fn around<T>(&self, call: impl Future<Output = T>) -> T {
        self.pass();
        let result = call.await;
        self.pass();
        result
    }
}

#[derive(Debug)]
pub(crate) struct Mortal(pub(crate) Points, pub(crate) SqliteStore);

#[async_trait]
impl Store for Mortal {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.around(self.1.claim(request)).await
    }

    async fn reopen(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.around(self.1.reopen(request)).await
    }

    async fn commit(&self, lease: &Lease, changes: Changes) -> Result<Timestamp> {
        self.0.around(self.1.commit(lease, changes)).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        self.1.task(id).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        self.1.tasks(filter).await
    }

    async fn audit(&self, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
        self.1.audit(after, most).await
    }

    async fn audit_head(&self) -> Result<AuditHead> {
        self.1.audit_head().await
    }

    async fn cached(&self, key: &CacheKey) -> Result<Option<CachedReport>> {
        self.1.cached(key).await
    }
}

/// A bucket with a point before and after each call that reads contents or changes anything.
pub(crate) fn mortal(bucket: LocalBucket, points: &Points) -> Arc<dyn ObjectOps> {
    let points = points.clone();
    Arc::new(Interleaved::new(Arc::new(bucket), move |_, _, op| {
        if !matches!(op, Op::Stat | Op::Tags | Op::List) {
            points.pass();
        }
        std::future::ready(Ok(()))
    }))
}

/// A system outside that takes each key once, as one with idempotency does, and notes every call.
fn notify(dir: &Path, points: &Points) -> Step {
    let (dir, points) = (dir.to_owned(), points.clone());
    Step::new(from_fn("notify", move |scanned, step| {
        let (dir, points) = (dir.clone(), points.clone());
        async move {
            points.pass();
            let line = format!("{} {} {}\n", step.idempotency_key, scanned.object.key, scanned.verdict().status());
            let mut log = std::fs::File::options().append(true).create(true).open(dir.join("calls")).expect("opens");
            log.write_all(line.as_bytes()).expect("written");
            points.pass();
            Ok(StepOutput::none())
        }
    }))
    .retry(scan_pipeline::workflow::RetryPolicy { max_attempts: 5, ..quick() })
}

async fn pipeline(dir: &Path, points: &Points) -> Pipeline {
    let store = SqliteStore::open(dir.join("state.db")).await.expect("a store");
    let bucket = |name: &str| {
        let (path, points) = (dir.join(name), points.clone());
        async move {
            let bucket = LocalBucket::open(path).await.expect("a bucket");
            mortal(bucket, &points)
        }
    };
    let scans = Count::default();
    Pipeline::builder()
        .engine(engine(&scans))
        .bucket("quarantine", bucket("quarantine").await)
        .bucket("clean", bucket("clean").await)
        .bucket("infected", bucket("infected").await)
        .policy(
            Policy::new()
                .clean(Workflow::new("release").then(relocate("clean")).then(notify(dir, points)))
                .infected(Workflow::new("isolate").then(tag()).then(relocate("infected")).then(notify(dir, points)))
                .unscannable(Workflow::new("hold").parallel([tag_step(), notify(dir, points).into()])),
        )
        .lease(LEASE)
        .settle(Duration::ZERO)
        .scan_retry(quick())
        // One after the other, so that the n-th point is the same in each run.
        .concurrency(1)
        .store(Mortal(points.clone(), store))
        .build()
        .expect("a pipeline")
}

fn tag_step() -> scan_pipeline::workflow::Branch {
    Step::new(tag()).into()
}

/// What the child does.
#[test]
fn child() {
    let Some((dir, points)) = Points::of_child() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { finish(&pipeline(&dir, &points).await).await });
}

/// Does everything that is left to do.
pub(crate) async fn finish(pipeline: &Pipeline) {
    let started = Instant::now();
    loop {
        let resumed = pipeline.resume().await.expect("readable");
        let events: Vec<_> = pipeline.process_prefix("quarantine").expect("a bucket").collect().await;
        let failed = |event: &Progress| !matches!(event, Progress::Done(done) if done.record.state.is_terminal());
        // The dead process holds a lease until it runs out; an object that it moved is in no listing.
        let states = vec![TaskState::Pending, TaskState::Scanning, TaskState::Handling];
        let left = TaskFilter { states, ..TaskFilter::default() };
        let left = pipeline.store().tasks(&left).await.expect("readable");
        if left.is_empty() && !events.iter().any(failed) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{:?} {events:?} {left:?}", resumed.errors);
        tokio::time::sleep(LEASE / 10).await;
    }
    pipeline.drain().await;
}

/// Kills at one point after the other until one process survives; how many points there were. Some at once: most of the time
/// of a child is spent waiting for the lease of the one that was killed.
pub(crate) fn at_every_point(survives: impl Fn(u32) -> bool + Sync) -> u32 {
    const AT_ONCE: usize = 4;
    let (next, last) = (AtomicU32::new(1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while !last.load(Ordering::SeqCst) {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    if survives(at) {
                        last.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    next.load(Ordering::SeqCst)
}

/// Runs a test of this program as a process of its own that dies at this point.
pub(crate) fn run_child(test: &str, dir: &Path, at: u32, variables: &[(&str, &str)]) -> ExitStatus {
    let this = std::env::current_exe().expect("this program");
    let output = Command::new(this)
        .args(["--exact", test, "--nocapture"])
        .env(DIR, dir)
        .env(AT, at.to_string())
        .envs(variables.iter().copied())
        .output()
        .expect("the child starts");
    let died = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
    if !output.status.success() && !died {
        panic!("at {at}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status
}

#[test]
fn everything_happens_once_wherever_the_process_dies() {
    let points = at_every_point(|at| {
        let dir = tempfile::tempdir().expect("a directory");
        for bucket in ["quarantine/sub", "clean", "infected"] {
            std::fs::create_dir_all(dir.path().join(bucket)).expect("a directory");
        }
        for (key, text) in OBJECTS {
            std::fs::write(dir.path().join("quarantine").join(key), text).expect("written");
        }
        let survived = run_child("crash::child", dir.path(), at, &[]).success();
        if !survived {
            assert!(run_child("crash::child", dir.path(), 0, &[]).success());
        }
        check(dir.path(), at);
        survived
    });
    // Three objects with two or three steps each: fewer would mean that the points are not passed.
    assert!(points > 60, "only {points} points");
}

fn check(dir: &Path, at: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(dir.join("state.db")).await.expect("a store");
        let verified = scan_pipeline::store::audit::verify(&store).await.expect("readable");
        assert!(verified.problems.is_empty(), "at {at}: {:?}", verified.problems);
        let tasks = store.tasks(&TaskFilter { most: 100, ..TaskFilter::default() }).await.expect("tasks");
        let states = Shown(&tasks);
        // A second task for an object would be a second scan with its effects under other keys.
        assert_eq!(tasks.len(), OBJECTS.len(), "at {at}: {states}");
        for task in &tasks {
            assert_eq!(task.state, TaskState::Done, "at {at}: {states}");
        }
    });
    for (key, text) in OBJECTS {
        let places = ["quarantine", "clean", "infected"].map(|bucket| std::fs::read(dir.join(bucket).join(key)).ok());
        let expected = match text {
            "fine" => [None, Some(text), None],
            "infected" => [None, None, Some(text)],
            _ => [Some(text), None, None],
        };
        assert_eq!(places, expected.map(|text| text.map(|text| text.as_bytes().to_vec())), "at {at}: {key}");
    }
    let calls = std::fs::read_to_string(dir.join("calls")).expect("calls");
    let mut by_object: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for call in calls.lines() {
        let (idempotency, rest) = call.split_once(' ').expect("a call");
        by_object.entry(rest).or_default().push(idempotency);
    }
    assert_eq!(by_object.len(), OBJECTS.len(), "at {at}: {calls}");
    for (object, mut keys) in by_object {
        // One that died between the effect and its journal is called again, with the same key.
        assert!(keys.len() <= 2, "at {at}: {object} {keys:?}");
        keys.dedup();
        assert_eq!(keys.len(), 1, "at {at}: {object} has two effects");
    }
}

struct Shown<'a>(&'a [TaskRecord]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for task in self.0 {
            write!(f, "[{} {} {:?}] ", task.object.key, task.state, task.error)?;
        }
        Ok(())
    }
}
