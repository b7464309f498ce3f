//! Kill -9 at every point of workflows whose effects are outside: a record in a bucket, a delete, a webhook, and what runs
//! when a step has failed for good.

use std::path::Path;
use std::time::Duration;

use scan_pipeline::handler::{HandlerError, StepOutput, delete, from_fn, notify, record_to, relocate};
use scan_pipeline::model::Verdict;
use scan_pipeline::objects::LocalBucket;
use scan_pipeline::store::{SqliteStore, Store, TaskFilter, TaskState, audit};
use scan_pipeline::workflow::{Step, Workflow};
use scan_pipeline::{Pipeline, Policy};

use crate::common::{Count, engine, quick};
use crate::crash::{LEASE, Mortal, Points, at_every_point, finish, mortal, run_child};

#[path = "../fleet/receiver.rs"]
mod receiver;
use receiver::Receiver;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const URL: &str = "SCAN_PIPELINE_CRASH_URL";
const OBJECTS: [(&str, &str); 3] = [("a.txt", "fine"), ("b.txt", "infected"), ("c.txt", "locked")];

async fn pipeline(dir: &Path, url: &str, points: &Points) -> Pipeline {
    let tell = |name: &str| {
        let webhook = notify(url).secret(SECRET).allow_http().allow_private_addresses().build().expect("a webhook");
        Step::new(webhook).named(name).retry(scan_pipeline::workflow::RetryPolicy { max_attempts: 9, ..quick() })
    };
    let fails = from_fn("fails", |_, _| async { Err::<StepOutput, _>(HandlerError::fatal("as it has to")) });
    let alarm = Workflow::new("alarm").then(record_to("records").prefix("failed/")).then(tell("alarm"));
    let policy = Policy::new()
        .clean(Workflow::new("release").then(record_to("records")).then(relocate("clean")).then(tell("tell")))
        .infected(Workflow::new("remove").parallel([Step::new(delete()).into(), tell("tell").into()]))
        .unscannable(Workflow::new("ask").then(fails).on_fatal(alarm));
    let mut builder = Pipeline::builder();
    for name in ["quarantine", "clean", "records"] {
        let bucket = LocalBucket::open(dir.join(name)).await.expect("a bucket");
        builder = builder.bucket(name, mortal(bucket, points));
    }
    let store = SqliteStore::open(dir.join("state.db")).await.expect("a store");
    builder
        .engine(engine(&Count::default()))
        .policy(policy)
        .lease(LEASE)
        .settle(Duration::ZERO)
        .scan_retry(quick())
        .concurrency(1)
        .store(Mortal(points.clone(), store))
        .build()
        .expect("a pipeline")
}

/// What the child does: everything that is left to do.
#[test]
fn child() {
    let (Some((dir, points)), Ok(url)) = (Points::of_child(), std::env::var(URL)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { finish(&pipeline(&dir, &url, &points).await).await });
}

#[test]
fn effects_outside_happen_once_wherever_the_process_dies() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let points = at_every_point(|at| killed_at(at, &runtime));
    assert!(points > 50, "only {points} points");
}

/// Whether it survived: there are no so many points.
fn killed_at(at: u32, runtime: &tokio::runtime::Runtime) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    for bucket in ["quarantine", "clean", "records"] {
        std::fs::create_dir_all(dir.path().join(bucket)).expect("a directory");
    }
    for (key, text) in OBJECTS {
        std::fs::write(dir.path().join("quarantine").join(key), text).expect("written");
    }
    let receiver = runtime.block_on(Receiver::start(SECRET));
    let url = receiver.url();
    let child = |at| run_child("crash_outside::child", dir.path(), at, &[(URL, url.as_str())]).success();
    let survived = child(at);
    if !survived {
        assert!(child(0));
    }
    runtime.block_on(check(dir.path(), &receiver, at));
    survived
}

async fn check(dir: &Path, receiver: &Receiver, at: u32) {
    let store = SqliteStore::open(dir.join("state.db")).await.expect("a store");
    assert_eq!(audit::verify(&store).await.expect("readable").problems, Vec::<String>::new(), "at {at}");
    let tasks = store.tasks(&TaskFilter { most: 100, ..TaskFilter::default() }).await.expect("tasks");
    assert_eq!(tasks.len(), OBJECTS.len(), "at {at}: a second task is a second effect");
    for task in tasks {
        let verdict = task.report.map(|report| report.verdict).expect("a report");
        let expected = if matches!(verdict, Verdict::Unscannable { .. }) { TaskState::Dead } else { TaskState::Done };
        assert_eq!(task.state, expected, "at {at}: {} {:?}", task.object, task.error);
    }
    // Told of each object under one id, whoever has died in between.
    let told: Vec<_> = receiver.told().into_iter().collect();
    let expected = [("a.txt", "clean"), ("b.txt", "infected"), ("c.txt", "unscannable")];
    assert_eq!(told, expected.map(|(key, verdict)| (key.to_owned(), verdict.to_owned())), "at {at}");
    // A call whose answer died with its process comes again, once.
    let calls = receiver.calls();
    assert!(calls.len() == 3 && calls.values().all(|calls| *calls <= 2), "at {at}: {calls:?}");
    assert_eq!(receiver.refused(), Vec::<String>::new(), "at {at}");
    for (bucket, expected) in [("quarantine", vec!["c.txt"]), ("clean", vec!["a.txt"])] {
        assert_eq!(files(&dir.join(bucket)), expected, "at {at}: {bucket}");
    }
    let records = [files(&dir.join("records")), files(&dir.join("records/failed"))];
    assert_eq!(records.each_ref().map(Vec::len), [1, 1], "at {at}: {records:?}");
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry"));
    let mut names: Vec<_> = entries
        .filter(|entry| entry.file_type().expect("a type").is_file())
        .map(|entry| entry.file_name().into_string().expect("a name"))
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}
