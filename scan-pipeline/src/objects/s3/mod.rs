//! Buckets of S3 and of what speaks its protocol.
//!
//! Versions pin reads, tags, copies and deletes where the bucket keeps them. Where it does not, the etag does: as a
//! condition of the request where there is one, and by looking before and after where there is none.

mod builder;
mod copy;
mod delete;
mod error;
mod keys;
mod list;
mod multipart;
mod put;
mod read;
mod tags;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;

use self::error::Failure;
use super::pin::{check_bucket, superseded};
use super::{Caps, KeyRange, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, TagsSet};
use crate::content::Content;
use crate::model::{BucketUrl, ObjectRef, Tags, Timestamp};
use crate::{Error, ErrorKind, Result};

pub use builder::S3BucketBuilder;
pub use keys::S3Keys;

/// A bucket of S3, or of a server that speaks its protocol. Clones share the connections.
///
/// Its address is `s3://name`, or `s3://name?endpoint=http://127.0.0.1:9000` at an endpoint of your own.
///
/// # What S3 cannot do
///
/// In a bucket **without versions**, three things cannot be made conditional by S3 itself, and have a gap of one
/// request between looking and doing:
///
/// - *Tagging.* The state is looked at before and after. When an overwrite came in between, all tags are taken off the
///   new object, since what was put there are those of the old one, and the answer is [`ErrorKind::Superseded`]. When
///   the server does not say, they are taken off as well. A crash in between leaves the tags of the old object on the new
///   one until the next attempt ([`ObjectOps::take_back_tags`]) or its own scan: copy clean objects to a bucket of their
///   own, rather than trust tags, where that matters.
/// - *Deleting* at servers that ignore `If-Match` on it: handlers refuse it unless it is accepted (see
///   [`Caps::pinned_delete`]).
/// - `only_new` at servers that ignore `If-None-Match` on a copy: two who copy at once may both be told that they did.
///
/// With versions none of these gaps is there, but for the last.
///
/// ```no_run
/// use scan_pipeline::objects::{KeyRange, ObjectOps, S3Bucket};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let bucket = S3Bucket::builder("uploads").region("eu-central-1").build().await?;
/// for object in bucket.list(&KeyRange::prefix("2026/")).await?.entries {
///     println!("{}", object?);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct S3Bucket(Arc<Inner>);

struct Inner {
    client: Client,
    url: BucketUrl,
    bucket: String,
    keys: S3Keys,
    marks: list::Marks,
    versioning: Versioning,
    conditional_delete: bool,
    /// Longest time in which nothing of a body comes.
    read_timeout: Duration,
    part_size: u64,
    copy_threshold: u64,
    copy_part_size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versioning {
    Enabled,
    /// Not any more: objects that were there before have versions.
    Suspended,
    /// Never.
    Off,
    /// We may not ask.
    Unknown,
}

impl fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Bucket")
            .field("url", &self.0.url)
            .field("versioning", &self.0.versioning)
            .finish_non_exhaustive()
    }
}

impl S3Bucket {
    /// Sets up a bucket by its name.
    pub fn builder(bucket: impl Into<String>) -> S3BucketBuilder {
        S3BucketBuilder::new(bucket.into())
    }

    /// Sets up a bucket by its address: `s3://name`, followed by `?endpoint=`, `region=` and `path_style=` joined
    /// with `&` where they are needed.
    ///
    /// ```
    /// use scan_pipeline::objects::S3Bucket;
    /// let builder = S3Bucket::from_url(&"s3://uploads?endpoint=http://127.0.0.1:9000&region=eu-central-1".parse()?)?;
    /// assert!(S3Bucket::from_url(&"gs://uploads".parse()?).is_err());
    /// # Ok::<(), scan_pipeline::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when it is no such address.
    pub fn from_url(url: &BucketUrl) -> Result<S3BucketBuilder> {
        S3BucketBuilder::from_url(url)
    }

    /// Whether the server honours `If-Match` on a delete, found out by deleting a key that nobody has; for
    /// [`S3BucketBuilder::conditional_delete`]. Not to be used on a bucket with versions, where that leaves a marker.
    ///
    /// # Errors
    ///
    /// As of any request.
    pub async fn probe_conditional_delete(&self) -> Result<bool> {
        self.0.probe_conditional_delete().await
    }

    /// An error names the object.
    fn about<T>(&self, key: &str, result: Result<T, Failure>) -> Result<T> {
        result.map_err(|failure| failure.error.about(format!("{}/{}", self.0.url, key.escape_debug())))
    }
}

impl Inner {
    /// Refuses what cannot be in this bucket.
    fn check(&self, object: &ObjectRef) -> Result<Pin> {
        check_bucket(&self.url, object)?;
        self.keys.check(&object.key)?;
        Pin::of(object)
    }
}

/// How a request says which state it means.
#[derive(Debug, Clone, Default)]
struct Pin {
    version: Option<String>,
    etag: Option<String>,
    size: Option<u64>,
    /// Only what this backend said itself: events have a time of their own. The etag alone is a weak pin, as whoever
    /// uploads can make two objects with one MD5.
    modified: Option<Timestamp>,
}

impl Pin {
    fn of(object: &ObjectRef) -> Result<Self> {
        let etag = object.etag.as_deref().map(unquoted).filter(|etag| !etag.is_empty());
        // The one that a bucket without versions overwrites: it pins nothing.
        let version = object.version.clone().filter(|version| version != "null");
        if version.is_none() && etag.is_none() && object.version.is_some() {
            return Err(Error::new(ErrorKind::InvalidInput, "the version `null` pins nothing without an etag"));
        }
        Ok(Self { version, etag: etag.map(str::to_owned), size: object.size, modified: None })
    }

    /// The value of `If-Match`, which is not needed where a version says it all.
    fn if_match(&self) -> Option<String> {
        self.etag.as_deref().filter(|_| self.version.is_none()).map(quoted)
    }

    /// Compares what came with what was meant: there are servers that ignore versions and conditions.
    fn verify(&self, seen: &ObjectRef) -> Result<()> {
        match (&self.version, &seen.version) {
            (Some(meant), Some(came)) if meant == came => Ok(()),
            (Some(_), Some(_)) => Err(superseded(seen)),
            (Some(_), None) if self.etag.is_none() => {
                Err(Error::new(ErrorKind::Unsupported, "the server does not say which version this is"))
            }
            _ if self.etag.is_some() && self.etag != seen.etag => Err(superseded(seen)),
            _ if self.size.is_some() && self.size != seen.size => Err(superseded(seen)),
            _ if self.modified.is_some() && self.modified != seen.modified => Err(superseded(seen)),
            _ => Ok(()),
        }
    }
}

fn unquoted(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

fn quoted(etag: &str) -> String {
    format!("\"{}\"", unquoted(etag))
}

#[async_trait]
impl ObjectOps for S3Bucket {
    fn url(&self) -> &BucketUrl {
        &self.0.url
    }

    fn caps(&self) -> Caps {
        let versions = self.0.versioning == Versioning::Enabled;
        Caps {
            versions,
            tags: true,
            pinned_delete: versions || self.0.conditional_delete,
            whole_objects: true,
            // See [`list::Marks`].
            seekable_listing: self.0.keys == S3Keys::Exact,
        }
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        self.about(&object.key, self.0.stat(object).await)
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        self.about(&object.key, read::read(&self.0, object).await)
    }

    async fn tags(&self, object: &ObjectRef) -> Result<Tags> {
        self.about(&object.key, self.0.tags(object).await)
    }

    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet> {
        self.about(&object.key, self.0.set_tags(object, ours).await)
    }

    async fn take_back_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<()> {
        self.about(&object.key, self.0.take_back_tags(object, ours).await)
    }

    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef> {
        self.about(key, self.0.put(key, content, options).await)
    }

    async fn copy(&self, from: &ObjectRef, to: &BucketUrl, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        self.about(&from.key, self.0.copy(from, to, key, options).await)
    }

    async fn delete(&self, object: &ObjectRef) -> Result<()> {
        self.about(&object.key, self.0.delete(object).await)
    }

    async fn list(&self, range: &KeyRange) -> Result<Page> {
        self.about(&range.prefix, self.0.list(range).await)
    }

    /// A listing says nothing of versions. What an object had as its version before they were suspended, it has still.
    fn lists_whole_references(&self) -> bool {
        self.0.versioning == Versioning::Off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> ObjectRef {
        ObjectRef::new("s3://bucket".parse().expect("an address"), "key")
    }

    #[test]
    fn null_is_no_version() {
        let pin = Pin::of(&object().with_version("null").with_etag("\"abc\"")).expect("pinned by its etag");
        assert_eq!((pin.version.as_deref(), pin.if_match().as_deref()), (None, Some("\"abc\"")));
        assert_eq!(Pin::of(&object().with_version("null")).expect_err("no pin").kind(), ErrorKind::InvalidInput);
        assert!(Pin::of(&object().with_version("v").with_etag("e")).expect("pinned").if_match().is_none());
    }

    #[test]
    fn answers_are_compared_with_what_was_meant() {
        let kind = |meant: ObjectRef, seen: ObjectRef| {
            Pin::of(&meant).expect("a pin").verify(&seen).err().map(|error| error.kind())
        };
        let (seen, superseded) = (object().with_version("v").with_etag("e").with_size(1), Some(ErrorKind::Superseded));
        assert_eq!(kind(object(), seen.clone()), None);
        assert_eq!(kind(seen.clone(), seen.clone()), None);
        assert_eq!(kind(object().with_version("w"), seen.clone()), superseded);
        assert_eq!(kind(object().with_etag("f"), seen.clone()), superseded);
        assert_eq!(kind(object().with_etag("e").with_size(2), seen.clone()), superseded);
        assert_eq!(kind(object().with_version("v"), object().with_etag("e")), Some(ErrorKind::Unsupported));
        assert_eq!(kind(object().with_version("v").with_etag("e"), object().with_etag("e")), None);
    }
}
