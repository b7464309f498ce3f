//! A prefix whose caller does something else between two objects.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use scan_pipeline::content::Content;
use scan_pipeline::engine::{Engine, ScanContext};
use scan_pipeline::handler::{StepOutput, from_fn};
use scan_pipeline::model::{EngineInfo, ObjectRef, Report, TaskId, Verdict};
use scan_pipeline::pipeline::Progress;
use scan_pipeline::store::{Claim, ClaimRequest, SqliteStore, Store, TaskState};
use scan_pipeline::workflow::{Step, Workflow};
use scan_pipeline::{Pipeline, Policy, Result};

use crate::common::{Count, Rig, whole};

const PATIENCE: Duration = Duration::from_secs(20);

/// Takes its time, without anybody's thread.
#[derive(Clone)]
struct Slow {
    time: Duration,
    scans: Count,
}

#[async_trait::async_trait]
impl Engine for Slow {
    fn info(&self) -> EngineInfo {
        EngineInfo::new("slow", "1", "1")
    }

    async fn scan(&self, content: &Content, _: &ScanContext) -> Result<Report> {
        self.scans.add();
        tokio::time::sleep(self.time).await;
        let mut report = Report::new(Verdict::Clean, self.info());
        (report.size, report.sha256) = (Some(content.size()), Some(content.sha256()));
        (report.coverage.proven, report.coverage.started) = (true, true);
        Ok(report)
    }
}

/// A task whose scan was begun twice and never came to any end: it is to be worked on alone.
async fn suspect(store: &SqliteStore, object: &ObjectRef) -> TaskId {
    let id = TaskId::of(object, 0);
    for _ in 0..2 {
        let owner = String::from("killed");
        let request = ClaimRequest { id, object: object.clone(), owner, ttl: Duration::ZERO };
        let claim = store.claim(&request).await.expect("answers");
        assert!(matches!(claim, Claim::Mine(..)));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    id
}

#[tokio::test]
async fn a_loop_may_work_on_what_has_to_be_alone() {
    let rig = Rig::new();
    let store = Arc::new(SqliteStore::in_memory().await.expect("a store"));
    let engine = Slow { time: Duration::from_millis(20), scans: Count::default() };
    let pipeline =
        rig.builder().await.engine(engine).shared_store(store.clone()).concurrency(2).build().expect("a pipeline");
    for number in 0..6 {
        rig.drop_in(&format!("new/{number}"), "fine").await;
    }
    let mut alone = Vec::new();
    for number in 0..6 {
        let object = rig.drop_in(&format!("old/{number}"), "fine").await;
        suspect(&store, &object).await;
        alone.push(object);
    }
    let mut events = Box::pin(pipeline.process_prefix("memory://quarantine/new/").expect("a bucket"));
    let mut seen = 0;
    let body = async {
        while let Some(event) = events.next().await {
            assert!(matches!(&event, Progress::Done(done) if done.record.state == TaskState::Done), "{event:?}");
            seen += 1;
            let done = pipeline.process(alone.pop().expect("as many")).await.expect("done");
            assert_eq!(done.record.state, TaskState::Done);
        }
    };
    tokio::time::timeout(PATIENCE, body).await.expect("nobody waits for who is not polled");
    assert_eq!(seen, 6);
    whole(&pipeline).await;
}

#[tokio::test]
async fn a_caller_slower_than_the_lease_loses_none() {
    let rig = Rig::new();
    let (lease, scans) = (Duration::from_millis(400), Count::default());
    let engine = Slow { time: lease / 4, scans: scans.clone() };
    let pipeline = rig.builder().await.engine(engine).concurrency(3).lease(lease).build().expect("a pipeline");
    for number in 0..5 {
        // Different bytes, so that no verdict is remembered.
        rig.drop_in(&format!("{number}"), &format!("fine {number}")).await;
    }
    let mut events = Box::pin(pipeline.process_prefix("quarantine").expect("a bucket"));
    let mut seen = 0;
    let body = async {
        while let Some(event) = events.next().await {
            assert!(matches!(&event, Progress::Done(done) if done.record.state == TaskState::Done), "{event:?}");
            seen += 1;
            if seen < 3 {
                tokio::time::sleep(lease * 2).await;
                // Whatever nobody holds any more is taken up here, and scanned once more.
                pipeline.resume().await.expect("readable");
            }
        }
    };
    tokio::time::timeout(PATIENCE, body).await.expect("nobody waits for who is not polled");
    assert_eq!((seen, scans.get(), rig.notified().len()), (5, 5, 5));
    whole(&pipeline).await;
}

/// What was begun is bounded, also at its end; and goes when the stream does.
#[tokio::test]
async fn no_more_is_begun_than_is_worked_on_at_once() {
    let rig = Rig::new();
    let begun = Count::default();
    let step = {
        let begun = begun.clone();
        Step::new(from_fn("count", move |_, _| {
            begun.add();
            async { Ok(StepOutput::none()) }
        }))
    };
    let policy = Policy::new().clean(Workflow::new("w").then(step));
    let pipeline: Pipeline = rig.builder().await.policy(policy).concurrency(2).build().expect("a pipeline");
    for number in 0..20 {
        rig.drop_in(&format!("{number:02}"), "fine").await;
    }
    let mut events = Box::pin(pipeline.process_prefix("quarantine").expect("a bucket"));
    events.next().await.expect("an event");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(begun.get() <= 3, "{} were begun for one event", begun.get());
    drop(events);
    pipeline.drain().await;
    let before = begun.get();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(begun.get(), before);
    let rest: Vec<_> = pipeline.process_prefix("quarantine").expect("a bucket").collect().await;
    assert_eq!((rest.len(), begun.get()), (20, 20));
}
