//! Overwrites between two requests of one operation.

use std::sync::Arc;

use super::*;
use scan_pipeline::handler::{HandlerErrorKind, Place as Where, ResultHandler, Scanned, StepContext, tag};
use scan_pipeline::model::{EngineInfo, Report, TaskId, Verdict};
use scan_pipeline::objects::Buckets;
use scan_pipeline::testkit::Fault;

on!(Versitygw Minio Moto: tags_do_not_hit_another_object);

async fn tags_do_not_hit_another_object(place: Place) {
    let users = PutOptions { tags: list(&[("project", "old")]), ..PutOptions::default() };
    let ours = list(&[("scan-status", "clean")]);
    // Before the tags are written: they hit the new object, and go off again, the old object's with them.
    let object = place.object_with("a", "one", &users).await;
    place.proxy.add(Fault::call(place.overwriting("a", b"two".to_vec(), PutOptions::default())).on("PUT", "tagging"));
    fails(ErrorKind::Superseded, place.once.set_tags(&object, &ours).await);
    assert!(place.tags("a").await.is_empty());
    assert_eq!(place.bytes("a").await.expect("is there"), b"two");
    // Afterwards: the new object keeps its own.
    let object = place.object_with("b", "one", &users).await;
    let own = PutOptions { tags: list(&[("project", "new")]), ..PutOptions::default() };
    place.proxy.clear();
    place.proxy.add(Fault::call(place.overwriting("b", b"two".to_vec(), own)).on("HEAD", "/b").nth(3));
    fails(ErrorKind::Superseded, place.once.set_tags(&object, &ours).await);
    assert_eq!(place.tags("b").await, map(&[("project", "new")]));
    // Reading is no different.
    let object = place.object_with("c", "one", &users).await;
    place.proxy.clear();
    place.proxy.add(Fault::call(place.overwriting("c", b"two".to_vec(), PutOptions::default())).on("GET", "tagging"));
    fails(ErrorKind::Superseded, place.once.tags(&object).await);
}

on!(Versitygw Minio Moto: tags_that_hit_another_object_go_off_whatever_fails);

/// The overwrite comes just before the tags, and what should tell of it fails: once, always, or before the answer.
async fn tags_that_hit_another_object_go_off_whatever_fails(place: Place) {
    let ours = list(&[("scan-status", "clean")]);
    let overwrite = |key| Fault::call(place.overwriting(key, b"two".to_vec(), PutOptions::default()));
    let cases = [
        ("once", Fault::answer(503).on("HEAD", "/once").nth(3), ErrorKind::Superseded),
        ("cut", Fault::lose_answer().on("HEAD", "/cut").nth(3), ErrorKind::Superseded),
        ("put", Fault::lose_answer().on("PUT", "tagging"), ErrorKind::Superseded),
        ("always", Fault::answer(503).on("HEAD", "/always").nth(3).times(100), ErrorKind::Unavailable),
    ];
    for (key, fault, expected) in cases {
        let object = place.object(key, "one").await;
        place.proxy.clear();
        place.proxy.add(overwrite(key).on("PUT", "tagging"));
        place.proxy.add(fault);
        fails(expected, place.once.set_tags(&object, &ours).await);
        assert_eq!(place.bytes(key).await.expect("is there"), b"two");
        assert!(place.tags(key).await.is_empty(), "{key}");
    }
    // Where nothing was overwritten, tags of the user's stay through it all, and the next call writes ours.
    let users = PutOptions { tags: list(&[("project", "x")]), ..PutOptions::default() };
    let object = place.object_with("mine", "one", &users).await;
    place.proxy.clear();
    place.proxy.add(Fault::answer(503).on("HEAD", "/mine").nth(3).times(100));
    fails(ErrorKind::Unavailable, place.once.set_tags(&object, &ours).await);
    assert_eq!(place.tags("mine").await, map(&[("project", "x")]));
    place.proxy.clear();
    place.once.set_tags(&object, &ours).await.expect("tagged");
    assert_eq!(place.tags("mine").await, map(&[("project", "x"), ("scan-status", "clean")]));
}

on!(Versitygw Minio Moto: a_later_attempt_takes_off_what_an_earlier_one_left);

/// The process died between the tags and the look at what they have hit.
async fn a_later_attempt_takes_off_what_an_earlier_one_left(place: Place) {
    let mut buckets = Buckets::new();
    buckets.insert("b", Arc::new(place.once.clone()));
    let buckets = Arc::new(buckets);
    let handle = async |object: &ObjectRef, attempt| {
        let mut report = Report::new(Verdict::Clean, EngineInfo::new("test", "1", "7"));
        report.coverage.proven = true;
        let scanned = Scanned { task: TaskId::of(object, 0), object: object.clone(), report: Arc::new(report) };
        let step = StepContext {
            workflow: String::from("w"),
            step: String::from("tag"),
            attempt,
            idempotency_key: StepContext::key(scanned.task, "w", "tag"),
            outputs: Arc::default(),
            place: Where::Here,
            buckets: Arc::clone(&buckets),
        };
        tag().handle(&scanned, &step).await.map_err(|why| why.kind())
    };
    let left = [("scan-definitions", "7"), ("scan-status", "clean")];
    let more = [("project", "new"), ("scan-definitions", "7"), ("scan-status", "clean")];
    let other = [("scan-definitions", "7"), ("scan-status", "infected")];
    for (key, there, stays) in
        [("a", &left[..], &[][..]), ("b", &more[..], &more[..1]), ("c", &other[..], &other[..]), ("d", &[], &[])]
    {
        let object = place.object(key, "one").await;
        let tags = PutOptions { tags: list(there), ..PutOptions::default() };
        place.object_with(key, "two", &tags).await;
        // A first attempt has left nothing: what is there is not its own.
        assert_eq!(handle(&object, 1).await, Err(HandlerErrorKind::Superseded));
        assert_eq!(place.tags(key).await, map(there), "{key}");
        assert_eq!(handle(&object, 2).await, Err(HandlerErrorKind::Superseded));
        assert_eq!(place.tags(key).await, map(stays), "{key}");
        assert_eq!(place.bytes(key).await.expect("is there"), b"two");
    }
}

on!(Versitygw Minio Moto: copies_are_of_the_pinned_object);

/// moto copies a source that is not the one of the condition: the copy is taken back.
async fn copies_are_of_the_pinned_object(place: Place) {
    let tagged = PutOptions { tags: list(&[("scan-status", "clean")]), ..PutOptions::default() };
    for (options, key) in [(PutOptions::default(), "a"), (tagged, "b")] {
        let object = place.object(key, "one").await;
        place.proxy.clear();
        let overwrite = place.overwriting(key, b"two".to_vec(), PutOptions::default());
        place.proxy.add(Fault::call(overwrite).on("PUT", "/copy"));
        fails(ErrorKind::Superseded, place.once.copy(&object, place.once.url(), "copy", &options).await);
        assert!(!place.keys().await.contains(&String::from("copy")), "no copy is left");
    }
}

on!(Versitygw Moto: deletes_are_of_the_pinned_object);

/// Not on MinIO, which ignores the condition: `Caps::pinned_delete` says so.
async fn deletes_are_of_the_pinned_object(place: Place) {
    assert!(place.once.probe_conditional_delete().await.is_ok());
    let object = place.object("a", "one").await;
    place.proxy.add(Fault::call(place.overwriting("a", b"two".to_vec(), PutOptions::default())).on("DELETE", "/a"));
    fails(ErrorKind::Superseded, place.once.delete(&object).await);
    assert_eq!(place.bytes("a").await.expect("is there"), b"two");
}

on!(Versitygw Minio Moto: a_bucket_says_whether_its_deletes_are_pinned);

/// Found out when it is set up, where nobody says. MinIO ignores the condition, and versitygw does where there is nothing,
/// so that only its owner can tell.
async fn a_bucket_says_whether_its_deletes_are_pinned(place: Place) {
    let honours = place.running.server() == S3Server::Moto;
    assert_eq!(place.direct.caps().pinned_delete, honours);
    assert_eq!(place.once.caps().pinned_delete, honours);
    assert!(place.keys().await.is_empty(), "and nothing is left of it");
    let builder = || builder(place.running, &place.running.endpoint(), &place.name).versions(false);
    let told = builder().conditional_delete(true).build().await.expect("is set up");
    assert!(told.caps().pinned_delete);
    // Who may not delete is told nothing, and one that does not answer is no answer.
    for (status, expected) in [(403, Ok(false)), (503, Err(ErrorKind::Unavailable))] {
        place.proxy.clear();
        place.proxy.add(Fault::answer(status).on("DELETE", "probe"));
        let through = crate::servers::builder(place.running, &place.proxy.endpoint(), &place.name);
        let built = through.versions(false).attempts(1).build().await;
        assert_eq!(built.map(|bucket| bucket.caps().pinned_delete).map_err(|why| why.kind()), expected);
    }
}

on!(Versitygw Minio Moto: what_else_an_object_has_is_copied);

/// By the server, and by hand where the copy is made in parts.
async fn what_else_an_object_has_is_copied(place: Place) {
    let client = client(place.running);
    for (size, key) in [(3, "small"), (11 << 20, "large")] {
        client
            .put_object()
            .bucket(&place.name)
            .key(key)
            .body(noise(size, 7).into())
            .content_type("text/x-mine")
            .cache_control("max-age=7")
            .content_disposition("attachment")
            .content_language("de")
            .metadata("owner", "someone")
            .tagging("project=x")
            .send()
            .await
            .expect("is put");
        let object = place.once.stat(&ObjectRef::new(place.once.url().clone(), key)).await.expect("is there").object;
        let over = PutOptions { metadata: map(&[("scanned", "yes")]), ..PutOptions::default() };
        for (options, metadata) in
            [(PutOptions::default(), &[("owner", "someone")][..]), (over, &[("owner", "someone"), ("scanned", "yes")])]
        {
            let copy = place.once.copy(&object, place.once.url(), "copy", &options).await.expect("is copied");
            assert_eq!(copy.size, Some(size as u64));
            let info = client.head_object().bucket(&place.name).key("copy").send().await.expect("is there");
            assert_eq!(
                [info.content_type(), info.cache_control(), info.content_disposition(), info.content_language()],
                [Some("text/x-mine"), Some("max-age=7"), Some("attachment"), Some("de")]
            );
            assert_eq!(info.metadata().map(|map| map.clone().into_iter().collect()), Some(map(metadata)));
            assert_eq!(place.tags("copy").await, map(&[("project", "x")]));
            assert!(place.bytes("copy").await.expect("is there") == noise(size, 7));
        }
    }
}

on!(Versitygw Minio Moto: a_copy_has_the_expected_bytes);

/// The server digests what it copies, where it can: the etag of a bucket without versions is an MD5, which whoever
/// uploads can make two objects of.
async fn a_copy_has_the_expected_bytes(place: Place) {
    let object = place.object("a", "one").await;
    let content = Content::from_bytes("one");
    let right = PutOptions { expect: Some(content.sha256()), ..PutOptions::default() };
    place.once.copy(&object, place.once.url(), "copy", &right).await.expect("is copied");
    if place.running.server() == S3Server::Minio {
        // It gives the digest in a header, where nobody looks for it.
        return;
    }
    let wrong = PutOptions { expect: Some(Content::from_bytes("two").sha256()), ..PutOptions::default() };
    fails(ErrorKind::Superseded, place.once.copy(&object, place.once.url(), "wrong", &wrong).await);
    assert_eq!(place.keys().await, ["a", "copy"]);
}
