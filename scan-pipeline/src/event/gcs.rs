//! CloudEvents of Google Cloud Storage.

use super::json::{Object, excerpt, unreadable};
use super::{Created, Event, bucket, key};
use crate::Result;
use crate::model::ObjectRef;

/// A CloudEvent whose type begins with `google.`.
pub(super) fn read(kind: &str, message: &Object) -> Result<Event> {
    let why = match kind.strip_prefix("google.cloud.storage.object.v1.") {
        Some("finalized") => return created(message.object("data")?),
        Some("deleted") => "an object was removed or replaced",
        Some("archived") => "an older generation is kept",
        Some("metadataUpdated") => "the bytes stayed as they were",
        _ => return Err(unreadable(format!("is an event {} of Google, which is not understood", excerpt(kind)))),
    };
    Ok(Event::ignored(kind, why))
}

fn created(data: &Object) -> Result<Event> {
    // The generation alone: the etag of the JSON API is one of the metadata, and reads give another.
    let generation = data.whole("generation")?.ok_or_else(|| unreadable("there is no `generation`"))?;
    let object = ObjectRef::new(bucket("gs", data.required("bucket")?)?, key(data.required("name")?)?);
    let object = object.with_version(generation.to_string());
    Ok(Event::Created(Created::new(ObjectRef { size: data.whole("size")?, ..object })))
}
