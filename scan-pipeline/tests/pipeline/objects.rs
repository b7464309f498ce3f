//! Objects: where they go, once, and what happens when they are not what they were.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use scan_pipeline::engine::{Closure, Engine, ScanContext};
use scan_pipeline::model::{EngineInfo, ObjectRef, ReasonKind, Report, Verdict};
use scan_pipeline::objects::{LocalBucket, MemoryBucket, ObjectOps};
use scan_pipeline::pipeline::Progress;
use scan_pipeline::store::{SqliteStore, Store, TaskState};
use scan_pipeline::testkit::crashing_store::{CrashingStore, Moment};
use scan_pipeline::workflow::Workflow;
use scan_pipeline::{ErrorKind, Pipeline, Policy, Result};

use crate::common::{Rig, get, kind, put, whole};

#[tokio::test]
async fn each_verdict_has_its_consequences() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    for (key, text) in [("a.txt", "fine"), ("b.txt", "infected"), ("c.txt", "locked")] {
        let done = pipeline.process(rig.drop_in(key, text).await).await.expect(key);
        assert_eq!(done.record.state, TaskState::Done, "{key}");
        assert!(!done.repeated);
    }
    assert_eq!(get(&*rig.clean, "a.txt").await.as_deref(), Some("fine"));
    assert_eq!(get(&*rig.infected, "b.txt").await.as_deref(), Some("infected"));
    assert_eq!(get(&*rig.quarantine, "c.txt").await.as_deref(), Some("locked"));
    for key in ["a.txt", "b.txt"] {
        assert_eq!(get(&*rig.quarantine, key).await, None, "{key}");
    }
    let moved = rig.infected.stat(&ObjectRef::new(rig.infected.url().clone(), "b.txt")).await.expect("there").object;
    let tags = rig.infected.tags(&moved).await.expect("tags");
    assert_eq!(tags.get("scan-status"), Some("infected"), "tags move along");
    assert_eq!(rig.notified(), ["clean", "infected", "unscannable"]);
    whole(&pipeline).await;
}

#[tokio::test]
async fn a_duplicate_does_nothing() {
    let rig = Rig::with(MemoryBucket::versioned("quarantine").expect("a bucket"));
    let pipeline = rig.pipeline().await;
    let object = rig.drop_in("a.txt", "fine").await;
    let first = pipeline.process(object.clone()).await.expect("done");
    let again = pipeline.process(object).await.expect("done");
    assert!(again.repeated);
    assert_eq!(again.record, first.record);
    assert_eq!((rig.scans.get(), rig.notified().len()), (1, 1));
    whole(&pipeline).await;
}

#[tokio::test]
async fn a_duplicate_of_what_stays_in_place_does_nothing() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    rig.drop_in("c.txt", "locked").await;
    let object = pipeline.object("quarantine", "c.txt").expect("a bucket");
    assert!(!pipeline.process(object.clone()).await.expect("done").repeated);
    assert!(pipeline.process(object).await.expect("done").repeated);
    assert_eq!((rig.scans.get(), rig.notified().len()), (1, 1));
}

#[tokio::test]
async fn many_at_once_are_one() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let object = rig.drop_in("c.txt", "locked").await;
    let all = (0..20).map(|_| pipeline.process(object.clone()));
    let results = futures_util::future::join_all(all).await;
    let fresh = results.iter().filter(|result| result.as_ref().is_ok_and(|done| !done.repeated)).count();
    assert_eq!(fresh, 1);
    for result in results {
        assert!(result.is_ok() || kind(result) == ErrorKind::Busy);
    }
    assert_eq!((rig.scans.get(), rig.notified().len()), (1, 1));
    whole(&pipeline).await;
}

#[tokio::test]
async fn the_same_bytes_again_are_handled_again() {
    // An etag that is a hash of the bytes, as S3's often is: nothing else tells the second upload from the first.
    let rig = Rig::with(MemoryBucket::with_content_etags("quarantine").expect("a bucket"));
    let pipeline = rig.pipeline().await;
    for round in 1..=3 {
        let object = rig.drop_in("a.txt", "fine").await;
        let done = pipeline.process(object).await.expect("done");
        assert!(!done.repeated, "round {round}");
        assert_eq!(get(&*rig.quarantine, "a.txt").await, None, "round {round}");
    }
    assert_eq!(rig.notified().len(), 3);
    assert_eq!(rig.scans.get(), 1, "the verdict was known");
    whole(&pipeline).await;
}

#[tokio::test]
async fn the_current_state_takes_the_place_of_an_old_one() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let old = rig.drop_in("a.txt", "fine").await;
    rig.drop_in("a.txt", "infected").await;
    let done = pipeline.process(old).await.expect("done");
    assert_eq!((done.record.state, done.superseded), (TaskState::Done, 1));
    assert_eq!(get(&*rig.clean, "a.txt").await, None);
    assert_eq!(get(&*rig.infected, "a.txt").await.as_deref(), Some("infected"));
    whole(&pipeline).await;
}

#[tokio::test]
async fn what_is_gone_is_gone_and_not_clean() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let object = rig.drop_in("a.txt", "fine").await;
    rig.quarantine.delete(&object).await.expect("deleted");
    let done = pipeline.process(object.clone()).await.expect("on record");
    assert_eq!(done.record.state, TaskState::Gone);
    assert!(done.report().is_none());
    assert_eq!(kind(pipeline.process(object.unpinned()).await), ErrorKind::Gone);
    assert!(rig.notified().is_empty());
    whole(&pipeline).await;
}

#[tokio::test]
async fn a_failed_engine_is_tried_again_and_never_a_verdict() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let object = rig.drop_in("a.txt", "broken").await;
    let mut last = None;
    for _ in 0..50 {
        match pipeline.process(object.clone()).await {
            Ok(done) => {
                last = Some(done);
                break;
            }
            Err(why) => assert!(why.is_retryable(), "{why}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let done = last.expect("an end");
    assert_eq!((done.record.state, rig.scans.get()), (TaskState::Dead, 3));
    assert!(done.record.error.as_deref().is_some_and(|error| error.contains("does not feel well")));
    assert_eq!(get(&*rig.quarantine, "a.txt").await.as_deref(), Some("broken"), "it stays where it was");
    assert!(pipeline.process(object).await.expect("on record").repeated, "dead is dead");

    let retried = pipeline.retry(done.record.id).await;
    assert!(retried.is_err_and(|why| why.is_retryable()), "and a retry fails the same way");
    assert_eq!(rig.scans.get(), 4);
    assert_eq!(
        kind(pipeline.retry(scan_pipeline::model::TaskId::of(&done.record.object, 99)).await),
        ErrorKind::InvalidInput
    );
    whole(&pipeline).await;
}

/// Says clean, and owes the proof.
struct Boaster(bool);

#[async_trait::async_trait]
impl Engine for Boaster {
    fn info(&self) -> EngineInfo {
        EngineInfo::new("boaster", "1", "1")
    }

    async fn scan(&self, content: &scan_pipeline::content::Content, _: &ScanContext) -> Result<Report> {
        let mut report = Report::new(Verdict::Clean, self.info());
        report.coverage.proven = self.0;
        report.size = Some(content.size() + u64::from(self.0));
        Ok(report)
    }
}

#[tokio::test]
async fn clean_without_proof_is_not_clean() {
    let rig = Rig::new();
    let pipeline = rig.builder().await.engine(Boaster(false)).build().expect("a pipeline");
    let done = pipeline.process(rig.drop_in("a.txt", "fine").await).await.expect("done");
    let report = done.report().expect("a report");
    assert!(matches!(&report.verdict, Verdict::Unscannable { reasons } if reasons[0].kind == ReasonKind::Unproven));
    assert_eq!(get(&*rig.clean, "a.txt").await, None);

    let lying = rig.builder().await.engine(Boaster(true)).build().expect("a pipeline");
    let done = lying.process(rig.drop_in("b.txt", "fine").await).await.expect("on record");
    assert_eq!(done.record.state, TaskState::Dead, "a report about other bytes is no report");
    assert_eq!(get(&*rig.clean, "b.txt").await, None);
}

#[tokio::test]
async fn what_is_too_large_is_not_read_and_not_clean() {
    let rig = Rig::new();
    let spool = scan_pipeline::content::SpoolOptions { max_size: 10, ..Default::default() };
    let pipeline = rig.builder().await.spool(spool).build().expect("a pipeline");
    let done = pipeline.process(rig.drop_in("a.txt", "fine, and too long").await).await.expect("done");
    let report = done.report().expect("a report");
    assert!(matches!(&report.verdict, Verdict::Unscannable { reasons } if reasons[0].kind == ReasonKind::TooLarge));
    assert_eq!((rig.scans.get(), rig.notified()), (0, vec![String::from("unscannable")]));
}

#[tokio::test]
async fn without_a_workflow_it_is_left_where_it_is() {
    let rig = Rig::new();
    let store = Arc::new(SqliteStore::in_memory().await.expect("a store"));
    // At none: it only counts.
    let counting = Arc::new(CrashingStore::new(store, Moment::Before, 0));
    let builder = rig.builder().await.policy(Policy::new()).shared_store(Arc::clone(&counting) as Arc<dyn Store>);
    let pipeline = builder.build().expect("a pipeline");
    for (key, text) in [("a.txt", "fine"), ("b.txt", "infected"), ("c.txt", "locked")] {
        let mut done = pipeline.process(rig.drop_in(key, text).await).await.expect("done");
        assert_eq!((done.record.state, &done.record.workflow), (TaskState::Done, &None));
        assert_eq!(get(&*rig.quarantine, key).await.as_deref(), Some(text));
        // What is answered was not read back from the store, and is what the store has; times are kept to the microsecond.
        let mut stored = pipeline.store().task(done.record.id).await.expect("reads").expect("is there");
        for record in [&mut done.record, &mut stored] {
            record.report.as_mut().expect("a report").elapsed = Duration::ZERO;
        }
        assert_eq!(done.record, stored);
    }
    assert_eq!(counting.calls(), 2 * 3, "a claim each, and a commit");
    whole(&pipeline).await;
}

#[tokio::test]
async fn a_prefix_is_processed_whole_and_only_it() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    for i in 0..50 {
        rig.drop_in(&format!("in/{i:02}.txt"), if i % 10 == 0 { "infected" } else { "fine" }).await;
    }
    rig.drop_in("in/broken.txt", "broken").await;
    rig.drop_in("other.txt", "fine").await;
    let url = format!("{}/in/", rig.quarantine.url());
    let events: Vec<_> = pipeline.process_prefix(&url).expect("a bucket").collect().await;
    let done = events.iter().filter(|event| matches!(event, Progress::Done(done) if !done.repeated)).count();
    let failed = events.iter().filter(|event| matches!(event, Progress::Failed { object: Some(_), .. })).count();
    assert_eq!((events.len(), done, failed), (51, 50, 1));
    assert_eq!(get(&*rig.clean, "in/01.txt").await.as_deref(), Some("fine"));
    assert_eq!(get(&*rig.infected, "in/10.txt").await.as_deref(), Some("infected"));
    assert!(get(&*rig.quarantine, "other.txt").await.is_some());
    assert_eq!(kind(pipeline.process_prefix("s3://elsewhere/").map(|_| ())), ErrorKind::Config);
    whole(&pipeline).await;
}

#[tokio::test]
async fn a_bucket_that_is_not_set_up_is_refused() {
    let rig = Rig::new();
    let pipeline = rig.pipeline().await;
    let elsewhere = MemoryBucket::new("elsewhere").expect("a bucket");
    let object = put(&elsewhere, "a.txt", "fine").await;
    let error = pipeline.process(object).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("quarantine"), "{error}");
    assert_eq!(kind(pipeline.object("nowhere", "a")), ErrorKind::Config);
}

#[tokio::test]
async fn a_pipeline_that_cannot_be_is_refused() {
    let store = SqliteStore::in_memory().await.expect("a store");
    let engine = || Closure::new("none", |_: &[u8], _: &str| Ok(Verdict::Clean));
    assert_eq!(kind(Pipeline::builder().store(store).build()), ErrorKind::Config);
    assert_eq!(kind(Pipeline::builder().engine(engine()).build()), ErrorKind::Config);
    let rig = Rig::new();
    assert_eq!(kind(rig.builder().await.concurrency(0).build()), ErrorKind::Config);
    let twice = rig.policy().clean(scan_pipeline::workflow::Workflow::new("hold"));
    assert_eq!(kind(rig.builder().await.policy(twice).build()), ErrorKind::Config);
}

#[tokio::test]
async fn verdicts_are_remembered_by_content_in_the_store_too() {
    let rig = Rig::new();
    let store = Arc::new(SqliteStore::in_memory().await.expect("a store"));
    for (round, key) in ["a.txt", "b.txt"].into_iter().enumerate() {
        // A new pipeline has nothing in memory.
        let pipeline = rig.builder().await.shared_store(store.clone()).build().expect("a pipeline");
        let done = pipeline.process(rig.drop_in(key, "infected").await).await.expect("done");
        let report = done.report().expect("a report").clone();
        assert_eq!(rig.scans.get(), 1, "round {round}");
        assert!(matches!(report.verdict, Verdict::Infected { threats } if threats[0].layer_path == key));
    }
}

#[tokio::test]
async fn a_file_that_is_still_being_written_is_left_to_its_writer() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["in", "out"] {
        std::fs::create_dir(dir.path().join(name)).expect("a directory");
    }
    let (rig, settle) = (Rig::new(), std::time::Duration::from_millis(400));
    let open = async |name: &str| Arc::new(LocalBucket::open(dir.path().join(name)).await.expect("a bucket"));
    let builder = rig.builder().await.bucket("in", open("in").await).bucket("out", open("out").await).settle(settle);
    let policy = Policy::new().clean(Workflow::new("w").then(scan_pipeline::handler::relocate("out")));
    let pipeline = builder.policy(policy).build().expect("a pipeline");

    let path = dir.path().join("in/a.txt");
    let mut file = std::fs::File::create(&path).expect("made");
    let process = tokio::spawn({
        let pipeline = pipeline.clone();
        async move { pipeline.process(pipeline.object("in", "a.txt")?).await }
    });
    for i in 0..10 {
        tokio::time::sleep(settle / 5).await;
        std::io::Write::write_all(&mut file, &[b'0' + i]).expect("written");
    }
    drop(file);
    let done = process.await.expect("no panic").expect("done");
    assert_eq!(done.record.state, TaskState::Done);
    assert_eq!(std::fs::read_to_string(dir.path().join("out/a.txt")).expect("moved"), "0123456789");

    // Without an end of the writing there is an end of the waiting.
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, path) = (Arc::clone(&stop), dir.path().join("in/b.txt"));
        move || {
            let mut file = std::fs::File::create(path).expect("made");
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                std::io::Write::write_all(&mut file, b"x").expect("written");
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    });
    tokio::time::sleep(settle / 4).await;
    let busy = pipeline.process(pipeline.object("in", "b.txt").expect("a bucket")).await;
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    writer.join().expect("no panic");
    assert_eq!(kind(busy), ErrorKind::Busy);
}
