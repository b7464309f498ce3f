//! The loop of a worker: lease as much as there is room for, work, settle; stop in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
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
/// A message of a bulk job is about many objects, each of which may kill the process some times before its task is given
/// up: it may be tried so many times more often. The tries go with it when it is enqueued anew.
const BULK_ATTEMPTS: u32 = 100;
/// How long messages may take to be given back and settled when the time to drain is over.
const LAST: Duration = Duration::from_secs(5);
/// How often running jobs are looked at for shards that nobody lists.
const RING_JOBS: Duration = Duration::from_secs(60);

impl Worker {
    /// Works until it is told to stop, then takes nothing new and gives what has begun some time to end
    /// ([`WorkerOptions::drain`]). What has not ended by then is given back, for which there are five seconds more,
    /// whatever does not answer.
    pub async fn run(&self, stop: CancellationToken) -> Stopped {
        let shared = &self.shared;
        let in_flight = Arc::new(InFlight::default());
        let (ended, settled) = mpsc::channel(256);
        let mut settler = tokio::spawn(settler::run(Arc::clone(&shared.queue), settled));
        let helpers = CancellationToken::new();
        let keeper = {
            let (this, in_flight) = (self.clone(), Arc::clone(&in_flight));
            let keep = async move {
                let shared = &this.shared;
                in_flight.keep(&*shared.queue, shared.options.lease).await;
            };
            tokio::spawn(helpers.clone().run_until_cancelled_owned(keep))
        };
        let mut resumer = {
            let (this, stop) = (self.clone(), stop.clone());
            // Side by side: a task that is taken up may be worked on for long.
            tokio::spawn(
                async move { stop.run_until_cancelled(async { tokio::join!(this.resume(), this.ring()) }).await },
            )
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
                        None => Some(this.turn_away(&delivery).await),
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
        let rest = async {
            work.wait().await;
            drop(ended);
            let _ = tokio::join!(&mut settler, &mut resumer);
        };
        if tokio::time::timeout(LAST, rest).await.is_err() {
            tracing::warn!("what became of the last messages could not be told in time; they come again");
            settler.abort();
            resumer.abort();
        }
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
        let deliveries = shared.queue.lease(room.len(), options.lease, options.wait).await?;
        // What was waited for them is no time of theirs, but where it was short it is on the safe side.
        let asked = if asked.elapsed() > options.lease / 4 { Instant::now() } else { asked };
        Ok((asked, deliveries, room))
    }

    /// What becomes of a message of a bulk job for which there is no room. That is no try, but brokers count it as a
    /// delivery: before one takes the message for poison, it is enqueued anew.
    async fn turn_away(&self, delivery: &Delivery) -> Settle {
        let after = NO_ROOM.mul_f64(1.0 + fastrand::f64());
        if delivery.attempt > self.half() { self.anew(delivery, None, after).await } else { Settle::Retry { after } }
    }

    /// How often a message of a bulk job is delivered before it is enqueued anew.
    fn half(&self) -> u32 {
        self.shared.options.retry.max_attempts.div_ceil(2)
    }

    /// What becomes of a delivery; `None` when its lease was lost, and it is somebody else's.
    async fn attend(&self, delivery: &Delivery, in_hand: &InHand) -> Option<Settle> {
        let retry = &self.shared.options.retry;
        let job = JobMessage::peek(&delivery.body).and_then(crate::Result::ok);
        let is_job = job.is_some();
        let before = job.as_ref().map_or(0, JobMessage::tries).saturating_add(delivery.attempt.saturating_sub(1));
        let most = if is_job { retry.max_attempts.saturating_mul(BULK_ATTEMPTS) } else { retry.max_attempts };
        // Looked at before anything else: a message that kills the process never reaches an error.
        if before >= most {
            let reason = format!("was delivered {before} times without coming to an end");
            tracing::warn!(message = %delivery.id, reason, "a message is dead");
            self.lost(&delivery.body, &reason).await;
            return Some(Settle::Dead { reason });
        }
        if let Some(job) = job.filter(|_| delivery.attempt > self.half()) {
            return Some(self.anew(delivery, Some(job.tried(before).to_json().into()), Duration::ZERO).await);
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
                self.lost(&delivery.body, &why).await;
                Settle::Dead { reason: why }
            }
            Outcome::Retry { after, outage, why } => {
                tracing::info!(message = %delivery.id, attempt = delivery.attempt, why, "a message comes again");
                match retry.wait(delivery.attempt, after) {
                    // No try of its own.
                    _ if is_job && outage && delivery.attempt >= self.half() => {
                        self.anew(delivery, None, after.unwrap_or(NO_ROOM).min(retry.cap)).await
                    }
                    _ if is_job => Settle::Retry { after: after.unwrap_or(NO_ROOM).min(retry.cap) },
                    Some(wait) if !outage || delivery.attempt * 2 <= retry.max_attempts => {
                        Settle::Retry { after: wait }
                    }
                    wait if outage => self.anew(delivery, None, wait.unwrap_or(retry.cap)).await,
                    _ => Settle::Dead { reason: format!("after {} deliveries: {why}", delivery.attempt) },
                }
            }
        })
    }

    /// Enqueues a message anew, with all its deliveries before it.
    async fn anew(&self, delivery: &Delivery, body: Option<Bytes>, wait: Duration) -> Settle {
        let message = NewMessage {
            body: body.unwrap_or_else(|| delivery.body.clone()),
            tenant: delivery.tenant.clone(),
            lane: delivery.lane,
            dedupe: None,
            delay: wait,
        };
        let shared = &self.shared;
        match shared.queue.enqueue(&[message]).await {
            Ok(answers) if answers.iter().all(Result::is_ok) => Settle::Done,
            // It goes on coming as it is.
            _ => Settle::Retry { after: wait },
        }
    }

    /// A part of a job that came too often, where somebody else counts deliveries and moves messages away.
    pub(super) async fn gave_up(&self, body: &[u8], attempt: u32) -> Option<Outcome> {
        if attempt <= self.shared.options.retry.max_attempts || JobMessage::peek(body).is_none() {
            return None;
        }
        let outcome = Outcome::dead(format!("was delivered {} times without coming to an end", attempt - 1));
        if let Outcome::Dead { why } = &outcome {
            self.lost(body, why).await;
        }
        Some(outcome)
    }

    /// A part of a job that is given up is noted, so that the job comes to an end.
    pub(super) async fn lost(&self, body: &[u8], why: &str) {
        if let (Some(jobs), Some(Ok(message))) = (&self.shared.jobs, JobMessage::peek(body)) {
            job::lost(&**jobs, &message, why).await;
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
        loop {
            match self.pipeline().resume().await {
                Ok(resumed) => {
                    for (task, why) in resumed.errors {
                        tracing::info!(%task, error = %why, "a task could not be resumed");
                    }
                }
                Err(why) => tracing::warn!(error = %why, "no tasks could be resumed"),
            }
            // Not all workers at the same moment.
            tokio::time::sleep(self.shared.options.resume.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Rings for shards that nobody lists, for ever.
    async fn ring(&self) {
        let Some(jobs) = &self.shared.jobs else { return };
        loop {
            if let Err(why) = job::ring(&**jobs, &*self.shared.queue).await {
                tracing::warn!(error = %why, "running jobs could not be looked after");
            }
            tokio::time::sleep(RING_JOBS.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
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
        Stopped { abandoned }
    }
}
