//! What goes wrong where two things meet: a duplicate and a back-off, a restart and other settings, an engine and the
//! contract that it breaks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use scan_pipeline::content::{Content, SpoolOptions};
use scan_pipeline::engine::{Engine, ScanContext};
use scan_pipeline::handler::{Place, StepOutput, from_fn, relocate};
use scan_pipeline::model::{EngineInfo, Reason, ReasonKind, Report, TaskId, Timestamp, Verdict};
use scan_pipeline::objects::MemoryBucket;
use scan_pipeline::pipeline::UploadRequest;
use scan_pipeline::store::{
    AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Lease, LeaseChange, SqliteStore,
    Store, TaskFilter, TaskRecord, TaskState,
};
use scan_pipeline::workflow::{RetryPolicy, Step, Workflow};
use scan_pipeline::{ErrorKind, Pipeline, Policy, Result};

use crate::common::{Calls, Count, Rig, flaky, get, kind, quick, whole};

fn body(text: &'static str) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
    stream::iter([Ok(Bytes::from_static(text.as_bytes()))])
}

/// A wait that is longer than a patience of nothing.
fn soon() -> RetryPolicy {
    RetryPolicy { initial: Duration::from_millis(300), factor: 1.0, ..RetryPolicy::default() }
}

/// An engine that gives a report, whatever the content.
struct Says<F>(F);

#[async_trait]
impl<F: Fn() -> Result<Report> + Send + Sync + 'static> Engine for Says<F> {
    fn info(&self) -> EngineInfo {
        EngineInfo::new("says", "1", "1")
    }

    async fn scan(&self, _: &Content, _: &ScanContext) -> Result<Report> {
        (self.0)()
    }
}

fn reason(kind: ReasonKind) -> Reason {
    Reason { kind, layer_path: String::from("a.zip/b"), detail: None }
}

fn report(verdict: Verdict) -> Report {
    let mut report = Report::new(verdict, EngineInfo::new("says", "1", "1"));
    report.coverage.proven = true;
    report
}

#[tokio::test]
async fn a_gap_that_is_listed_and_not_counted_is_a_gap() {
    let rig = Rig::new();
    let engine = Says(|| {
        let mut report = report(Verdict::Clean);
        report.coverage.gaps.push(reason(ReasonKind::Encrypted));
        Ok(report)
    });
    let pipeline = rig.builder().await.engine(engine).build().expect("a pipeline");
    let done = pipeline.process(rig.drop_in("a.zip", "fine").await).await.expect("done");
    let found = &done.report().expect("a report").verdict;
    assert_eq!(*found, Verdict::Unscannable { reasons: vec![reason(ReasonKind::Encrypted)] });
    assert_eq!(get(&*rig.clean, "a.zip").await, None);
}

#[tokio::test]
async fn what_is_accepted_unproven_has_no_other_gap() {
    let hidden: [fn() -> Report; 3] = [
        || {
            let mut report = report(Verdict::Unscannable { reasons: vec![reason(ReasonKind::Unproven)] });
            report.coverage.gap_count = 7;
            report
        },
        || {
            let mut report = report(Verdict::Unscannable { reasons: vec![reason(ReasonKind::Unproven)] });
            report.coverage.gaps.push(reason(ReasonKind::Encrypted));
            report
        },
        || {
            let mut report = report(Verdict::Clean);
            report.coverage.proven = false;
            report.coverage.gap_count = 3;
            report
        },
    ];
    for (case, hidden) in hidden.into_iter().enumerate() {
        let rig = Rig::new();
        let builder = rig.builder().await.policy(rig.policy().accept_unproven(true));
        let pipeline = builder.engine(Says(move || Ok(hidden()))).build().expect("a pipeline");
        pipeline.process(rig.drop_in("a.zip", "fine").await).await.expect("done");
        assert_eq!(get(&*rig.clean, "a.zip").await, None, "{case}");
        let upload = pipeline.process_upload(UploadRequest::named("a.zip"), body("fine")).await.expect("scanned");
        assert!(!upload.is_admitted(), "{case}");
    }
}

#[tokio::test]
async fn a_duplicate_that_finds_the_object_moved_ends_no_workflow() {
    for versioned in [false, true] {
        let bucket = if versioned { MemoryBucket::versioned("quarantine") } else { MemoryBucket::new("quarantine") };
        let (rig, calls) = (Rig::with(bucket.expect("a bucket")), Calls::default());
        let workflow =
            Workflow::new("w").then(relocate("clean")).then(flaky("flaky", 1, &calls).retry(soon())).then(rig.notify());
        let builder = rig.builder().await.policy(Policy::new().clean(workflow)).patience(Duration::ZERO);
        let pipeline = builder.build().expect("a pipeline");
        let object = rig.drop_in("k", "fine").await;
        let mut last = pipeline.process(object.clone()).await.expect("waits");
        assert_eq!(last.record.state, TaskState::Handling);
        while !last.record.state.is_terminal() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            last = pipeline.process(object.clone()).await.expect("a duplicate");
        }
        assert_eq!((last.record.state, rig.notified().len()), (TaskState::Done, 1), "versioned: {versioned}");
        whole(&pipeline).await;
    }
}

#[tokio::test]
async fn an_upload_that_was_lost_with_its_process_can_come_again() {
    let rig = Rig::new();
    let pipeline = rig.builder().await.engine(Hangs).build().expect("a pipeline");
    let request = || UploadRequest::named("a.txt").id("7");
    let lost = tokio::time::timeout(Duration::from_millis(100), pipeline.process_upload(request(), body("fine")));
    assert!(lost.await.is_err(), "the sender went away in the middle");
    let next = rig.builder().await.shared_store(Arc::clone(pipeline.store())).build().expect("a pipeline");
    let mut resumed = Vec::new();
    while resumed.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        resumed = next.resume().await.expect("readable").tasks;
    }
    assert_eq!(resumed[0].record.state, TaskState::Gone);
    let upload = next.process_upload(request(), body("fine")).await.expect("the error said: upload it again");
    assert!(upload.is_admitted());
}

#[tokio::test]
async fn another_workflow_goes_on_where_the_object_is_now() {
    let (rig, calls) = (Rig::new(), Calls::default());
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().await.expect("a store"));
    let build = |workflow: Workflow| {
        let store = Arc::clone(&store);
        async {
            let builder = rig.builder().await.policy(Policy::new().clean(workflow));
            builder.shared_store(store).patience(Duration::ZERO).build().expect("a pipeline")
        }
    };
    let waits = || flaky("flaky", 1, &calls).retry(soon());
    // Renamed; and the same with the step that moved it left out.
    for (key, name) in [("a", "new"), ("b", "old")] {
        let old = build(Workflow::new("old").then(relocate("clean")).then(waits())).await;
        old.process(rig.drop_in(key, key).await).await.expect("waits");
        let new = build(Workflow::new(name).then(scan_pipeline::handler::tag()).then(rig.notify())).await;
        let mut resumed = Vec::new();
        while resumed.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            resumed = new.resume().await.expect("readable").tasks;
        }
        assert_eq!(resumed[0].record.state, TaskState::Done, "{name}: {:?}", resumed[0].record.error);
        assert!(matches!(resumed[0].record.place, Place::Moved { .. }));
    }
    assert_eq!(rig.notified().len(), 2);
}

#[tokio::test]
async fn tasks_of_a_bucket_that_is_not_set_up_wait_for_it() {
    let (rig, calls) = (Rig::new(), Calls::default());
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().await.expect("a store"));
    let workflow = || Workflow::new("w").then(flaky("flaky", 1, &calls).retry(soon())).then(rig.notify());
    let whole_set = rig.builder().await.shared_store(Arc::clone(&store)).policy(Policy::new().clean(workflow()));
    let whole_set = whole_set.patience(Duration::ZERO).build().expect("a pipeline");
    let slow = whole_set.process(rig.drop_in("k", "fine").await).await.expect("waits").record;
    // Another service on the same file, or this one with a bucket left out by mistake.
    let other = Pipeline::builder().engine(crate::common::engine(&rig.scans)).shared_store(Arc::clone(&store));
    let other = other.build().expect("a pipeline");
    let mut errors = Vec::new();
    while errors.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let resumed = other.resume().await.expect("readable");
        assert!(resumed.tasks.is_empty(), "{:?}", resumed.tasks);
        errors = resumed.errors;
    }
    assert_eq!(errors[0].1.kind(), ErrorKind::Config);
    assert_eq!(store.task(slow.id).await.expect("readable").expect("there").state, TaskState::Handling);
    assert_eq!(whole_set.resume().await.expect("readable").tasks[0].record.state, TaskState::Done);
}

/// An engine that never answers, whatever its deadline is.
struct Hangs;

#[async_trait]
impl Engine for Hangs {
    fn info(&self) -> EngineInfo {
        EngineInfo::new("hangs", "1", "1")
    }

    async fn scan(&self, _: &Content, _: &ScanContext) -> Result<Report> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn an_engine_that_never_ends_keeps_nobody() {
    let rig = Rig::new();
    let builder = rig.builder().await.engine(Hangs).scan_timeout(Duration::from_millis(20)).concurrency(1);
    let pipeline = builder.build().expect("a pipeline");
    let object = rig.drop_in("k", "fine").await;
    let scan = tokio::time::timeout(Duration::from_secs(5), pipeline.process(object));
    assert_eq!(kind(scan.await.expect("comes to an end")), ErrorKind::Timeout);
}

#[tokio::test]
async fn an_engine_that_panics_is_an_error() {
    let rig = Rig::new();
    let builder = rig.builder().await.engine(Says(|| panic!("on purpose")));
    let pipeline = builder.build().expect("a pipeline");
    let object = rig.drop_in("k", "fine").await;
    let scan = tokio::spawn(async move { pipeline.process(object).await.map(|done| done.record.state) });
    match scan.await.expect("no panic gets out") {
        Ok(state) => assert_eq!(state, TaskState::Dead),
        Err(why) => assert_eq!(why.kind(), ErrorKind::Panicked),
    }
}

#[tokio::test]
async fn an_output_that_could_not_be_read_again_is_not_kept() {
    let rig = Rig::new();
    // What another service answered, and a handler passed on.
    let deep = Step::new(from_fn("deep", |_, _| async {
        let deep = (0..200).fold(serde_json::Value::Null, |inner, _| serde_json::Value::Array(vec![inner]));
        Ok(StepOutput::new(deep))
    }));
    let policy = Policy::new().clean(Workflow::new("w").then(deep.retry(quick())));
    let pipeline = rig.builder().await.policy(policy).build().expect("a pipeline");
    let done = pipeline.process(rig.drop_in("k", "fine").await).await.expect("on record");
    assert_eq!(done.record.state, TaskState::Dead);
    assert!(pipeline.store().tasks(&Default::default()).await.is_ok(), "one task must not hide the others");
}

#[tokio::test]
async fn a_retry_is_of_the_task_that_is_named() {
    let rig = Rig::with(MemoryBucket::with_content_etags("quarantine").expect("a bucket"));
    let fails = Count::default();
    let step = {
        let fails = fails.clone();
        Step::new(from_fn("check", move |_, _| {
            let call = fails.add();
            async move {
                match call {
                    1 | 3 => Err(scan_pipeline::handler::HandlerError::fatal("not today")),
                    _ => Ok(StepOutput::none()),
                }
            }
        }))
    };
    let policy = Policy::new().clean(Workflow::new("w").then(step).then(relocate("clean")));
    let pipeline = rig.builder().await.policy(policy).build().expect("a pipeline");
    let first = pipeline.process(rig.drop_in("k", "fine").await).await.expect("on record").record;
    assert_eq!(first.state, TaskState::Dead);
    assert_eq!(pipeline.retry(first.id).await.expect("retried").record.state, TaskState::Done);
    // The same bytes come back, and fail.
    let second = pipeline.process(rig.drop_in("k", "fine").await).await.expect("on record").record;
    assert_eq!(second.state, TaskState::Dead);
    let retried = pipeline.retry(second.id).await.expect("retried");
    assert!(!retried.repeated && retried.record.state == TaskState::Done, "{retried:?}");
    assert_eq!(get(&*rig.quarantine, "k").await, None);
}

#[tokio::test]
async fn callers_who_stop_waiting_do_not_add_to_the_work() {
    let rig = Rig::new();
    let running = Arc::new(Mutex::new((0_u32, 0_u32)));
    let (go, goes) = tokio::sync::watch::channel(false);
    let slow = {
        let running = Arc::clone(&running);
        Step::new(from_fn("slow", move |_, _| {
            let (running, mut goes) = (Arc::clone(&running), goes.clone());
            async move {
                {
                    let mut running = running.lock().expect("no panic");
                    running.0 += 1;
                    running.1 = running.1.max(running.0);
                }
                goes.wait_for(|go| *go).await.expect("told");
                running.lock().expect("no panic").0 -= 1;
                Ok(StepOutput::none())
            }
        }))
    };
    let policy = Policy::new().clean(Workflow::new("w").then(slow));
    let pipeline = rig.builder().await.policy(policy).concurrency(1).build().expect("a pipeline");
    for key in ["a", "b", "c"] {
        let object = rig.drop_in(key, "fine").await;
        let _ = tokio::time::timeout(Duration::from_millis(200), pipeline.process(object)).await;
    }
    go.send(true).expect("somebody listens");
    pipeline.drain().await;
    assert_eq!(running.lock().expect("no panic").1, 1, "one at a time was asked for");
}

#[tokio::test]
async fn endless_times_are_times() {
    let rig = Rig::new();
    let spool = SpoolOptions { stall_timeout: Duration::MAX, max_time: Duration::MAX, ..SpoolOptions::default() };
    let builder = rig.builder().await.spool(spool).lease(Duration::MAX).patience(Duration::MAX);
    let pipeline = builder.scan_timeout(Duration::MAX).build().expect("a pipeline");
    let done = pipeline.process(rig.drop_in("k", "fine").await).await.expect("done");
    assert_eq!(done.record.state, TaskState::Done);
}

#[tokio::test]
async fn a_copy_under_the_prefix_that_is_listed_is_not_copied_again() {
    use futures_util::StreamExt;
    let rig = Rig::new();
    let policy = Policy::new().infected(Workflow::new("w").then(relocate("quarantine").prefix("z/")));
    let pipeline = rig.builder().await.policy(policy).concurrency(1).build().expect("a pipeline");
    rig.drop_in("k", "infected").await;
    for round in 1..=3 {
        let seen: Vec<_> = pipeline.process_prefix("quarantine").expect("a bucket").collect().await;
        assert_eq!(seen.len(), 1);
        assert!(get(&*rig.quarantine, "z/k").await.is_some(), "moved on in round {round}");
    }
    whole(&pipeline).await;
}

/// A store to which no lease can be extended, without a word about it.
#[derive(Debug)]
struct Stalls(SqliteStore);

#[async_trait]
impl Store for Stalls {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.claim(request).await
    }

    async fn reopen(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.reopen(request).await
    }

    async fn commit(&self, lease: &Lease, changes: Changes) -> Result<Timestamp> {
        match changes.lease {
            LeaseChange::Extend(_) => std::future::pending().await,
            _ => self.0.commit(lease, changes).await,
        }
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        self.0.task(id).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        self.0.tasks(filter).await
    }

    async fn audit(&self, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
        self.0.audit(after, most).await
    }

    async fn audit_head(&self) -> Result<AuditHead> {
        self.0.audit_head().await
    }

    async fn cached(&self, key: &CacheKey) -> Result<Option<CachedReport>> {
        self.0.cached(key).await
    }
}

/// Notes when it is dropped.
struct Dropped(Arc<Mutex<Option<Instant>>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        *self.0.lock().expect("no panic") = Some(Instant::now());
    }
}

#[tokio::test]
async fn work_behind_a_scan_ends_before_the_lease_that_the_scan_has_used() {
    const LEASE: Duration = Duration::from_secs(2);
    let rig = Rig::new();
    let dropped = Arc::new(Mutex::new(None));
    let hangs = {
        let dropped = Arc::clone(&dropped);
        Step::new(from_fn("hangs", move |_, _| {
            let dropped = Dropped(Arc::clone(&dropped));
            async move {
                let _dropped = dropped;
                std::future::pending().await
            }
        }))
    };
    // It ends just before the lease would be extended.
    let engine = Says(|| {
        std::thread::sleep(LEASE.mul_f64(0.3));
        Ok(report(Verdict::Clean))
    });
    let store = Stalls(SqliteStore::in_memory().await.expect("a store"));
    let builder = rig.builder().await.engine(engine).store(store).lease(LEASE);
    let pipeline = builder.policy(Policy::new().clean(Workflow::new("w").then(hangs))).build().expect("a pipeline");
    let object = rig.drop_in("k", "fine").await;
    let before = Instant::now();
    assert_eq!(kind(pipeline.process(object).await), ErrorKind::Fenced);
    let dropped = dropped.lock().expect("no panic").expect("it was called");
    assert!(dropped < before + LEASE, "the handler went on for {:?}", dropped - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drains_at_the_same_time_all_come_to_their_end() {
    let pipeline = Rig::new().pipeline().await;
    for round in 0..20_000 {
        let drains =
            [pipeline.clone(), pipeline.clone()].map(|pipeline| tokio::spawn(async move { pipeline.drain().await }));
        let all = futures_util::future::join_all(drains);
        assert!(tokio::time::timeout(Duration::from_secs(5), all).await.is_ok(), "one waits for ever: {round}");
    }
}

/// Begins, and never ends.
struct Endless(tokio::sync::mpsc::UnboundedSender<()>);

#[async_trait::async_trait]
impl Engine for Endless {
    fn info(&self) -> EngineInfo {
        EngineInfo::new("endless", "1", "")
    }

    async fn scan(&self, _: &Content, _: &ScanContext) -> Result<Report> {
        let _ = self.0.send(());
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_scan_that_its_caller_stops_is_no_failed_attempt() {
    let rig = Rig::new();
    let store = Arc::new(SqliteStore::in_memory().await.expect("a store"));
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let builder = rig.builder().await.shared_store(store.clone());
    let stopped = builder.engine(Endless(begun)).build().expect("a pipeline");
    let object = rig.drop_in("a.txt", "fine").await;
    for round in 0..10 {
        // The lease is given back behind the caller's back.
        loop {
            tokio::select! {
                result = stopped.process(object.clone()) => assert_eq!(kind(result), ErrorKind::Busy, "round {round}"),
                _ = begins.recv() => break,
            }
            tokio::task::yield_now().await;
        }
    }
    let patient = rig.builder().await.shared_store(store.clone()).build().expect("a pipeline");
    let done = loop {
        match patient.process(object.clone()).await {
            Ok(done) => break done,
            Err(why) => assert_eq!(why.kind(), ErrorKind::Busy, "{why}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((done.record.state, done.record.attempts), (TaskState::Done, 1));
}

/// An engine whose first scan meets a runtime that goes down.
struct Shutdown<E>(E, tokio::runtime::Handle, Count);

#[async_trait]
impl<E: Engine> Engine for Shutdown<E> {
    fn info(&self) -> EngineInfo {
        self.0.info()
    }

    async fn scan(&self, content: &Content, context: &ScanContext) -> Result<Report> {
        let first = self.2.add() == 1;
        let mut scan = self.0.scan(content, context);
        std::future::poll_fn(|cx| {
            let _inside = first.then(|| self.1.enter());
            scan.as_mut().poll(cx)
        })
        .await
    }
}

#[tokio::test]
async fn a_runtime_that_goes_down_fails_no_scan() {
    let rig = Rig::new();
    let down = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let handle = down.handle().clone();
    down.shutdown_background();
    let engine = Shutdown(crate::common::engine(&rig.scans), handle, Count::default());
    let pipeline = rig.builder().await.engine(engine).build().expect("a pipeline");
    let object = rig.drop_in("a.txt", "fine").await;
    let why = pipeline.process(object.clone()).await.expect_err("it was not scanned");
    assert!((why.kind(), why.is_retryable(), why.is_untried()) == (ErrorKind::Cancelled, true, true), "{why:?}");
    let done = pipeline.process(object).await.expect("it is scanned by whoever comes next");
    assert_eq!((done.record.state, done.record.attempts, rig.scans.get()), (TaskState::Done, 1, 1));
    whole(&pipeline).await;
}
