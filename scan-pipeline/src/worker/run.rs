//! The loop of a worker: lease as much as there is room for, work, settle; stop in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::inflight::{InFlight, InHand};
use super::settler::{self, Ended};
use super::{Outcome, Worker, WorkerOptions};
use crate::job::{self, JobMessage};
use crate::queue::{Delivery, NewMessage, Settle};

/// How a worker came to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Messages that were still at work when the time to drain was over. They come again, to whoever is there.
    pub abandoned: usize,
}

/// How much longer a message of a bulk job that found no room waits.
const NO_ROOM: Duration = Duration::from_secs(5);
/// Messages of bulk jobs are given back when there is no room, which counts as a delivery: they may have so many times
/// more of them. What kills the process in them is caught by its task's own attempts.
const BULK_ATTEMPTS: u32 = 100;
/// How often running jobs are looked at for shards that nobody lists.
const RING_JOBS: Duration = Duration::from_secs(60);

impl Worker {
    /// Works until it is told to stop, then takes nothing new and gives what has begun some time to end
    /// ([`WorkerOptions::drain`]). What has not ended by then is given back.
    pub async fn run(&self, stop: CancellationToken) -> Stopped {
        let shared = &self.shared;
        let in_flight = Arc::new(InFlight::default());
        let (ended, settled) = mpsc::channel(256);
        let settler = tokio::spawn(settler::run(Arc::clone(&shared.queue), Arc::clone(&shared.broker), settled));
        let helpers = CancellationToken::new();
        let keeper = {
            let (this, in_flight) = (self.clone(), Arc::clone(&in_flight));
            let keep = async move {
                let shared = &this.shared;
                in_flight.keep(&*shared.queue, &shared.broker, shared.options.lease).await;
            };
            tokio::spawn(helpers.clone().run_until_cancelled_owned(keep))
        };
        let resumer = {
            let (this, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(this.resume()).await })
        };
        let work = TaskTracker::new();
        let number = AtomicU64::new(0);
        let mut failures = 0;
        while !stop.is_cancelled() {
            let leased = stop.run_until_cancelled(self.lease()).await;
            let (asked, deliveries, room) = match leased {
                None => break,
                Some(Ok(leased)) => leased,
                Some(Err(why)) => {
                    failures += 1;
                    tracing::warn!(error = %why, "no messages could be had");
                    let own = shared.options.retry.wait(failures.min(5), why.retry_after()).unwrap_or_default();
                    stop.run_until_cancelled(tokio::time::sleep(own.min(Duration::from_secs(30)))).await;
                    continue;
                }
            };
            failures = 0;
            let mut room = room.into_iter();
            let mut crowded = false;
            for delivery in deliveries {
                let at = number.fetch_add(1, Ordering::Relaxed);
                let in_hand = in_flight.add(at, delivery.receipt.clone(), asked);
                let bulk = JobMessage::peek(&delivery.body).is_some();
                // Those of bulk jobs have room of their own, so that they never take what others wait for.
                let permit = if bulk { Arc::clone(&shared.bulk).try_acquire_owned().ok() } else { room.next() };
                crowded |= bulk && permit.is_none();
                let (this, ended) = (self.clone(), ended.clone());
                work.spawn(async move {
                    let settle = match &permit {
                        Some(_) => this.attend(&delivery, &in_hand).await,
                        None => Some(Settle::Retry { after: NO_ROOM.mul_f64(1.0 + fastrand::f64()) }),
                    };
                    if let Some(settle) = settle {
                        this.count(&settle);
                        // The settler ends after us.
                        let _ = ended.send(Ended { receipt: delivery.receipt, settle, in_hand }).await;
                    }
                    drop(permit);
                });
            }
            if crowded {
                stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await;
            }
        }
        work.close();
        let stopped = self.drain(&work, &in_flight).await;
        drop(ended);
        let _ = tokio::join!(settler, resumer);
        helpers.cancel();
        let _ = keeper.await;
        stopped
    }

    /// Room for some messages, and as many as there are for it.
    async fn lease(&self) -> crate::Result<(Instant, Vec<Delivery>, Vec<tokio::sync::OwnedSemaphorePermit>)> {
        let shared = &self.shared;
        let options: &WorkerOptions = &shared.options;
        let closed = |_| crate::Error::new(crate::ErrorKind::Cancelled, "the worker is shut down");
        // While the store does not answer, nothing could be done with them.
        while let Some(pause) = self.health().breaker("store").pause() {
            tokio::time::sleep(pause).await;
            if self.pipeline().store().audit_head().await.is_ok() {
                break;
            }
        }
        // As long as all bytes are taken, further messages would only wait here instead of there.
        drop(shared.bytes.acquire().await.map_err(closed)?);
        let first = Arc::clone(&shared.messages).acquire_owned().await.map_err(closed)?;
        let mut room = vec![first];
        let most = shared.queue.caps().max_batch.max(1);
        while room.len() < most {
            match Arc::clone(&shared.messages).try_acquire_owned() {
                Ok(permit) => room.push(permit),
                Err(_) => break,
            }
        }
        let asked = Instant::now();
        let lease = shared.queue.lease(room.len(), options.lease, options.wait);
        let deliveries = shared.broker.call(lease).await?;
        // What was waited for them is no time of theirs, but where it was short it is on the safe side.
        let asked = if asked.elapsed() > options.lease / 4 { Instant::now() } else { asked };
        Ok((asked, deliveries, room))
    }

    /// What becomes of a delivery; `None` when its lease was lost, and it is somebody else's.
    async fn attend(&self, delivery: &Delivery, in_hand: &InHand) -> Option<Settle> {
        let retry = &self.shared.options.retry;
        let job = JobMessage::peek(&delivery.body).is_some();
        let most = if job { retry.max_attempts.saturating_mul(BULK_ATTEMPTS) } else { retry.max_attempts };
        // Looked at before anything else: a message that kills the process never reaches an error.
        if delivery.attempt > most {
            let reason = format!("was delivered {} times without coming to an end", delivery.attempt - 1);
            tracing::warn!(message = %delivery.id, reason, "a message is dead");
            self.lost_chunk(&delivery.body).await;
            return Some(Settle::Dead { reason });
        }
        let outcome = in_hand.lost.run_until_cancelled(self.handle(&delivery.body)).await;
        let Some(outcome) = outcome else {
            if in_hand.is_given_up() {
                return Some(Settle::Retry { after: Duration::ZERO });
            }
            tracing::info!(message = %delivery.id, "the lease of a message was lost, so its work was given up");
            return None;
        };
        Some(match outcome {
            // We are the ones who resume.
            Outcome::Done | Outcome::Later { .. } => Settle::Done,
            Outcome::Dead { why } => {
                tracing::warn!(message = %delivery.id, reason = why, "a message is dead");
                Settle::Dead { reason: why }
            }
            Outcome::Retry { after, outage, why } => {
                tracing::info!(message = %delivery.id, attempt = delivery.attempt, why, "a message comes again");
                match retry.wait(delivery.attempt, after) {
                    _ if job => Settle::Retry { after: after.unwrap_or(NO_ROOM).min(retry.cap) },
                    Some(wait) if !outage || delivery.attempt * 2 <= retry.max_attempts => {
                        Settle::Retry { after: wait }
                    }
                    wait if outage => self.anew(delivery, wait.unwrap_or(retry.cap)).await,
                    _ => Settle::Dead { reason: format!("after {} deliveries: {why}", delivery.attempt) },
                }
            }
        })
    }

    /// Enqueues a message anew, with all its attempts before it.
    async fn anew(&self, delivery: &Delivery, wait: Duration) -> Settle {
        let message = NewMessage {
            body: delivery.body.clone(),
            tenant: delivery.tenant.clone(),
            lane: delivery.lane,
            dedupe: None,
            delay: wait,
        };
        let shared = &self.shared;
        match shared.broker.call(shared.queue.enqueue(&[message])).await {
            Ok(answers) if answers.iter().all(Result::is_ok) => Settle::Done,
            // It goes on coming as it is.
            _ => Settle::Retry { after: wait },
        }
    }

    /// A chunk that is given up is counted, so that its job comes to an end.
    async fn lost_chunk(&self, body: &[u8]) {
        if let (Some(jobs), Some(Ok(message))) = (&self.shared.jobs, JobMessage::peek(body)) {
            job::count_lost(&**jobs, &message).await;
        }
    }

    fn count(&self, settle: &Settle) {
        let counts = &self.shared.counts;
        let count = match settle {
            Settle::Done => &counts.done,
            Settle::Retry { .. } => &counts.retried,
            Settle::Dead { .. } => &counts.dead,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes up what nobody has, for ever.
    async fn resume(&self) {
        let options = &self.shared.options;
        let mut rang: Option<Instant> = None;
        loop {
            match self.pipeline().resume().await {
                Ok(resumed) => {
                    for (task, why) in resumed.errors {
                        tracing::info!(%task, error = %why, "a task could not be resumed");
                    }
                }
                Err(why) => tracing::warn!(error = %why, "no tasks could be resumed"),
            }
            if let Some(jobs) = &self.shared.jobs
                && rang.is_none_or(|at| at.elapsed() >= RING_JOBS)
            {
                rang = Some(Instant::now());
                if let Err(why) = job::ring(&**jobs, &*self.shared.queue).await {
                    tracing::warn!(error = %why, "running jobs could not be looked after");
                }
            }
            // Not all workers at the same moment.
            tokio::time::sleep(options.resume.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        }
    }

    async fn drain(&self, work: &TaskTracker, in_flight: &InFlight) -> Stopped {
        let drained = async {
            work.wait().await;
            self.pipeline().drain().await;
        };
        if tokio::time::timeout(self.shared.options.drain, drained).await.is_ok() {
            return Stopped::default();
        }
        let abandoned = work.len();
        tracing::warn!(abandoned, "messages were still at work when the time to drain was over; they come again");
        in_flight.give_up_all();
        work.wait().await;
        Stopped { abandoned }
    }
}
