//! What the queues on SQL have in common: receipts, ranks, bounds, and a clock that tests can move.
//!
//! # Fairness
//!
//! Start-time fair queuing. A *flow* is what one tenant has in one lane. A message that becomes ready gets a *rank*: that
//! of the message before it in its flow, or the *front* where that is behind it, plus a [`cost`] that is lower the more
//! urgent the lane is. The front is the lowest rank that is ready. Leases take the lowest ranks, which is one range of
//! one index. So a flow that comes new stands beside the first messages of all others, however many wait behind these,
//! and a flow that was away saves nothing up.
//!
//! Messages that come again, after a wait or a lease that ran out, are a flow of their own: they are not behind all that
//! their tenant has waiting, and a thousand that come again at once are in nobody's way.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

#[cfg(any(test, feature = "testkit"))]
pub use self::clock::TestClock;

use super::{Delivery, Held, Lane, MessageId, NewMessage, QueueCaps, Receipt};
use crate::sql::again;
use crate::{Error, ErrorKind, Result};

/// Most messages of one transaction.
pub(super) const BATCH: usize = 1000;
/// Most bytes of a body.
const MAX_BODY: usize = 1 << 20;
/// Most bytes of a tenant or a key, which stand in indexes.
const MAX_NAME: usize = 2048;
/// The longest delay, and the longest that a lease holds without being extended.
pub(super) const HORIZON: Duration = Duration::from_secs(24 * 3600);
/// For how long a key is remembered.
pub(super) const DEDUPE: Duration = Duration::from_secs(24 * 3600);
/// A time that is further away than this was made by a clock that has gone back since. A message with such a time is
/// ready, and a key is not known: otherwise nobody might see them for years.
pub(super) const BEYOND: Duration = Duration::from_secs(2 * 24 * 3600);
/// Most bytes of the bodies of one transaction, beyond its first message.
const BATCH_BYTES: usize = 8 << 20;

pub(super) fn caps() -> QueueCaps {
    QueueCaps {
        max_batch: BATCH,
        max_body: MAX_BODY,
        max_lease: None,
        max_delay: HORIZON,
        dedupe: Some(DEDUPE),
        ordered: false,
        fair: true,
        binary: true,
        lists_dead: true,
    }
}

/// How far one message of a lane moves its flow.
pub(super) fn cost(lane: Lane) -> i64 {
    i64::from(Lane::Interactive.weight() / lane.weight())
}

/// A time span in milliseconds, up to the horizon.
pub(super) fn millis(span: Duration) -> i64 {
    whole(span.min(HORIZON))
}

/// The first time that is too far away from this one.
pub(super) fn beyond(now: i64) -> i64 {
    now.saturating_add(whole(BEYOND))
}

/// A time span in milliseconds.
pub(super) fn whole(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// What would be refused by the database, or would be in its way.
pub(super) fn check(message: &NewMessage) -> Result<()> {
    if message.body.len() > MAX_BODY {
        let what =
            format!("a message of {} bytes is too large for the queue, which takes {MAX_BODY}", message.body.len());
        return Err(Error::new(ErrorKind::TooLarge, what));
    }
    for (what, name) in [("tenant", Some(&message.tenant)), ("deduplication key", message.dedupe.as_ref())] {
        let length = name.map_or(0, String::len);
        if length > MAX_NAME {
            let what = format!("a {what} of {length} bytes is too long for the queue, which takes {MAX_NAME}");
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
    }
    Ok(())
}

/// A lease: which message, and the fence of the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    pub(super) id: i64,
    pub(super) fence: i64,
}

impl Ticket {
    pub(super) fn receipt(self) -> Receipt {
        Receipt(format!("{}.{}", self.id, self.fence))
    }

    /// `None` for what no queue has ever given out.
    pub(super) fn parse(receipt: &Receipt) -> Option<Self> {
        let (id, fence) = receipt.0.split_once('.')?;
        let ticket = Self { id: id.parse().ok()?, fence: fence.parse().ok()? };
        (ticket.id > 0 && ticket.fence > 0 && ticket.receipt() == *receipt).then_some(ticket)
    }
}

/// Enqueues in parts that one transaction can carry. `write` is given what can be written, and answers with the ids in the
/// same order.
pub(super) async fn enqueue<W: Future<Output = Result<Vec<MessageId>>>>(
    messages: &[NewMessage],
    check: impl Fn(&NewMessage) -> Result<()>,
    about: impl Fn(Error) -> Error,
    write: impl Fn(Vec<NewMessage>) -> W,
) -> Result<Vec<Result<MessageId>>> {
    let mut answers = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while !rest.is_empty() {
        let (part, others) = rest.split_at(first_part(rest));
        rest = others;
        let checked: Vec<_> = part.iter().map(&check).collect();
        let good = part.iter().zip(&checked).filter(|(_, check)| check.is_ok()).map(|(message, _)| owned(message));
        let good: Vec<_> = good.collect();
        let written = if good.is_empty() { Ok(Vec::new()) } else { write(good).await };
        let mut ids = written.as_ref().map_or(&[][..], Vec::as_slice).iter();
        for check in checked {
            answers.push(check.map_err(&about).and_then(|()| match (&written, ids.next()) {
                (Ok(_), Some(id)) => Ok(id.clone()),
                (Ok(_), None) => Err(about(Error::new(ErrorKind::Corrupt, "the database lost a message"))),
                (Err(error), _) => Err(again(error)),
            }));
        }
    }
    Ok(answers)
}

/// The message with its tenant.
fn owned(message: &NewMessage) -> NewMessage {
    NewMessage { tenant: message.whose().into_owned(), ..message.clone() }
}

fn first_part(messages: &[NewMessage]) -> usize {
    let mut bytes = 0_usize;
    let fits = messages.iter().take(BATCH).take_while(|message| {
        bytes = bytes.saturating_add(message.body.len());
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}

/// Asks about the receipts that may be ours, with what goes with them; the others are lost.
pub(super) async fn each<T: Clone, R: Future<Output = Result<Vec<Held>>>>(
    all: &[(Receipt, T)],
    ask: impl Fn(Vec<(Ticket, T)>) -> R,
) -> Result<Vec<Held>> {
    let mut answers = vec![Held::Lost; all.len()];
    let known = all
        .iter()
        .enumerate()
        .filter_map(|(place, (receipt, with))| Ticket::parse(receipt).map(|ticket| (place, (ticket, with.clone()))));
    for part in known.collect::<Vec<_>>().chunks(BATCH) {
        let held = ask(part.iter().map(|(_, one)| one.clone()).collect()).await?;
        for ((place, _), held) in part.iter().zip(held) {
            answers[*place] = held;
        }
    }
    Ok(answers)
}

/// What `lease` gives, as soon as that is something: it is asked again when the bell was rung, or when `next` says that
/// something is ready, which is looked at from time to time, at most `poll` apart.
pub(super) async fn await_lease<L, N>(
    bell: &Notify,
    (wait, poll): (Duration, Duration),
    lease: impl Fn() -> L,
    next: impl Fn() -> N,
) -> Result<Vec<Delivery>>
where
    L: Future<Output = Result<Vec<Delivery>>>,
    N: Future<Output = Result<Option<Duration>>>,
{
    let until = Instant::now() + wait.min(HORIZON);
    loop {
        let mut rung = pin!(bell.notified());
        // From here on: what is enqueued behind the next line rings.
        rung.as_mut().enable();
        let leased = lease().await?;
        if !leased.is_empty() || Instant::now() >= until {
            return Ok(leased);
        }
        tokio::select! {
            () = rung => {}
            looked = look_out(until, poll, &next) => looked?,
        }
    }
}

/// Looks up to this time for something to lease, at most `poll` apart. `next` says how long until something is ready, if
/// anything waits at all.
async fn look_out<N: Future<Output = Result<Option<Duration>>>>(
    until: Instant,
    poll: Duration,
    next: impl Fn() -> N,
) -> Result<()> {
    let mut pause = Duration::from_millis(5);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let next = next().await?;
        if next.is_some_and(|next| next.is_zero()) || left.is_zero() {
            return Ok(());
        }
        // Not all at the same moment.
        let jittered = pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
        tokio::time::sleep(jittered.min(left).min(next.unwrap_or(poll))).await;
        pause = (pause * 2).min(poll);
    }
}

/// The number in a dead letter's id.
pub(super) fn number(id: &str) -> Option<i64> {
    id.parse().ok().filter(|number: &i64| *number > 0 && number.to_string() == id)
}

/// Where a listing of dead letters goes on.
pub(super) fn behind(after: Option<&str>) -> Result<i64> {
    let Some(after) = after else { return Ok(0) };
    number(after).ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("there is no dead letter {after:?}")))
}

/// The clock: offset that tests add to the machine's, or to that of the database's server.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    #[cfg(any(test, feature = "testkit"))]
    pub(super) test: TestClock,
}

impl Clock {
    /// Milliseconds to add.
    pub(super) fn offset(&self) -> i64 {
        #[cfg(any(test, feature = "testkit"))]
        return self.test.offset();
        #[cfg(not(any(test, feature = "testkit")))]
        0
    }
}

#[cfg(any(test, feature = "testkit"))]
mod clock {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    /// Moves the time of the queues that were given it, so that tests need not wait for leases to run out. Clones are
    /// the same clock.
    #[derive(Debug, Clone, Default)]
    pub struct TestClock(Arc<AtomicI64>);

    impl TestClock {
        /// Lets time pass.
        pub fn advance(&self, by: Duration) {
            self.add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
        }

        /// Sets the clock back.
        pub fn set_back(&self, by: Duration) {
            self.add(i64::try_from(by.as_millis()).map_or(i64::MIN, i64::wrapping_neg));
        }

        fn add(&self, millis: i64) {
            let add = |offset: i64| Some(offset.saturating_add(millis));
            // It never refuses.
            let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
        }

        pub(super) fn offset(&self) -> i64 {
            self.0.load(Ordering::SeqCst)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_read_as_they_were_given() {
        for ticket in [Ticket { id: 1, fence: 1 }, Ticket { id: i64::MAX, fence: i64::MAX }] {
            assert_eq!(Ticket::parse(&ticket.receipt()), Some(ticket));
        }
        for forged in [
            "",
            ".",
            "1",
            "1.",
            ".1",
            "-1.1",
            "1.-1",
            "+1.1",
            "01.1",
            "1.01",
            "0.1",
            "1.0",
            "1.1.1",
            " 1.1",
            "1.1\0",
            "9223372036854775808.1",
            "1.99999999999999999999999",
            "a.b",
            "１.１",
        ] {
            assert_eq!(Ticket::parse(&Receipt(String::from(forged))), None, "{forged:?}");
        }
    }

    #[test]
    fn every_lane_has_a_whole_cost() {
        for lane in Lane::ALL {
            assert_eq!(cost(lane) * i64::from(lane.weight()), i64::from(Lane::Interactive.weight()));
        }
    }
}
