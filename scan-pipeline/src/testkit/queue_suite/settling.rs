//! What becomes of messages, and what never becomes one.

use super::*;

/// What is done does not come again.
pub async fn what_is_done_is_gone(fixture: &QueueFixture) {
    fixture.put(&["done", "left"]).await;
    let deliveries = fixture.take(2, fixture.shortest * 4).await;
    let done = deliveries.iter().find(|one| text(one) == "done").expect("it came");
    assert_eq!(fixture.done(done).await, Held::Held);
    fixture.pass(fixture.shortest * 4).await;
    // The control is the other one.
    assert_eq!(text(&fixture.one(LONG).await), "left");
    fixture.nothing().await;
    fixture.counts(0, 0, 1, 0).await;
}

/// Each message of a batch has its own answer, and none takes another with it.
pub async fn each_of_a_batch_has_its_own_answer(fixture: &QueueFixture) {
    fixture.put(&["done", "retried", "dead", "kept", "done too"]).await;
    let deliveries = fixture.take(5, LONG).await;
    let receipt = |body: &str| deliveries.iter().find(|one| text(one) == body).expect("it came").receipt.clone();
    let held = fixture
        .settle(vec![
            (receipt("done"), Settle::Done),
            (Receipt(String::from("nobody's")), Settle::Done),
            (receipt("retried"), Settle::Retry { after: Duration::ZERO }),
            (receipt("dead"), Settle::Dead { reason: String::from("no use") }),
            (Receipt(String::new()), Settle::Retry { after: Duration::ZERO }),
            (receipt("done too"), Settle::Done),
        ])
        .await;
    assert_eq!(held, [Held::Held, Held::Lost, Held::Held, Held::Held, Held::Lost, Held::Held]);
    let again = fixture.one(LONG).await;
    assert_eq!((text(&again), again.attempt), ("retried", 2));
    fixture.nothing().await;
    let letters = fixture.dead(1).await;
    assert_eq!((&letters[0].body[..], letters[0].reason.as_str()), (&b"dead"[..], "no use"));
    assert_eq!(fixture.extend(&receipt("kept"), LONG).await, Held::Held);
    fixture.counts(0, 0, 2, 1).await;
}

/// A retry does not come before its time, and then with a higher number, where there are delays.
pub async fn a_retry_comes_after_its_time(fixture: &QueueFixture) {
    if fixture.queue.caps().max_delay < fixture.shortest {
        return;
    }
    fixture.put(&["soon", "late"]).await;
    let deliveries = fixture.take(2, LONG).await;
    let retries = deliveries.iter().map(|one| {
        let after = if text(one) == "soon" { fixture.shortest } else { fixture.queue.caps().max_delay };
        (one.receipt.clone(), Settle::Retry { after })
    });
    assert_eq!(fixture.settle(retries.collect()).await, [Held::Held, Held::Held]);
    fixture.pass(fixture.shortest).await;
    let soon = fixture.one(LONG).await;
    assert_eq!((text(&soon), soon.attempt), ("soon", 2));
    fixture.nothing().await;
    fixture.counts(0, 1, 1, 0).await;
}

/// A delayed message does not come before its time, where there are delays.
pub async fn a_delayed_message_comes_later(fixture: &QueueFixture) {
    let most = fixture.queue.caps().max_delay;
    if most < fixture.shortest {
        return;
    }
    fixture.enqueue(&[message("late").delay(most), message("soon").delay(fixture.shortest), message("now")]).await;
    let first = fixture.one(LONG).await;
    assert_eq!((text(&first), first.attempt), ("now", 1));
    fixture.pass(fixture.shortest).await;
    let second = fixture.one(LONG).await;
    assert_eq!((text(&second), second.attempt), ("soon", 1));
    fixture.nothing().await;
    if fixture.pass.is_some() {
        fixture.pass(most).await;
        let rest = fixture.take(3, LONG).await;
        assert_eq!(texts(&rest), BTreeSet::from(["late", "now", "soon"]));
    }
}

/// More messages than a request carries are all acknowledged, in order, and all delivered.
pub async fn many_are_enqueued_at_once(fixture: &QueueFixture) {
    let many = (fixture.queue.caps().max_batch * 2 + 1).clamp(100, 3000);
    let messages: Vec<_> = (0..many).map(|i| message(&i.to_string())).collect();
    let ids = fixture.enqueue(&messages).await;
    let deliveries = fixture.take(many, LONG).await;
    assert_eq!(texts(&deliveries).len(), many);
    for delivery in &deliveries {
        let place: usize = text(delivery).parse().expect("a number");
        assert_eq!(delivery.id, ids[place]);
    }
    let done: Vec<_> = deliveries.into_iter().map(|one| (one.receipt, Settle::Done)).collect();
    assert!(fixture.settle(done).await.into_iter().all(|held| held == Held::Held));
    fixture.counts(0, 0, 0, 0).await;
}

/// Two messages with one key are one, in one batch, in two, and after the first is done. Without a key each is its own.
pub async fn duplicates_are_one(fixture: &QueueFixture) {
    fixture.put(&["same", "same"]).await;
    assert_eq!(fixture.take(2, LONG).await.len(), 2);
    if fixture.queue.caps().dedupe.is_none() {
        return;
    }
    let keyed = |body: &str, key: &str| message(body).dedupe(key);
    fixture.enqueue(&[keyed("first", "k"), keyed("second", "k"), keyed("other", "l"), message("none")]).await;
    fixture.enqueue(&[keyed("third", "k")]).await;
    let deliveries = fixture.take(3, LONG).await;
    assert_eq!(texts(&deliveries), BTreeSet::from(["first", "none", "other"]));
    fixture.nothing().await;
    for delivery in &deliveries {
        assert_eq!(fixture.done(delivery).await, Held::Held);
    }
    fixture.enqueue(&[keyed("fourth", "k"), keyed("new", "m")]).await;
    assert_eq!(text(&fixture.one(LONG).await), "new");
    fixture.nothing().await;
}

/// A key is remembered for as long as the queue says, and no longer.
pub async fn a_key_is_forgotten(fixture: &QueueFixture) {
    let (Some(window), true) = (fixture.queue.caps().dedupe, fixture.pass.is_some()) else { return };
    fixture.enqueue(&[message("first").dedupe("k")]).await;
    let first = fixture.one(LONG).await;
    assert_eq!(fixture.done(&first).await, Held::Held);
    fixture.pass(window / 2).await;
    fixture.enqueue(&[message("second").dedupe("k")]).await;
    fixture.nothing().await;
    fixture.pass(window / 2).await;
    fixture.enqueue(&[message("third").dedupe("k")]).await;
    assert_eq!(text(&fixture.one(LONG).await), "third");
}

/// On an ordered queue nothing overtakes a message of its own tenant, not even one that is retried.
pub async fn order_is_kept_where_promised(fixture: &QueueFixture) {
    if !fixture.queue.caps().ordered {
        return;
    }
    let messages: Vec<_> =
        (0..6).map(|i| message(&format!("{} {}", i % 2, i / 2)).tenant((i % 2).to_string())).collect();
    fixture.enqueue(&messages).await;
    let mut next = [0, 0];
    while next != [3, 3] {
        let delivery = fixture.one(LONG).await;
        let tenant: usize = delivery.tenant.parse().expect("a number");
        assert_eq!(text(&delivery), format!("{tenant} {}", next[tenant]));
        let settle = if delivery.attempt == 1 { Settle::Retry { after: Duration::ZERO } } else { Settle::Done };
        next[tenant] += usize::from(settle == Settle::Done);
        assert_eq!(fixture.settle(vec![(delivery.receipt, settle)]).await, [Held::Held]);
    }
}
