//! Setting a pipeline up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{Pipeline, Shared};
use crate::content::{Budget, Spool, SpoolOptions};
use crate::engine::{Engine, VerdictCache};
use crate::health::{Guarded, Health};
use crate::model::ObjectRef;
use crate::objects::{Buckets, ObjectOps};
use crate::policy::Policy;
use crate::store::Store;
use crate::workflow::RetryPolicy;
use crate::{Error, ErrorKind, Result};

/// The engine, the buckets, the policy and the store of a pipeline, and its limits.
#[derive(Default)]
pub struct PipelineBuilder {
    engine: Option<Arc<dyn Engine>>,
    buckets: Buckets,
    /// Buckets for which [`Buckets::accept_unpinned_delete`] is to be said.
    unpinned: Vec<String>,
    policy: Policy,
    store: Option<Arc<dyn Store>>,
    spool: SpoolOptions,
    budget: Option<Budget>,
    options: Options,
    cache_entries: Option<usize>,
    health: Health,
}

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) concurrency: usize,
    pub(super) lease: Duration,
    pub(super) settle: Duration,
    pub(super) patience: Duration,
    pub(super) scan_timeout: Duration,
    pub(super) scan_retry: RetryPolicy,
    pub(super) durable_cache: bool,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let scan_retry = RetryPolicy { max_attempts: 5, ..RetryPolicy::default() };
        Self {
            concurrency: cores * 16,
            lease: Duration::from_secs(30),
            settle: Duration::from_secs(2),
            patience: Duration::from_secs(2),
            scan_timeout: Duration::from_secs(600),
            scan_retry,
            durable_cache: true,
        }
    }
}

impl PipelineBuilder {
    /// Sets the engine. Several are joined by an [`engine::Group`](crate::engine::Group).
    #[must_use]
    pub fn engine(mut self, engine: impl Engine) -> Self {
        self.engine = Some(Arc::new(engine));
        self
    }

    /// Sets the engine, shared with others.
    #[must_use]
    pub fn shared_engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Adds a bucket under a short name.
    #[must_use]
    pub fn bucket(mut self, name: impl Into<String>, bucket: Arc<dyn ObjectOps>) -> Self {
        self.buckets.insert(name, bucket);
        self
    }

    /// Lets handlers delete from a bucket that cannot delete just the state that was scanned
    /// ([`Caps::pinned_delete`](crate::objects::Caps)): an upload that lands between the last look and the delete is lost,
    /// and nobody has scanned it. Without this word a pipeline with such a bucket and such a handler is refused.
    #[must_use]
    pub fn accept_unpinned_delete(mut self, bucket: impl Into<String>) -> Self {
        self.unpinned.push(bucket.into());
        self
    }

    /// Sets which workflow follows which verdict.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the store.
    #[must_use]
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets the store, shared with others.
    #[must_use]
    pub fn shared_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets how contents are taken in: the largest size, and where they are put.
    #[must_use]
    pub fn spool(mut self, options: SpoolOptions) -> Self {
        self.spool = options;
        self
    }

    /// Sets how much memory contents may take together. Default 512 MiB.
    #[must_use]
    pub fn memory(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets how many tasks are at work at once. Default sixteen for each core: most of them wait for other machines.
    #[must_use]
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.options.concurrency = tasks;
        self
    }

    /// Sets how long a task stays with a process that does not answer any more. Default 30 seconds.
    #[must_use]
    pub fn lease(mut self, ttl: Duration) -> Self {
        self.options.lease = ttl;
        self
    }

    /// Sets how long an object in a directory has to be unchanged before it is worked on: a file that somebody still
    /// writes to must not be moved away under their hands. Default 2 seconds; buckets whose objects appear whole need no
    /// such time. Writers who are slower than that should write elsewhere and rename the file into the bucket.
    #[must_use]
    pub fn settle(mut self, unchanged: Duration) -> Self {
        self.options.settle = unchanged;
        self
    }

    /// Sets the longest back-off of a step that is waited for in place. A longer one ends the call, and
    /// [`Pipeline::resume`] goes on when its time has come. Default 2 seconds.
    #[must_use]
    pub fn patience(mut self, longest: Duration) -> Self {
        self.options.patience = longest;
        self
    }

    /// Sets the time for one scan, waiting for the engine included. Default 10 minutes.
    #[must_use]
    pub fn scan_timeout(mut self, timeout: Duration) -> Self {
        self.options.scan_timeout = timeout;
        self
    }

    /// Sets how often a read and scan that fails is tried before its task is dead. Default 5 attempts.
    #[must_use]
    pub fn scan_retry(mut self, retry: RetryPolicy) -> Self {
        self.options.scan_retry = retry;
        self
    }

    /// Sets how many verdicts are remembered in memory, and whether the store remembers them, too. Default 100,000
    /// and yes; 0 and no switch the cache off.
    #[must_use]
    pub fn verdict_cache(mut self, entries: usize, durable: bool) -> Self {
        self.cache_entries = Some(entries);
        self.options.durable_cache = durable;
        self
    }

    /// Sets the circuit breakers that calls to the store, the buckets and the hosts of handlers go through.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// Checks everything and builds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is no engine or no store, when a workflow cannot be, when one deletes from a bucket
    /// that cannot delete just what was scanned, or a limit is zero.
    pub fn build(mut self) -> Result<Pipeline> {
        let missing = |what: &str| Error::new(ErrorKind::Config, format!("a pipeline needs {what}"));
        let engine = self.engine.ok_or_else(|| missing("an engine"))?;
        let store = self.store.ok_or_else(|| missing("a store"))?;
        self.policy.check()?;
        for name in &self.unpinned {
            self.buckets.accept_unpinned_delete(name)?;
        }
        check_deletes(&self.policy, &self.buckets)?;
        if self.options.concurrency == 0 || self.options.concurrency > Semaphore::MAX_PERMITS {
            return Err(missing("a concurrency of at least 1"));
        }
        if self.options.lease < Duration::from_millis(100) {
            return Err(missing("a lease of at least 100 milliseconds"));
        }
        if self.options.scan_retry.max_attempts == 0 {
            return Err(missing("at least one attempt for a scan"));
        }
        let left = self.policy.left_alone();
        if !left.is_empty() {
            tracing::warn!(
                "the policy names no workflow for {}: such objects are left where they are",
                left.join(", ")
            );
        }
        let running = TaskTracker::new();
        running.close();
        let spool = Spool::new(self.spool, self.budget.unwrap_or_default());
        let health = self.health;
        let buckets = self.buckets.wrapped(|bucket| {
            let breaker = health.breaker(bucket.url().as_str());
            Arc::new(Guarded::new(Arc::clone(bucket), breaker))
        });
        let store = Arc::new(Guarded::new(store, health.breaker("store")));
        Ok(Pipeline {
            shared: Arc::new(Shared {
                engine,
                cache: VerdictCache::new(self.cache_entries.unwrap_or(100_000)),
                buckets: Arc::new(buckets),
                policy: self.policy,
                store,
                spool,
                permits: Arc::new(Semaphore::new(self.options.concurrency)),
                options: self.options,
                running,
                owner: owner(),
                health,
            }),
        })
    }
}

/// Refuses to delete from where objects come from, if it might hit what nobody has scanned. Objects may come from every
/// bucket that nothing is written to; handlers ask once more about the object at hand.
fn check_deletes(policy: &Policy, buckets: &Buckets) -> Result<()> {
    let steps =
        || policy.workflows().flat_map(|workflow| workflow.root().steps().into_iter().map(move |s| (workflow, s)));
    let Some((workflow, step)) = steps().find(|(_, step)| step.handler.deletes()) else { return Ok(()) };
    let written = |bucket: &dyn ObjectOps| {
        let target = |name: &str| buckets.get(name).is_ok_and(|target| target.url() == bucket.url());
        steps().any(|(_, step)| step.handler.writes_to().is_some_and(target))
    };
    let nothing_else = buckets.iter().all(|(_, bucket)| written(&**bucket));
    for (name, bucket) in buckets.iter().filter(|(_, bucket)| nothing_else || !written(&***bucket)) {
        buckets.check_delete(&ObjectRef::new(bucket.url().clone(), "")).map_err(|why| {
            let about = format!("bucket {name}, workflow {}, step {}", workflow.name(), step.name);
            Error::new(ErrorKind::Config, "objects cannot be deleted as safely as is to be")
                .with_source(why)
                .about(about)
        })?;
    }
    Ok(())
}

/// A name for this process that people recognise and that no other has.
fn owner() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}/{}/{:08x}", std::process::id(), fastrand::u32(..))
}
