//! Telling the queue what became of messages, as many at a time as are waiting.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::inflight::InHand;
use crate::queue::{Held, Queue, Receipt, Settle};

/// A message to settle. It stays in hand, and its lease is extended, until the queue has answered.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) receipt: Receipt,
    pub(super) settle: Settle,
    pub(super) in_hand: InHand,
}

/// Most messages of one call.
const BATCH: usize = 100;
/// How often a batch is tried before the messages are left to come again.
const MOST_TRIES: u32 = 6;

/// Ends when nobody has anything to settle any more.
pub(super) async fn run(queue: Arc<dyn Queue>, mut ended: mpsc::Receiver<Ended>) {
    let mut batch = Vec::with_capacity(BATCH);
    while ended.recv_many(&mut batch, BATCH).await > 0 {
        let (mut messages, mut in_hand) = (Vec::new(), Vec::new());
        for message in batch.drain(..) {
            messages.push((message.receipt, message.settle));
            in_hand.push(message.in_hand);
        }
        settle(&*queue, &messages).await;
        drop(in_hand);
    }
}

/// What cannot be settled comes again, and is found to be done.
async fn settle(queue: &dyn Queue, messages: &[(Receipt, Settle)]) {
    for attempt in 1..=MOST_TRIES {
        match queue.settle(messages).await {
            Ok(answers) => {
                let lost = answers.iter().filter(|held| **held == Held::Lost).count();
                if lost > 0 {
                    tracing::info!(lost, "leases had run out before their messages were settled; they come again");
                }
                return;
            }
            Err(why) if attempt == MOST_TRIES || !why.is_retryable() => {
                tracing::warn!(error = %why, messages = messages.len(), "messages could not be settled; they come again");
                return;
            }
            Err(why) => {
                let own = Duration::from_millis(50 << attempt).mul_f64(0.5 + fastrand::f64() / 2.0);
                tokio::time::sleep(own.max(why.retry_after().unwrap_or_default().min(Duration::from_secs(10)))).await;
            }
        }
    }
}
