//! Notifications of S3 and of servers that speak as it does.

use super::json::{Object, excerpt, unreadable};
use super::{Created, Event, Sequencer, bucket, etag, key, version};
use crate::Result;
use crate::model::ObjectRef;
use crate::model::key::form_decoded;

/// `s3:TestEvent`, which S3 sends when a notification is set up.
pub(super) fn test_event(message: &Object) -> Result<Event> {
    match message.required("Event")? {
        "s3:TestEvent" => Ok(Event::ignored("s3:TestEvent", "S3 tries whether it can send notifications here")),
        other => Err(unreadable(format!("is an event {} of S3, which is not understood", excerpt(other)))),
    }
}

/// One of the `Records`.
pub(super) fn record(record: &Object) -> Result<Event> {
    // Ceph writes `ceph:s3`, MinIO `minio:s3`; some leave it out.
    if let Some(source) = record.text("eventSource")?
        && !source.ends_with(":s3")
    {
        let hint = if source == "aws:sqs" { "; take its messages out with event::lambda first" } else { "" };
        return Err(unreadable(format!("is a record of {}, and not of S3{hint}", excerpt(source))));
    }
    // A new major version may give a field another meaning; a minor one only adds some.
    let form = record.required("eventVersion")?;
    if !form.strip_prefix("2.").is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit())) {
        return Err(unreadable(format!("is a notification of version {}; 2.x is understood", excerpt(form))));
    }
    let name = record.required("eventName")?;
    let name = name.strip_prefix("s3:").unwrap_or(name);
    match meaning(name) {
        Meaning::Created => created(record.object("s3")?),
        Meaning::Ignored(why) => Ok(Event::ignored(name, why)),
        Meaning::Unknown => Err(unreadable(format!("is a notification {}, which is not understood", excerpt(name)))),
    }
}

enum Meaning {
    Created,
    Ignored(&'static str),
    Unknown,
}

fn meaning(name: &str) -> Meaning {
    let (group, what) = name.split_once(':').unwrap_or((name, ""));
    match (group, what) {
        // MinIO counts these among the creations.
        ("ObjectCreated", "PutTagging" | "DeleteTagging" | "PutRetention" | "PutLegalHold") => {
            Meaning::Ignored("the bytes stayed as they were")
        }
        // Ceph: a copy has arrived from another zone.
        ("ObjectCreated", _) | ("ObjectSynced", "Create") => Meaning::Created,
        ("ObjectRemoved" | "LifecycleExpiration" | "ObjectLifecycle" | "ObjectSynced", _) => {
            Meaning::Ignored("an object was removed or is stored elsewhere")
        }
        ("ObjectTagging" | "ObjectAcl" | "ObjectAnnotation", _) => Meaning::Ignored("the bytes stayed as they were"),
        ("ObjectRestore" | "LifecycleTransition" | "IntelligentTiering" | "ObjectTransition", _) => {
            Meaning::Ignored("the same bytes are stored in another class")
        }
        ("Replication", _) => Meaning::Ignored("it is about the object's copy in another bucket"),
        ("ObjectAccessed", _) => Meaning::Ignored("the object was only read"),
        ("ReducedRedundancyLostObject", _) => Meaning::Ignored("S3 has lost the object"),
        ("BucketCreated" | "BucketRemoved" | "Scanner", _) => Meaning::Ignored("it is about no object's bytes"),
        _ => Meaning::Unknown,
    }
}

fn created(s3: &Object) -> Result<Event> {
    let (bucket_of, object) = (s3.object("bucket")?, s3.object("object")?);
    let written = object.required("key")?;
    let decoded =
        form_decoded(written).ok_or_else(|| unreadable(format!("the key {} is not form-encoded", excerpt(written))))?;
    let mut created = Created::new(ObjectRef {
        version: version(object.text("versionId")?)?,
        etag: etag(object.text("eTag")?)?,
        size: object.whole("size")?,
        ..ObjectRef::new(bucket("s3", bucket_of.required("name")?)?, key(decoded)?)
    });
    created.sequencer = object.text("sequencer")?.and_then(Sequencer::new);
    Ok(Event::Created(created))
}
