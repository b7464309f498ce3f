//! What this process has leased, for brokers that do not tell a stale receipt from a good one.
//!
//! Amazon SQS answers a delete with an old receipt handle as done, and NATS takes an acknowledgement of an earlier
//! delivery for one of the latest. So each lease is kept here with its end, by a clock that nobody sets, and a receipt is
//! good as long as its lease is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::{Delivery, Held, Receipt, Settle};
use crate::{Error, Result};

/// For how long one that ran out is remembered, so that its receipt is known to be stale.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// How many leases there are before those that ran out are looked for.
const SWEPT_FROM: usize = 1024;

/// The leases of one queue, by what the broker calls the message. A message that comes again takes the place of its
/// earlier delivery.
#[derive(Debug)]
pub(super) struct Leases<T>(Mutex<Table<T>>);

#[derive(Debug)]
struct Table<T> {
    leases: HashMap<String, Lease<T>>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Lease<T> {
    receipt: String,
    since: Instant,
    until: Instant,
    state: State,
    what: T,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Held,
    /// Somebody is settling it.
    Taken,
    /// It is in the queue again.
    GivenBack,
}

/// What is known of a receipt.
#[derive(Debug)]
pub(super) enum Standing<T> {
    /// Its lease holds.
    Held(Term<T>),
    /// It ran out, was settled, or another delivery took its place.
    Over,
    /// It was not leased here, or long ago.
    Unknown,
}

/// A lease that holds.
#[derive(Debug)]
pub(super) struct Term<T> {
    /// When it was made.
    pub(super) since: Instant,
    /// When it ends.
    pub(super) until: Instant,
    /// What was kept with it.
    pub(super) what: T,
}

impl<T> Default for Leases<T> {
    fn default() -> Self {
        Self(Mutex::new(Table { leases: HashMap::new(), sweep_at: SWEPT_FROM }))
    }
}

impl<T: Clone> Leases<T> {
    fn table(&self) -> MutexGuard<'_, Table<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a new lease.
    pub(super) fn insert(&self, message: &str, receipt: &str, until: Instant, what: T) {
        let now = Instant::now();
        let mut table = self.table();
        if table.leases.len() >= table.sweep_at {
            table.leases.retain(|_, lease| match lease.state {
                State::GivenBack => lease.until > now,
                State::Held | State::Taken => lease.until + REMEMBERED > now,
            });
            table.sweep_at = (table.leases.len() * 2).max(SWEPT_FROM);
        }
        let lease = Lease { receipt: receipt.to_owned(), since: now, until, state: State::Held, what };
        table.leases.insert(message.to_owned(), lease);
    }

    /// What a receipt is worth now.
    pub(super) fn standing(&self, message: &str, receipt: &str) -> Standing<T> {
        Self::of(self.table().leases.get(message), receipt)
    }

    /// The same, and nobody else gets it from here on, until it is [`restore`](Self::restore)d.
    pub(super) fn take(&self, message: &str, receipt: &str) -> Standing<T> {
        let mut table = self.table();
        let standing = Self::of(table.leases.get(message), receipt);
        if let (Standing::Held(_), Some(lease)) = (&standing, table.leases.get_mut(message)) {
            lease.state = State::Taken;
        }
        standing
    }

    fn of(lease: Option<&Lease<T>>, receipt: &str) -> Standing<T> {
        match lease {
            None => Standing::Unknown,
            Some(lease) if lease.receipt != receipt || lease.state != State::Held => Standing::Over,
            Some(lease) if lease.until <= Instant::now() => Standing::Over,
            Some(lease) => Standing::Held(Term { since: lease.since, until: lease.until, what: lease.what.clone() }),
        }
    }

    /// What was taken could not be settled: the lease goes on as it was.
    pub(super) fn restore(&self, message: &str, receipt: &str) {
        self.set(message, receipt, |lease| lease.state = State::Held);
    }

    /// What was taken is in the queue again.
    pub(super) fn given_back(&self, message: &str, receipt: &str) {
        self.set(message, receipt, |lease| lease.state = State::GivenBack);
    }

    /// What was taken is not in the queue any more.
    pub(super) fn gone(&self, message: &str, receipt: &str) {
        let mut table = self.table();
        if table.leases.get(message).is_some_and(|lease| lease.receipt == receipt) {
            table.leases.remove(message);
        }
    }

    /// The lease ends at another time.
    pub(super) fn extend(&self, message: &str, receipt: &str, until: Instant) {
        self.set(message, receipt, |lease| lease.until = until);
    }

    /// The lease is over, whatever its end was.
    pub(super) fn lost(&self, message: &str, receipt: &str) {
        let now = Instant::now();
        self.set(message, receipt, |lease| lease.until = lease.until.min(now));
    }

    /// What was kept with a lease that ran out and that nobody settles. For brokers that have to be told.
    #[cfg(feature = "nats")]
    pub(super) fn run_out(&self, message: &str, receipt: &str) -> Option<T> {
        let table = self.table();
        let lease = table.leases.get(message)?;
        let over = lease.receipt == receipt && lease.state == State::Held && lease.until <= Instant::now();
        over.then(|| lease.what.clone())
    }

    fn set(&self, message: &str, receipt: &str, change: impl FnOnce(&mut Lease<T>)) {
        if let Some(lease) = self.table().leases.get_mut(message)
            && lease.receipt == receipt
        {
            change(lease);
        }
    }
}

/// A receipt: what the broker calls the message, and what it calls this delivery.
pub(super) fn receipt(message: &str, delivery: &str) -> Receipt {
    Receipt(format!("{message} {delivery}"))
}

/// The parts of a receipt, if it can be one.
pub(super) fn parts(receipt: &Receipt) -> Option<(&str, &str)> {
    receipt.0.split_once(' ')
}

/// What gives out leases, and takes them back.
pub(super) trait Leaser: Send + Sync + 'static {
    /// Its name for people.
    fn name(&self) -> &str;

    /// Settles messages, as [`Queue::settle`](super::Queue::settle).
    fn settle_all<'a>(&'a self, messages: &'a [(Receipt, Settle)]) -> BoxFuture<'a, Result<Vec<Held>>>;
}

async fn give_back<B: Leaser>(broker: Arc<B>, receipts: Vec<Receipt>) {
    let now = Settle::Retry { after: Duration::ZERO };
    let messages: Vec<_> = receipts.into_iter().map(|receipt| (receipt, now.clone())).collect();
    if let Err(why) = broker.settle_all(&messages).await {
        tracing::warn!(queue = broker.name(), %why, "messages that nobody waits for come when their leases end");
    }
}

/// What was leased for somebody. Unless they take it, it goes back.
struct Unclaimed<B: Leaser> {
    broker: Arc<B>,
    deliveries: Vec<Delivery>,
}

impl<B: Leaser> Drop for Unclaimed<B> {
    fn drop(&mut self) {
        let receipts: Vec<_> = self.deliveries.drain(..).map(|delivery| delivery.receipt).collect();
        if let (false, Ok(runtime)) = (receipts.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(give_back(Arc::clone(&self.broker), receipts));
        }
    }
}

/// Leases on a task of its own, since a request that is dropped may have taken messages: what nobody waits for any
/// longer is given back.
pub(super) async fn lease<B: Leaser>(
    broker: Arc<B>,
    request: impl Future<Output = Result<Vec<Delivery>>> + Send + 'static,
) -> Result<Vec<Delivery>> {
    let task = tokio::spawn(async move { request.await.map(|deliveries| Unclaimed { broker, deliveries }) });
    let mut unclaimed = task.await.map_err(ended)??;
    Ok(std::mem::take(&mut unclaimed.deliveries))
}

/// Sees a request to its end, also when nobody waits for it any longer.
pub(super) async fn seen_through<T: Send + 'static>(
    request: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(request).await.map_err(ended)?
}

fn ended(why: tokio::task::JoinError) -> Error {
    Error::unfinished("a request to the queue was not seen to its end", why)
}

/// Messages of which the broker did not say what became of them. They come again.
#[derive(Default)]
pub(super) struct Unanswered(Option<Error>);

impl Unanswered {
    pub(super) fn note(&mut self, queue: &str, why: Error) {
        tracing::warn!(queue, %why, "a message could not be settled or extended; it comes again");
        self.0.get_or_insert(why);
    }

    /// The answers, with `Lost` for these; the error where there is nothing but these.
    pub(super) fn or(self, answers: Vec<Held>) -> Result<Vec<Held>> {
        match self.0 {
            Some(error) if answers.iter().all(|held| *held == Held::Lost) => Err(error),
            _ => Ok(answers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    fn holds(leases: &Leases<u8>, receipt: &str) -> Option<u8> {
        match leases.standing("m", receipt) {
            Standing::Held(term) => Some(term.what),
            _ => None,
        }
    }

    #[test]
    fn a_receipt_is_good_until_its_end_or_the_next_delivery() {
        let leases = Leases::default();
        assert!(matches!(leases.standing("m", "r1"), Standing::Unknown));
        leases.insert("m", "r1", later(60), 1);
        assert_eq!(holds(&leases, "r1"), Some(1));
        leases.insert("m", "r2", later(60), 2);
        assert_eq!((holds(&leases, "r1"), holds(&leases, "r2")), (None, Some(2)));
        leases.extend("m", "r1", later(600));
        leases.extend("m", "r2", Instant::now());
        assert!(matches!(leases.standing("m", "r2"), Standing::Over));
    }

    #[test]
    fn one_of_two_settles() {
        let leases = Leases::default();
        leases.insert("m", "r", later(60), 1);
        assert!(matches!(leases.take("m", "r"), Standing::Held(_)));
        assert!(matches!(leases.take("m", "r"), Standing::Over), "taken by the other");
        leases.restore("m", "r");
        assert!(matches!(leases.take("m", "r"), Standing::Held(_)));
        leases.given_back("m", "r");
        assert!(matches!(leases.take("m", "r"), Standing::Over), "given back");
        leases.gone("m", "another");
        assert!(matches!(leases.take("m", "r"), Standing::Over));
        leases.gone("m", "r");
        assert!(matches!(leases.take("m", "r"), Standing::Unknown), "gone");
    }

    #[test]
    fn what_ran_out_long_ago_is_forgotten() {
        let leases = Leases::default();
        let Some(past) = Instant::now().checked_sub(REMEMBERED * 2) else { return };
        for message in 0..SWEPT_FROM {
            leases.insert(&message.to_string(), "r", past, 0);
        }
        leases.insert("m", "r", later(60), 1);
        assert_eq!(leases.table().leases.len(), 1);
    }
}
