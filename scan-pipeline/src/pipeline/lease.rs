//! Holding a task's lease while it is worked on.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::model::Timestamp;
use crate::store::{Changes, Lease, LeaseChange, Store};
use crate::{Error, ErrorKind, Result};

/// Longer than any process lives, and still a time that a clock can have.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The right to be at work, which ends when nobody has it any more: neither the caller nor a workflow that goes on
/// without the caller.
pub(super) type Permit = Arc<OwnedSemaphorePermit>;

/// A lease that is given back when the work is dropped.
pub(super) struct Held {
    lease: Lease,
    store: Arc<dyn Store>,
    ttl: Duration,
    /// When the lease was taken or extended last, one piece of work after the other.
    extended: Mutex<Instant>,
    _permit: Permit,
    /// Nothing is left to give back.
    settled: bool,
}

impl Held {
    pub(super) fn new(lease: Lease, store: Arc<dyn Store>, ttl: Duration, permit: Permit) -> Self {
        let extended = Mutex::new(Instant::now());
        Self { lease, store, ttl: ttl.min(FAR), extended, _permit: permit, settled: false }
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    fn extended(&self) -> Instant {
        *self.extended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what happened under the lease. Gives the time of it.
    pub(super) async fn commit(&mut self, changes: Changes) -> Result<Timestamp> {
        let settles = matches!(changes.lease, LeaseChange::Release | LeaseChange::Return)
            || changes.state.is_some_and(|state| state.is_terminal());
        let result = self.store.commit(&self.lease, changes).await;
        self.settled |= match &result {
            Ok(_) => settles,
            Err(why) => why.kind() == ErrorKind::Fenced,
        };
        result
    }

    /// Does some work and extends the lease meanwhile, at a third of its time. When that fails for so long that the
    /// lease is about to end, the work is dropped: somebody else may begin with it.
    pub(super) async fn keep<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let beat = async {
            loop {
                let extended = self.extended();
                tokio::time::sleep_until(extended + self.ttl / 3).await;
                let mut why = None;
                let abandon = extended + self.ttl.mul_f64(0.8);
                while Instant::now() < abandon {
                    let asked = Instant::now();
                    let changes = Changes { lease: LeaseChange::Extend(self.ttl), ..Changes::default() };
                    match tokio::time::timeout_at(abandon, self.store.commit(&self.lease, changes)).await {
                        Ok(Ok(_)) => {
                            *self.extended.lock().unwrap_or_else(PoisonError::into_inner) = asked;
                            why = None;
                            break;
                        }
                        Ok(Err(error)) if error.kind() == ErrorKind::Fenced => return error,
                        Ok(Err(error)) => why = Some(error),
                        Err(_) => break,
                    }
                    tokio::time::sleep(self.ttl / 20).await;
                }
                if Instant::now() >= abandon {
                    let error =
                        Error::new(ErrorKind::Fenced, "the lease could not be extended, so the work was dropped");
                    return match why {
                        Some(why) => error.with_source(why).retryable(true),
                        None => error.retryable(true),
                    };
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            lost = beat => Err(lost),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // Without a runtime the lease runs out by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (lease, store) = (self.lease.clone(), Arc::clone(&self.store));
        runtime.spawn(async move {
            let changes = Changes { lease: LeaseChange::Return, ..Changes::default() };
            if let Err(why) = store.commit(&lease, changes).await {
                tracing::debug!(task = %lease.task, error = %why, "a lease could not be given back; it will run out");
            }
        });
    }
}
