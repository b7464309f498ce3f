//! What a message can hold.

use bytes::Bytes;

use super::*;

async fn survives(fixture: &QueueFixture, bodies: &[Bytes]) {
    let messages: Vec<_> = bodies.iter().map(|body| NewMessage::new(body.clone())).collect();
    let ids = fixture.enqueue(&messages).await;
    let deliveries = fixture.take(bodies.len(), LONG).await;
    for (id, body) in ids.iter().zip(bodies) {
        let delivery = deliveries.iter().find(|one| one.id == *id).expect("it came");
        assert!(delivery.body == *body, "{} bytes came as {} others", body.len(), delivery.body.len());
    }
    let done = deliveries.into_iter().map(|one| (one.receipt, Settle::Done)).collect();
    fixture.settle(done).await;
}

/// Bodies come as they were enqueued, to the byte.
pub async fn awkward_bodies_survive(fixture: &QueueFixture) {
    let texts = [
        "",
        " ",
        "\u{0}",
        "a\u{0}b",
        "\r\n",
        "{\"a\": [1.0, null]}",
        "'\";--",
        "ü日\u{10ffff}\u{fffe}",
        "\u{feff}",
        "%00&lt;",
    ];
    survives(fixture, &texts.map(Bytes::from)).await;
    let all: Vec<u8> = (0..=255).collect();
    let binary = [Bytes::from(all), Bytes::from_static(&[0xff]), Bytes::from_static(&[0xc3, 0x28])];
    if fixture.queue.caps().binary {
        survives(fixture, &binary).await;
    } else {
        let message = NewMessage::new(binary[0].clone());
        let mut answers = fixture.queue.enqueue(&[message, NewMessage::new("text")]).await.expect("answers");
        answers.remove(1).expect("a bad neighbour does no harm");
        fails(ErrorKind::InvalidInput, answers.remove(0));
        assert_eq!(text(&fixture.one(LONG).await), "text");
    }
}

/// A tenant is any text; what a backend cannot carry it refuses for that message alone.
pub async fn awkward_tenants_survive(fixture: &QueueFixture) {
    let key = "k".repeat(1024);
    let tenants = ["", " ", "a/../b", "'\";--", "ü日\u{10ffff}", "\r\n", "a.b:c", "\u{0}", &key];
    let messages: Vec<_> =
        tenants.iter().map(|tenant| message(&format!("of {tenant:?}")).tenant(*tenant).dedupe(*tenant)).collect();
    let answers = fixture.queue.enqueue(&messages).await.expect("answers");
    let mut taken = BTreeSet::new();
    for (answer, tenant) in answers.into_iter().zip(tenants) {
        match answer {
            Ok(_) => assert!(taken.insert(tenant)),
            Err(error) => {
                assert_eq!((error.kind(), tenant), (ErrorKind::InvalidInput, "\u{0}"), "{error}");
                assert!(error.to_string().contains("NUL"), "it says what is wrong: {error}");
            }
        }
    }
    let deliveries = fixture.take(taken.len(), LONG).await;
    for delivery in &deliveries {
        assert_eq!(text(delivery), format!("of {:?}", delivery.tenant));
    }
    assert_eq!(deliveries.iter().map(|one| one.tenant.as_str()).collect::<BTreeSet<_>>(), taken);
}

/// A body may be as large as the queue says.
pub async fn a_large_body_survives(fixture: &QueueFixture) {
    let most = fixture.queue.caps().max_body;
    let bodies = ["b".repeat(most), "c".repeat(most), "ü".repeat(most / 2), "\u{1}".repeat(most / 8)];
    for body in bodies {
        survives(fixture, &[body.into()]).await;
    }
}

/// A body that is too large is refused, and its neighbours are not.
pub async fn a_body_too_large_is_refused_alone(fixture: &QueueFixture) {
    let most = fixture.queue.caps().max_body;
    let messages = [message("a"), NewMessage::new("x".repeat(most + 1)), message("b")];
    let mut answers = fixture.queue.enqueue(&messages).await.expect("answers");
    assert_eq!(answers.len(), 3);
    answers.remove(2).expect("is taken");
    fails(ErrorKind::TooLarge, answers.remove(1));
    answers.remove(0).expect("is taken");
    assert_eq!(texts(&fixture.take(2, LONG).await), BTreeSet::from(["a", "b"]));
    fixture.nothing().await;
}
