//! The messages that a worker holds: their leases are extended until they are settled, or given up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::health::Breaker;
use crate::queue::{Held, Queue, Receipt};

/// Every message in hand, by a number of our own.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    held: Mutex<HashMap<u64, Entry>>,
    giving_up: AtomicBool,
}

#[derive(Debug, Clone)]
struct Entry {
    receipt: Receipt,
    /// The lease holds for its whole time from here on.
    since: Instant,
    /// Cancelled when it does not hold any more.
    lost: CancellationToken,
}

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
        self.held().insert(number, Entry { receipt, since, lost: lost.clone() });
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

    /// Extends leases at a third of their time, all that are due in one go, for ever. What could not be extended for so
    /// long that its lease is about to end is given up: somebody else may get the message.
    pub(super) async fn keep(&self, queue: &dyn Queue, breaker: &Breaker, ttl: Duration) {
        let (due, last) = (ttl / 3, ttl.mul_f64(0.8));
        loop {
            tokio::time::sleep(ttl / 12).await;
            let now = Instant::now();
            let entries: Vec<(u64, Entry)> = self
                .held()
                .iter()
                .filter(|(_, entry)| !entry.lost.is_cancelled() && now - entry.since >= due)
                .map(|(number, entry)| (*number, entry.clone()))
                .collect();
            if entries.is_empty() {
                continue;
            }
            for (_, entry) in entries.iter().filter(|(_, entry)| now - entry.since >= last) {
                entry.lost.cancel();
            }
            let leases: Vec<_> = entries.iter().map(|(_, entry)| (entry.receipt.clone(), ttl)).collect();
            // An answer that comes too late is none.
            let asked = tokio::time::timeout(ttl / 4, breaker.call(queue.extend(&leases))).await;
            let answers: Result<Vec<Held>> = match asked {
                Ok(answers) => answers,
                Err(_) => continue,
            };
            match answers {
                Ok(answers) => self.note(&entries, &answers, now),
                Err(why) => tracing::warn!(error = %why, "leases could not be extended"),
            }
        }
    }

    fn note(&self, entries: &[(u64, Entry)], answers: &[Held], asked: Instant) {
        let mut held = self.held();
        for ((number, entry), answer) in entries.iter().zip(answers) {
            match answer {
                Held::Held => {
                    if let Some(entry) = held.get_mut(number) {
                        entry.since = asked;
                    }
                }
                Held::Lost => entry.lost.cancel(),
            }
        }
    }
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
