//! Networks and servers that fail.

use super::*;
use scan_pipeline::testkit::Fault;

on!(Versitygw Minio Moto: a_refusal_passes);

/// What a server says once is an error with a kind, or is tried again; then all is well.
async fn a_refusal_passes(place: Place) {
    let object = place.object("a", "one").await;
    for (status, kind) in [(412, ErrorKind::Superseded), (404, ErrorKind::Gone), (503, ErrorKind::Unavailable)] {
        for (method, part) in [("HEAD", "/a"), ("GET", "/a")] {
            place.proxy.clear();
            place.proxy.add(Fault::answer(status).header("retry-after", "7").on(method, part));
            let error = if method == "HEAD" {
                fails(kind, place.once.stat(&object).await)
            } else {
                fails(kind, place.once.read(&object).await)
            };
            assert_eq!(error.retry_after().map(|wait| wait.as_secs()), (status == 503).then_some(7));
            assert_eq!(bytes(&place.once, &object).await.expect("is read"), b"one");
        }
    }
    place.proxy.clear();
    place.proxy.add(Fault::answer(503));
    assert_eq!(bytes(&place.thrice, &object).await.expect("tried again"), b"one");
}

on!(Versitygw Minio: a_body_that_breaks_off_is_taken_up);

async fn a_body_that_breaks_off_is_taken_up(place: Place) {
    let content = noise(3 << 20, 7);
    let object = place.object("a", content.clone()).await;
    place.proxy.add(Fault::truncate(100_000).on("GET", "/a"));
    place.proxy.add(Fault::truncate(1_000_000).on("GET", "/a").nth(2));
    assert!(bytes(&place.once, &object).await.expect("in three pieces") == content);
    assert_eq!(place.proxy.seen().iter().filter(|seen| seen.starts_with("GET")).count(), 3);
    // Not for ever, and never as if it were whole.
    place.proxy.clear();
    place.proxy.add(Fault::truncate(1000).times(u32::MAX));
    assert!(fails(ErrorKind::Truncated, bytes(&place.once, &object).await).is_retryable());
    // Nor from another object.
    place.proxy.clear();
    place.proxy.add(Fault::truncate(100_000).on("GET", "/a"));
    place
        .proxy
        .add(Fault::call(place.overwriting("a", noise(3 << 20, 9), PutOptions::default())).on("GET", "/a").nth(2));
    fails(ErrorKind::Superseded, bytes(&place.once, &object).await);
}

on!(Versitygw Minio: slow_is_well_and_still_is_not);

async fn slow_is_well_and_still_is_not(place: Place) {
    let content = noise(300 << 10, 7);
    let object = place.object("a", content.clone()).await;
    place.proxy.add(Fault::slow(64 << 10, Duration::from_millis(20)));
    assert!(bytes(&place.once, &object).await.expect("is read") == content);
    place.proxy.clear();
    place.proxy.add(Fault::stall().times(u32::MAX));
    assert!(fails(ErrorKind::Timeout, place.once.stat(&object).await).is_retryable());
    place.proxy.clear();
    place.proxy.add(Fault::stall_after(1000).on("GET", "/a"));
    assert!(bytes(&place.once, &object).await.expect("is taken up") == content);
}

on!(Versitygw Minio Moto: a_cut_connection_writes_nothing);

async fn a_cut_connection_writes_nothing(place: Place) {
    let content = Content::from_bytes(noise(1 << 20, 7));
    place.proxy.add(Fault::cut_request(500_000).on("PUT", "/a"));
    let error = fails(ErrorKind::Unavailable, place.once.put("a", &content, &PutOptions::default()).await);
    assert!(error.is_retryable() && place.keys().await.is_empty(), "{error}");
    let object = place.once.put("a", &content, &PutOptions::default()).await.expect("is put");
    assert!(bytes(&place.once, &object).await.expect("is read") == *content.memory().expect("is small"));
}

on!(Versitygw Minio Moto: an_answer_that_is_lost_is_asked_for_again);

/// The server did it, and nobody heard: doing it again is once.
async fn an_answer_that_is_lost_is_asked_for_again(place: Place) {
    let one = Content::from_bytes("one");
    let lose = |method: &str, part: &str| {
        place.proxy.clear();
        place.proxy.add(Fault::lose_answer().on(method, part));
    };
    lose("PUT", "/a");
    assert!(fails(ErrorKind::Unavailable, place.once.put("a", &one, &PutOptions::default()).await).is_retryable());
    let object = place.once.put("a", &one, &PutOptions::default()).await.expect("is put again");

    lose("PUT", "/b");
    let plain = PutOptions::default();
    let copy = || place.once.copy(&object, place.once.url(), "b", &plain);
    assert!(fails(ErrorKind::Unavailable, copy().await).is_retryable());
    copy().await.expect("is copied again");

    lose("PUT", "/a");
    let ours = list(&[("scan-status", "clean")]);
    assert!(fails(ErrorKind::Unavailable, place.once.set_tags(&object, &ours).await).is_retryable());
    let set = place.once.set_tags(&object, &ours).await.expect("is tagged again");
    assert_eq!(
        (set.tags.0, place.tags("a").await),
        (map(&[("scan-status", "clean")]), map(&[("scan-status", "clean")]))
    );

    lose("DELETE", "/a");
    assert!(fails(ErrorKind::Unavailable, place.once.delete(&object).await).is_retryable());
    fails(ErrorKind::Gone, place.once.delete(&object).await);
    assert_eq!(place.keys().await, ["b"]);
}

on!(Versitygw Minio Moto: repetitions_of_the_client_are_once);

/// The same when the client itself tries again, also where the second attempt sees the effect of the first.
async fn repetitions_of_the_client_are_once(place: Place) {
    let new = PutOptions { only_new: true, ..PutOptions::default() };
    place.proxy.add(Fault::lose_answer().on("PUT", "/a"));
    place.proxy.add(Fault::lose_answer().on("PUT", "/b"));
    place.proxy.add(Fault::lose_answer().on("DELETE", "/a"));
    let object = place.thrice.put("a", &Content::from_bytes("one"), &new).await.expect("it was us");
    place.thrice.copy(&object, place.thrice.url(), "b", &new).await.expect("it was us");
    place.thrice.copy(&object, place.thrice.url(), "b", &new).await.expect("the same copy once more");
    fails(ErrorKind::Exists, place.thrice.put("a", &Content::from_bytes("one"), &new).await);
    place.thrice.delete(&object).await.expect("it was us");
    assert_eq!(place.keys().await, ["b"]);
    // Somebody else's object is not ours because an answer was lost.
    place.proxy.clear();
    place.proxy.add(Fault::answer(500).on("PUT", "/b"));
    fails(ErrorKind::Exists, place.thrice.put("b", &Content::from_bytes("two"), &new).await);
    assert_eq!(place.bytes("b").await.expect("untouched"), b"one");
}

on!(Versitygw Minio: latency_is_only_slow);

async fn latency_is_only_slow(place: Place) {
    let object = place.object("a", "one").await;
    place.proxy.add(Fault::latency(Duration::from_millis(30)));
    let started = std::time::Instant::now();
    assert_eq!(bytes(&place.once, &object).await.expect("is read"), b"one");
    assert!(started.elapsed() >= Duration::from_millis(30));
}
