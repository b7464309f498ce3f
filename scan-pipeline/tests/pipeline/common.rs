//! An engine that knows three words, buckets in memory, and handlers that remember their calls.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scan_pipeline::content::Content;
use scan_pipeline::engine::{Closure, Engine};
use scan_pipeline::handler::{HandlerError, StepOutput, from_fn, relocate, tag};
use scan_pipeline::model::{ObjectRef, Reason, ReasonKind, Threat, Verdict};
use scan_pipeline::objects::{MemoryBucket, ObjectOps, PutOptions};
use scan_pipeline::pipeline::PipelineBuilder;
use scan_pipeline::store::SqliteStore;
use scan_pipeline::workflow::{RetryPolicy, Step, Workflow};
use scan_pipeline::{Error, ErrorKind, Pipeline, Policy, Result};

/// Scans so far.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicU32>);

impl Count {
    pub(crate) fn add(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Infected, locked and broken are what contents say of themselves.
pub(crate) fn engine(scans: &Count) -> impl Engine + use<> {
    let scans = scans.clone();
    Closure::new("words", move |bytes: &[u8], name: &str| {
        scans.add();
        let layer_path = name.to_owned();
        let says = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
        if says(b"broken") {
            return Err(Error::new(ErrorKind::Engine, "the engine does not feel well"));
        }
        Ok(if says(b"infected") {
            Verdict::Infected { threats: vec![Threat { signature: String::from("{HEX}Word"), layer_path }] }
        } else if says(b"locked") {
            Verdict::Unscannable { reasons: vec![Reason { kind: ReasonKind::Encrypted, layer_path, detail: None }] }
        } else {
            Verdict::Clean
        })
    })
    .with_generation("1")
}

pub(crate) struct Rig {
    pub(crate) quarantine: Arc<MemoryBucket>,
    pub(crate) clean: Arc<MemoryBucket>,
    pub(crate) infected: Arc<MemoryBucket>,
    pub(crate) scans: Count,
    /// Calls of the `notify` step, by idempotency key.
    pub(crate) calls: Calls,
}

pub(crate) type Calls = Arc<Mutex<Vec<(String, String)>>>;

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(MemoryBucket::new("quarantine").expect("a bucket"))
    }

    pub(crate) fn with(quarantine: MemoryBucket) -> Self {
        let sibling = |name| Arc::new(quarantine.sibling(name).expect("a bucket"));
        Self {
            clean: sibling("clean"),
            infected: sibling("infected"),
            quarantine: Arc::new(quarantine),
            scans: Count::default(),
            calls: Calls::default(),
        }
    }

    /// Clean moves and notifies, infected is tagged and moves, unscannable is tagged.
    pub(crate) fn policy(&self) -> Policy {
        Policy::new()
            .clean(Workflow::new("release").then(relocate("clean")).then(self.notify()))
            .infected(Workflow::new("isolate").then(tag()).then(relocate("infected")).then(self.notify()))
            .unscannable(Workflow::new("hold").then(tag()).then(self.notify()))
    }

    pub(crate) fn notify(&self) -> Step {
        let calls = Arc::clone(&self.calls);
        Step::new(from_fn("notify", move |scanned, step| {
            let calls = Arc::clone(&calls);
            async move {
                let call = (step.idempotency_key.clone(), scanned.verdict().status().to_owned());
                calls.lock().expect("no panic").push(call);
                Ok(StepOutput::none())
            }
        }))
        .retry(quick())
    }

    pub(crate) async fn builder(&self) -> PipelineBuilder {
        Pipeline::builder()
            .engine(engine(&self.scans))
            .bucket("quarantine", Arc::clone(&self.quarantine) as Arc<dyn ObjectOps>)
            .bucket("clean", Arc::clone(&self.clean) as Arc<dyn ObjectOps>)
            .bucket("infected", Arc::clone(&self.infected) as Arc<dyn ObjectOps>)
            .policy(self.policy())
            .scan_retry(quick())
            .store(SqliteStore::in_memory().await.expect("a store"))
    }

    pub(crate) async fn pipeline(&self) -> Pipeline {
        self.builder().await.build().expect("a pipeline")
    }

    pub(crate) async fn drop_in(&self, key: &str, text: &str) -> ObjectRef {
        put(&*self.quarantine, key, text).await
    }

    pub(crate) fn notified(&self) -> Vec<String> {
        self.calls.lock().expect("no panic").iter().map(|(_, verdict)| verdict.clone()).collect()
    }
}

pub(crate) async fn put(bucket: &dyn ObjectOps, key: &str, text: &str) -> ObjectRef {
    let content = Content::from_bytes(text.as_bytes().to_vec());
    bucket.put(key, &content, &PutOptions::default()).await.expect("put")
}

/// What is under a key, if anything.
pub(crate) async fn get(bucket: &dyn ObjectOps, key: &str) -> Option<String> {
    let object = ObjectRef::new(bucket.url().clone(), key);
    let read = match bucket.read(&object).await {
        Ok(read) => read,
        Err(why) if why.kind() == ErrorKind::Gone => return None,
        Err(why) => panic!("{why}"),
    };
    let content = Content::from_stream(read.stream, &scan_pipeline::content::Spool::default()).await.expect("read");
    Some(String::from_utf8_lossy(&content.bytes().await.expect("bytes")).into_owned())
}

/// Retries without losing time.
pub(crate) fn quick() -> RetryPolicy {
    let millis = Duration::from_millis;
    RetryPolicy { max_attempts: 3, initial: millis(1), factor: 1.0, cap: millis(1) }
}

/// A step that fails so often before it succeeds.
pub(crate) fn flaky(name: &str, failures: u32, calls: &Calls) -> Step {
    let (calls, count) = (Arc::clone(calls), Count::default());
    Step::new(from_fn(name, move |_, step| {
        let (calls, attempt) = (Arc::clone(&calls), count.add());
        async move {
            calls.lock().expect("no panic").push((step.step.clone(), step.idempotency_key.clone()));
            match attempt > failures {
                true => Ok(StepOutput::new(serde_json::json!({ "attempt": attempt }))),
                false => Err(HandlerError::retryable("not yet")),
            }
        }
    }))
    .retry(quick())
}

pub(crate) async fn whole(pipeline: &Pipeline) {
    let verified = scan_pipeline::store::audit::verify(&**pipeline.store()).await.expect("readable");
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("an error").kind()
}
