//! What holds for every message.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::TaskMessage;
use super::super::lambda::Batch;
use super::*;
use crate::model::ObjectRef;

/// Keys of any characters and any length that S3 takes.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ +%/.a-c0-9]{1,40}", "\\PC{1,300}"]
        .prop_map(|key| key.replace('\0', ""))
        .prop_filter("1 to 1,024 bytes", |key| (1..=1024).contains(&key.len()))
}

fn messages() -> Vec<String> {
    let notification = notification("ObjectCreated:Put", "a+b%2Bc");
    let bridge = json!({"detail-type": "Object Created", "source": "aws.s3", "detail": {"version": "0",
        "bucket": {"name": "b"}, "object": {"key": "k", "size": 1, "etag": "e", "version-id": "v", "sequencer": "00"}}});
    let result = json!({"detail-type": "GuardDuty Malware Protection Object Scan Result", "source": "aws.guardduty",
        "detail": {"schemaVersion": "1.0", "scanStatus": "COMPLETED", "resourceType": "S3_OBJECT",
        "s3ObjectDetails": {"bucketName": "b", "objectKey": "k", "eTag": "e", "versionId": "v"},
        "scanResultDetails": {"scanResultStatus": "THREATS_FOUND", "threats": [{"name": "x"}]}}});
    let google = json!({"specversion": "1.0", "type": "google.cloud.storage.object.v1.finalized",
        "data": {"bucket": "b", "name": "k", "generation": "1", "size": "2"}});
    let azure = json!([{"eventType": "Microsoft.Storage.BlobCreated", "subject": "/blobServices/default/containers/c/blobs/k",
        "data": {"api": "PutBlob", "eTag": "e", "contentLength": 1, "url": "https://a.blob.core.windows.net/c/k"}}]);
    let task = json!({"job_id": "7", "bucket": "s3://b", "key": "k", "etag": "e"});
    let mut all = vec![notification];
    all.extend([bridge, result, google, azure, task].map(|message| message.to_string()));
    let wrapped: Vec<_> = all.iter().map(|message| in_sns(message)).collect();
    all.extend(wrapped);
    all
}

/// One small damage after the other.
fn damaged(message: &str, damages: &[(u8, prop::sample::Index, prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = message.as_bytes().to_vec();
    for (kind, one, other, byte) in damages {
        if bytes.is_empty() {
            break;
        }
        let (at, end) = (one.index(bytes.len()), other.index(bytes.len()));
        let (at, end) = (at.min(end), at.max(end));
        match kind % 6 {
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            2 => drop(bytes.drain(at..end.min(at + 30))),
            3 => bytes.truncate(end),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(end..end, copy);
            }
            _ => bytes[at..end].reverse(),
        }
    }
    bytes
}

/// What every caller relies on.
fn promised(bytes: &[u8]) -> std::result::Result<(), TestCaseError> {
    let events = decode(bytes);
    prop_assert!(!events.is_empty());
    for event in events {
        match event {
            Event::Created(Created { object, .. }) | Event::ScannedElsewhere(ScannedElsewhere { object, .. }) => {
                prop_assert!(!object.key.is_empty() && !object.key.contains('\0'));
                prop_assert!(
                    object.bucket.as_str().parse::<crate::model::BucketUrl>().is_ok_and(|url| url == object.bucket)
                );
                prop_assert!(object.etag.as_deref() != Some("") && object.version.as_deref() != Some(""));
            }
            Event::Ignored(Ignored { event, why }) => prop_assert!(!event.contains('\n') && !why.is_empty()),
            Event::Unreadable(why) => {
                prop_assert!(why.kind() == ErrorKind::InvalidInput && !why.is_retryable());
                prop_assert!(why.to_string().len() < 1500);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_decoded(bytes: Vec<u8>) {
        promised(&bytes)?;
        let _ = Batch::parse(&bytes);
    }

    #[test]
    fn damaged_messages_are_decoded(
        which: prop::sample::Index,
        damages in prop::collection::vec(any::<(u8, prop::sample::Index, prop::sample::Index, u8)>(), 1..4),
    ) {
        let messages = messages();
        promised(&damaged(&messages[which.index(messages.len())], &damages))?;
    }

    /// A value of another kind anywhere in a message: an event or an error, and no panic.
    #[test]
    fn messages_with_other_values_are_decoded(which: prop::sample::Index, place: prop::sample::Index, value in 0usize..9) {
        fn places(value: &mut Value, at: &mut usize, with: &Value) {
            match value {
                Value::Object(map) => map.values_mut().for_each(|inner| places(inner, at, with)),
                Value::Array(list) => list.iter_mut().for_each(|inner| places(inner, at, with)),
                _ => {}
            }
            if *at == 0 {
                *value = with.clone();
            }
            *at = at.wrapping_sub(1);
        }
        let values = [
            json!(null), json!(true), json!(-1), json!(0.5), json!(u64::MAX), json!(""), json!("\u{0}"), json!([{}]), json!({"a": 1}),
        ];
        let messages = messages();
        let mut message: Value = serde_json::from_str(&messages[which.index(messages.len())]).expect("JSON");
        places(&mut message, &mut place.index(30), &values[value]);
        promised(message.to_string().as_bytes())?;
    }

    /// The encoder is the one of the `url` crate, which follows the standard for forms.
    #[test]
    fn keys_come_back_from_s3(key in key()) {
        let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        prop_assert_eq!(&created(&notification("ObjectCreated:Put", &encoded)).object.key, &key);
        let emulated = encoded.replace('+', "%20").replace("%2F", "/");
        prop_assert_eq!(&created(&notification("ObjectCreated:Put", &emulated)).object.key, &key);
    }

    #[test]
    fn keys_come_back_from_everybody_else(key in key(), etag in "[0-9a-f]{32}", size: u64) {
        let bridge = json!({"detail-type": "Object Created", "source": "aws.s3", "detail": {"version": "0",
            "bucket": {"name": "b"}, "object": {"key": key, "size": size, "etag": etag}}});
        let expected = ObjectRef::new("s3://b".parse().expect("an address"), key.as_str()).with_etag(etag).with_size(size);
        prop_assert_eq!(&created(&bridge.to_string()).object, &expected);
        prop_assert_eq!(&created(&in_sns(&bridge.to_string())).object, &expected);
        prop_assert_eq!(&created(&TaskMessage::new(&expected).job("7").to_json()).object, &expected);
        let google = json!({"specversion": "1.0", "type": "google.cloud.storage.object.v1.finalized",
            "data": {"bucket": "b", "name": key, "generation": "1"}});
        prop_assert_eq!(&created(&google.to_string()).object.key, &key);
    }

    /// Azure's address is either encoded or plain, and the subject is plain: the name comes out, or nothing does.
    #[test]
    fn names_of_blobs_are_right_or_refused(name in key(), encoded: bool) {
        let written = if encoded {
            percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC).to_string()
        } else {
            name.clone()
        };
        let message = json!({"specversion": "1.0", "type": "Microsoft.Storage.BlobCreated",
            "subject": format!("/blobServices/default/containers/c/blobs/{name}"),
            "data": {"api": "PutBlob", "url": format!("https://a.blob.core.windows.net/c/{written}")}});
        match event(&message.to_string()) {
            Event::Created(created) => prop_assert_eq!(created.object.key, name),
            Event::Unreadable(_) => prop_assert!(name.contains('%') && !encoded || name.contains(char::REPLACEMENT_CHARACTER)),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// Only messages of the batch are named, and all that are not done are.
    #[test]
    fn answers_name_what_is_not_done(count in 0usize..20, done in prop::collection::vec(any::<bool>(), 0..25), fifo: bool) {
        let queue = if fifo { "q.fifo" } else { "q" };
        let records: Vec<_> = (0..count)
            .map(|at| json!({"messageId": at.to_string(), "body": "", "eventSourceARN": format!("arn:aws:sqs:r:1:{queue}")}))
            .collect();
        let batch = Batch::parse(json!({ "Records": records }).to_string().as_bytes()).expect("a batch");
        let answer = batch.answer(&done);
        let named: Vec<usize> = answer.ids().map(|id| id.parse().expect("a number")).collect();
        let failed: Vec<usize> = (0..count).filter(|at| !done.get(*at).copied().unwrap_or(false)).collect();
        match failed.first() {
            Some(first) if fifo => prop_assert_eq!(named, (*first..count).collect::<Vec<_>>()),
            _ => prop_assert_eq!(named, failed),
        }
        let text = answer.to_json();
        let form: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(form["batchItemFailures"].as_array().map(Vec::len), Some(answer.ids().count()));
    }
}
