//! What the pipeline depends on, and whether it answers: a circuit breaker for each store, broker, bucket and host.
//!
//! When something outside keeps failing, asking it again for each object helps nobody. After some failures in a row its
//! breaker opens: calls fail at once, as retryable, with the time after which it will be tried again. Then one call goes
//! through as a probe; if it succeeds, everything does. A failure counts when it says that the other side is not there
//! or does not answer ([`Unavailable`](crate::ErrorKind::Unavailable), [`Timeout`](crate::ErrorKind::Timeout),
//! [`Io`](crate::ErrorKind::Io)); that a key is gone or access to it denied is an answer.

mod breaker;
mod guarded;
mod guarded_queue;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::model::Timestamp;

pub(crate) use breaker::is_outage;
pub use breaker::{Breaker, BreakerOptions};
pub(crate) use guarded::Guarded;
pub(crate) use guarded_queue::GuardedQueue;

/// The breakers of everything that a pipeline or worker depends on, by name. Clones share them.
///
/// ```
/// use scan_pipeline::health::{BreakerOptions, Health};
/// use scan_pipeline::{Error, ErrorKind};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let health = Health::new(BreakerOptions { failures: 2, ..BreakerOptions::default() });
/// let host = health.breaker("https://example.com");
/// for _ in 0..2 {
///     let refused = async { Err::<(), _>(Error::new(ErrorKind::Unavailable, "connection refused")) };
///     assert!(host.call(refused).await.is_err());
/// }
/// assert!(!health.is_ready());
/// assert_eq!(health.dependencies()[0].state.as_str(), "open");
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Health {
    options: BreakerOptions,
    breakers: Arc<Mutex<BTreeMap<String, Arc<Breaker>>>>,
}

/// What is known of one dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// What it is: `store`, `queue`, the address of a bucket or of a host.
    pub name: String,
    /// Whether calls go through.
    pub state: BreakerState,
    /// Failures in a row.
    pub failures: u32,
    /// When the breaker came to its state.
    pub since: Timestamp,
    /// When a call will be let through again, while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The last failure, until a call succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether a breaker lets calls through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// All of them.
    Closed,
    /// None.
    Open,
    /// One, to see whether the others would succeed.
    HalfOpen,
}

impl BreakerState {
    /// The state as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Health {
    /// Without any breaker yet; those that are made have these settings.
    pub fn new(options: BreakerOptions) -> Self {
        Self { options, breakers: Arc::default() }
    }

    /// The breaker of this name. It is made when it is asked for first. Names are few and set up: never take one from
    /// content.
    pub fn breaker(&self, name: &str) -> Arc<Breaker> {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        match breakers.get(name) {
            Some(breaker) => Arc::clone(breaker),
            None => {
                let breaker = Arc::new(Breaker::new(name, self.options.clone()));
                breakers.insert(name.to_owned(), Arc::clone(&breaker));
                breaker
            }
        }
    }

    /// Every dependency that was called so far, by name.
    pub fn dependencies(&self) -> Vec<Dependency> {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.values().map(|breaker| breaker.dependency()).collect()
    }

    /// Whether calls go through to all of them.
    pub fn is_ready(&self) -> bool {
        self.dependencies().iter().all(|dependency| dependency.state == BreakerState::Closed)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.dependencies()).finish()
    }
}
