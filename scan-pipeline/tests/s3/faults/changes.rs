//! Overwrites between two requests of one operation.

use super::*;
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
