//! What another handle sees.

use super::*;

/// Every message counts as what it is.
pub async fn what_there_is_is_counted(fixture: &QueueFixture) {
    fixture.counts(0, 0, 0, 0).await;
    let late = fixture.queue.caps().max_delay;
    fixture.enqueue(&[message("a"), message("b"), message("c"), message("d"), message("e").delay(late)]).await;
    fixture.counts(4, 1, 0, 0).await;
    let taken = fixture.take(3, LONG).await;
    fixture.counts(1, 1, 3, 0).await;
    let dead = Settle::Dead { reason: String::from("no use") };
    fixture.settle(vec![(taken[0].receipt.clone(), dead), (taken[1].receipt.clone(), Settle::Done)]).await;
    fixture.counts(1, 1, 1, 1).await;
    fixture.settle(vec![(taken[2].receipt.clone(), Settle::Retry { after: Duration::ZERO })]).await;
    fixture.counts(2, 1, 0, 1).await;
    fixture.take(1, fixture.shortest).await;
    fixture.counts(1, 1, 1, 1).await;
    if fixture.pass.is_some() {
        fixture.pass(fixture.shortest).await;
        fixture.counts(2, 1, 0, 1).await;
    }
}

/// What was acknowledged is there for whoever opens the queue again: messages, leases and dead letters.
pub async fn what_was_acknowledged_is_there_again(fixture: &QueueFixture) {
    fixture.put(&["leased"]).await;
    let leased = fixture.one(LONG).await;
    fixture.put(&["dead"]).await;
    let dead = fixture.one(LONG).await;
    fixture.settle(vec![(dead.receipt, Settle::Dead { reason: String::from("no use") })]).await;
    fixture.put(&["done"]).await;
    let done = fixture.one(LONG).await;
    assert_eq!(fixture.done(&done).await, Held::Held);
    fixture.put(&["ready"]).await;

    let again = fixture.again().await;
    let ready = take(&*again, 1, LONG).await;
    assert_eq!((text(&ready[0]), ready[0].attempt), ("ready", 1));
    assert_eq!(again.lease(10, LONG, fixture.quiet).await.expect("answers"), []);
    let settle = [(leased.receipt, Settle::Done), (ready[0].receipt.clone(), Settle::Done)];
    assert_eq!(again.settle(&settle).await.expect("answers"), [Held::Held, Held::Held]);
    assert_eq!(fixture.dead(1).await[0].body, "dead");
    fixture.counts(0, 0, 0, 1).await;
}

/// A receipt is good on every handle to the queue.
pub async fn receipts_are_good_on_any_handle(fixture: &QueueFixture) {
    fixture.put(&["a", "b"]).await;
    let deliveries = fixture.take(2, LONG).await;
    let again = fixture.again().await;
    let extended = again.extend(&[(deliveries[0].receipt.clone(), LONG)]).await.expect("answers");
    assert_eq!(extended, [Held::Held]);
    let settle: Vec<_> = deliveries.iter().map(|one| (one.receipt.clone(), Settle::Done)).collect();
    assert_eq!(again.settle(&settle).await.expect("answers"), [Held::Held, Held::Held]);
    fixture.counts(0, 0, 0, 0).await;
}
