//! Messages as their senders write them, from the vendors' documentation, and as nobody should.

mod batches;
mod broken;
mod clouds;
mod properties;
mod s3;
mod scanned;

use super::{Created, Event, Ignored, ScannedElsewhere, decode};
use crate::{Error, ErrorKind};

/// The one event of a message.
fn event(message: &str) -> Event {
    let mut events = decode(message.as_bytes());
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

fn created(message: &str) -> Created {
    match event(message) {
        Event::Created(created) => created,
        other => panic!("{other:?}"),
    }
}

fn scanned(message: &str) -> ScannedElsewhere {
    match event(message) {
        Event::ScannedElsewhere(scanned) => scanned,
        other => panic!("{other:?}"),
    }
}

fn ignored(message: &str) -> Ignored {
    match event(message) {
        Event::Ignored(ignored) => ignored,
        other => panic!("{other:?}"),
    }
}

/// What is unreadable, with the promise that holds for all of it.
fn unreadable(message: &str) -> Error {
    match event(message) {
        Event::Unreadable(why) => {
            assert_eq!(why.kind(), ErrorKind::InvalidInput);
            assert!(!why.is_retryable());
            assert!(why.to_string().len() < 1500, "{}", why.to_string().len());
            why
        }
        other => panic!("{other:?}"),
    }
}

/// A notification about one key, as it is written there.
fn notification(name: &str, key: &str) -> String {
    serde_json::json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": name,
        "s3": {"bucket": {"name": "uploads"}, "object": {"key": key, "size": 3, "eTag": "abc"}},
    }]})
    .to_string()
}

/// SNS's envelope around a message.
fn in_sns(message: &str) -> String {
    serde_json::json!({
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
        "Subject": "Amazon S3 Notification",
        "Message": message,
        "Timestamp": "2012-05-02T00:54:06.655Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLEw6JRN...",
        "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
        "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe",
    })
    .to_string()
}
