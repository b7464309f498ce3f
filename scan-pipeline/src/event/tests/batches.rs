//! Several records, envelopes in envelopes, and the batches of a function.

use super::super::lambda::Batch;
use super::*;
use crate::model::{BucketUrl, ObjectRef};
use crate::objects::{Buckets, MemoryBucket};

/// Whatever one record is, the others are all there, in their order.
#[test]
fn a_bad_record_hides_no_good_one() {
    let good = |key: &str| {
        let message: serde_json::Value = serde_json::from_str(&notification("ObjectCreated:Put", key)).expect("JSON");
        message["Records"][0].clone()
    };
    let records = serde_json::json!([
        good("1"), 7, good("2"), {"eventVersion": "9.9"}, good("%"), good("3"), null, {}, [], good("4"),
    ]);
    let message = serde_json::json!({ "Records": records }).to_string();
    for message in [message.clone(), in_sns(&message)] {
        let seen: Vec<String> = decode(message.as_bytes())
            .into_iter()
            .map(|event| match event {
                Event::Created(created) => created.object.key,
                Event::Unreadable(why) => why.context().expect("which record").to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        let record = |at: usize| format!("record {at} of 10");
        let (two, four, five, seven, eight, nine) = (record(2), record(4), record(5), record(7), record(8), record(9));
        assert_eq!(seen, ["1", &two, "2", &four, &five, "3", &seven, &eight, &nine, "4"]);
    }
}

#[test]
fn there_is_always_an_event() {
    for empty in
        ["", " ", "{}", "[]", "null", "0", r#""""#, r#"{"Records": []}"#, r#"{"Records": null}"#, r#"{"Records": {}}"#]
    {
        unreadable(empty);
    }
    unreadable(&in_sns(""));
    unreadable(&in_sns("[]"));
    unreadable(r#"{"Type": "Notification", "TopicArn": "x"}"#);
}

#[test]
fn envelopes_are_opened_four_deep() {
    let mut message = notification("ObjectCreated:Put", "k");
    for _ in 0..4 {
        message = in_sns(&message);
        created(&message);
    }
    assert!(unreadable(&in_sns(&message)).to_string().contains("envelopes"));
}

#[test]
fn batches_and_messages_have_a_limit() {
    let records = |count: usize| format!(r#"{{"Records": [{}]}}"#, vec!["{}"; count].join(","));
    assert_eq!(decode(records(10_000).as_bytes()).len(), 10_000);
    assert!(unreadable(&records(10_001)).to_string().contains("10001"));
    let message = notification("ObjectCreated:Put", "k");
    let filled = |size: usize| format!("{message}{}", " ".repeat(size - message.len()));
    created(&filled(1 << 20));
    unreadable(&filled((1 << 20) + 1));
}

#[test]
fn an_object_is_located_in_the_bucket_that_is_set_up() {
    let mut buckets = Buckets::new();
    let insert = |buckets: &mut Buckets, name: &str, address: &str| {
        buckets.insert(name, std::sync::Arc::new(MemoryBucket::new(address).expect("an address")));
    };
    insert(&mut buckets, "here", "uploads?endpoint=http://127.0.0.1:9000");
    insert(&mut buckets, "other", "uploads-2");
    let object = |address: &str| {
        let bucket: BucketUrl = address.parse().expect("an address");
        ObjectRef::new(bucket, "k").with_version("v").with_etag("e").with_size(1)
    };
    let located = |buckets: &Buckets, address: &str| buckets.locate(object(address));
    let here = "memory://uploads?endpoint=http://127.0.0.1:9000";
    assert_eq!(located(&buckets, "memory://uploads").expect("one"), object(here));
    assert_eq!(located(&buckets, here).expect("itself"), object(here));
    assert_eq!(located(&buckets, "memory://uploads-2").expect("one"), object("memory://uploads-2"));
    for unknown in
        ["memory://upload", "s3://uploads", "memory://uploads?endpoint=http://127.0.0.1:9001", "memory://uploads/2"]
    {
        assert_eq!(located(&buckets, unknown).expect_err(unknown).kind(), ErrorKind::Config);
    }
    // A second one of that name, wherever: a guess could act on another object.
    for address in ["uploads", "uploads?endpoint=http://127.0.0.1:9001"] {
        let mut buckets = buckets.clone();
        insert(&mut buckets, "second", address);
        let why = located(&buckets, "memory://uploads").expect_err("two");
        assert!(why.kind() == ErrorKind::Config && why.to_string().contains(here), "{why}");
        assert_eq!(located(&buckets, here).expect("itself"), object(here));
        // Our own messages have the whole address.
        let mut ours = Created::new(object("memory://uploads"));
        assert_eq!(ours.locate(&buckets).expect_err("two").kind(), ErrorKind::Config);
        ours.exact = true;
        assert_eq!(ours.locate(&buckets).is_ok(), address == "uploads");
    }
}

fn record(id: &str, queue: &str, more: &str) -> String {
    format!(
        r#"{{"messageId": "{id}", "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...", "body": "{{}}",
        "attributes": {{"ApproximateReceiveCount": "2", "SentTimestamp": "1545082649183"{more}}},
        "messageAttributes": {{}}, "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3", "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:{queue}", "awsRegion": "us-east-2"}}"#
    )
}

fn batch(queue: &str, more: &str) -> Batch {
    let records: Vec<_> = ["a", "b", "c", "d"].iter().map(|id| record(id, queue, more)).collect();
    Batch::parse(format!(r#"{{"Records": [{}]}}"#, records.join(",")).as_bytes()).expect("a batch")
}

#[test]
fn a_function_answers_with_what_is_to_come_again() {
    let batch = batch("my-queue", "");
    assert!(!batch.is_fifo());
    assert_eq!(batch.messages().len(), 4);
    let first = &batch.messages()[0];
    assert_eq!((first.id.as_str(), first.body.as_str(), first.receive_count), ("a", "{}", 2));
    assert_eq!(first.queue, "arn:aws:sqs:us-east-2:123456789012:my-queue");
    assert_eq!(batch.answer(&[true; 4]).to_json(), r#"{"batchItemFailures":[]}"#);
    let some = batch.answer(&[true, false, true, false]);
    assert_eq!(some.to_json(), r#"{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"d"}]}"#);
    // What nobody speaks of is not done, and what there is none of is not named.
    assert_eq!(batch.answer(&[true]).ids().collect::<Vec<_>>(), ["b", "c", "d"]);
    assert_eq!(batch.answer(&[]).ids().count(), 4);
    assert_eq!(batch.answer(&[true; 9]).ids().count(), 0);
    let none = Batch::parse(br#"{"Records": []}"#).expect("an empty batch");
    assert_eq!(none.answer(&[false]).to_json(), r#"{"batchItemFailures":[]}"#);
}

#[test]
fn on_a_fifo_queue_everything_behind_the_first_failure_fails() {
    for batch in [batch("my-queue.fifo", ""), batch("my-queue", r#", "SequenceNumber": "18849496460467696128""#)] {
        assert!(batch.is_fifo());
        assert_eq!(batch.answer(&[true, false, true, true]).ids().collect::<Vec<_>>(), ["b", "c", "d"]);
        assert_eq!(batch.answer(&[true; 4]).ids().count(), 0);
    }
    // Groups make standard queues fair, and not ordered.
    let fair = batch("my-queue", r#", "MessageGroupId": "tenant-1""#);
    assert!(!fair.is_fifo() && fair.messages()[0].group.as_deref() == Some("tenant-1"));
    assert_eq!(fair.answer(&[true, false, true, true]).ids().collect::<Vec<_>>(), ["b"]);
}

/// An identifier that nobody can answer with would fail the whole batch, or worse, pass for success.
#[test]
fn a_batch_that_cannot_be_answered_is_an_error() {
    let good = record("a", "q", "");
    for (records, named) in [
        (format!("[{good}, {good}]"), "message 2 of 2"),
        (format!("[{}]", record("", "q", "")), "messageId"),
        (format!("[{}]", good.replace("\"messageId\"", "\"id\"")), "messageId"),
        (format!("[{}]", good.replace("\"a\"", "null")), "messageId"),
        (format!("[{}]", good.replace("\"a\"", "7")), "messageId"),
        (format!("[{}]", good.replace("\"body\"", "\"b\"")), "body"),
        (format!("[{}]", good.replace("aws:sqs\"", "aws:sns\"")), "aws:sns"),
        (String::from("[1]"), "message 1 of 1"),
        (String::from("7"), "Records"),
    ] {
        let why = Batch::parse(format!(r#"{{"Records": {records}}}"#).as_bytes()).expect_err(&records);
        assert!(why.kind() == ErrorKind::InvalidInput && why.to_string().contains(named), "{why}");
    }
    assert!(Batch::parse(b"").is_err() && Batch::parse(b"[]").is_err() && Batch::parse(b"{}").is_err());
}
