//! Events of S3 that come by EventBridge. Their keys are written plainly.

use super::json::{Object, excerpt, unreadable};
use super::{Created, Event, Sequencer, bucket, etag, key, version};
use crate::Result;
use crate::model::ObjectRef;

/// An event whose source is `aws.s3`.
pub(super) fn read(message: &Object) -> Result<Event> {
    let kind = message.required("detail-type")?;
    let why = match kind {
        "Object Created" => return created(message.object("detail")?),
        "Object Deleted" => "an object was removed",
        "Object Tags Added" | "Object Tags Deleted" | "Object ACL Updated" => "the bytes stayed as they were",
        "Object Restore Initiated"
        | "Object Restore Completed"
        | "Object Restore Expired"
        | "Object Storage Class Changed"
        | "Object Access Tier Changed" => "the same bytes are stored in another class",
        other => return Err(unreadable(format!("is an event {} of S3, which is not understood", excerpt(other)))),
    };
    Ok(Event::ignored(kind, why))
}

fn created(detail: &Object) -> Result<Event> {
    // `version` is EventBridge's and has always been 0; `event-version` came later and is that of this form.
    let form = detail.text("event-version")?.unwrap_or("1.0");
    if !form.starts_with("1.") {
        return Err(unreadable(format!("is an Object Created of version {}; 1.x is understood", excerpt(form))));
    }
    match detail.text("version")? {
        None | Some("0") => {}
        Some(other) => {
            return Err(unreadable(format!("is an Object Created whose version is {}, and not 0", excerpt(other))));
        }
    }
    let object = detail.object("object")?;
    let mut created = Created::new(ObjectRef {
        version: version(object.text("version-id")?)?,
        etag: etag(object.text("etag")?)?,
        size: object.whole("size")?,
        ..ObjectRef::new(bucket("s3", detail.object("bucket")?.required("name")?)?, key(object.required("key")?)?)
    });
    created.sequencer = object.text("sequencer")?.and_then(Sequencer::new);
    Ok(Event::Created(created))
}
