//! A queue whose calls go through a breaker, and end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Breaker;
use crate::queue::{DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle};
use crate::{Error, ErrorKind, Result};

/// A queue that is called through a breaker. An answer that comes too late is none, which counts as the broker's failure:
/// a call that hangs would keep what waits for it for ever, and nobody would see why.
#[derive(Debug)]
pub(crate) struct GuardedQueue {
    breaker: Arc<Breaker>,
    inner: Arc<dyn Queue>,
    limit: Duration,
}

impl GuardedQueue {
    /// With the longest time for a call, beyond the time that it waits for messages. An extension has a quarter of the
    /// lease that it asks for, so that there is time for another.
    pub(crate) fn new(inner: Arc<dyn Queue>, breaker: Arc<Breaker>, limit: Duration) -> Self {
        Self { breaker, inner, limit }
    }

    async fn call<T>(&self, limit: Duration, what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let late = |_| Error::new(ErrorKind::Timeout, format!("{what} in time, which is {limit:?}"));
        self.breaker.call(async { tokio::time::timeout(limit, call).await.map_err(late)? }).await
    }
}

#[async_trait]
impl Queue for GuardedQueue {
    fn caps(&self) -> QueueCaps {
        self.inner.caps()
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        self.call(self.limit, "messages were not taken", self.inner.enqueue(messages)).await
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        let limit = self.limit.saturating_add(wait);
        self.call(limit, "messages were not handed out", self.inner.lease(most, ttl, wait)).await
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        let limit = leases.iter().map(|(_, ttl)| *ttl / 4).min().unwrap_or(self.limit);
        self.call(limit, "leases were not extended", self.inner.extend(leases)).await
    }

    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        self.call(self.limit, "messages were not settled", self.inner.settle(messages)).await
    }

    async fn depth(&self) -> Result<Depth> {
        self.call(self.limit, "messages were not counted", self.inner.depth()).await
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.inner.dead_letters()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BreakerOptions, Health};
    use super::*;
    use crate::queue::Lane;

    /// Never answers.
    #[derive(Debug)]
    struct Hanging;

    #[async_trait]
    impl Queue for Hanging {
        fn caps(&self) -> QueueCaps {
            unreachable!("nobody asks")
        }
        async fn enqueue(&self, _: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
            std::future::pending().await
        }
        async fn lease(&self, _: usize, _: Duration, _: Duration) -> Result<Vec<Delivery>> {
            std::future::pending().await
        }
        async fn extend(&self, _: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
            std::future::pending().await
        }
        async fn settle(&self, _: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
            std::future::pending().await
        }
        async fn depth(&self) -> Result<Depth> {
            std::future::pending().await
        }
        fn dead_letters(&self) -> &dyn DeadLetters {
            unreachable!("nobody asks")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_and_counts_as_a_failure() {
        let health = Health::new(BreakerOptions { failures: 100, ..BreakerOptions::default() });
        let breaker = health.breaker("queue");
        let limit = Duration::from_secs(15);
        let queue = GuardedQueue::new(Arc::new(Hanging), Arc::clone(&breaker), limit);
        let message = NewMessage {
            body: "x".into(),
            tenant: String::new(),
            lane: Lane::Normal,
            dedupe: None,
            delay: Duration::ZERO,
        };
        let (receipt, ttl, wait) = (Receipt(String::from("r")), Duration::from_secs(8), Duration::from_secs(20));
        let begun = tokio::time::Instant::now();
        let mut ended = Vec::new();
        let mut note = |error: Error| {
            assert!(error.kind() == ErrorKind::Timeout && error.is_retryable(), "{error}");
            ended.push(begun.elapsed().as_secs());
        };
        note(queue.enqueue(&[message]).await.expect_err("hangs"));
        note(queue.lease(1, ttl, wait).await.expect_err("hangs"));
        note(queue.extend(&[(receipt.clone(), ttl)]).await.expect_err("hangs"));
        note(queue.settle(&[(receipt, Settle::Done)]).await.expect_err("hangs"));
        note(queue.depth().await.expect_err("hangs"));
        assert_eq!(ended, [15, 50, 52, 67, 82]);
        assert_eq!(breaker.dependency().failures, 5);
    }
}
