//! A store that kills the process, to see what the next one makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use async_trait::async_trait;

use crate::Result;
use crate::model::{TaskId, Timestamp};
use crate::store::{
    AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Lease, Store, TaskFilter, TaskRecord,
};

/// When a [`CrashingStore`] kills the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the store hears of the call.
    Before,
    /// While the call is under way: it was handed to the store, which may have done it or not.
    During,
    /// When it is done and the caller has not heard of it.
    After,
}

/// Passes everything on to another store, and kills the process (SIGKILL: no destructor runs, nothing is flushed) at
/// one of the calls that write. For tests with child processes.
#[derive(Debug)]
pub struct CrashingStore {
    inner: Arc<dyn Store>,
    moment: Moment,
    nth: u64,
    calls: AtomicU64,
}

impl CrashingStore {
    /// Kills the process at the `nth` claim or commit, counted together from 1; at none if it is 0.
    pub fn new(inner: Arc<dyn Store>, moment: Moment, nth: u64) -> Self {
        Self { inner, moment, nth, calls: AtomicU64::new(0) }
    }

    /// Claims and commits so far: with none to crash at, how many there are to choose from.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    async fn passing<T: Send>(&self, mut call: futures_util::future::BoxFuture<'_, Result<T>>) -> Result<T> {
        let here = self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.nth;
        if here && self.moment == Moment::Before {
            kill();
        }
        if here && self.moment == Moment::During {
            std::future::poll_fn(|cx| {
                let _ = call.as_mut().poll(cx);
                kill();
                Poll::Ready(())
            })
            .await;
        }
        let result = call.await;
        if here {
            kill();
        }
        result
    }
}

fn kill() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal may take a moment, and nothing may happen in it.
    std::process::abort();
}

#[async_trait]
impl Store for CrashingStore {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.passing(self.inner.claim(request)).await
    }

    async fn reopen(&self, request: &ClaimRequest) -> Result<Claim> {
        self.passing(self.inner.reopen(request)).await
    }

    async fn commit(&self, lease: &Lease, changes: Changes) -> Result<Timestamp> {
        self.passing(self.inner.commit(lease, changes)).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        self.inner.task(id).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        self.inner.tasks(filter).await
    }

    async fn audit(&self, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
        self.inner.audit(after, most).await
    }

    async fn audit_head(&self) -> Result<AuditHead> {
        self.inner.audit_head().await
    }

    async fn cached(&self, key: &CacheKey) -> Result<Option<CachedReport>> {
        self.inner.cached(key).await
    }
}
