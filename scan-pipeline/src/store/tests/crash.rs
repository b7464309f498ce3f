//! The process is killed at every claim and commit, and what it had been told is there afterwards.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::handler::StepOutput;
use crate::model::{ObjectRef, TaskId, Timestamp};
use crate::store::{
    Changes, Claim, ClaimRequest, NewAudit, SqliteStore, StepRecord, StepState, Store, TaskState, audit,
};
use crate::testkit::crashing_store::{CrashingStore, Moment};

/// A claim, two steps, the end.
const CALLS: u64 = 4;

fn request() -> ClaimRequest {
    let object = ObjectRef::new("memory://crash".parse().expect("an address"), "k").with_etag("1");
    let id = TaskId::of(&object, 0);
    // It has run out when the next process comes.
    ClaimRequest { id, object, owner: String::from("t"), ttl: Duration::ZERO }
}

fn step(n: u64) -> Changes {
    let output = StepOutput::new(json!({ "n": n }));
    let step = format!("s{n}");
    let audit = vec![NewAudit::step_done("w", &step, 1, &output)];
    let record = StepRecord {
        workflow: String::from("w"),
        step,
        state: StepState::Done,
        attempt: 1,
        output: Some(output),
        error: None,
        next_at: None,
        updated: Timestamp::now(),
    };
    Changes { steps: vec![record], audit, ..Changes::default() }
}

fn end() -> Changes {
    let audit = vec![NewAudit::task(TaskState::Done, json!({}))];
    Changes { state: Some(TaskState::Done), audit, ..Changes::default() }
}

/// Goes on from where the store says that it stands, and notes in a file what the store has acknowledged.
async fn work(store: &dyn Store, notes: &Path) {
    let note = |number: u64| std::fs::write(notes, number.to_string()).expect("notes");
    let Claim::Mine(lease, record) = store.claim(&request()).await.expect("answers") else { return };
    let done = record.steps.len() as u64;
    note(done);
    for n in done + 1..=2 {
        store.commit(&lease, step(n)).await.expect("written");
        note(n);
    }
    store.commit(&lease, end()).await.expect("written");
    note(3);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_call() {
    for moment in [Moment::Before, Moment::During, Moment::After] {
        for nth in 1..=CALLS {
            let directory = tempfile::tempdir().expect("a directory");
            let (path, notes) = (directory.path().join("store.db"), directory.path().join("notes"));
            let child = Command::new(std::env::current_exe().expect("this binary"))
                .args(["--ignored", "--exact", "store::tests::crash::child", "--nocapture"])
                .envs([("STORE_FILE", path.as_os_str()), ("STORE_NOTES", notes.as_os_str())])
                .env("STORE_CRASH", format!("{moment:?} {nth}"))
                .output()
                .expect("the child starts");
            let signal = std::os::unix::process::ExitStatusExt::signal(&child.status);
            assert_eq!(signal, Some(9), "{moment:?} {nth}: {}", String::from_utf8_lossy(&child.stdout));
            runtime().block_on(async {
                let store = SqliteStore::open(&path).await.expect("opens");
                let noted = std::fs::read_to_string(&notes).map_or(0, |noted| noted.parse::<u64>().expect("a number"));
                let task = store.task(request().id).await.expect("reads");
                let steps = task.as_ref().map_or(0, |task| task.steps.len() as u64);
                let ended = task.is_some_and(|task| task.state == TaskState::Done);
                let written = steps + u64::from(ended);
                assert!(
                    (noted..=noted + 1).contains(&written),
                    "{moment:?} {nth}: {noted} acknowledged, {written} there"
                );
                assert_eq!(store.audit_head().await.expect("the head").seq, written);
                // The next process finishes it, and nothing is there twice.
                work(&store, &notes).await;
                let task = store.task(request().id).await.expect("reads").expect("is there");
                assert_eq!((task.state, task.steps.len()), (TaskState::Done, 2));
                assert_eq!(store.audit_head().await.expect("the head").seq, 3);
                assert_eq!(audit::verify(&store).await.expect("reads").problems, Vec::<String>::new());
            });
        }
    }
}

#[test]
#[ignore = "the child of the test above"]
fn child() {
    let path = |name: &str| std::env::var_os(name).expect("set by the parent");
    let crash = std::env::var("STORE_CRASH").expect("set by the parent");
    let (moment, nth) = crash.split_once(' ').expect("two words");
    let moment = [Moment::Before, Moment::During, Moment::After].into_iter().find(|one| format!("{one:?}") == moment);
    runtime().block_on(async {
        let store = Arc::new(SqliteStore::open(path("STORE_FILE")).await.expect("opens"));
        let store = CrashingStore::new(store, moment.expect("a moment"), nth.parse().expect("a number"));
        work(&store, path("STORE_NOTES").as_ref()).await;
    });
}
