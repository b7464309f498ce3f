//! Our own messages.

use serde::Serialize;

use super::json::{Object, excerpt, unreadable};
use super::{Created, Event, etag, key, version, without_nul};
use crate::Result;
use crate::model::{BucketUrl, ObjectRef};

/// Most bytes of a job's id.
const LONGEST_ID: usize = 256;

/// One object to scan, as we write it into a queue: `{"bucket", "key", "etag"}`, with `job_id`, `version` and `size`
/// where there are any. The bucket is an address such as `s3://name`, the key is written plainly.
///
/// Fields may be added; what is there keeps its meaning. [`decode`](super::decode) reads it back as
/// [`Event::Created`].
///
/// ```
/// use scan_pipeline::event::{self, Event, TaskMessage};
/// use scan_pipeline::model::ObjectRef;
/// let object = ObjectRef::new("s3://uploads?endpoint=http://127.0.0.1:9000".parse()?, "a b").with_etag("4711");
/// let text = TaskMessage::new(&object).job("job-7").to_json();
/// let Some(Event::Created(created)) = event::decode(text.as_bytes()).pop() else { panic!("it is understood") };
/// assert_eq!(created.object, object);
/// assert_eq!(created.job_id.as_deref(), Some("job-7"));
/// # Ok::<(), scan_pipeline::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskMessage<'a> {
    /// The job it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<&'a str>,
    /// The bucket's address.
    pub bucket: &'a BucketUrl,
    /// The key, exactly.
    pub key: &'a str,
    /// The version to scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'a str>,
    /// The etag of the state to scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<&'a str>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl<'a> TaskMessage<'a> {
    /// A message about an object.
    pub fn new(object: &'a ObjectRef) -> Self {
        Self {
            job_id: None,
            bucket: &object.bucket,
            key: &object.key,
            version: object.version.as_deref(),
            etag: object.etag.as_deref(),
            size: object.size,
        }
    }

    /// Says which job it belongs to: 1 to 256 bytes.
    #[must_use]
    pub fn job(mut self, id: &'a str) -> Self {
        self.job_id = Some(id);
        self
    }

    /// The message as JSON.
    pub fn to_json(&self) -> String {
        // Text and numbers only: there is nothing in it that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A message with `bucket` and `key`.
pub(super) fn read(message: &Object) -> Result<Event> {
    let job_id = message.text("job_id")?;
    if let Some(id) = job_id {
        if id.is_empty() || id.len() > LONGEST_ID {
            return Err(unreadable(format!("`job_id` has {} bytes; it has 1 to {LONGEST_ID}", id.len())));
        }
        without_nul("job's id", id)?;
    }
    let address = message.required("bucket")?;
    let bucket: BucketUrl = match address.parse() {
        Ok(bucket) if address.len() <= 2048 && !address.contains('\0') => bucket,
        _ => return Err(unreadable(format!("`bucket` is {}, and no address such as s3://name", excerpt(address)))),
    };
    let mut created = Created::new(ObjectRef {
        version: version(message.text("version")?)?,
        etag: etag(message.text("etag")?)?,
        size: message.whole("size")?,
        ..ObjectRef::new(bucket, key(message.required("key")?)?)
    });
    created.job_id = job_id.map(str::to_owned);
    created.exact = true;
    Ok(Event::Created(created))
}
