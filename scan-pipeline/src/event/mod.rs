//! What senders of events write, decoded: from the bytes of a message to the objects that it is about.
//!
//! [`decode`] is pure. It asks nobody and trusts nothing: an event says which state of which object *may* be there,
//! and the pinned read decides. So an event that comes twice, late, out of order or from a forger costs a look at the
//! bucket and has no other effect: a [`TaskId`](crate::model::TaskId) is a hash of the state, a duplicate is the same
//! task, and an older event never overrides a newer object.
//!
//! ```
//! use scan_pipeline::event::{self, Event};
//!
//! let message = br#"{"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
//!     "s3": {"bucket": {"name": "uploads"}, "object": {"key": "red+flower.jpg", "size": 1024,
//!     "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6DCD90281E5"}}}]}"#;
//! for event in event::decode(message) {
//!     match event {
//!         Event::Created(created) => assert_eq!(created.object.key, "red flower.jpg"),
//!         Event::ScannedElsewhere(scanned) => println!("{}: {}", scanned.object, scanned.verdict.status()),
//!         Event::Ignored(why) => println!("nothing to do: {why}"),
//!         Event::Unreadable(why) => println!("for the dead letters: {why}"),
//!     }
//! }
//! ```
//!
//! # Formats
//!
//! | Message | Known by | Becomes |
//! |---|---|---|
//! | S3 notification, of Amazon, MinIO, Ceph and others | `Records`, version 2.x | `ObjectCreated:*` is created; removals, tags, ACLs and the like are ignored |
//! | S3 test event | `Event: s3:TestEvent` | ignored |
//! | SNS | `Type: Notification` | what is in its `Message`; a subscription to be confirmed is unreadable |
//! | EventBridge | `detail-type`, source `aws.s3` | `Object Created` is created; the other types of S3's are ignored |
//! | GuardDuty Malware Protection | `detail-type`, source `aws.guardduty` | scanned elsewhere |
//! | Google Cloud Storage | CloudEvent `google.cloud.storage.object.v1.*` | `finalized` is created; the others are ignored |
//! | Azure Blob Storage | `Microsoft.Storage.*`, CloudEvents or Event Grid schema, one or a list | `BlobCreated` and `BlobRenamed` are created; see below |
//! | [`TaskMessage`] | `bucket` and `key` | created, with the job's id where there is one |
//!
//! SNS is unwrapped wherever it stands, up to four envelopes deep. With raw delivery SNS adds nothing, so that needs no
//! setting. What none of this is, is [`Event::Unreadable`] and names what was seen: names, types and versions, cut
//! short, never the message.
//!
//! # Which object
//!
//! - **Keys** are exact. S3 notifications are form-encoded (a space is `+`); EventBridge, GuardDuty and Google write
//!   them plainly; Azure writes an address. A key that cannot be decoded without doubt is unreadable.
//! - **Buckets** are `s3://name`, `gs://name` and `az://container`. Senders know no endpoints, so the bucket at
//!   `s3://name?endpoint=...` is found by its name: [`Created::locate`], and [`Buckets::locate`] below it. A
//!   [`TaskMessage`] has the address itself.
//! - **The pin** is the version, where there is one, and the etag; for Google the generation, because the etag of its
//!   events is another than the one that its reads give. A message with neither is about whatever is there now.
//!
//! # Created, or not
//!
//! A creation of a kind that is not known by name (`ObjectCreated:Whatever`) counts as one: to scan once too often does
//! no harm, and to scan too seldom does. What is known not to touch the bytes is ignored, MinIO's
//! `ObjectCreated:PutTagging` among them, so that our own tagging starts nothing.
//!
//! On Azure accounts with a hierarchical namespace a file is created empty and written later: `CreateFile` and
//! `SftpCreate` are ignored, `FlushWithClose` and `SftpCommit` count. A renamed directory moves files that the event
//! does not name; it is unreadable, so that somebody sees it and starts a job over the directory.
//!
//! # Nothing is lost in a batch
//!
//! One message may be about several objects, and one of them may be unreadable. [`decode`] gives a list of events that
//! is never empty, with the unreadable among them, rather than a `Result`: an error would hide the good ones, and a
//! list of results invites `flatten`, which drops the bad ones in silence. [`Event`] is exhaustive on purpose, so that
//! a `match` has to say what happens to each.
//!
//! # Functions
//!
//! [`lambda`] has the shapes of a Lambda function that is triggered by SQS. Each of its messages has a body for
//! [`decode`].

mod azure;
mod eventbridge;
mod gcs;
mod guardduty;
mod json;
pub mod lambda;
mod s3;
mod sequencer;
mod sns;
mod task;
#[cfg(test)]
mod tests;

use std::fmt;

use json::{Node, Object, excerpt, unreadable};
pub use sequencer::Sequencer;
pub use task::TaskMessage;

use crate::model::{BucketUrl, EngineInfo, ObjectRef, Verdict};
use crate::objects::Buckets;
use crate::{Error, ErrorKind, Result};

/// Most bytes of a message: SQS carries no more.
const LARGEST: usize = 1 << 20;
/// Most envelopes around a message.
const DEEPEST: usize = 4;
/// Most records of a message. Event Grid puts up to 5,000 into a delivery.
const MOST_RECORDS: usize = 10_000;
/// Most bytes of a key. Azure counts characters.
const LONGEST_KEY: usize = 1024;

/// What a message, or one record of it, says. The [module's page](self) says which does.
#[derive(Debug)]
pub enum Event {
    /// A state of an object has come into being.
    Created(Created),
    /// Somebody else has scanned it.
    ScannedElsewhere(ScannedElsewhere),
    /// Understood, and there is nothing to do.
    Ignored(Ignored),
    /// Not understood. It belongs among the dead letters; trying again does not help.
    Unreadable(Error),
}

/// A new state of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The object, pinned as far as the message says which state it means.
    pub object: ObjectRef,
    /// Which of two events about this key is the later.
    pub sequencer: Option<Sequencer>,
    /// The job that asked for it, where the message is one of our own and a job did.
    pub job_id: Option<String>,
    /// Whether the bucket's address is the whole of it, as in our own messages, and not only a name at a vendor's.
    pub exact: bool,
    /// The storage account on Azure, which the bucket's address does not hold. Two accounts may each have a container
    /// of that name, so [`locate`](Self::locate) compares it.
    pub account: Option<String>,
}

impl Created {
    fn new(object: ObjectRef) -> Self {
        Self { object, sequencer: None, job_id: None, exact: false, account: None }
    }

    /// The object in the bucket that is set up for it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is none, or when the message has no more than a name
    /// and several buckets have it; see [`Buckets::locate`]. The same when the bucket is in another account.
    pub fn locate(&self, buckets: &Buckets) -> Result<ObjectRef> {
        if self.exact {
            return buckets.of(&self.object).map(|_| self.object.clone());
        }
        let object = buckets.locate(self.object.clone())?;
        match (&self.account, buckets.of(&object)?.account()) {
            (Some(theirs), Some(ours)) if !theirs.eq_ignore_ascii_case(ours) => {
                let why =
                    format!("is in the account {theirs}, and the bucket of this name that is set up is in {ours}");
                Err(Error::new(ErrorKind::Config, why).about(object.to_string()))
            }
            _ => Ok(object),
        }
    }
}

/// The verdict of another scanner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedElsewhere {
    /// The object, pinned to the state that was scanned; where it is not, nobody can say which that was.
    pub object: ObjectRef,
    /// What the scanner says. Its clean is its word: no coverage comes with it.
    pub verdict: Verdict,
    /// The scanner; what is not known of it is empty.
    pub scanner: EngineInfo,
}

/// Why there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The event's own name, such as `ObjectRemoved:Delete`.
    pub event: String,
    /// Why nothing follows from it.
    pub why: &'static str,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.event, self.why)
    }
}

impl Event {
    fn ignored(event: &str, why: &'static str) -> Self {
        // Names come from a table or begin as one in it does; what follows may be long.
        Self::Ignored(Ignored { event: event.chars().take(64).flat_map(char::escape_debug).collect(), why })
    }
}

impl From<Result<Event>> for Event {
    fn from(read: Result<Event>) -> Self {
        read.unwrap_or_else(Self::Unreadable)
    }
}

/// Decodes a message. There is at least one event in what comes back, and one for each record that was sent.
///
/// It takes time and memory in proportion to the message, and never panics.
pub fn decode(message: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    if let Err(why) = unwrap(message, 0, &mut events) {
        events.push(Event::Unreadable(why));
    }
    events
}

fn unwrap(message: &[u8], depth: usize, events: &mut Vec<Event>) -> Result<()> {
    if message.len() > LARGEST {
        return Err(unreadable(format!("the message has {} bytes, and {LARGEST} are the most", message.len())));
    }
    if depth > DEEPEST {
        return Err(unreadable(format!("there are more than {DEEPEST} envelopes around the message")));
    }
    match Node::parse(message)? {
        Node::List(items) => each("item", &items, events, one),
        Node::Object(message) if message.has("Records") => match message.get("Records") {
            Some(Node::List(records)) => each("record", records, events, s3::record),
            other => {
                let kind = other.map_or("null", Node::kind);
                Err(unreadable(format!("`Records` should be a list, and is {kind}")))
            }
        },
        Node::Object(message) if sns::is_envelope(&message) => {
            unwrap(sns::inner(&message)?.as_bytes(), depth + 1, events)
        }
        Node::Object(message) => {
            events.push(one(&message).into());
            Ok(())
        }
        other => Err(unreadable(format!("the message is {}, and no object", other.kind()))),
    }
}

/// Reads each part of a list for itself.
fn each(what: &str, parts: &[Node], events: &mut Vec<Event>, read: impl Fn(&Object) -> Result<Event>) -> Result<()> {
    if parts.is_empty() {
        return Err(unreadable(format!("the message has no {what}")));
    }
    if parts.len() > MOST_RECORDS {
        return Err(unreadable(format!("the message has {} {what}s, and {MOST_RECORDS} are the most", parts.len())));
    }
    events.extend(parts.iter().enumerate().map(|(at, part)| {
        let event = match part {
            Node::Object(part) => read(part),
            other => Err(unreadable(format!("is {}, and no object", other.kind()))),
        };
        event.map_err(|why| why.about(format!("{what} {} of {}", at + 1, parts.len()))).into()
    }));
    Ok(())
}

/// A message that is one event.
fn one(message: &Object) -> Result<Event> {
    if message.has("detail-type") {
        return match message.required("source")? {
            "aws.s3" => eventbridge::read(message),
            "aws.guardduty" => guardduty::read(message),
            other => Err(unreadable(format!(
                "is an EventBridge event of {}; those of aws.s3 and aws.guardduty are understood",
                excerpt(other)
            ))),
        };
    }
    // CloudEvents have a version of their own form, Event Grid's a topic.
    let kind = match (message.has("specversion"), message.has("eventType")) {
        (true, _) => {
            let version = message.required("specversion")?;
            if !version.starts_with("1.") {
                return Err(unreadable(format!("is a CloudEvent of version {}; 1.x is understood", excerpt(version))));
            }
            Some(message.required("type")?)
        }
        (false, true) => Some(message.required("eventType")?),
        (false, false) => None,
    };
    match kind {
        Some(kind) if kind.starts_with("google.") => gcs::read(kind, message),
        Some(kind) if kind.starts_with("Microsoft.") => azure::read(kind, message),
        Some(kind) => Err(unreadable(format!("is an event of the type {}, which is not understood", excerpt(kind)))),
        // No other format has both at its top.
        None if message.has("bucket") && message.has("key") => task::read(message),
        None if message.get("Event").is_some() => s3::test_event(message),
        None => Err(unreadable(format!("is no event that is understood; it has {}", message.names()))),
    }
}

/// The address of a bucket that a sender names.
fn bucket(scheme: &str, name: &str) -> Result<BucketUrl> {
    BucketUrl::named(scheme, name).ok_or_else(|| unreadable(format!("{} is no name of a bucket", excerpt(name))))
}

/// A key that a store can keep.
fn key(key: impl Into<String>) -> Result<String> {
    let key = key.into();
    match key.len() {
        0 => Err(unreadable("the key is empty")),
        1..=LONGEST_KEY => without_nul("key", &key).map(|()| key),
        more => Err(unreadable(format!("the key has {more} bytes, and {LONGEST_KEY} are the most"))),
    }
}

/// An etag without its quotes; an empty one is none.
fn etag(text: Option<&str>) -> Result<Option<String>> {
    mark("etag", text.map(|etag| etag.trim().trim_matches('"')))
}

/// A version. `null` is how S3 calls the one of a bucket that keeps none.
fn version(text: Option<&str>) -> Result<Option<String>> {
    mark("version", text.filter(|version| *version != "null"))
}

fn mark(what: &str, text: Option<&str>) -> Result<Option<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.len() > LONGEST_KEY {
        return Err(unreadable(format!("the {what} has {} bytes, and {LONGEST_KEY} are the most", text.len())));
    }
    without_nul(what, text).map(|()| Some(text.to_owned()))
}

/// PostgreSQL's text holds no NUL, and no sender writes one.
fn without_nul(what: &str, text: &str) -> Result<()> {
    if text.contains('\0') { Err(unreadable(format!("the {what} holds a NUL"))) } else { Ok(()) }
}
