//! What is sent: every key so that decoding it once gives it back, and answers that are not what they seem.

use percent_encoding::percent_decode_str;
use scan_pipeline::ErrorKind;
use scan_pipeline::model::ObjectRef;
use scan_pipeline::objects::{KeyRange, ObjectOps, PutOptions, S3Bucket, S3Keys};
use scan_pipeline::testkit::object_suite::awkward_keys;
use scan_pipeline::testkit::{Fault, FaultProxy};

/// A bucket at a server that only ever gives this answer.
async fn scripted(fault: Fault) -> (FaultProxy, S3Bucket) {
    let nobody = "127.0.0.1:9".parse().expect("an address");
    let proxy = FaultProxy::start(nobody).await.expect("a port");
    proxy.add(fault.times(u32::MAX));
    let bucket = S3Bucket::builder("bucket")
        .endpoint(proxy.endpoint())
        .credentials("key", "secret", None)
        .versions(false)
        .conditional_delete(true)
        .keys(S3Keys::Exact)
        .attempts(1)
        .build()
        .await
        .expect("nothing is asked");
    (proxy, bucket)
}

fn object(bucket: &S3Bucket, key: &str) -> ObjectRef {
    ObjectRef::new(bucket.url().clone(), key)
}

#[tokio::test]
async fn keys_are_sent_to_the_byte() {
    let (proxy, bucket) = scripted(Fault::answer(404)).await;
    for key in awkward_keys() {
        proxy.clear();
        proxy.add(Fault::answer(404).times(u32::MAX));
        assert!(bucket.stat(&object(&bucket, &key)).await.is_err());
        let seen = proxy.seen();
        let path = seen[0].strip_prefix("HEAD /bucket/").expect("one request to the bucket");
        assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#+".contains(&byte)), "{path}");
        assert_eq!(percent_decode_str(path).decode_utf8().expect("text"), key);
    }
}

#[tokio::test]
async fn a_page_with_a_bad_key_is_a_page() {
    let body = "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>\
        <Contents><Key>a+b%2Bc</Key><Size>1</Size><ETag>\"e\"</ETag></Contents>\
        <Contents><Key>b%FF</Key><Size>1</Size><ETag>\"e\"</ETag></Contents>\
        <Contents><Key>c%0Ad</Key><Size>1</Size><ETag>\"e\"</ETag></Contents></ListBucketResult>";
    let (proxy, bucket) = scripted(Fault::answer(200).body(body)).await;
    let page =
        bucket.list(&KeyRange { after: Some(String::from("a\n+")), ..KeyRange::default() }).await.expect("a page");
    assert_eq!(page.entries[0].as_ref().expect("a good one").key, "a b+c");
    assert_eq!(page.entries[1].as_ref().expect_err("no UTF-8").kind(), ErrorKind::InvalidInput);
    assert_eq!(page.entries[2].as_ref().expect("a good one").key, "c\nd");
    assert!(page.next.is_none() && proxy.seen()[0].contains("start-after=a%0A%2B"), "{:?}", proxy.seen());
}

#[tokio::test]
async fn a_listing_goes_on_behind_a_bad_key() {
    let (proxy, bucket) = scripted(Fault::answer(500)).await;
    proxy.clear();
    let page = |token: &str, key: &str| {
        format!(
            "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{}</IsTruncated>{token}\
             <Contents><Key>{key}</Key><Size>1</Size><ETag>\"e\"</ETag></Contents></ListBucketResult>",
            !token.is_empty()
        )
    };
    let mark = "<NextContinuationToken>mark</NextContinuationToken>";
    proxy.add(Fault::answer(200).body(page(mark, "%FF")).on("GET", "bucket"));
    proxy.add(Fault::answer(200).body(page("", "z")).on("GET", "continuation-token=mark"));
    let page = bucket.list(&KeyRange { most: 1, ..KeyRange::default() }).await.expect("a page");
    assert!(
        page.entries[0].is_err() && page.entries[1].as_ref().expect("a good one").key == "z" && page.next.is_none()
    );
}

#[tokio::test]
async fn a_listing_that_goes_in_circles_ends() {
    let (proxy, bucket) = scripted(Fault::answer(500)).await;
    proxy.clear();
    let body = "<ListBucketResult><IsTruncated>true</IsTruncated>\
        <NextContinuationToken>mark</NextContinuationToken></ListBucketResult>";
    proxy.add(Fault::answer(200).body(body).times(u32::MAX));
    let error = bucket.list(&KeyRange::default()).await.expect_err("nothing comes of it");
    assert!(error.kind() == ErrorKind::Unavailable && proxy.seen().len() == 2, "{error}: {:?}", proxy.seen());
}

/// S3 begins to answer before it has copied, so that the status says nothing.
#[tokio::test]
async fn a_copy_that_fails_with_a_200_failed() {
    let (proxy, bucket) = scripted(Fault::answer(500)).await;
    proxy.clear();
    let head = Fault::answer(200).header("etag", "\"0123456789abcdef0123456789abcdef\"");
    proxy.add(head.on("HEAD", "bucket/a").times(u32::MAX));
    let body = "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>sorry</Message></Error>";
    proxy.add(Fault::answer(200).body(body).on("PUT", "bucket/b").times(u32::MAX));
    let copied = bucket.copy(&object(&bucket, "a"), bucket.url(), "b", &PutOptions::default()).await;
    let error = copied.expect_err("there was an error in the answer");
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn answers_without_a_body_have_kinds() {
    for (status, kind) in [
        (301, ErrorKind::Config),
        (400, ErrorKind::InvalidInput),
        (403, ErrorKind::Denied),
        (404, ErrorKind::Gone),
        (405, ErrorKind::Gone),
        (412, ErrorKind::Superseded),
        (500, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
    ] {
        let (_proxy, bucket) = scripted(Fault::answer(status).header("retry-after", "7")).await;
        let object = object(&bucket, "key\nwith a line").with_etag("abc");
        let stat = bucket.stat(&object).await.expect_err("an error");
        let read = bucket.read(&object).await.expect_err("an error");
        assert_eq!((stat.kind(), read.kind()), (kind, kind), "{status}: {stat}; {read}");
        assert_eq!(stat.retry_after().map(|wait| wait.as_secs()), stat.is_retryable().then_some(7));
        assert!(stat.to_string().contains("key\\nwith") && !stat.to_string().contains("secret"), "{stat}");
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let bucket = S3Bucket::builder("bucket").endpoint("http://127.0.0.1:9").credentials("key", "secret", None);
    let error = bucket.attempts(1).build().await.expect_err("nobody answers");
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
}
