//! Tasks that failed for good and are tried again: they go on where they stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use scan_pipeline::engine::Closure;
use scan_pipeline::handler::{HandlerError, OnConflict, Place, StepOutput, from_fn, relocate, tag};
use scan_pipeline::model::{ObjectRef, TaskId, Verdict};
use scan_pipeline::objects::ObjectOps;
use scan_pipeline::pipeline::{Again, Attended};
use scan_pipeline::store::{StepState, TaskRecord, TaskState};
use scan_pipeline::workflow::{Step, Workflow};
use scan_pipeline::{Error, ErrorKind, Pipeline, Policy};

use crate::common::{Calls, Count, Rig, flaky, get, kind, put, quick, whole};

/// Something outside that is broken until somebody mends it.
#[derive(Clone, Default)]
struct Cause(Arc<AtomicBool>);

impl Cause {
    fn remove(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_gone(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A step that fails for good as long as its cause is there, and notes its key and where the object is.
fn fails(name: &str, cause: &Cause, calls: &Calls) -> Step {
    let (calls, cause) = (Arc::clone(calls), cause.clone());
    Step::new(from_fn(name, move |scanned, step| {
        let place = step.object(&scanned).map(ToString::to_string).unwrap_or_default();
        calls.lock().expect("no panic").push((place, step.idempotency_key.clone()));
        let done = cause.is_gone();
        async move { if done { Ok(StepOutput::none()) } else { Err(HandlerError::fatal("not as it is")) } }
    }))
    .retry(quick())
}

async fn with(rig: &Rig, clean: Workflow) -> Pipeline {
    rig.builder().await.policy(Policy::new().clean(clean)).build().expect("a pipeline")
}

/// Processes an object to its death.
async fn dead(pipeline: &Pipeline, object: ObjectRef) -> TaskRecord {
    let record = pipeline.process(object).await.expect("on record").record;
    assert_eq!(record.state, TaskState::Dead);
    whole(pipeline).await;
    record
}

async fn retried(pipeline: &Pipeline, id: TaskId) -> TaskRecord {
    let done = pipeline.retry(id).await.expect("retried");
    assert_eq!((done.repeated, done.record.id), (false, id), "the same task goes on");
    whole(pipeline).await;
    done.record
}

fn calls(calls: &Calls) -> Vec<(String, String)> {
    calls.lock().expect("no panic").clone()
}

#[tokio::test]
async fn what_was_moved_stays_moved_and_the_rest_follows() {
    let (rig, cause, told) = (Rig::new(), Cause::default(), Calls::default());
    let pipeline = with(&rig, Workflow::new("w").then(relocate("clean")).then(fails("tell", &cause, &told))).await;
    let object = rig.drop_in("k", "fine").await;
    let first = dead(&pipeline, object.clone()).await;
    assert_eq!(retried(&pipeline, first.id).await.state, TaskState::Dead, "the cause is still there");
    cause.remove();
    let done = retried(&pipeline, first.id).await;
    assert_eq!((done.state, done.error), (TaskState::Done, None));
    assert!(matches!(done.place, Place::Moved { .. }));
    let told = calls(&told);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|call| *call == told[0] && call.0.contains("clean")), "{told:?}");
    assert_eq!(rig.scans.get(), 1, "the report on record is used");
    assert_eq!(get(&*rig.clean, "k").await.as_deref(), Some("fine"));
    // It is done, once and for all.
    assert_eq!(kind(pipeline.retry(first.id).await), ErrorKind::InvalidInput);
    let log = pipeline.store().audit(0, 100).await.expect("the log");
    let ends: Vec<_> = log.iter().filter(|entry| entry.kind.starts_with("task.")).map(|entry| &*entry.kind).collect();
    assert_eq!(ends, ["task.dead", "task.retried", "task.dead", "task.retried", "task.done"]);
}

#[tokio::test]
async fn what_was_told_is_not_told_again() {
    let rig = Rig::new();
    let strict = Step::new(relocate("clean").on_conflict(OnConflict::Fail)).retry(quick());
    let pipeline = with(&rig, Workflow::new("w").then(rig.notify()).then(strict)).await;
    let taken = put(&*rig.clean, "k", "somebody else's").await;
    let first = dead(&pipeline, rig.drop_in("k", "fine").await).await;
    rig.clean.delete(&taken).await.expect("removed");
    let done = retried(&pipeline, first.id).await;
    assert_eq!((done.state, rig.notified().len(), rig.scans.get()), (TaskState::Done, 1, 1));
    assert_eq!(get(&*rig.clean, "k").await.as_deref(), Some("fine"));
    assert_eq!(get(&*rig.quarantine, "k").await, None);
}

#[tokio::test]
async fn branches_that_came_to_their_end_stay_there() {
    let (rig, cause, told, others) = (Rig::new(), Cause::default(), Calls::default(), Calls::default());
    let workflow = Workflow::new("w")
        .parallel([
            fails("tell", &cause, &told).then(flaky("after", 0, &others)),
            flaky("other", 0, &others).into(),
            Step::new(relocate("clean")).then(tag()),
        ])
        .then(rig.notify());
    let pipeline = with(&rig, workflow).await;
    let first = dead(&pipeline, rig.drop_in("k", "fine").await).await;
    assert_eq!((calls(&others).len(), rig.notified().len()), (1, 0));
    cause.remove();
    let done = retried(&pipeline, first.id).await;
    assert_eq!((done.state, calls(&told).len(), rig.notified().len()), (TaskState::Done, 2, 1));
    let names: Vec<_> = calls(&others).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["other", "after"]);
    assert!(done.steps.iter().all(|step| step.state == StepState::Done && step.attempt == 1), "{:?}", done.steps);
}

#[tokio::test]
async fn attempts_are_had_anew() {
    let (rig, others) = (Rig::new(), Calls::default());
    // Three attempts are too few, and six are enough.
    let pipeline = with(&rig, Workflow::new("w").then(flaky("flaky", 5, &others))).await;
    let first = dead(&pipeline, rig.drop_in("k", "fine").await).await;
    assert_eq!((first.steps[0].state, first.steps[0].attempt), (StepState::Failed, 3));
    let done = retried(&pipeline, first.id).await;
    assert_eq!((done.state, done.steps[0].attempt, calls(&others).len()), (TaskState::Done, 3, 6));
}

/// The workflow for fatal errors has moved the object: there it is, and not where the steps before have put it.
#[tokio::test]
async fn what_a_fatal_error_has_moved_is_found_there() {
    let (rig, cause, told) = (Rig::new(), Cause::default(), Calls::default());
    let failed = Workflow::new("failed").then(relocate("infected")).then(rig.notify());
    let workflow = Workflow::new("w")
        .then(tag())
        .then(relocate("clean").prefix("first/"))
        .then(fails("tell", &cause, &told))
        .then(Step::new(relocate("clean")).named("back"))
        .then(fails("tell-more", &cause, &told))
        .on_fatal(failed);
    let pipeline = with(&rig, workflow).await;
    let first = dead(&pipeline, rig.drop_in("k", "fine").await).await;
    assert_eq!(rig.notified().len(), 1);
    assert_eq!(get(&*rig.infected, "first/k").await.as_deref(), Some("fine"));
    assert_eq!(retried(&pipeline, first.id).await.state, TaskState::Dead);
    assert_eq!(rig.notified().len(), 1, "what was told of the task's failure is told");
    cause.remove();
    let done = retried(&pipeline, first.id).await;
    assert_eq!(done.state, TaskState::Done, "{:?}", done.error);
    let places: Vec<_> = calls(&told).into_iter().map(|(place, _)| place).collect();
    let [clean, infected] = [&rig.clean, &rig.infected].map(|bucket| bucket.url().to_string());
    let expected = [
        format!("{clean}/first/k"),
        format!("{infected}/first/k"),
        format!("{infected}/first/k"),
        format!("{clean}/first/k"),
    ];
    assert_eq!(places, expected);
    assert_eq!(get(&*rig.infected, "first/k").await, None);
    assert_eq!(get(&*rig.clean, "first/k").await.as_deref(), Some("fine"));
}

/// Of branches side by side, those that move nothing say nothing about where the object is.
#[tokio::test]
async fn a_branch_that_moves_nothing_does_not_move_it_back() {
    let (rig, told) = (Rig::new(), Calls::default());
    let mended = Cause::default();
    mended.remove();
    let workflow = Workflow::new("w")
        .then(relocate("infected"))
        .parallel([Step::new(relocate("clean")).named("on"), rig.notify()].map(Into::into))
        .then(fails("tell", &mended, &told));
    let pipeline = with(&rig, workflow).await;
    pipeline.process(rig.drop_in("k", "fine").await).await.expect("done");
    assert_eq!(calls(&told)[0].0, format!("{}/k", rig.clean.url()));
}

#[tokio::test]
async fn a_scan_that_failed_for_good_is_scanned() {
    let (rig, cause, scans) = (Rig::new(), Cause::default(), Count::default());
    let engine = {
        let (cause, scans) = (cause.clone(), scans.clone());
        Closure::new("ill", move |_, _| {
            scans.add();
            if cause.is_gone() {
                Ok(Verdict::Clean)
            } else {
                Err(Error::new(ErrorKind::Engine, "ill").retryable(false))
            }
        })
    };
    let pipeline = rig.builder().await.engine(engine).build().expect("a pipeline");
    let first = dead(&pipeline, rig.drop_in("k", "fine").await).await;
    assert_eq!(retried(&pipeline, first.id).await.state, TaskState::Dead);
    cause.remove();
    let done = retried(&pipeline, first.id).await;
    assert_eq!((done.state, done.attempts, scans.get()), (TaskState::Done, 1, 3));
    assert_eq!(rig.notified(), ["clean"]);
}

#[tokio::test]
async fn a_rescan_that_failed_for_good_is_retried_as_itself() {
    let (rig, cause, told) = (Rig::new(), Cause::default(), Calls::default());
    cause.remove();
    let pipeline = with(&rig, Workflow::new("w").then(fails("tell", &cause, &told))).await;
    let object = rig.drop_in("k", "fine").await;
    pipeline.process(object.clone()).await.expect("done");
    cause.0.store(false, Ordering::SeqCst);
    let again = Again::Once(String::from("job"));
    let Attended::Done(failed) = pipeline.attend(object, &again).await.expect("on record") else {
        panic!("it is nobody's")
    };
    assert_eq!(failed.record.state, TaskState::Dead);
    cause.remove();
    assert_eq!(retried(&pipeline, failed.record.id).await.state, TaskState::Done);
    let keys: Vec<_> = calls(&told).into_iter().map(|(_, key)| key).collect();
    assert!(keys.len() == 3 && keys[0] != keys[1] && keys[1] == keys[2], "{keys:?}");
}

/// A delete that had its effect and failed all the same finds nothing the next time, and has to know that it may have been
/// its own.
#[tokio::test]
async fn a_handler_is_told_that_it_was_called_before() {
    let (rig, cause, attempts) = (Rig::new(), Cause::default(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let step = {
        let (attempts, cause) = (Arc::clone(&attempts), cause.clone());
        Step::new(from_fn("try", move |_, step| {
            attempts.lock().expect("no panic").push(step.attempt);
            let done = cause.is_gone();
            async move { if done { Ok(StepOutput::none()) } else { Err(HandlerError::fatal("not as it is")) } }
        }))
    };
    let pipeline = with(&rig, Workflow::new("w").then(step)).await;
    let object = rig.drop_in("k", "fine").await;
    let first = dead(&pipeline, object).await;
    cause.remove();
    assert_eq!(retried(&pipeline, first.id).await.state, TaskState::Done);
    assert_eq!(*attempts.lock().expect("no panic"), [1, 2]);
}
