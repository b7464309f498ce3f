//! One circuit breaker.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{BreakerState, Dependency};
use crate::model::Timestamp;
use crate::{Error, ErrorKind, Result};

/// When breakers open, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures in a row after which it opens. Default 5.
    pub failures: u32,
    /// How long it stays open at first; each probe that fails doubles it. Default 1 second.
    pub first_pause: Duration,
    /// The longest that it stays open at a time. Default 1 minute.
    pub longest_pause: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures: 5, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(60) }
    }
}

/// Lets calls through to something outside as long as it answers.
#[derive(Debug)]
pub struct Breaker {
    name: String,
    options: BreakerOptions,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    failures: u32,
    /// Set while it is open, and while a probe is under way.
    open: Option<Open>,
    error: Option<String>,
    since: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    pause: Duration,
    probing: bool,
}

impl Breaker {
    pub(super) fn new(name: &str, options: BreakerOptions) -> Self {
        let inner = Inner { failures: 0, open: None, error: None, since: Timestamp::now() };
        Self { name: name.to_owned(), options, inner: Mutex::new(inner) }
    }

    /// Makes a call, or fails at once while the breaker is open. A call that is dropped says nothing.
    ///
    /// # Errors
    ///
    /// The call's, or [`ErrorKind::Unavailable`] with the time to wait.
    pub async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let pass = self.enter()?;
        let result = call.await;
        match &result {
            Err(why) if is_outage(why) => pass.failed(why.to_string()),
            _ => pass.answered(),
        }
        result
    }

    /// As [`call`](Self::call), where the answer is only the beginning of what was asked for. Unless it was a probe, whether
    /// the other side works is told later, by [`tell`](Self::tell).
    pub(crate) async fn begin<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let pass = self.enter()?;
        let result = call.await;
        match &result {
            Err(why) if is_outage(why) => pass.failed(why.to_string()),
            Ok(_) if !pass.probe => drop(pass),
            _ => pass.answered(),
        }
        result
    }

    /// How something came to its end that has [begun](Self::begin).
    pub(crate) fn tell(&self, failure: Option<&Error>) {
        let pass = Pass { breaker: self, probe: false, told: false };
        match failure {
            Some(why) if is_outage(why) => pass.failed(why.to_string()),
            _ => pass.answered(),
        }
    }

    /// How long calls will fail at once; `None` when one would go through.
    pub fn pause(&self) -> Option<Duration> {
        let open = self.inner().open?;
        let left = open.until.saturating_duration_since(Instant::now());
        match (open.probing, left) {
            // Until the probe is back nobody knows; somebody who asks again soon is told.
            (true, _) => Some(left.max(self.options.first_pause)),
            (false, Duration::ZERO) => None,
            (false, left) => Some(left),
        }
    }

    /// Whether calls go through, and since when.
    pub fn dependency(&self) -> Dependency {
        let inner = self.inner();
        let now = Instant::now();
        let (state, until) = match inner.open {
            None => (BreakerState::Closed, None),
            Some(open) if open.probing || open.until <= now => (BreakerState::HalfOpen, None),
            Some(open) => (BreakerState::Open, Some(Timestamp::now().plus(open.until - now))),
        };
        Dependency {
            name: self.name.clone(),
            state,
            failures: inner.failures,
            since: inner.since,
            until,
            error: inner.error.clone(),
        }
    }

    /// The right to make a call, whose end has to be told.
    pub(crate) fn enter(&self) -> Result<Pass<'_>> {
        let wait = match self.pause() {
            None => {
                let mut inner = self.inner();
                match &mut inner.open {
                    // Another caller may have begun a probe between the two looks.
                    Some(open) if open.probing => self.options.first_pause,
                    Some(open) => {
                        open.probing = true;
                        return Ok(Pass { breaker: self, probe: true, told: false });
                    }
                    None => return Ok(Pass { breaker: self, probe: false, told: false }),
                }
            }
            Some(wait) => wait,
        };
        let why = self.inner().error.clone().unwrap_or_default();
        let message = format!("does not answer, and is left alone for {:.1} s: {why}", wait.as_secs_f64());
        Err(Error::new(ErrorKind::Unavailable, message).about(self.name.clone()).after(wait).untried())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says that the other side is not there.
pub(crate) fn is_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Io)
}

/// A call that was let through.
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
    told: bool,
}

impl Pass<'_> {
    pub(crate) fn answered(mut self) {
        self.told = true;
        let mut inner = self.breaker.inner();
        inner.failures = 0;
        inner.error = None;
        if inner.open.take().is_some() {
            inner.since = Timestamp::now();
            tracing::info!(dependency = self.breaker.name, "answers again");
        }
    }

    pub(crate) fn failed(mut self, why: String) {
        self.told = true;
        let options = &self.breaker.options;
        let mut inner = self.breaker.inner();
        inner.failures = inner.failures.saturating_add(1);
        inner.error = Some(why);
        let pause = match inner.open {
            Some(open) if self.probe => open.pause.saturating_mul(2).min(options.longest_pause),
            // One of the calls that were under way when it opened.
            Some(_) => return,
            None if inner.failures < options.failures => return,
            None => {
                inner.since = Timestamp::now();
                tracing::warn!(
                    dependency = self.breaker.name,
                    error = inner.error,
                    "does not answer and is left alone for a while"
                );
                options.first_pause
            }
        };
        // Not all at the same moment, when there are many of us.
        let jittered = pause.mul_f64(0.75 + fastrand::f64() / 2.0);
        inner.open = Some(Open { until: Instant::now() + jittered, pause, probing: false });
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.told || !self.probe {
            return;
        }
        // The probe was given up: the next call is one.
        if let Some(open) = &mut self.breaker.inner().open {
            open.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new("there", BreakerOptions { failures: 3, ..BreakerOptions::default() })
    }

    async fn fail(breaker: &Breaker, kind: ErrorKind) -> Error {
        breaker.call(async { Err::<(), _>(Error::new(kind, "no")) }).await.expect_err("it fails")
    }

    async fn succeed(breaker: &Breaker) -> Result<()> {
        breaker.call(async { Ok(()) }).await
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_with_a_probe() {
        let breaker = breaker();
        for _ in 0..2 {
            fail(&breaker, ErrorKind::Timeout).await;
        }
        succeed(&breaker).await.expect("closed");
        for _ in 0..3 {
            assert_eq!(fail(&breaker, ErrorKind::Unavailable).await.retry_after(), None);
        }
        let refused = succeed(&breaker).await.expect_err("open");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.is_retryable() && refused.retry_after().is_some());
        assert_eq!(breaker.dependency().state, BreakerState::Open);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(breaker.dependency().state, BreakerState::HalfOpen);
        succeed(&breaker).await.expect("a probe goes through");
        assert_eq!((breaker.dependency().state, breaker.dependency().error), (BreakerState::Closed, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_doubles_the_pause_up_to_the_longest() {
        let breaker = breaker();
        for _ in 0..3 {
            fail(&breaker, ErrorKind::Unavailable).await;
        }
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let pause = breaker.pause().expect("open");
            assert!(pause <= Duration::from_secs(75), "{pause:?}");
            longest = longest.max(pause);
            tokio::time::advance(pause).await;
            assert_eq!(fail(&breaker, ErrorKind::Unavailable).await.to_string(), "no", "it was a probe");
        }
        assert!(longest > Duration::from_secs(40), "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_and_a_dropped_one_makes_room() {
        let breaker = breaker();
        for _ in 0..3 {
            fail(&breaker, ErrorKind::Io).await;
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        let probe = breaker.enter().expect("the probe");
        assert!(succeed(&breaker).await.is_err(), "another call while the probe is under way");
        drop(probe);
        succeed(&breaker).await.expect("the next probe");
    }

    #[tokio::test]
    async fn an_answer_is_no_outage() {
        let breaker = breaker();
        for kind in [ErrorKind::Gone, ErrorKind::Denied, ErrorKind::Superseded, ErrorKind::Fenced, ErrorKind::Busy] {
            for _ in 0..5 {
                fail(&breaker, kind).await;
            }
        }
        assert_eq!(breaker.dependency().state, BreakerState::Closed);
    }
}
