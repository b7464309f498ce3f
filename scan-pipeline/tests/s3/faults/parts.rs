//! Objects in parts.

use super::*;
use scan_pipeline::testkit::Fault;

const SIZE: usize = 11 << 20;

on!(Versitygw Minio Moto: a_copy_in_parts_is_of_one_object);

async fn a_copy_in_parts_is_of_one_object(place: Place) {
    let object = place.object("a", noise(SIZE, 7)).await;
    let overwrite = place.overwriting("a", noise(SIZE, 9), PutOptions::default());
    place.proxy.add(Fault::call(overwrite).on("PUT", "/copy?").nth(2));
    fails(ErrorKind::Superseded, place.once.copy(&object, place.once.url(), "copy", &PutOptions::default()).await);
    assert_eq!((place.keys().await, place.uploads().await), (vec![String::from("a")], 0));
}

on!(Versitygw Minio Moto: a_copy_in_parts_whose_answer_is_lost_is_one_copy);

async fn a_copy_in_parts_whose_answer_is_lost_is_one_copy(place: Place) {
    let object = place.object("a", noise(SIZE, 7)).await;
    let new = PutOptions { only_new: true, ..PutOptions::default() };
    place.proxy.add(Fault::lose_answer().on("POST", "uploadId="));
    place.thrice.copy(&object, place.thrice.url(), "copy", &new).await.expect("it was us");
    assert!(place.bytes("copy").await.expect("is there") == noise(SIZE, 7));
    place.proxy.clear();
    place.proxy.add(Fault::lose_answer().on("POST", "uploadId="));
    let plain = PutOptions::default();
    let copy = || place.once.copy(&object, place.once.url(), "other", &plain);
    assert!(fails(ErrorKind::Unavailable, copy().await).is_retryable());
    copy().await.expect("is copied again");
    assert_eq!((place.keys().await.len(), place.uploads().await), (3, 0));
}

on!(Versitygw Minio Moto: parts_that_fail_leave_nothing);

async fn parts_that_fail_leave_nothing(place: Place) {
    let content = Content::from_bytes(noise(SIZE, 7));
    for fault in [Fault::answer(500), Fault::cut_request(1000), Fault::lose_answer()] {
        place.proxy.clear();
        place.proxy.add(fault.on("PUT", "partNumber=2"));
        let error = fails(ErrorKind::Unavailable, place.once.put("a", &content, &PutOptions::default()).await);
        assert!(error.is_retryable());
        assert_eq!((place.keys().await.len(), place.uploads().await), (0, 0), "{error}");
    }
    place.proxy.clear();
    place.once.put("a", &content, &PutOptions::default()).await.expect("is put");
    assert!(place.bytes("a").await.expect("is there") == noise(SIZE, 7));
}

on!(Versitygw Minio Moto: parts_of_a_taken_key_leave_it);

async fn parts_of_a_taken_key_leave_it(place: Place) {
    let new = PutOptions { only_new: true, ..PutOptions::default() };
    let content = Content::from_bytes(noise(SIZE, 7));
    place.object("a", "one").await;
    fails(ErrorKind::Exists, place.once.put("a", &content, &new).await);
    assert_eq!((place.bytes("a").await.expect("untouched"), place.uploads().await), (b"one".to_vec(), 0));
}

on!(Versitygw Minio: a_cancelled_upload_is_taken_back);

/// Also where the server cannot do it at first, as while parts are still being written.
async fn a_cancelled_upload_is_taken_back(place: Place) {
    let bucket = place.once.clone();
    place.proxy.add(Fault::stall().on("PUT", "partNumber=3"));
    place.proxy.add(Fault::answer(500).on("DELETE", "uploadId="));
    let upload =
        tokio::spawn(
            async move { bucket.put("a", &Content::from_bytes(noise(SIZE, 7)), &PutOptions::default()).await },
        );
    until(async || place.proxy.seen().iter().any(|seen| seen.contains("partNumber=3"))).await;
    upload.abort();
    assert!(upload.await.expect_err("is cancelled").is_cancelled());
    until(async || place.proxy.seen().iter().filter(|seen| seen.starts_with("DELETE")).count() == 2).await;
    until(async || place.uploads().await == 0).await;
    assert!(place.keys().await.is_empty());
}

/// Asks until it is so; there is nothing else to wait for, and a minute is too long.
async fn until(is_so: impl AsyncFn() -> bool) {
    let asked = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it comes about within a minute");
}
