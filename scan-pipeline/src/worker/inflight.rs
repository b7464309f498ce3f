//! The messages that a worker holds: their leases are extended until they are settled, or given up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::queue::{Held, Queue, Receipt};

/// Every message in hand, by a number of our own.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    held: Mutex<HashMap<u64, Entry>>,
    giving_up: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    receipt: Receipt,
    /// The lease holds for its whole time from here on.
    since: Instant,
    /// It is being extended.
    asked: bool,
    /// The last time came to nothing.
    failed: bool,
    /// Cancelled when it does not hold any more.
    lost: CancellationToken,
}

/// The part of its time after which a lease that is not extended is given up.
const KEPT: f64 = 0.8;

/// One message in hand. It is not extended any more once this is dropped.
#[derive(Debug)]
pub(super) struct InHand {
    number: u64,
    all: Arc<InFlight>,
    pub(super) lost: CancellationToken,
}

impl InFlight {
    /// Takes a message in hand whose lease was asked for at `since`.
    pub(super) fn add(self: &Arc<Self>, number: u64, receipt: Receipt, since: Instant) -> InHand {
        let lost = CancellationToken::new();
        self.held().insert(number, Entry { receipt, since, asked: false, failed: false, lost: lost.clone() });
        InHand { number, all: Arc::clone(self), lost }
    }

    /// Tells every message in hand that its time is over.
    pub(super) fn give_up_all(&self) {
        self.giving_up.store(true, Ordering::SeqCst);
        self.held().values().for_each(|entry| entry.lost.cancel());
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Extends leases at a third of their time, for ever: all that are due in one call, and those whose last call came to
    /// nothing each in its own, so that one that hangs takes no other with it. What could not be extended for so long that
    /// its lease is about to end is given up: somebody else may get the message.
    pub(super) async fn keep(&self, queue: &dyn Queue, ttl: Duration) {
        let mut calls = FuturesUnordered::new();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {
                    let now = Instant::now();
                    for entries in self.due(now, ttl) {
                        calls.push(async move { (extend(queue, &entries, ttl).await, entries, now) });
                    }
                    next = self.next_end(ttl).map_or(now + ttl / 12, |end| end.clamp(now, now + ttl / 12));
                }
                Some((answers, entries, asked)) = calls.next() => self.note(&entries, answers, asked),
            }
        }
    }

    /// Gives up what is about to end, and says what is to be extended, each list in one call. No message is in two.
    fn due(&self, now: Instant, ttl: Duration) -> Vec<Vec<(u64, Receipt)>> {
        let mut calls = vec![Vec::new()];
        for (number, entry) in self.held().iter_mut().filter(|(_, entry)| !entry.lost.is_cancelled()) {
            if now - entry.since >= ttl.mul_f64(KEPT) {
                entry.lost.cancel();
            } else if !entry.asked && now - entry.since >= ttl / 3 {
                entry.asked = true;
                let one = (*number, entry.receipt.clone());
                if entry.failed { calls.push(vec![one]) } else { calls[0].push(one) }
            }
        }
        calls.retain(|call| !call.is_empty());
        calls
    }

    /// When the first of them would be given up.
    fn next_end(&self, ttl: Duration) -> Option<Instant> {
        let held = self.held();
        let ends =
            held.values().filter(|entry| !entry.lost.is_cancelled()).map(|entry| entry.since + ttl.mul_f64(KEPT));
        ends.min()
    }

    fn note(&self, entries: &[(u64, Receipt)], answers: Result<Vec<Held>>, asked: Instant) {
        let answers = answers.unwrap_or_else(|why| {
            tracing::warn!(error = %why, "leases could not be extended");
            Vec::new()
        });
        let mut held = self.held();
        for (at, (number, _)) in entries.iter().enumerate() {
            let Some(entry) = held.get_mut(number) else { continue };
            entry.asked = false;
            entry.failed = false;
            match answers.get(at) {
                Some(Held::Held) => entry.since = asked,
                Some(Held::Lost) => entry.lost.cancel(),
                None => entry.failed = true,
            }
        }
    }
}

async fn extend(queue: &dyn Queue, entries: &[(u64, Receipt)], ttl: Duration) -> Result<Vec<Held>> {
    let leases: Vec<_> = entries.iter().map(|(_, receipt)| (receipt.clone(), ttl)).collect();
    queue.extend(&leases).await
}

impl InHand {
    /// Its work was given up by us, and its lease still holds.
    pub(super) fn is_given_up(&self) -> bool {
        self.all.giving_up.load(Ordering::SeqCst)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.all.held().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::health::{BreakerOptions, GuardedQueue, Health};
    use crate::queue::{DeadLetters, Delivery, Depth, MessageId, NewMessage, QueueCaps, Settle};

    const TTL: Duration = Duration::from_secs(60);

    /// Answers to extensions, but never when one of these is among them.
    #[derive(Debug)]
    struct Hanging(Vec<&'static str>);

    #[async_trait]
    impl Queue for Hanging {
        fn caps(&self) -> QueueCaps {
            unreachable!("it is only extended")
        }
        async fn enqueue(&self, _: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
            unreachable!("it is only extended")
        }
        async fn lease(&self, _: usize, _: Duration, _: Duration) -> Result<Vec<Delivery>> {
            unreachable!("it is only extended")
        }
        async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
            if leases.iter().any(|(receipt, _)| self.0.contains(&receipt.0.as_str())) {
                return std::future::pending().await;
            }
            Ok(vec![Held::Held; leases.len()])
        }
        async fn settle(&self, _: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
            unreachable!("it is only extended")
        }
        async fn depth(&self) -> Result<Depth> {
            unreachable!("it is only extended")
        }
        fn dead_letters(&self) -> &dyn DeadLetters {
            unreachable!("it is only extended")
        }
    }

    /// Leases that are kept, and the broker's breaker.
    fn kept(hanging: &[&'static str]) -> (Arc<InFlight>, Health) {
        let (in_flight, health) = (Arc::new(InFlight::default()), Health::new(BreakerOptions::default()));
        let queue = GuardedQueue::new(Arc::new(Hanging(hanging.to_vec())), health.breaker("queue"), TTL);
        let keeper = Arc::clone(&in_flight);
        tokio::spawn(async move { keeper.keep(&queue, TTL).await });
        (in_flight, health)
    }

    fn add(in_flight: &Arc<InFlight>, number: u64, receipt: &str) -> InHand {
        in_flight.add(number, Receipt(receipt.to_owned()), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_extended_is_given_up_before_its_lease_ends_and_not_much_earlier() {
        let (in_flight, health) = kept(&["a"]);
        let (begun, one) = (Instant::now(), add(&in_flight, 1, "a"));
        one.lost.cancelled().await;
        let after = begun.elapsed();
        assert!((TTL.mul_f64(0.8)..TTL.mul_f64(0.82)).contains(&after), "{after:?}");
        let broker = health.breaker("queue").dependency();
        assert!(broker.failures > 0 && broker.error.is_some_and(|why| why.contains("in time")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_extension_that_hangs_takes_no_other_with_it() {
        let (in_flight, _) = kept(&["a"]);
        let together = [add(&in_flight, 1, "a"), add(&in_flight, 2, "b"), add(&in_flight, 3, "c")];
        tokio::time::sleep(TTL / 3).await;
        // Due while the call for the others hangs.
        let later = add(&in_flight, 4, "d");
        tokio::time::sleep(TTL * 5).await;
        let lost: Vec<_> = together.iter().chain([&later]).map(|one| one.lost.is_cancelled()).collect();
        assert_eq!(lost, [true, false, false, false]);
    }
}
