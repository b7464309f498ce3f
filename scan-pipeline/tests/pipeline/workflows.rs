//! Workflows: order, retries, and what a restart finds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use scan_pipeline::handler::{HandlerError, StepOutput, delete, from_fn, relocate};
use scan_pipeline::objects::ObjectOps;
use scan_pipeline::store::{SqliteStore, StepState, TaskState};
use scan_pipeline::workflow::{RetryPolicy, Step, Workflow};
use scan_pipeline::{Pipeline, Policy};

use crate::common::{Calls, Rig, flaky, get, quick, whole};

/// A step that notes that it was called.
fn note(name: &str, calls: &Calls) -> Step {
    flaky(name, 0, calls)
}

fn names(calls: &Calls) -> Vec<String> {
    calls.lock().expect("no panic").iter().map(|(name, _)| name.clone()).collect()
}

async fn with(rig: &Rig, clean: Workflow) -> Pipeline {
    rig.builder().await.policy(Policy::new().clean(clean)).build().expect("a pipeline")
}

#[tokio::test]
async fn steps_run_in_order_and_see_what_was_before_them() {
    let (rig, calls) = (Rig::new(), Calls::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look = |name: &str| {
        let seen = Arc::clone(&seen);
        Step::new(from_fn(name, move |_, step| {
            let seen = Arc::clone(&seen);
            async move {
                let known = step.outputs.keys().cloned().collect::<Vec<_>>().join(",");
                seen.lock().expect("no panic").push(format!("{}: {known}", step.step));
                Ok(StepOutput::new(serde_json::json!(step.output("a").and_then(|a| a["attempt"].as_u64()))))
            }
        }))
    };
    let workflow = Workflow::new("w")
        .then(note("a", &calls))
        .parallel([look("b").then(look("c")), look("d").into()])
        .then(look("e"));
    let pipeline = with(&rig, workflow).await;
    let done = pipeline.process(rig.drop_in("k", "fine").await).await.expect("done");
    let mut seen = seen.lock().expect("no panic").clone();
    assert_eq!(seen.pop().as_deref(), Some("e: a,b,c,d"));
    seen.sort();
    assert_eq!(seen, ["b: a", "c: a,b", "d: a"]);
    let run = pipeline.show(done.record.id).await.expect("readable").expect("a run");
    assert_eq!(run.to_string().matches("done").count(), 5, "{run}");
    whole(&pipeline).await;
}

#[tokio::test]
async fn a_step_is_tried_again_with_the_same_key() {
    let (rig, calls) = (Rig::new(), Calls::default());
    let pipeline = with(&rig, Workflow::new("w").then(flaky("a", 2, &calls)).then(note("b", &calls))).await;
    let done = pipeline.process(rig.drop_in("k", "fine").await).await.expect("done");
    assert_eq!(done.record.state, TaskState::Done);
    assert_eq!(names(&calls), ["a", "a", "a", "b"]);
    let keys: std::collections::BTreeSet<_> =
        calls.lock().expect("no panic").iter().map(|(_, key)| key.clone()).collect();
    assert_eq!(keys.len(), 2, "one key a step");
}

#[tokio::test]
async fn what_fails_for_good_ends_the_task_and_not_the_other_branches() {
    let (rig, calls) = (Rig::new(), Calls::default());
    let fatal = Step::new(from_fn("fatal", |_, _| async { Err(HandlerError::fatal("no, and never")) }));
    let workflow = Workflow::new("w")
        .parallel([
            fatal.then(note("after", &calls)),
            flaky("worn-out", 9, &calls).into(),
            note("other", &calls).into(),
        ])
        .then(note("behind", &calls))
        .on_fatal(Workflow::new("alarm").then(note("page", &calls)));
    let pipeline = with(&rig, workflow).await;
    let done = pipeline.process(rig.drop_in("k", "fine").await).await.expect("on record");
    assert_eq!(done.record.state, TaskState::Dead);
    let error = done.record.error.clone().expect("a reason");
    assert!(error.contains("fatal: no, and never") && error.contains("worn-out: not yet"), "{error}");
    let mut called = names(&calls);
    assert_eq!(called.pop().as_deref(), Some("page"), "when everything else has ended");
    called.sort();
    assert_eq!(called, ["other", "worn-out", "worn-out", "worn-out"]);
    assert_eq!(get(&*rig.quarantine, "k").await.as_deref(), Some("fine"));
    whole(&pipeline).await;
}

#[tokio::test]
async fn handlers_that_panic_or_hang_are_contained() {
    let rig = Rig::new();
    let panics = Step::new(from_fn("panics", |_, _| async { panic!("as asked") }));
    let hangs = Step::new(from_fn("hangs", |_, _| std::future::pending()));
    let workflow =
        Workflow::new("w").parallel([panics.into(), hangs.timeout(Duration::from_millis(20)).retry(quick()).into()]);
    let pipeline = with(&rig, workflow).await;
    let done = pipeline.process(rig.drop_in("k", "fine").await).await.expect("on record");
    let error = done.record.error.clone().expect("a reason");
    assert!(error.contains("panicked") && error.contains("longer than 20ms"), "{error}");
    let attempts: Vec<_> =
        done.record.steps.iter().map(|step| (step.step.as_str(), step.attempt, step.state)).collect();
    assert!(attempts.contains(&("hangs", 3, StepState::Failed)), "{attempts:?}");
    assert!(attempts.contains(&("panics", 1, StepState::Failed)), "{attempts:?}");
}

#[tokio::test]
async fn a_long_back_off_frees_the_caller_and_is_resumed() {
    let (rig, calls) = (Rig::new(), Calls::default());
    let wait = RetryPolicy { initial: Duration::from_millis(400), factor: 1.0, ..RetryPolicy::default() };
    let workflow =
        Workflow::new("w").then(note("a", &calls)).then(flaky("b", 1, &calls).retry(wait)).then(rig.notify());
    let policy = Policy::new().clean(workflow);
    let pipeline = rig.builder().await.policy(policy).patience(Duration::from_millis(1)).build().expect("a pipeline");
    let object = rig.drop_in("k", "fine").await;
    let waiting = pipeline.process(object.clone()).await.expect("waiting");
    assert_eq!(waiting.record.state, TaskState::Handling);
    assert!(waiting.record.next_at.is_some());
    assert!(pipeline.process(object).await.expect("waiting").repeated, "and a duplicate does not push it");
    assert!(pipeline.resume().await.expect("readable").tasks.is_empty(), "nor does a resume before its time");
    assert_eq!(names(&calls), ["a", "b"]);
    let mut resumed = Vec::new();
    while resumed.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        resumed = pipeline.resume().await.expect("readable").tasks;
    }
    assert_eq!(resumed[0].record.state, TaskState::Done);
    assert_eq!(names(&calls), ["a", "b", "b"]);
    assert_eq!((rig.scans.get(), rig.notified().len()), (1, 1));
    whole(&pipeline).await;
}

#[tokio::test]
async fn a_caller_who_stops_waiting_stops_no_workflow() {
    let (rig, calls) = (Rig::new(), Calls::default());
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go, goes) = tokio::sync::oneshot::channel::<()>();
    let (begun, goes) = (Mutex::new(Some(begun)), Mutex::new(Some(goes)));
    let slow = Step::new(from_fn("slow", move |_, _| {
        let (begun, goes) = (begun.lock().expect("once").take(), goes.lock().expect("once").take());
        async move {
            begun.expect("once").send(()).expect("somebody listens");
            goes.expect("once").await.expect("is told to go on");
            Ok(StepOutput::none())
        }
    }));
    let pipeline = with(&rig, Workflow::new("w").then(slow).then(note("after", &calls))).await;
    let object = rig.drop_in("k", "fine").await;
    tokio::select! {
        _ = pipeline.process(object.clone()) => panic!("it should wait"),
        begun = begins => begun.expect("begun"),
    }
    go.send(()).expect("it still waits");
    pipeline.drain().await;
    assert_eq!(names(&calls), ["after"]);
    assert!(pipeline.process(object).await.expect("done").repeated);
}

#[tokio::test]
async fn a_renamed_or_removed_workflow_gives_way_to_the_policy() {
    let (rig, calls) = (Rig::new(), Calls::default());
    let store = Arc::new(SqliteStore::in_memory().await.expect("a store"));
    let build = |workflow: Workflow| {
        let store = store.clone();
        async {
            let builder = rig.builder().await.policy(Policy::new().clean(workflow));
            builder.shared_store(store).patience(Duration::ZERO).build().expect("a pipeline")
        }
    };
    let wait = RetryPolicy { initial: Duration::from_millis(300), factor: 1.0, ..RetryPolicy::default() };
    let old = build(Workflow::new("old").then(flaky("a", 1, &calls).retry(wait))).await;
    assert_eq!(old.process(rig.drop_in("k", "fine").await).await.expect("waits").record.state, TaskState::Handling);
    let new = build(Workflow::new("new").then(note("b", &calls))).await;
    let mut resumed = Vec::new();
    while resumed.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        resumed = new.resume().await.expect("readable").tasks;
    }
    assert_eq!(resumed[0].record.state, TaskState::Done);
    assert_eq!(names(&calls), ["a", "b"]);
}

#[tokio::test]
async fn what_was_deleted_is_on_record_as_deleted() {
    let rig = Rig::new();
    let pipeline = rig.builder().await.policy(Policy::new().infected(Workflow::new("w").then(delete())));
    let pipeline = pipeline.build().expect("a pipeline");
    let done = pipeline.process(rig.drop_in("k", "infected").await).await.expect("done");
    assert_eq!(done.record.place, scan_pipeline::handler::Place::Deleted);
    assert_eq!(get(&*rig.quarantine, "k").await, None);
}

#[tokio::test]
async fn a_step_behind_a_move_acts_on_the_moved_object() {
    let rig = Rig::new();
    let workflow = Workflow::new("w").then(relocate("clean")).then(scan_pipeline::handler::tag());
    let pipeline = with(&rig, workflow).await;
    let done = pipeline.process(rig.drop_in("k", "fine").await).await.expect("done");
    assert_eq!(done.record.state, TaskState::Done);
    let there = scan_pipeline::model::ObjectRef::new(rig.clean.url().clone(), "k");
    assert_eq!(rig.clean.tags(&there).await.expect("tags").get("scan-status"), Some("clean"));
}
