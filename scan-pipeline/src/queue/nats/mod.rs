//! A queue on NATS JetStream.

mod builder;
mod dead;
mod error;
mod message;
mod settle;
mod turns;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::stream::Stream;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use tokio::sync::Notify;

use self::error::request;
use self::message::{Outgoing, Received, outgoing};
use self::turns::Turns;
use super::held::{self, Leaser, Leases};
use super::{DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle};
use crate::{Error, ErrorKind, Result};

pub use self::builder::NatsQueueBuilder;

/// Requests at the same time.
const AT_A_TIME: usize = 256;
/// How often something is sent again of which no word came back.
const TRIES: u32 = 3;
/// Headers beside a body.
const ROOM: usize = 16 << 10;
/// The longest that a lease waits before it looks again.
const POLL: Duration = Duration::from_millis(500);
/// As long as one likes; a schedule is a date.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// A queue on NATS JetStream: a work-queue stream with a consumer for each lane, and a stream for the dead letters.
/// Clones are the same queue.
///
/// ```no_run
/// use scan_pipeline::queue::NatsQueue;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let queue = NatsQueue::builder("nats://127.0.0.1:4222/scans").build().await?;
/// # Ok(()) }
/// ```
///
/// - **Messages** are on the subjects `<name>.<lane>.<tenant>`, and anybody may publish there.
/// - **Leases** of any length are kept up by a heartbeat of this process, and end as soon as it stops: after
///   [`ack_wait`](NatsQueueBuilder::ack_wait) the server gives the message to somebody else. NATS takes an
///   acknowledgement of an earlier delivery for one of the latest. So a receipt is good with the queue that leased the
///   message (and its clones) only, as long as the lease lasts by this process's own clock.
/// - **Attempts** are NATS's count of deliveries.
/// - **Settling** is confirmed by the server, or tried again as long as the lease holds.
/// - **Dead** messages are published to the other stream, and acknowledged then.
/// - **Lanes** share what is leased by their weights; within a lane it is first come, first served, for all tenants.
/// - **Delays** of new messages take nats-server 2.12 or later, and are by this machine's clock; retries are delayed by
///   any version.
/// - **A waiting lease** asks again at least twice a second, since a request cannot be for several lanes and for no more
///   than so many messages. One that is dropped puts back what came, which counts as an attempt.
/// - **Durability**: the server writes to files, and by default syncs them every two minutes: set `sync_interval: always`
///   there, or have [`replicas`](NatsQueueBuilder::replicas), against the loss of power.
#[derive(Clone)]
pub struct NatsQueue(Arc<Inner>);

struct Inner {
    client: Client,
    context: Context,
    name: String,
    dead_name: String,
    stream: Stream,
    dead: Stream,
    /// One for each lane, in their order.
    consumers: Vec<PullConsumer>,
    turns: Turns,
    ack_wait: Duration,
    dedupe: Duration,
    schedules: bool,
    timeout: Duration,
    leases: Leases<Arc<Taken>>,
    /// Rung when there may be something to lease.
    ring: Notify,
}

/// A message that was leased here.
struct Taken {
    message: Received,
    /// When the server gives it to somebody else, unless it hears of us before.
    server: Mutex<Instant>,
}

impl Taken {
    fn server_until(&self) -> Instant {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, until: Instant) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl fmt::Debug for NatsQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsQueue").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl NatsQueue {
    /// Settings for the queue at this address, `nats://HOST:PORT/NAME` or, with TLS from the start, `tls://...`.
    pub fn builder(address: impl Into<String>) -> NatsQueueBuilder {
        NatsQueueBuilder::new(address.into())
    }
}

impl Leaser for Inner {
    fn name(&self) -> &str {
        &self.name
    }

    fn settle_all<'a>(&'a self, messages: &'a [(Receipt, Settle)]) -> BoxFuture<'a, Result<Vec<Held>>> {
        Box::pin(self.settle(messages))
    }
}

#[async_trait]
impl Queue for NatsQueue {
    fn caps(&self) -> QueueCaps {
        QueueCaps {
            max_batch: AT_A_TIME,
            max_body: self.0.client.max_payload().saturating_sub(ROOM),
            max_lease: None,
            max_delay: if self.0.schedules { LONGEST_DELAY } else { Duration::ZERO },
            dedupe: (self.0.dedupe > Duration::ZERO).then_some(self.0.dedupe),
            ordered: false,
            fair: false,
            binary: true,
            lists_dead: true,
        }
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        let inner = &self.0;
        let most = inner.client.max_payload().saturating_sub(ROOM);
        let mut requests: Vec<BoxFuture<'_, Result<MessageId>>> = Vec::new();
        for message in messages {
            let made = outgoing(message, &inner.name, most, inner.schedules);
            requests.push(Box::pin(async move {
                let message = made.map_err(|error| error.about(inner.name.as_str()))?;
                inner.publish(&message).await?;
                Ok(MessageId(message.id))
            }));
        }
        let answers = stream::iter(requests).buffered(AT_A_TIME).collect().await;
        inner.ring.notify_waiters();
        Ok(answers)
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let inner = Arc::clone(&self.0);
        let request = async move { inner.receive(most, ttl, wait).await };
        held::lease(Arc::clone(&self.0), request).await.map_err(|error| error.about(self.0.name.as_str()))
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        self.0.extend(leases).await.map_err(|error| error.about(self.0.name.as_str()))
    }

    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        // Seen to its end: a message that was published to the dead letters is to be acknowledged.
        let (inner, messages) = (Arc::clone(&self.0), messages.to_vec());
        let answers = held::seen_through(async move { inner.settle(&messages).await });
        answers.await.map_err(|error| error.about(self.0.name.as_str()))
    }

    async fn depth(&self) -> Result<Depth> {
        self.0.depth().await.map_err(|error| error.about(self.0.name.as_str()))
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }
}

impl Inner {
    /// Publishes, and waits for the server's word. It has a key, so sending it again makes no second one.
    async fn publish(&self, message: &Outgoing) -> Result<()> {
        let mut attempt = 1;
        loop {
            let (subject, headers, body) = (message.subject.clone(), message.headers.clone(), message.body.clone());
            let sent = async { self.context.publish_with_headers(subject, headers, body).await?.await };
            match sent.await {
                Ok(_) => return Ok(()),
                Err(why) => {
                    let error = request("take the message", why).about(self.name.as_str());
                    if attempt == TRIES || !error.is_retryable() {
                        return Err(error);
                    }
                }
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    async fn receive(self: &Arc<Self>, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        let until = Instant::now() + wait;
        let mut nap = Duration::from_millis(20);
        loop {
            let mut rung = std::pin::pin!(self.ring.notified());
            rung.as_mut().enable();
            let got = self.round(most).await?;
            if !got.is_empty() {
                return Ok(got.into_iter().map(|message| self.deliver(message, ttl)).collect());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let jitter = nap.mul_f64(0.5 + fastrand::f64() / 2.0);
            let _ = tokio::time::timeout(jitter.min(left), rung).await;
            nap = (nap * 2).min(POLL);
        }
    }

    /// What is there now: each lane by its turns, and what one of them leaves for the others.
    async fn round(&self, most: usize) -> Result<Vec<Received>> {
        let shares = self.turns.take(most);
        let mut first: Vec<BoxFuture<'_, Result<Vec<Received>>>> = Vec::new();
        for (consumer, share) in self.consumers.iter().zip(shares) {
            first.push(Box::pin(self.fetch(consumer, share)));
        }
        let answers: Vec<_> = stream::iter(first).buffered(shares.len()).collect().await;
        let (mut got, mut more, mut failed) = (Vec::new(), Vec::new(), None);
        for ((answer, share), consumer) in answers.into_iter().zip(shares).zip(&self.consumers) {
            match answer {
                Ok(messages) => {
                    // One that gave less than it was asked for is empty.
                    if messages.len() == share {
                        more.push(consumer);
                    }
                    got.extend(messages);
                }
                Err(why) => failed = Some(why),
            }
        }
        for consumer in more {
            if got.len() == most || failed.is_some() {
                break;
            }
            match self.fetch(consumer, most - got.len()).await {
                Ok(messages) => got.extend(messages),
                Err(why) => failed = Some(why),
            }
        }
        match failed {
            Some(why) if got.is_empty() => Err(why),
            Some(why) => {
                tracing::warn!(queue = %self.name, %why, "fewer messages were leased than there are");
                Ok(got)
            }
            None => Ok(got),
        }
    }

    /// At most so many that a consumer has now.
    async fn fetch(&self, consumer: &PullConsumer, most: usize) -> Result<Vec<Received>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let asked = consumer.fetch().max_messages(most).messages().await;
        let mut answers = asked.map_err(|why| request("lease messages", why))?;
        let mut got = Vec::new();
        let until = tokio::time::Instant::now() + self.timeout;
        loop {
            match tokio::time::timeout_at(until, answers.next()).await {
                Ok(None) => return Ok(got),
                Ok(Some(Ok(message))) => got.extend(Received::new(message)),
                Ok(Some(Err(_))) | Err(_) if !got.is_empty() => return Ok(got),
                Ok(Some(Err(why))) => {
                    let why = Error::new(ErrorKind::Unavailable, "NATS could not lease messages").with_source(why);
                    return Err(why);
                }
                Err(_) => return Err(Error::new(ErrorKind::Timeout, "the NATS server did not answer in time")),
            }
        }
    }

    /// Keeps the lease, by a heartbeat, until it ends.
    fn deliver(self: &Arc<Self>, message: Received, ttl: Duration) -> Delivery {
        let now = Instant::now();
        let key = message.sequence.to_string();
        let delivery = Delivery {
            id: MessageId(message.id.clone()),
            body: message.body.clone(),
            receipt: held::receipt(&key, &message.reply),
            attempt: message.attempt,
            tenant: message.tenant.clone(),
            lane: message.lane,
            enqueued: message.enqueued,
        };
        let reply = message.reply.clone();
        let taken = Arc::new(Taken { message, server: Mutex::new(now + self.ack_wait) });
        self.leases.insert(&key, &reply, now + ttl, taken);
        tokio::spawn(settle::keep(Arc::downgrade(self), key, reply));
        delivery
    }

    async fn depth(&self) -> Result<Depth> {
        let failed = |why| request("count", why);
        let mut depth = Depth { approximate: true, ..Depth::default() };
        for consumer in &self.consumers {
            let info = consumer.get_info().await.map_err(|why| request("count", why))?;
            depth.ready += info.num_pending;
            depth.leased += u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX);
        }
        let all = self.stream.get_info().await.map_err(failed)?.state.messages;
        depth.delayed = all.saturating_sub(depth.ready + depth.leased);
        depth.dead = self.dead.get_info().await.map_err(failed)?.state.messages;
        Ok(depth)
    }
}

/// Before another attempt.
async fn pause(attempt: u32) {
    let wait = 0.1 * f64::from(1 << attempt.min(6)) * (0.5 + fastrand::f64());
    tokio::time::sleep(Duration::from_secs_f64(wait)).await;
}
