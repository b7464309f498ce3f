//! What every queue has to do: one named test for each behaviour of the contract in [`queue`](crate::queue).
//!
//! ```no_run
//! use std::sync::Arc;
//! use scan_pipeline::queue::{SqliteQueue, TestClock};
//! use scan_pipeline::testkit::queue_suite::QueueFixture;
//!
//! mod memory {
//!     use super::*;
//!
//!     async fn fixture() -> QueueFixture {
//!         let clock = TestClock::default();
//!         let queue = SqliteQueue::memory().clock(clock.clone()).open().await.expect("a queue");
//!         QueueFixture::new(Arc::new(queue)).passing(move |time| clock.advance(time))
//!     }
//!
//!     scan_pipeline::queue_suite!(fixture);
//! }
//! # fn main() {}
//! ```
//!
//! Brokers answer when they like. So what has to come is waited for, up to [`PATIENCE`]; what must not come is looked
//! for once, with leases of an hour around it, so that a slow machine makes no test fail.

mod bodies;
mod dead;
mod durable;
mod fairness;
mod leases;
mod settling;

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

pub use bodies::*;
pub use dead::*;
pub use durable::*;
pub use fairness::*;
pub use leases::*;
pub use settling::*;

use crate::queue::{
    DeadLetter, DeadLetters, Delivery, Held, Lane, MessageId, NewMessage, Queue, Receipt, Settle, Which,
};
use crate::{ErrorKind, Result};

/// For how long something is waited for that has to come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A lease that does not run out during a test.
const LONG: Duration = Duration::from_secs(3600);

/// An empty queue of the kind that is tested, for one test.
pub struct QueueFixture {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    shortest: Duration,
    quiet: Duration,
    pass: Option<Box<dyn Fn(Duration) + Send + Sync>>,
    reopen: Option<Reopen>,
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Queue>> + Send + Sync>;

impl QueueFixture {
    /// An empty queue.
    pub fn new(queue: Arc<dyn Queue>) -> Self {
        let second = Duration::from_secs(1);
        Self { queue, shortest: second, quiet: Duration::ZERO, pass: None, reopen: None, _keep: None }
    }

    /// Says how time is let pass. Without it tests wait.
    #[must_use]
    pub fn passing(mut self, pass: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        self.pass = Some(Box::new(pass));
        self
    }

    /// Says what the shortest lease and the shortest delay are that the backend keeps. The default is a second.
    #[must_use]
    pub fn shortest(mut self, time: Duration) -> Self {
        self.shortest = time;
        self
    }

    /// Says for how long a lease has to wait before it may be said that there is nothing. The default is no time.
    #[must_use]
    pub fn quiet(mut self, time: Duration) -> Self {
        self.quiet = time;
        self
    }

    /// Says how the same queue is opened again, while it is open, as by another process. Without it there is one handle.
    #[must_use]
    pub fn reopening<F>(mut self, reopen: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Arc<dyn Queue>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// Keeps something to the end of the test: a directory, a server.
    #[must_use]
    pub fn keeping(mut self, what: impl Any + Send + Sync) -> Self {
        self._keep = Some(Box::new(what));
        self
    }

    /// The same queue as another process would see it.
    async fn again(&self) -> Arc<dyn Queue> {
        match &self.reopen {
            Some(reopen) => reopen().await,
            None => Arc::clone(&self.queue),
        }
    }

    /// Lets this much time pass, and a little more.
    async fn pass(&self, time: Duration) {
        match &self.pass {
            Some(pass) => pass(time + Duration::from_millis(1)),
            None => tokio::time::sleep(time + Duration::from_millis(100)).await,
        }
    }

    /// Enqueues messages, all of which have to be taken.
    async fn enqueue(&self, messages: &[NewMessage]) -> Vec<MessageId> {
        let answers = self.queue.enqueue(messages).await.expect("the queue answers");
        assert_eq!(answers.len(), messages.len(), "one answer each");
        answers.into_iter().map(|answer| answer.expect("the message is taken")).collect()
    }

    /// Enqueues messages with these bodies.
    async fn put(&self, bodies: &[&str]) -> Vec<MessageId> {
        let messages: Vec<_> = bodies.iter().map(|body| message(body)).collect();
        self.enqueue(&messages).await
    }

    /// Leases so many messages, which have to come.
    async fn take(&self, count: usize, ttl: Duration) -> Vec<Delivery> {
        take(&*self.queue, count, ttl).await
    }

    /// Leases the one message that there is.
    async fn one(&self, ttl: Duration) -> Delivery {
        self.take(1, ttl).await.remove(0)
    }

    /// There is nothing to lease.
    async fn nothing(&self) {
        let found = self.queue.lease(10, LONG, self.quiet).await.expect("the queue answers");
        assert_eq!(found, [], "there should be nothing to lease");
    }

    async fn settle(&self, messages: Vec<(Receipt, Settle)>) -> Vec<Held> {
        let answers = self.queue.settle(&messages).await.expect("the queue answers");
        assert_eq!(answers.len(), messages.len(), "one answer each");
        answers
    }

    async fn done(&self, delivery: &Delivery) -> Held {
        self.settle(vec![(delivery.receipt.clone(), Settle::Done)]).await[0]
    }

    async fn extend(&self, receipt: &Receipt, ttl: Duration) -> Held {
        self.queue.extend(&[(receipt.clone(), ttl)]).await.expect("the queue answers")[0]
    }

    /// Waits until there are as many of each kind, where the queue can count.
    async fn counts(&self, ready: u64, delayed: u64, leased: u64, dead: u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let depth = self.queue.depth().await.expect("the queue answers");
            if depth.approximate
                || (depth.ready, depth.delayed, depth.leased, depth.dead) == (ready, delayed, leased, dead)
            {
                return;
            }
            assert!(Instant::now() < until, "{depth:?} is not ({ready}, {delayed}, {leased}, {dead})");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The dead letters, once there are so many.
    async fn dead(&self, count: usize) -> Vec<DeadLetter> {
        let until = Instant::now() + PATIENCE;
        loop {
            let letters = self.letters().list(None, 100).await.expect("the dead letters");
            if letters.len() == count {
                return letters;
            }
            assert!(Instant::now() < until, "{} dead letters, not {count}", letters.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn letters(&self) -> &dyn DeadLetters {
        self.queue.dead_letters()
    }
}

impl fmt::Debug for QueueFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueFixture").field("queue", &self.queue).finish_non_exhaustive()
    }
}

fn message(body: &str) -> NewMessage {
    NewMessage::new(body.to_owned())
}

/// Leases so many messages, which have to come.
async fn take(queue: &dyn Queue, count: usize, ttl: Duration) -> Vec<Delivery> {
    let until = Instant::now() + PATIENCE;
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(Instant::now() < until, "{} of {count} messages came", taken.len());
        let more = queue.lease(count - taken.len(), ttl, Duration::from_secs(1)).await.expect("the queue answers");
        taken.extend(more);
        assert!(taken.len() <= count, "more messages than were asked for");
    }
    taken
}

fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.body).expect("what was enqueued is text")
}

fn texts(deliveries: &[Delivery]) -> BTreeSet<&str> {
    deliveries.iter().map(text).collect()
}

/// Receipts that nobody was given.
fn forged(real: &Receipt) -> Vec<Receipt> {
    let mut forged: Vec<String> = [
        "",
        ".",
        "x",
        "1",
        "1.",
        ".1",
        "0.0",
        "1.0",
        "-1.-1",
        "1.1.1",
        "1.999999999",
        "999999999.1",
        "9223372036854775807.9223372036854775807",
        "99999999999999999999.1",
        "\u{0}",
        "' OR 1=1 --",
        "{}",
        "日本",
    ]
    .map(String::from)
    .into();
    forged.push(format!("{}0", real.0));
    forged.push(format!(" {}", real.0));
    forged.push("9".repeat(100_000));
    forged.into_iter().map(Receipt).collect()
}

#[track_caller]
fn fails<T: fmt::Debug>(kind: ErrorKind, result: Result<T>) {
    let error = result.expect_err("this has to fail");
    assert_eq!(error.kind(), kind, "{error}");
}

/// Makes the tests of a queue: one `#[tokio::test]` for each behaviour. It takes an async function that gives a
/// [`QueueFixture`](crate::testkit::queue_suite::QueueFixture), or `None` where there is nothing to test and it has said so;
/// call it in a module of its own.
#[macro_export]
macro_rules! queue_suite {
    ($fixture:path) => {
        $crate::queue_suite! { @each $fixture;
            what_is_enqueued_is_delivered
            an_empty_queue_gives_nothing
            a_leased_message_is_nobody_elses
            nobody_gets_more_than_they_asked_for
            a_lease_that_ran_out_comes_again
            a_stale_receipt_changes_nothing
            forged_receipts_are_lost
            an_extended_lease_holds
            many_handles_never_share_a_message
            a_waiting_lease_wakes
            a_waiting_lease_sees_a_delay_pass
            a_dropped_lease_loses_nothing
            what_is_done_is_gone
            each_of_a_batch_has_its_own_answer
            a_retry_comes_after_its_time
            a_delayed_message_comes_later
            many_are_enqueued_at_once
            duplicates_are_one
            a_key_is_forgotten
            order_is_kept_where_promised
            awkward_bodies_survive
            awkward_tenants_survive
            a_large_body_survives
            a_body_too_large_is_refused_alone
            dead_letters_are_listed
            dead_letters_are_listed_in_pages
            unknown_dead_letters_are_none
            what_is_redriven_comes_again
            some_are_redriven
            some_are_purged
            a_burst_delays_nobody_else
            what_comes_again_delays_nobody_else
            lanes_share_by_weight
            nobody_starves
            what_there_is_is_counted
            what_was_acknowledged_is_there_again
            receipts_are_good_on_any_handle
        }
    };
    (@each $fixture:path; $($behaviour:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let fixture: Option<$crate::testkit::queue_suite::QueueFixture> = $fixture().await.into();
                let Some(fixture) = fixture else { return };
                $crate::testkit::queue_suite::$behaviour(&fixture).await;
            }
        )*
    };
}
