//! The worker as a function that dies in the middle of a batch: a file that kills the process during its scan, and its
//! neighbours. Whoever calls it does as AWS does: a batch whose function has died comes again as a whole, and after an
//! answer just the messages that it names do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use scan_pipeline::event::TaskMessage;
use scan_pipeline::model::ObjectRef;
use scan_pipeline::objects::{LocalBucket, ObjectOps};
use scan_pipeline::store::{TaskFilter, TaskState};
use scan_pipeline::worker::lambda;
use serde_json::{Value, json};

use crate::mortal::Points;
use crate::receiver::Receiver;
use crate::{Backend, LEASE, Site, check, child_of, history, worker};

/// The one that kills, among others of every kind.
const NUMBERS: [usize; 10] = [100, 101, 102, 104, 7, 105, 106, 107, 108, 109];
const POISON: &str = "7";
/// How often a process may die of one file: as many attempts as a scan has.
const ATTEMPTS: u32 = 3;

/// What the processes that die run: one call of the function.
#[test]
fn call() {
    let Some(dir) = std::env::var_os("MATRIX_BATCH").map(PathBuf::from) else { return };
    let backend = Backend::named(&std::env::var("MATRIX_BACKEND").expect("a backend"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (worker, ..) = worker(&dir, &backend, &Points::from_environment()).await;
        let batch = std::fs::read(dir.join("batch")).expect("a batch");
        let failures = lambda::handle(&worker, &batch, Duration::from_secs(60)).await.expect("it is a batch");
        std::fs::write(dir.join("failures"), serde_json::to_vec(&failures).expect("JSON")).expect("written");
    });
}

/// Calls it with these messages, by their places. Those that have to come back; `None` when it died.
fn call_with(site: Site<'_>, bodies: &[String], places: &[usize]) -> Option<Vec<usize>> {
    let record = |place: &usize| {
        json!({ "messageId": place.to_string(), "receiptHandle": "AQEB", "body": bodies[*place],
                "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:scans" })
    };
    let batch = json!({ "Records": places.iter().map(record).collect::<Vec<_>>() });
    std::fs::write(site.dir.join("batch"), batch.to_string()).expect("written");
    let mut command = child_of(site, "function::call", None);
    let output = command.env("MATRIX_BATCH", site.dir).output().expect("it starts");
    let died = std::os::unix::process::ExitStatusExt::signal(&output.status).is_some();
    assert!(output.status.success() || died, "{}", String::from_utf8_lossy(&output.stderr));
    if died {
        return None;
    }
    let answer: Value =
        serde_json::from_slice(&std::fs::read(site.dir.join("failures")).expect("an answer")).expect("JSON");
    let failures = answer["batchItemFailures"].as_array().expect("a list").iter();
    Some(failures.map(|one| one["itemIdentifier"].as_str().expect("an id").parse().expect("a place")).collect())
}

async fn messages(dir: &Path) -> Vec<String> {
    for bucket in ["quarantine", "clean", "infected", "archive"] {
        std::fs::create_dir_all(dir.join(bucket)).expect("a directory");
    }
    let bucket = LocalBucket::open(dir.join("quarantine")).await.expect("a bucket");
    let mut bodies = Vec::new();
    for number in NUMBERS {
        let key = number.to_string();
        std::fs::write(dir.join("quarantine").join(&key), history::text(number)).expect("written");
        let info = bucket.stat(&ObjectRef::new(bucket.url().clone(), &key)).await.expect("there");
        bodies.push(TaskMessage::new(&info.object).to_json());
    }
    bodies
}

fn run(backend: &Backend) {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let receiver = Receiver::start(dir);
    let site = Site { dir, backend, receiver: &receiver };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bodies = runtime.block_on(messages(dir));
    let (mut left, mut deaths, mut calls) = ((0..bodies.len()).collect::<Vec<_>>(), 0, 0);
    while !left.is_empty() {
        calls += 1;
        assert!(calls <= 40, "no end after {calls} calls, {deaths} of which died: {left:?}");
        match call_with(site, &bodies, &left) {
            Some(back) => left = back,
            None => deaths += 1,
        }
        // The queue's visibility timeout, which is longer than the function's time and so than a lease.
        std::thread::sleep(LEASE);
    }
    assert_eq!(deaths, ATTEMPTS, "of one file");
    runtime.block_on(async {
        let (store, _) = backend.stores(dir).await;
        let queue = backend.queue(dir).await;
        check::all(dir, (&*store, &*queue), &NUMBERS, (0, deaths), "a function").await;
        let dead = TaskFilter { states: vec![TaskState::Dead], ..TaskFilter::default() };
        let dead = store.tasks(&dead).await.expect("tasks");
        assert_eq!(dead.iter().map(|task| task.object.key.as_str()).collect::<Vec<_>>(), [POISON]);
    });
}

#[test]
fn sqlite_ends_a_batch_whose_function_is_killed_again_and_again() {
    run(&Backend::Sqlite);
}

#[cfg(feature = "postgres")]
#[test]
fn postgres_ends_a_batch_whose_function_is_killed_again_and_again() {
    let Some(server) = scan_pipeline_tests::postgres::shared() else { return };
    let database = server.database();
    run(&Backend::Postgres(database.url()));
}
