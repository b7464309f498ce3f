//! Who gets a message, and for how long.

use super::*;

/// Each message is acknowledged in its place, and delivered as it was enqueued.
pub async fn what_is_enqueued_is_delivered(fixture: &QueueFixture) {
    assert_eq!(fixture.enqueue(&[]).await, []);
    // Where there is an order, those of one tenant do not come at the same time.
    let tenants = if fixture.queue.caps().ordered { 5 } else { 2 };
    let messages: Vec<_> = (0..5)
        .map(|i| {
            let lane = Lane::ALL[i % Lane::ALL.len()];
            message(&format!("body {i}")).tenant(format!("tenant {}", i % tenants)).lane(lane)
        })
        .collect();
    let ids = fixture.enqueue(&messages).await;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 5, "each has an id of its own");
    let deliveries = fixture.take(5, LONG).await;
    for (id, message) in ids.iter().zip(&messages) {
        let delivery = deliveries.iter().find(|one| one.body == message.body).expect("it came");
        assert_eq!(&delivery.id, id);
        assert_eq!((&delivery.tenant, delivery.lane, delivery.attempt), (&message.tenant, message.lane, 1));
    }
    fixture.nothing().await;
}

/// A lease that finds nothing says so, also after it has waited.
pub async fn an_empty_queue_gives_nothing(fixture: &QueueFixture) {
    fixture.nothing().await;
    assert_eq!(fixture.queue.lease(1, LONG, Duration::from_millis(50)).await.expect("answers"), []);
    assert_eq!(fixture.settle(Vec::new()).await, []);
    assert_eq!(fixture.queue.extend(&[]).await.expect("answers"), []);
    fixture.counts(0, 0, 0, 0).await;
    // The control: something would have been found.
    fixture.put(&["a"]).await;
    fixture.one(LONG).await;
}

/// While a lease holds, nobody else gets the message, whoever asks.
pub async fn a_leased_message_is_nobody_elses(fixture: &QueueFixture) {
    fixture.put(&["a", "b", "c"]).await;
    assert_eq!(texts(&fixture.take(3, LONG).await), BTreeSet::from(["a", "b", "c"]));
    fixture.nothing().await;
    assert_eq!(fixture.again().await.lease(10, LONG, fixture.quiet).await.expect("answers"), []);
}

/// A lease gives at most as many as were asked for, and leaves the others alone.
pub async fn nobody_gets_more_than_they_asked_for(fixture: &QueueFixture) {
    fixture.put(&["a", "b", "c", "d"]).await;
    assert_eq!(fixture.queue.lease(0, LONG, LONG).await.expect("answers"), [], "none for none, and at once");
    let first = fixture.queue.lease(3, LONG, PATIENCE).await.expect("answers");
    assert!((1..=3).contains(&first.len()), "{} came", first.len());
    let rest = fixture.take(4 - first.len(), LONG).await;
    assert!(first.iter().chain(&rest).all(|one| one.attempt == 1));
    let all: Vec<_> = first.into_iter().chain(rest).collect();
    assert_eq!(texts(&all), BTreeSet::from(["a", "b", "c", "d"]));
}

/// When a lease has run out the message comes again, with a higher number and another receipt.
pub async fn a_lease_that_ran_out_comes_again(fixture: &QueueFixture) {
    let ids = fixture.put(&["a"]).await;
    let mut receipts = BTreeSet::new();
    for attempt in 1..=3 {
        let delivery = fixture.one(fixture.shortest).await;
        assert_eq!((&delivery.id, text(&delivery), delivery.attempt), (&ids[0], "a", attempt));
        assert!(receipts.insert(delivery.receipt.0), "each delivery has a receipt of its own");
        fixture.pass(fixture.shortest).await;
    }
    let last = fixture.one(LONG).await;
    assert_eq!(last.attempt, 4);
    assert_eq!(fixture.done(&last).await, Held::Held);
}

/// Once a message was delivered again, the receipt from before is lost and does nothing.
pub async fn a_stale_receipt_changes_nothing(fixture: &QueueFixture) {
    fixture.put(&["a"]).await;
    let stale = fixture.one(fixture.shortest).await.receipt;
    fixture.pass(fixture.shortest).await;
    let current = fixture.one(LONG).await;
    assert_eq!(current.attempt, 2);
    assert_eq!(fixture.extend(&stale, Duration::ZERO).await, Held::Lost);
    for settle in
        [Settle::Done, Settle::Retry { after: Duration::ZERO }, Settle::Dead { reason: String::from("stale") }]
    {
        assert_eq!(fixture.settle(vec![(stale.clone(), settle)]).await, [Held::Lost]);
    }
    fixture.nothing().await;
    fixture.counts(0, 0, 1, 0).await;
    // Both in one batch: the stale one takes the other not with it, and does not stand for it.
    let both = vec![
        (stale.clone(), Settle::Dead { reason: String::from("stale") }),
        (current.receipt.clone(), Settle::Done),
        (stale, Settle::Retry { after: Duration::ZERO }),
    ];
    assert_eq!(fixture.settle(both).await, [Held::Lost, Held::Held, Held::Lost]);
    fixture.nothing().await;
    fixture.counts(0, 0, 0, 0).await;
}

/// What never was a receipt is lost, is no error, and takes no other with it.
pub async fn forged_receipts_are_lost(fixture: &QueueFixture) {
    fixture.put(&["leased", "waiting"]).await;
    let leased = fixture.one(LONG).await;
    let forged = forged(&leased.receipt);
    let mut extended: Vec<_> = forged.iter().map(|receipt| (receipt.clone(), LONG)).collect();
    extended.insert(3, (leased.receipt.clone(), LONG));
    let held = fixture.queue.extend(&extended).await.expect("answers");
    assert_eq!(held.len(), extended.len());
    for (place, held) in held.into_iter().enumerate() {
        assert_eq!(held == Held::Held, place == 3, "{:?}", extended[place].0);
    }
    let mut settled: Vec<_> = forged.iter().map(|receipt| (receipt.clone(), Settle::Done)).collect();
    settled.push((leased.receipt.clone(), Settle::Done));
    settled.extend(forged.iter().map(|receipt| (receipt.clone(), Settle::Dead { reason: String::from("forged") })));
    let held = fixture.settle(settled.clone()).await;
    for (place, held) in held.into_iter().enumerate() {
        assert_eq!(held == Held::Held, place == forged.len(), "{:?}", settled[place].0);
    }
    fixture.counts(1, 0, 0, 0).await;
    assert_eq!(fixture.one(LONG).await.attempt, 1);
}

/// An extended lease holds beyond its first time.
pub async fn an_extended_lease_holds(fixture: &QueueFixture) {
    fixture.put(&["a", "b"]).await;
    // Long enough to be extended in time by a slow machine.
    let ttl = fixture.shortest * 4;
    let deliveries = fixture.take(2, ttl).await;
    let extended = deliveries.iter().find(|one| text(one) == "a").expect("it came");
    assert_eq!(fixture.extend(&extended.receipt, LONG).await, Held::Held);
    fixture.pass(ttl).await;
    // The control: the other lease ran out.
    assert_eq!(text(&fixture.one(LONG).await), "b");
    fixture.nothing().await;
    assert_eq!(fixture.done(extended).await, Held::Held);
}

/// Of many who lease at once from several handles, no two get the same message, and all messages come.
pub async fn many_handles_never_share_a_message(fixture: &QueueFixture) {
    const MESSAGES: usize = 200;
    let messages: Vec<_> = (0..MESSAGES).map(|i| message(&i.to_string()).tenant((i % 3).to_string())).collect();
    fixture.enqueue(&messages).await;
    let got = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut workers = Vec::new();
    for worker in 0..8 {
        let queue = if worker % 2 == 0 { Arc::clone(&fixture.queue) } else { fixture.again().await };
        let got = Arc::clone(&got);
        workers.push(tokio::spawn(async move {
            let until = Instant::now() + PATIENCE;
            let count = || got.lock().expect("no panic").len();
            while count() < MESSAGES && Instant::now() < until {
                let wait = Duration::from_millis(200);
                for delivery in queue.lease(1 + worker, LONG, wait).await.expect("answers") {
                    assert_eq!(delivery.attempt, 1);
                    got.lock().expect("no panic").push(delivery.id.clone());
                    let held = queue.settle(&[(delivery.receipt, Settle::Done)]).await.expect("answers");
                    assert_eq!(held, [Held::Held]);
                }
            }
        }));
    }
    for worker in workers {
        worker.await.expect("no panic");
    }
    let got = got.lock().expect("no panic");
    assert_eq!(got.len(), MESSAGES);
    assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), MESSAGES, "no message twice");
}

/// A lease that waits gets what another handle enqueues meanwhile.
pub async fn a_waiting_lease_wakes(fixture: &QueueFixture) {
    for other in [Arc::clone(&fixture.queue), fixture.again().await] {
        let queue = Arc::clone(&fixture.queue);
        let waiting = tokio::spawn(async move { queue.lease(1, LONG, PATIENCE).await.expect("answers") });
        // So that it is likely to wait already; it has to come either way.
        tokio::time::sleep(Duration::from_millis(30)).await;
        other.enqueue(&[message("a")]).await.expect("answers").remove(0).expect("is taken");
        let got = waiting.await.expect("no panic");
        assert_eq!(texts(&got), BTreeSet::from(["a"]));
        assert_eq!(fixture.done(&got[0]).await, Held::Held);
    }
}

/// A lease that waits gets what was there already and becomes ready meanwhile.
pub async fn a_waiting_lease_sees_a_delay_pass(fixture: &QueueFixture) {
    fixture.enqueue(&[message("a").delay(fixture.shortest)]).await;
    let queue = Arc::clone(&fixture.queue);
    let waiting = tokio::spawn(async move { queue.lease(1, LONG, PATIENCE).await.expect("answers") });
    tokio::time::sleep(Duration::from_millis(30)).await;
    fixture.pass(fixture.shortest).await;
    assert_eq!(texts(&waiting.await.expect("no panic")), BTreeSet::from(["a"]));
}

/// Who stops waiting for a lease takes no message along: all of them come, if only when the lease has run out.
pub async fn a_dropped_lease_loses_nothing(fixture: &QueueFixture) {
    const MESSAGES: usize = 40;
    let messages: Vec<_> = (0..MESSAGES).map(|i| message(&i.to_string())).collect();
    fixture.enqueue(&messages).await;
    let mut settled = BTreeSet::new();
    let ttl = fixture.shortest;
    for round in 0..MESSAGES as u64 {
        let lease = fixture.queue.lease(2, ttl, Duration::from_millis(20));
        // From before its first step to after its last one.
        if let Ok(found) = tokio::time::timeout(Duration::from_micros(round * 100), lease).await {
            for delivery in found.expect("answers") {
                if fixture.done(&delivery).await == Held::Held {
                    assert!(settled.insert(delivery.id), "it was done already");
                }
            }
        }
    }
    let until = Instant::now() + PATIENCE;
    while settled.len() < MESSAGES {
        assert!(Instant::now() < until, "{} of {MESSAGES} messages came", settled.len());
        fixture.pass(ttl).await;
        for delivery in fixture.queue.lease(10, LONG, Duration::from_secs(1)).await.expect("answers") {
            assert_eq!(fixture.done(&delivery).await, Held::Held);
            assert!(settled.insert(delivery.id), "it was done already");
        }
    }
    fixture.counts(0, 0, 0, 0).await;
}
