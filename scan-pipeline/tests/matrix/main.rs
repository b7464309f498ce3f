//! The crash matrix: a worker that kills itself before or after each kind of call to queue, stores and bucket, and around
//! each effect, again and again, over a history with duplicates, overwrites (some of them while it works), deletions,
//! poison and a bulk job; on each backend. Then a checker reads what is left.
//!
//! `child` is what the processes that die run; `MATRIX_*` in the environment tell it where and at what to die.

mod check;
mod frozen;
mod function;
mod history;
mod mortal;
mod receiver;

use std::ops::Range;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scan_pipeline::handler::{StepOutput, from_fn, notify, relocate, tag};
use scan_pipeline::objects::{LocalBucket, ObjectOps};
use scan_pipeline::queue::{Queue, SqliteQueue};
use scan_pipeline::store::{JobStore, SqliteStore, Store};
use scan_pipeline::testkit::Interleaved;
use scan_pipeline::worker::{Worker, WorkerOptions};
use scan_pipeline::workflow::{RetryPolicy, Step, Workflow};
use scan_pipeline::{Pipeline, Policy};
use tokio_util::sync::CancellationToken;

use history::{Scanner, note};
use mortal::{Mortal, MortalHandler, POINTS, Points};
use receiver::Receiver;

/// Objects of a history, besides those that are overwritten while workers are at work, and those of its bulk job: more than
/// 200 in all.
const TASKS: Range<usize> = 0..160;
/// How often one point is fatal in a run over the history.
const DEATHS: u32 = 3;
const LEASE: Duration = Duration::from_millis(600);

/// Where tasks and messages are kept.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    /// In files of the run's directory.
    Sqlite,
    /// In a database of its own.
    #[cfg(feature = "postgres")]
    Postgres(String),
}

impl Backend {
    async fn stores(&self, dir: &Path) -> (Arc<dyn Store>, Arc<dyn JobStore>) {
        match self {
            Self::Sqlite => {
                let store = Arc::new(SqliteStore::open(dir.join("state.db")).await.expect("a store"));
                (Arc::clone(&store) as Arc<dyn Store>, store)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let store = Arc::new(scan_pipeline::store::PostgresStore::open(url).await.expect("a store"));
                (Arc::clone(&store) as Arc<dyn Store>, store)
            }
        }
    }

    async fn queue(&self, dir: &Path) -> Arc<dyn Queue> {
        match self {
            Self::Sqlite => Arc::new(SqliteQueue::open(dir.join("queue.db")).await.expect("a queue")),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Arc::new(scan_pipeline::queue::PostgresQueue::open(url).await.expect("a queue")),
        }
    }

    /// What tells a child.
    fn name(&self) -> &str {
        match self {
            Self::Sqlite => "sqlite",
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => url,
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "sqlite" => Self::Sqlite,
            #[cfg(feature = "postgres")]
            url => Self::Postgres(url.to_owned()),
            #[cfg(not(feature = "postgres"))]
            other => panic!("{other} is not compiled in"),
        }
    }
}

/// A system outside that takes each key once, and notes every call.
fn effect(dir: &Path, points: &Points) -> Step {
    let (dir, points) = (dir.to_owned(), points.clone());
    let step = Step::new(from_fn("effect", move |scanned, step| {
        let (dir, points) = (dir.clone(), points.clone());
        async move {
            points.pass("effect", true);
            let sha256 = scanned.report.sha256.expect("it was scanned");
            let (key, status) = (&scanned.object.key, scanned.verdict().status());
            if history::is_slow(key) {
                tokio::time::sleep(LEASE / 2).await;
            }
            note(&dir, "effects", &format!("{} {key} {sha256} {status}", step.idempotency_key));
            points.pass("effect", false);
            Ok(StepOutput::none())
        }
    }));
    step.retry(retry(40))
}

/// A system outside that is told by HTTP.
fn told(points: &Points) -> Step {
    let url = std::env::var("MATRIX_WEBHOOK").expect("a receiver");
    let webhook = notify(url).allow_http().allow_private_addresses().build().expect("a webhook");
    Step::new(MortalHandler(points.clone(), "webhook", webhook)).retry(retry(40))
}

fn retry(max_attempts: u32) -> RetryPolicy {
    let millis = Duration::from_millis;
    RetryPolicy { max_attempts, initial: millis(1), factor: 1.0, cap: millis(2) }
}

async fn worker(dir: &Path, backend: &Backend, points: &Points) -> (Worker, Arc<dyn Queue>, Arc<dyn JobStore>) {
    let bucket = |name: &str| {
        let (path, points) = (dir.join(name), points.clone());
        async move {
            let bucket: Arc<dyn ObjectOps> = Arc::new(LocalBucket::open(path).await.expect("a bucket"));
            Arc::new(Interleaved::new(bucket, move |moment, _, op| {
                points.around_bucket(moment, op);
                async { Ok(()) }
            }))
        }
    };
    let (store, jobs) = backend.stores(dir).await;
    let store = Arc::new(Mortal(points.clone(), store));
    let jobs: Arc<dyn JobStore> = Arc::new(Mortal(points.clone(), jobs));
    let queue: Arc<dyn Queue> = Arc::new(Mortal(points.clone(), backend.queue(dir).await));
    let moved = |name: &str, to: &str| {
        Workflow::new(name).then(tag()).then(relocate(to)).then(effect(dir, points)).then(told(points))
    };
    let pipeline = Pipeline::builder()
        .engine(Scanner::new(dir))
        .bucket("quarantine", bucket("quarantine").await)
        .bucket("clean", bucket("clean").await)
        .bucket("infected", bucket("infected").await)
        .bucket("archive", bucket("archive").await)
        .policy(Policy::new().clean(moved("release", "clean")).infected(moved("isolate", "infected")).unscannable(
            Workflow::new("hold").parallel([Step::new(tag()).into(), effect(dir, points).into(), told(points).into()]),
        ))
        .lease(LEASE)
        .settle(Duration::ZERO)
        .scan_retry(retry(3))
        .concurrency(8)
        .shared_store(store)
        .build()
        .expect("a pipeline");
    let millis = Duration::from_millis;
    let options = WorkerOptions {
        lease: LEASE,
        wait: millis(50),
        resume: millis(50),
        // As many as there can be deaths while a message is in hand.
        retry: retry(60),
        ..WorkerOptions::default()
    };
    let worker = Worker::with_jobs(pipeline, Arc::clone(&queue), Arc::clone(&jobs), options).expect("a worker");
    (worker, queue, jobs)
}

/// What the child does: everything that is left to do.
#[test]
fn child() {
    let Some(dir) = std::env::var_os("MATRIX_DIR") else { return };
    let dir = Path::new(&dir);
    let points = Points::from_environment();
    let backend = Backend::named(&std::env::var("MATRIX_BACKEND").expect("a backend"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (worker, queue, jobs) = worker(dir, &backend, &points).await;
        let (stop, started) = (CancellationToken::new(), Instant::now());
        let running = tokio::spawn({
            let (worker, stop) = (worker.clone(), stop.clone());
            async move { worker.run(stop).await }
        });
        // While it was frozen, the server may have ended its connections.
        while !history::is_over(&*queue, &**worker.pipeline().store(), &*jobs).await.unwrap_or(false) {
            assert!(started.elapsed() < Duration::from_secs(300), "{:?}", queue.depth().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        assert_eq!(running.await.expect("no panic").abandoned, 0);
    });
}

/// What a run is about: its directory, its backend, and whom it tells.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    dir: &'a Path,
    backend: &'a Backend,
    receiver: &'a Receiver,
}

fn child_of(site: Site<'_>, what: &str, deadly: Option<(&str, bool, u32)>) -> Command {
    let Site { dir, backend, receiver } = site;
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", what, "--nocapture"]).env("MATRIX_DIR", dir).env("MATRIX_BACKEND", backend.name());
    command.env("MATRIX_WEBHOOK", receiver.url());
    if let Some((point, before, nth)) = deadly {
        command.env("MATRIX_POINT", point).env("MATRIX_BEFORE", before.to_string()).env("MATRIX_NTH", nth.to_string());
    }
    command
}

fn run_child(site: Site<'_>, deadly: Option<(&str, bool, u32)>) -> ExitStatus {
    let output = child_of(site, "child", deadly).output().expect("the child starts");
    let died = std::os::unix::process::ExitStatusExt::signal(&output.status).is_some();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || died, "{deadly:?}: {stderr}");
    output.status
}

/// Runs a history to its end, dying at one point again and again, and checks what is left.
fn run(backend: &Backend, point: &str, before: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let receiver = Receiver::start(dir);
    let site = Site { dir, backend, receiver: &receiver };
    let at = format!("{} {point}", if before { "before" } else { "after" });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (queue, store, jobs, job) = runtime.block_on(async {
        let (queue, (store, jobs)) = (backend.queue(dir).await, backend.stores(dir).await);
        history::write(dir, &*queue, TASKS.chain(history::OVERWRITTEN)).await;
        let job = history::begin_job(dir, Arc::clone(&queue), Arc::clone(&jobs)).await;
        (queue, store, jobs, job)
    });
    let (mut died, mut deaths, mut children) = (0, 0, 0);
    std::thread::scope(|scope| {
        let rival = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { history::overwrite(dir, &*backend.queue(dir).await).await });
        });
        loop {
            children += 1;
            assert!(children < 100, "{at}: no end after {children} processes");
            let all_there = rival.is_finished();
            let deadly = (died < DEATHS).then(|| (point, before, mortal::nth(point, died)));
            if !run_child(site, deadly).success() {
                deaths += 1;
                died = check::lines(dir, "deaths").len().try_into().expect("few");
            } else if all_there {
                break;
            }
        }
    });
    assert!(died > 0, "{at}: the point was never passed");
    // Poison kills as well; how often depends on how many of its attempts were others' deaths.
    assert!(deaths > died, "{at}: {deaths} deaths, {died} of them there");
    let numbers: Vec<_> = TASKS.chain(history::overwritten()).chain(history::ARCHIVED).collect();
    runtime.block_on(async {
        check::all(dir, (&*store, &*queue), &numbers, (1, deaths), &at).await;
        check::job(&*jobs, &job, &at).await;
    });
}

#[test]
fn sqlite_loses_nothing_and_repeats_nothing_wherever_it_dies() {
    for point in POINTS {
        for before in [true, false] {
            run(&Backend::Sqlite, point, before);
        }
    }
}

#[cfg(feature = "postgres")]
#[test]
fn postgres_loses_nothing_and_repeats_nothing_wherever_it_dies() {
    let Some(server) = scan_pipeline_tests::postgres::shared() else { return };
    for point in POINTS {
        for before in [true, false] {
            let database = server.database();
            run(&Backend::Postgres(database.url()), point, before);
        }
    }
}
