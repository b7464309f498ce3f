//! The behaviour suite on the queues of SQL, random sequences of calls beside a model, and what a file or a server can have
//! wrong.

use std::sync::Arc;
use std::time::Duration;

use super::{Held, NewMessage, Queue, Settle, SqliteQueue, TestClock};
use crate::testkit::queue_suite::QueueFixture;

mod bad_input;
mod model;
#[cfg(feature = "postgres")]
mod postgres;

const LONG: Duration = Duration::from_secs(3600);

/// A queue whose clock a test moves.
fn fixture_of(queue: impl Queue, clock: TestClock) -> QueueFixture {
    QueueFixture::new(Arc::new(queue)).passing(move |time| clock.advance(time))
}

mod memory {
    use super::*;

    async fn fixture() -> QueueFixture {
        let clock = TestClock::default();
        fixture_of(SqliteQueue::memory().clock(clock.clone()).open().await.expect("a queue"), clock)
    }

    crate::queue_suite!(fixture);
}

mod file {
    use super::*;

    async fn fixture() -> QueueFixture {
        let directory = tempfile::tempdir().expect("a directory");
        let clock = TestClock::default();
        let builder = SqliteQueue::builder(directory.path().join("queue.db")).clock(clock.clone());
        let queue = builder.clone().open().await.expect("a queue");
        let reopen = move || {
            let builder = builder.clone();
            async move { Arc::new(builder.open().await.expect("opens again")) as Arc<dyn Queue> }
        };
        fixture_of(queue, clock).reopening(reopen).keeping(directory)
    }

    crate::queue_suite!(fixture);
}

async fn put(queue: &dyn Queue, messages: &[NewMessage]) {
    for answer in queue.enqueue(messages).await.expect("answers") {
        answer.expect("is taken");
    }
}

/// The bodies of all that can be leased now, with the numbers of the deliveries.
async fn all(queue: &dyn Queue) -> Vec<(String, u32)> {
    let leased = queue.lease(1000, LONG, Duration::ZERO).await.expect("answers");
    let mut all: Vec<_> =
        leased.iter().map(|one| (String::from_utf8_lossy(&one.body).into_owned(), one.attempt)).collect();
    all.sort();
    all
}

/// Years of a wrong clock, on which messages were enqueued, leased and retried, hide none of them when it is set right; and
/// no key is known for years.
async fn a_clock_set_right_hides_nothing(queue: &dyn Queue, clock: &TestClock) {
    let years = Duration::from_secs(10 * 365 * 24 * 3600);
    clock.advance(years);
    put(queue, &[NewMessage::new("leased"), NewMessage::new("retried")]).await;
    let leased = queue.lease(2, LONG, Duration::ZERO).await.expect("answers");
    let retried = leased.iter().find(|one| &one.body[..] == b"retried").expect("it came");
    let retry = Settle::Retry { after: LONG };
    assert_eq!(queue.settle(&[(retried.receipt.clone(), retry)]).await.expect("answers"), [Held::Held]);
    put(
        queue,
        &[NewMessage::new("delayed").delay(LONG), NewMessage::new("ready"), NewMessage::new("keyed").dedupe("k")],
    )
    .await;
    assert_eq!(all(queue).await, [(String::from("keyed"), 1), (String::from("ready"), 1)]);
    clock.set_back(years);
    put(queue, &[NewMessage::new("keyed again").dedupe("k")]).await;
    let depth = queue.depth().await.expect("answers");
    assert_eq!((depth.ready, depth.delayed, depth.leased), (6, 0, 0));
    let waited = queue.lease(1, Duration::ZERO, LONG).await.expect("answers");
    assert_eq!(waited.len(), 1, "who waits for one gets one at once");
    let came: Vec<_> = all(queue).await.into_iter().map(|(body, _)| body).collect();
    assert_eq!(came, ["delayed", "keyed", "keyed again", "leased", "ready", "retried"]);
}

/// A small step back prolongs what is under way by as much, and a key is still known.
async fn a_small_step_back_changes_little(queue: &dyn Queue, clock: &TestClock) {
    put(queue, &[NewMessage::new("a").dedupe("k"), NewMessage::new("late").delay(LONG)]).await;
    let leased = queue.lease(1, Duration::from_secs(24 * 3600), Duration::ZERO).await.expect("answers");
    clock.set_back(LONG);
    put(queue, &[NewMessage::new("again").dedupe("k")]).await;
    assert_eq!(all(queue).await, []);
    assert_eq!(queue.settle(&[(leased[0].receipt.clone(), Settle::Done)]).await.expect("answers"), [Held::Held]);
    clock.advance(LONG * 2);
    assert_eq!(all(queue).await, [(String::from("late"), 1)]);
}

#[tokio::test]
async fn clocks_jump() {
    for file in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let open = async |name: &str| {
            let clock = TestClock::default();
            let builder = if file { SqliteQueue::builder(directory.path().join(name)) } else { SqliteQueue::memory() };
            (builder.clock(clock.clone()).open().await.expect("a queue"), clock)
        };
        let (queue, clock) = open("far").await;
        a_clock_set_right_hides_nothing(&queue, &clock).await;
        let (queue, clock) = open("near").await;
        a_small_step_back_changes_little(&queue, &clock).await;
    }
}
