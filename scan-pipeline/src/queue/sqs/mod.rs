//! A queue on Amazon SQS, and on what speaks its protocol.

mod batch;
mod builder;
mod dead;
mod error;
mod message;
mod settle;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use futures_util::future::BoxFuture;

use self::error::failure;
use self::message::{Form, Outgoing, Received, outgoing, seconds};
use super::held::{self, Leaser, Leases};
use super::{DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle};
use crate::Result;

pub use self::builder::SqsQueueBuilder;

/// The longest that SQS holds a new message back.
const LONGEST_DELAY: Duration = Duration::from_secs(900);
/// The longest that SQS lets one receive of a message last, over every extension.
const LONGEST_LEASE: Duration = Duration::from_secs(12 * 3600);
/// The longest that SQS waits for a message to come.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// For how long a FIFO queue knows a deduplication id.
const DEDUPE: Duration = Duration::from_secs(300);

/// A queue on SQS, standard or FIFO. Clones are the same queue.
///
/// ```no_run
/// use scan_pipeline::queue::SqsQueue;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let queue = SqsQueue::builder("https://sqs.eu-central-1.amazonaws.com/123456789012/uploads").build().await?;
/// for warning in queue.check(5).await? {
///     eprintln!("{warning}");
/// }
/// # Ok(()) }
/// ```
///
/// - **Messages** may be anybody's: a notification of S3 in the body and nothing beside it is a message of the normal
///   lane. Ours carry tenant and lane as attributes. A body that SQS does not take (empty, not UTF-8, or with characters
///   that XML has not) goes in Base64, which an attribute says.
/// - **Lanes** are no more than a word: SQS does not know them. A queue for each keeps them apart.
/// - **Order**: on FIFO queues the tenant is the message group, and its next message is not received before the one
///   under way is settled. So each message takes a request of its own to receive.
/// - **Leases** are visibility timeouts, in whole seconds, and end after 12 hours in all: then [`Held::Lost`]. Amazon
///   promises nothing of a receipt handle whose message was received again, so a receipt counts for as long as the lease
///   lasts by this process's own clock, and one that another process leased is put to the broker. Only who leased a
///   message can settle it as dead, since SQS gives a body with a receive and never again.
/// - **Attempts** are SQS's count of receives.
/// - **Dead** messages are sent to the dead-letter queue with their reason, then deleted. What the broker moved there by
///   its redrive policy is listed with a reason that says so; see [`check`](Self::check).
/// - **A `lease` that is dropped** goes on in the background until SQS has answered, and puts back what came: that counts
///   as an attempt. When the process ends as well, it comes back as the lease runs out.
/// - **A message of which SQS failed to say** what became of it is answered with `Lost`, and comes again; when that is so
///   of every one, the call fails.
#[derive(Clone)]
pub struct SqsQueue(Arc<Inner>);

struct Inner {
    client: Client,
    /// Its name for people.
    name: String,
    url: String,
    dead_url: String,
    /// After so many receives the broker moves a message away by itself.
    max_receive: Option<u32>,
    form: Form,
    leases: Leases<Arc<Received>>,
}

impl fmt::Debug for SqsQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsQueue").field("url", &self.0.url).field("dead_letters", &self.0.dead_url).finish()
    }
}

impl SqsQueue {
    /// Settings for the queue with this address: its URL, or `sqs://NAME?region=...&endpoint=...&account=...`.
    pub fn builder(address: impl Into<String>) -> SqsQueueBuilder {
        SqsQueueBuilder::new(address.into())
    }

    /// Whether messages keep their order.
    pub fn is_fifo(&self) -> bool {
        self.0.form.fifo
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
impl Queue for SqsQueue {
    fn caps(&self) -> QueueCaps {
        let fifo = self.0.form.fifo;
        QueueCaps {
            max_batch: batch::MOST,
            max_body: self.0.form.largest_body(),
            max_lease: Some(LONGEST_LEASE),
            // A FIFO queue delays all of its messages or none.
            max_delay: if fifo { Duration::ZERO } else { LONGEST_DELAY },
            dedupe: fifo.then_some(DEDUPE),
            ordered: fifo,
            fair: false,
            binary: true,
            lists_dead: false,
        }
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        let inner = &self.0;
        let (mut places, mut sent): (Vec<usize>, Vec<Outgoing>) = (Vec::new(), Vec::new());
        let mut answers: Vec<Option<Result<MessageId>>> = Vec::new();
        for (at, message) in messages.iter().enumerate() {
            answers.push(match outgoing(message, inner.form) {
                Ok(message) => {
                    places.push(at);
                    sent.push(message);
                    None
                }
                Err(error) => Some(Err(error.about(inner.name.as_str()))),
            });
        }
        let outcomes = batch::all(&inner.client, &inner.url, &sent, inner.form.fifo).await;
        for (at, outcome) in places.into_iter().zip(outcomes) {
            let answer = outcome.map(MessageId).map_err(|trouble| trouble.error.about(inner.name.as_str()));
            answers[at] = Some(answer);
        }
        // Each place was filled: what is not refused was sent.
        Ok(answers.into_iter().flatten().collect())
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let inner = Arc::clone(&self.0);
        let deliveries = held::lease(Arc::clone(&inner), async move { inner.receive(most, ttl, wait).await });
        deliveries.await.map_err(|error| error.about(self.0.name.as_str()))
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        self.0.extend(leases).await.map_err(|error| error.about(self.0.name.as_str()))
    }

    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        // Seen to its end: a message that was sent to the dead letters is to be deleted.
        let (inner, messages) = (Arc::clone(&self.0), messages.to_vec());
        let answers = held::seen_through(async move { inner.settle(&messages).await });
        answers.await.map_err(|error| error.about(self.0.name.as_str()))
    }

    async fn depth(&self) -> Result<Depth> {
        let inner = &self.0;
        let (ready, delayed, leased) = inner.count(&inner.url).await?;
        let (dead, later, looked_at) = inner.count(&inner.dead_url).await?;
        Ok(Depth { ready, delayed, leased, dead: dead + later + looked_at, approximate: true })
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }
}

impl Inner {
    /// One request after the other, the first of which waits.
    async fn receive(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        let until = Instant::now() + wait;
        let mut deliveries = Vec::new();
        loop {
            // Of a group SQS gives several messages at once, in order, but only the first may be under way.
            let wanted = if self.form.fifo { 1 } else { (most - deliveries.len()).min(batch::MOST) };
            let left = until.saturating_duration_since(Instant::now());
            let left = if deliveries.is_empty() { left } else { Duration::ZERO };
            let got = match self.take(&self.url, wanted, lease_seconds(ttl), seconds(left, LONGEST_WAIT)).await {
                Ok(got) => got,
                // Those before are leased.
                Err(why) if !deliveries.is_empty() => {
                    tracing::warn!(queue = %self.name, %why, "fewer messages were leased than there are");
                    return Ok(deliveries);
                }
                Err(why) => return Err(why),
            };
            let (count, now) = (got.len(), Instant::now());
            for message in got {
                // The end of the lease is that of the visibility timeout, which began a moment ago.
                let ends = now + Duration::from_secs(u64::try_from(lease_seconds(ttl)).unwrap_or(0));
                self.leases.insert(&message.id, &message.handle, ends, Arc::new(message.clone()));
                deliveries.push(Delivery {
                    receipt: held::receipt(&message.id, &message.handle),
                    attempt: message.received,
                    tenant: message.tenant(),
                    lane: message.lane(),
                    enqueued: message.sent,
                    body: message.body(),
                    id: MessageId(message.id),
                });
            }
            let enough = deliveries.len() >= most || (count < wanted && !deliveries.is_empty());
            if enough || (deliveries.is_empty() && Instant::now() >= until) {
                return Ok(deliveries);
            }
        }
    }

    /// One request for messages of a queue.
    async fn take(&self, url: &str, most: usize, hidden: i32, wait: i32) -> Result<Vec<Received>> {
        let request = self
            .client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(i32::try_from(most).unwrap_or(1))
            .visibility_timeout(hidden)
            .wait_time_seconds(wait)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            // When an answer is lost on its way, the same messages come again, with good receipts.
            .set_receive_request_attempt_id(self.form.fifo.then(message::random_id));
        let answer = request.send().await.map_err(|why| failure(&why))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(Received::new).collect())
    }

    /// Ready, delayed and leased.
    async fn count(&self, url: &str) -> Result<(u64, u64, u64)> {
        use QueueAttributeName as Name;
        let names = [
            Name::ApproximateNumberOfMessages,
            Name::ApproximateNumberOfMessagesDelayed,
            Name::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
        let answer = request.send().await.map_err(|why| failure(&why).about(self.name.as_str()))?;
        let of = |name| answer.attributes().and_then(|all| all.get(&name)).and_then(|count| count.parse().ok());
        let [ready, delayed, leased] = names.map(|name| of(name).unwrap_or(0));
        Ok((ready, delayed, leased))
    }
}

/// A lease of at least a second.
fn lease_seconds(ttl: Duration) -> i32 {
    seconds(ttl, LONGEST_LEASE).max(1)
}
