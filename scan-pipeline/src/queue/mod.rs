//! Queues: the doorbell. A message says that there may be work; what became of the work is in the [`store`](crate::store).
//!
//! # Contract
//!
//! - **At least once.** A message whose enqueueing was acknowledged is delivered until somebody settles it as done or
//!   dead, across crashes of everybody. It may come more than once; a task's identity makes the second time harmless.
//! - **Leased.** A delivery is nobody else's until its lease runs out. Its [`Receipt`] stands for that lease: once it has
//!   run out and the message was delivered again, the old receipt changes nothing and is answered with [`Held::Lost`].
//!   A receipt that never was one is answered in the same way.
//! - **Attempts count deliveries,** from 1, and are counted before anything is done: a message that kills its worker
//!   never reaches an error handler. Whoever leases looks at the number first.
//! - **Settled one by one.** Each message of a batch has an answer of its own, and none takes another with it.
//! - **Dead is kept.** A dead message is in the [`DeadLetters`] before it leaves the queue. Where a broker cannot do both
//!   at once, a crash in between leaves it in both places, never in none.
//! - **Deduplicated where [`QueueCaps::dedupe`] says so**: a second message with the same key within that time is
//!   acknowledged and is not delivered.
//! - **No order,** but for [`QueueCaps::ordered`] queues: there a message is not delivered while one of the same tenant
//!   that was enqueued before it waits or is leased.
//! - **Fair where [`QueueCaps::fair`] says so**: a message of a tenant who has little waiting is not behind all that another
//!   has enqueued before it. Tenants and lanes share what is leased by the lanes' weights ([`Lane::weight`]).
//! - Times are those of the broker's or database's own clock.
//!
//! `testkit::queue_suite!` checks this on any implementation.

#[cfg(any(feature = "nats", feature = "sqs"))]
mod held;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqs")]
mod sqs;
#[cfg(all(test, feature = "testkit", feature = "sqlite"))]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::event::{self, Event};
use crate::model::Timestamp;

#[cfg(feature = "nats")]
pub use nats::{NatsQueue, NatsQueueBuilder};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresQueue, PostgresQueueBuilder};
#[cfg(all(any(feature = "sqlite", feature = "postgres"), any(test, feature = "testkit")))]
pub use sql::TestClock;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteQueue, SqliteQueueBuilder};
#[cfg(feature = "sqs")]
pub use sqs::{SqsQueue, SqsQueueBuilder};

/// A queue; the module page has the contract.
#[async_trait]
pub trait Queue: fmt::Debug + Send + Sync + 'static {
    /// What this one can do.
    fn caps(&self) -> QueueCaps;

    /// Enqueues messages, of any number: implementations divide them as their broker wants it. Each has an answer of
    /// its own, in the same order; the outer error means that nothing is known of any of them.
    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>>;

    /// Takes at most `most` messages (0 takes none) for `ttl`. If none is there, waits up to `wait` for one to come.
    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>>;

    /// Makes leases hold for this long from now; the answers are in the same order.
    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>>;

    /// Says what became of messages; the answers are in the same order. [`Held::Lost`] changed nothing.
    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>>;

    /// How much there is.
    async fn depth(&self) -> Result<Depth>;

    /// Where its dead messages are.
    fn dead_letters(&self) -> &dyn DeadLetters;
}

/// The messages that failed for good, until somebody looks after them.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Dead messages behind the one with the id `after`, the oldest first, at most `most`. Where a broker cannot look
    /// without taking ([`QueueCaps::lists_dead`]), this is a sample, and `after` means nothing.
    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<DeadLetter>>;

    /// One of them.
    async fn get(&self, id: &str) -> Result<Option<DeadLetter>>;

    /// Puts at most `most` of them back into the queue, the oldest first, with their attempts at none, and says how many
    /// these were. One that is put back is in the queue before it leaves the dead letters. Call again until it says 0.
    async fn redrive(&self, which: &Which, most: usize) -> Result<u64>;

    /// Removes at most `most` of them for good, the oldest first, and says how many these were.
    async fn purge(&self, which: &Which, most: usize) -> Result<u64>;
}

/// What a queue can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueCaps {
    /// Most messages that one request to the broker carries, either way.
    pub max_batch: usize,
    /// Most bytes of a body.
    pub max_body: usize,
    /// The longest that a message can be held in all, over every extension; `None` for as long as one likes.
    pub max_lease: Option<Duration>,
    /// The longest delay of a new message or a retry; a longer one is shortened to it, and the message comes early.
    pub max_delay: Duration,
    /// For how long a deduplication key is remembered; `None` where there is no deduplication.
    pub dedupe: Option<Duration>,
    /// Messages of one tenant keep their order.
    pub ordered: bool,
    /// No tenant and no lane starves another.
    pub fair: bool,
    /// Bodies are any bytes; otherwise they have to be UTF-8.
    pub binary: bool,
    /// Dead letters can be looked at, one page after the other.
    pub lists_dead: bool,
}

/// A message to enqueue.
///
/// ```
/// use scan_pipeline::queue::{Lane, NewMessage};
/// let message = NewMessage::new(r#"{"bucket": "s3://uploads", "key": "a.zip"}"#).tenant("s3://uploads").lane(Lane::Interactive);
/// assert_eq!(message.lane, Lane::Interactive);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// What the decoder of events understands, or any text. Some brokers take UTF-8 only.
    pub body: Bytes,
    /// Whose it is, for fairness and, on ordered queues, for the order. Where it is empty, [`whose`](Self::whose) says.
    pub tenant: String,
    /// How urgent it is among the messages of everybody.
    pub lane: Lane,
    /// Two messages with the same key are one, where [`QueueCaps::dedupe`] says so.
    pub dedupe: Option<String>,
    /// Not before this much time has passed.
    pub delay: Duration,
}

impl NewMessage {
    /// A message for the normal lane, to be delivered at once.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), tenant: String::new(), lane: Lane::Normal, dedupe: None, delay: Duration::ZERO }
    }

    /// Whose it is: the tenant, or, where nobody said so, the bucket of the first object that the body is about. Empty
    /// where it is about none.
    ///
    /// ```
    /// use scan_pipeline::queue::NewMessage;
    /// let message = NewMessage::new(r#"{"bucket": "s3://uploads", "key": "a.zip"}"#);
    /// assert_eq!(message.whose(), "s3://uploads");
    /// assert_eq!(message.tenant("somebody").whose(), "somebody");
    /// ```
    pub fn whose(&self) -> Cow<'_, str> {
        // Every message that is about an object is JSON.
        if !self.tenant.is_empty() || !matches!(self.body.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return Cow::Borrowed(&self.tenant);
        }
        let bucket = event::decode(&self.body).into_iter().find_map(|event| match event {
            Event::Created(created) => Some(created.object.bucket),
            Event::ScannedElsewhere(scanned) => Some(scanned.object.bucket),
            Event::Ignored(_) | Event::Unreadable(_) => None,
        });
        bucket.map_or(Cow::Borrowed(""), |bucket| Cow::Owned(bucket.as_str().to_owned()))
    }

    /// Says whose it is.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Says how urgent it is.
    #[must_use]
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Makes it one with every other message of this key.
    #[must_use]
    pub fn dedupe(mut self, key: impl Into<String>) -> Self {
        self.dedupe = Some(key.into());
        self
    }

    /// Holds it back for some time.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// How urgent a message is. A lane never waits for another to be empty: they share by weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Somebody waits for it.
    Interactive,
    /// Something arrived.
    #[default]
    Normal,
    /// A part of a large job.
    Bulk,
}

impl Lane {
    /// Every lane, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Normal, Self::Bulk];

    /// The lane as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }

    /// How many messages of this lane are leased for each of the lane `Bulk`, while both have some waiting.
    pub fn weight(self) -> u32 {
        match self {
            Self::Interactive => 16,
            Self::Normal => 4,
            Self::Bulk => 1,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the queue calls a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub String);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The right to settle one delivery, until its lease runs out: a row and its fence, a receipt handle, a reply subject.
/// What is in it is the implementation's business.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

/// A message, leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub id: MessageId,
    /// What was enqueued.
    pub body: Bytes,
    /// The lease.
    pub receipt: Receipt,
    /// How often it was delivered, this time included.
    pub attempt: u32,
    /// Whose it is; empty where nobody said so, and it is about no object.
    pub tenant: String,
    /// How urgent it is.
    pub lane: Lane,
    /// When it was enqueued, where the broker tells.
    pub enqueued: Option<Timestamp>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settle {
    /// It is dealt with, and goes away.
    Done,
    /// It comes again, not before this time has passed.
    Retry {
        /// How long from now.
        after: Duration,
    },
    /// It failed for good, and goes to the dead letters.
    Dead {
        /// Why, for people. No content of files.
        reason: String,
    },
}

/// Whether a lease still held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It did, and what was asked has been done.
    Held,
    /// It did not, and nothing was changed.
    Lost,
}

/// How many messages there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// To be had now.
    pub ready: u64,
    /// Whose time has not come.
    pub delayed: u64,
    /// Leased.
    pub leased: u64,
    /// Dead.
    pub dead: u64,
    /// The broker gives estimates only.
    pub approximate: bool,
}

/// A message that failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What the dead letters call it; ids of later ones are behind it where [`QueueCaps::lists_dead`] says so.
    pub id: String,
    /// What was enqueued.
    pub body: Bytes,
    /// Whose it was.
    pub tenant: String,
    /// How urgent it was.
    pub lane: Lane,
    /// How often it was delivered.
    pub attempts: u32,
    /// Why it failed.
    pub reason: String,
    /// When it did, where the broker tells.
    pub died: Option<Timestamp>,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Only these ids; all if empty.
    pub ids: Vec<String>,
    /// Only those whose reason holds this text.
    pub reason: Option<String>,
}

impl Which {
    /// All of them.
    pub fn all() -> Self {
        Self::default()
    }

    /// One of them.
    pub fn one(id: impl Into<String>) -> Self {
        Self { ids: vec![id.into()], reason: None }
    }

    /// Whether this one is meant.
    pub fn has(&self, id: &str, reason: &str) -> bool {
        (self.ids.is_empty() || self.ids.iter().any(|wanted| wanted == id))
            && self.reason.as_ref().is_none_or(|wanted| reason.contains(wanted.as_str()))
    }
}
