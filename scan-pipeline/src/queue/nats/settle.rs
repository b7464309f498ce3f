//! What happens to leases: kept up, extended, and settled.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_nats::jetstream::AckKind;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};

use super::error::request;
use super::{AT_A_TIME, Inner, TRIES, Taken, pause};
use crate::Result;
use crate::queue::held::{self, Standing, Term, Unanswered};
use crate::queue::{Held, Receipt, Settle};

/// Keeps a lease up until it ends, and gives the message back then.
pub(super) async fn keep(inner: Weak<Inner>, key: String, reply: String) {
    loop {
        let next = {
            let Some(inner) = inner.upgrade() else { return };
            let term = match inner.leases.standing(&key, &reply) {
                Standing::Held(term) => term,
                // Settled, or somebody settles it just now, or it ran out.
                Standing::Over | Standing::Unknown => {
                    inner.give_back_if_over(&key, &reply).await;
                    return;
                }
            };
            let (now, third) = (Instant::now(), inner.ack_wait / 3);
            let server = term.what.server_until();
            if server <= now {
                inner.leases.lost(&key, &reply);
                return;
            }
            // The server waits for as long again from each word of ours.
            if server.saturating_duration_since(now) < third * 2 + third / 2 && inner.beat(&term.what).await.is_err() {
                tracing::debug!(queue = %inner.name, "no word from NATS on a lease");
            }
            term.until.min(Instant::now() + third)
        };
        tokio::time::sleep_until(next.into()).await;
    }
}

impl Inner {
    /// A lease that ran out here may go on at the server.
    async fn give_back_if_over(&self, key: &str, reply: &str) {
        if let Some(taken) = self.leases.run_out(key, reply)
            && taken.server_until() > Instant::now()
            && let Err(why) = self.tell(reply, AckKind::Nak(None)).await
        {
            tracing::debug!(queue = %self.name, %why, "a message comes again later than its lease ended");
        }
    }

    /// Says that we are at it.
    async fn beat(&self, taken: &Taken) -> Result<()> {
        let before = Instant::now();
        self.tell(&taken.message.reply, AckKind::Progress).await?;
        taken.heard(before + self.ack_wait);
        Ok(())
    }

    /// Tells the server what became of a message, and waits for its word.
    async fn tell(&self, reply: &str, what: AckKind) -> Result<()> {
        let answer = self.client.request(reply.to_owned(), Bytes::from(what)).await;
        answer.map(drop).map_err(|why| request("take what became of a message", why))
    }

    /// Makes leases last longer.
    pub(super) async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        let mut requests: Vec<BoxFuture<'_, Result<Held>>> = Vec::new();
        for (receipt, ttl) in leases {
            requests.push(Box::pin(async move {
                let Some((key, reply)) = held::parts(receipt) else { return Ok(Held::Lost) };
                let Standing::Held(term) = self.leases.standing(key, reply) else { return Ok(Held::Lost) };
                if term.what.server_until() <= Instant::now() {
                    return Ok(Held::Lost);
                }
                let until = Instant::now() + *ttl;
                self.beat(&term.what).await?;
                self.leases.extend(key, reply, until);
                Ok(Held::Held)
            }));
        }
        self.all(requests).await
    }

    /// Settles messages, each as it is asked.
    pub(super) async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        let mut requests: Vec<BoxFuture<'_, Result<Held>>> = Vec::new();
        for (receipt, settle) in messages {
            let Some((key, reply)) = held::parts(receipt) else {
                requests.push(Box::pin(async { Ok(Held::Lost) }));
                continue;
            };
            // Taken here, not when its turn comes: of two for one message the first counts.
            let standing = self.leases.take(key, reply);
            requests.push(Box::pin(async move {
                let Standing::Held(term) = standing else { return Ok(Held::Lost) };
                let done = self.settle_one(&term, settle).await;
                match (&done, settle) {
                    (Ok(Held::Held), Settle::Retry { .. }) => self.leases.given_back(key, reply),
                    (Ok(_), _) => self.leases.gone(key, reply),
                    (Err(_), _) => self.leases.restore(key, reply),
                }
                done
            }));
        }
        let answers = self.all(requests).await;
        self.ring.notify_waiters();
        answers
    }

    async fn settle_one(&self, term: &Term<Arc<Taken>>, settle: &Settle) -> Result<Held> {
        let taken = &term.what;
        let mut attempt = 1;
        loop {
            // An acknowledgement that comes too late would be one of somebody else's delivery.
            let margin = (self.ack_wait / 10).min(Duration::from_secs(1));
            if taken.server_until() <= Instant::now() + margin {
                return Ok(Held::Lost);
            }
            let told = match settle {
                Settle::Done => self.tell(&taken.message.reply, AckKind::Ack).await,
                Settle::Retry { after } if after.is_zero() => self.tell(&taken.message.reply, AckKind::Nak(None)).await,
                Settle::Retry { after } => self.tell(&taken.message.reply, AckKind::Nak(Some(*after))).await,
                Settle::Dead { reason } => self.bury(taken, reason).await,
            };
            match told {
                Ok(()) => return Ok(Held::Held),
                Err(why) if attempt == TRIES || !why.is_retryable() => return Err(why),
                Err(_) => {}
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    /// Publishes it to the dead letters, then takes it out of the queue.
    async fn bury(&self, taken: &Taken, reason: &str) -> Result<()> {
        let key = format!("{}-{}", self.name, taken.message.sequence);
        self.publish(&taken.message.dead(reason, &self.dead_name, &key)).await?;
        self.tell(&taken.message.reply, AckKind::Ack).await
    }

    async fn all(&self, requests: Vec<BoxFuture<'_, Result<Held>>>) -> Result<Vec<Held>> {
        let outcomes: Vec<_> = stream::iter(requests).buffered(AT_A_TIME).collect().await;
        let mut unanswered = Unanswered::default();
        let mut answers = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            answers.push(outcome.unwrap_or_else(|why| {
                unanswered.note(&self.name, why);
                Held::Lost
            }));
        }
        unanswered.or(answers)
    }
}
