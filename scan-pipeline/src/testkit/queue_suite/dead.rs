//! The dead letters.

use super::*;

/// Kills messages with these bodies, each for the reason that is its body.
async fn kill(fixture: &QueueFixture, bodies: &[&str]) {
    for body in bodies {
        let message = message(body).tenant(format!("tenant of {body}")).lane(Lane::Bulk);
        fixture.enqueue(&[message]).await;
        let delivery = fixture.one(LONG).await;
        let reason = format!("because {body}");
        assert_eq!(fixture.settle(vec![(delivery.receipt, Settle::Dead { reason })]).await, [Held::Held]);
    }
}

/// A dead message is with the dead letters, with everything that is known of it, and not in the queue.
pub async fn dead_letters_are_listed(fixture: &QueueFixture) {
    fixture.put(&["left"]).await;
    let left = fixture.one(LONG).await;
    kill(fixture, &["a"]).await;
    fixture.enqueue(&[message("b").tenant("t").lane(Lane::Interactive)]).await;
    let first = fixture.one(LONG).await;
    fixture.settle(vec![(first.receipt, Settle::Retry { after: Duration::ZERO })]).await;
    let second = fixture.one(LONG).await;
    let reason = String::from("ü \"'\n of tenant");
    fixture.settle(vec![(second.receipt, Settle::Dead { reason: reason.clone() })]).await;
    fixture.nothing().await;

    let letters = fixture.dead(2).await;
    let letter = |body: &str| letters.iter().find(|one| one.body == body).expect("it is there");
    let (a, b) = (letter("a"), letter("b"));
    assert_eq!((a.tenant.as_str(), a.lane, a.attempts, a.reason.as_str()), ("tenant of a", Lane::Bulk, 1, "because a"));
    assert_eq!((b.tenant.as_str(), b.lane, b.attempts, &b.reason), ("t", Lane::Interactive, 2, &reason));
    if fixture.queue.caps().lists_dead {
        assert_eq!(fixture.letters().get(&b.id).await.expect("answers").as_ref(), Some(b));
    }
    fixture.counts(0, 0, 1, 2).await;
    assert_eq!(fixture.done(&left).await, Held::Held);
}

/// The dead letters come in pages, the oldest first, where the queue can list them.
pub async fn dead_letters_are_listed_in_pages(fixture: &QueueFixture) {
    if !fixture.queue.caps().lists_dead {
        return;
    }
    let bodies = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    kill(fixture, &bodies).await;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = fixture.letters().list(after.as_deref(), 3).await.expect("answers");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        after = Some(last.id.clone());
        found.extend(page.into_iter().map(|letter| letter.body));
    }
    assert_eq!(found, bodies);
    assert_eq!(fixture.letters().list(None, 0).await.expect("answers"), []);
}

/// An id that is none's is nobody, for whoever asks.
pub async fn unknown_dead_letters_are_none(fixture: &QueueFixture) {
    kill(fixture, &["a"]).await;
    for id in ["", "0", "-1", "999999999", "99999999999999999999999", "x", "' OR 1=1 --", "01"] {
        if fixture.queue.caps().lists_dead {
            assert_eq!(fixture.letters().get(id).await.expect("answers"), None, "{id:?}");
        }
        assert_eq!(fixture.letters().redrive(&Which::one(id), 10).await.expect("answers"), 0, "{id:?}");
        assert_eq!(fixture.letters().purge(&Which::one(id), 10).await.expect("answers"), 0, "{id:?}");
    }
    fixture.dead(1).await;
}

/// What is put back is delivered as it was at first, and is no dead letter any more.
pub async fn what_is_redriven_comes_again(fixture: &QueueFixture) {
    kill(fixture, &["a", "b", "c"]).await;
    fixture.dead(3).await;
    let (mut moved, until) = (0, Instant::now() + PATIENCE);
    while moved < 3 {
        let more = fixture.letters().redrive(&Which::all(), 2).await.expect("answers");
        assert!(more <= 2, "{more} are more than were asked for");
        moved += more;
        assert!(Instant::now() < until, "{moved} of 3 were put back");
    }
    assert_eq!((moved, fixture.letters().redrive(&Which::all(), 2).await.expect("answers")), (3, 0));
    let deliveries = fixture.take(3, LONG).await;
    assert_eq!(texts(&deliveries), BTreeSet::from(["a", "b", "c"]));
    for delivery in &deliveries {
        assert_eq!((delivery.attempt, delivery.lane), (1, Lane::Bulk));
        assert_eq!(delivery.tenant, format!("tenant of {}", text(delivery)));
    }
    fixture.dead(0).await;
    fixture.counts(0, 0, 3, 0).await;
    // It can die again.
    let dead = |one: Delivery| (one.receipt, Settle::Dead { reason: String::from("again") });
    fixture.settle(deliveries.into_iter().map(dead).collect()).await;
    fixture.dead(3).await;
}

/// Only those that are meant are put back.
pub async fn some_are_redriven(fixture: &QueueFixture) {
    kill(fixture, &["a", "b", "c", "cc"]).await;
    let letters = fixture.dead(4).await;
    let b = letters.iter().find(|one| one.body == "b").expect("it is there");
    assert_eq!(fixture.letters().redrive(&Which::one(b.id.clone()), 10).await.expect("answers"), 1);
    assert_eq!(text(&fixture.one(LONG).await), "b");
    let reason = Which { reason: Some(String::from("because c")), ..Which::default() };
    let (mut moved, until) = (0, Instant::now() + PATIENCE);
    while moved < 2 {
        moved += fixture.letters().redrive(&reason, 10).await.expect("answers");
        assert!(Instant::now() < until, "{moved} of 2 were put back");
    }
    assert_eq!(texts(&fixture.take(2, LONG).await), BTreeSet::from(["c", "cc"]));
    assert_eq!(fixture.dead(1).await[0].body, "a");
    fixture.nothing().await;
}

/// Only those that are meant are removed, and they are gone.
pub async fn some_are_purged(fixture: &QueueFixture) {
    kill(fixture, &["a", "b", "c"]).await;
    fixture.dead(3).await;
    let which = |reason: &str| Which { reason: Some(String::from(reason)), ..Which::default() };
    assert_eq!(fixture.letters().purge(&which("because b"), 10).await.expect("answers"), 1);
    assert_eq!(fixture.letters().purge(&which("nobody's reason"), 10).await.expect("answers"), 0);
    let left: BTreeSet<_> = fixture.dead(2).await.into_iter().map(|letter| letter.body).collect();
    assert_eq!(left, BTreeSet::from(["a".into(), "c".into()]));
    let (mut gone, until) = (0, Instant::now() + PATIENCE);
    while gone < 2 {
        let more = fixture.letters().purge(&Which::all(), 1).await.expect("answers");
        assert!(more <= 1, "{more} are more than were asked for");
        gone += more;
        assert!(Instant::now() < until, "{gone} of 2 were removed");
    }
    fixture.dead(0).await;
    fixture.nothing().await;
}
