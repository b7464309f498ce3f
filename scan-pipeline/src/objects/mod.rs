//! Buckets: where objects are read, tagged, copied and deleted, each call pinned to the state it means.
//!
//! # Contract
//!
//! - **Pinned.** A call with a pinned [`ObjectRef`] acts on that state or fails: [`ErrorKind::Superseded`] when another
//!   state is there, [`ErrorKind::Gone`] when none is. It never acts on another state, also when an overwrite comes
//!   between its own steps. A call with an unpinned reference acts on what is there now.
//! - **Exact keys.** `/evil`, `a//b`, `a/../b`, `+`, `%2B`, a space, a newline: each is its own key. A backend that
//!   cannot carry a key faithfully answers [`ErrorKind::InvalidInput`] for that key, and never acts on another.
//! - **References that come out are pinned** as firmly as the backend can, with size and time of change. Where
//!   [`lists_whole_references`](ObjectOps::lists_whole_references) says so, a listing's are those of a `stat`.
//! - **Nothing half.** A put or copy that fails leaves no object that could be taken for whole.
//! - **Again is the same.** A copy, tag or delete that is repeated after it was done has the same effect as once. A
//!   delete of a state that is not there answers [`ErrorKind::Gone`], or `Ok` where the backend cannot tell; to a caller
//!   both mean that it is done.
//! - **A version says it all.** A reference with a version means that version, whatever its etag, and whether or not it
//!   is the current one; one with an etag alone means the current state, which has to have that etag.
//! - **Tags without a place for them.** Where [`Caps::tags`] is false, [`tags`](ObjectOps::tags) and
//!   [`set_tags`](ObjectOps::set_tags), and a put or copy with tags, are [`ErrorKind::Unsupported`].
//!
//! `testkit::object_suite!` checks all of this on any implementation.

mod local;
mod memory;
#[cfg(feature = "object-store")]
mod object_store;
pub(crate) mod pin;
#[cfg(feature = "s3")]
mod s3;
#[cfg(all(test, feature = "testkit"))]
mod tests;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use local::{LocalBucket, LocalOptions};
pub use memory::MemoryBucket;
#[cfg(feature = "object-store")]
pub use object_store::ObjectStoreBucket;
#[cfg(feature = "s3")]
pub use s3::{S3Bucket, S3BucketBuilder, S3Keys};
pub use transfer::transfer;

use crate::content::Content;
use crate::model::{BucketUrl, ContentDigest, ObjectRef, Tags};
use crate::{Error, ErrorKind, Result};

/// One bucket; the module page has the contract.
#[async_trait]
pub trait ObjectOps: fmt::Debug + Send + Sync + 'static {
    /// The bucket's address. References with another bucket are refused.
    fn url(&self) -> &BucketUrl;

    /// What this bucket can do.
    fn caps(&self) -> Caps;

    /// What is there, pinned. With a pinned reference: whether that state is (still) there.
    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo>;

    /// The bytes of that state, from the start. The stream fails rather than end early or mix two states.
    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead>;

    /// The tags of that state.
    async fn tags(&self, object: &ObjectRef) -> Result<Tags>;

    /// Merges tags into those of that state (see [`Tags::merge`]); `ours` is ordered from most to least important.
    /// Where tagging cannot be conditional, the state is looked at afterwards, and tags that hit another state are
    /// taken off again before the answer is [`ErrorKind::Superseded`].
    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet>;

    /// Takes tags off that an earlier [`set_tags`](Self::set_tags) of the same may have put on the state that took the
    /// place of this one: for a caller who does not know how that call ended. Where `ours` are not what is there, nothing
    /// is changed. Where tags cannot hit another state there is nothing to do, which is the default.
    async fn take_back_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<()> {
        let _ = (object, ours);
        Ok(())
    }

    /// Writes a new object and gives its pinned reference. It is replaced in one step, or not at all.
    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef>;

    /// Copies within this backend, without the bytes passing through this process, with metadata and tags kept and
    /// those of `options` put over them. [`transfer`] falls back to read and put where this is
    /// [`ErrorKind::Unsupported`].
    async fn copy(&self, from: &ObjectRef, to: &BucketUrl, key: &str, options: &PutOptions) -> Result<ObjectRef>;

    /// Removes that state, for good where the bucket keeps versions.
    async fn delete(&self, object: &ObjectRef) -> Result<()>;

    /// One page of keys in byte order. A page that is not the last has `next`.
    async fn list(&self, range: &KeyRange) -> Result<Page>;

    /// Whether a listing's references are just those that [`stat`](Self::stat) gives, to the last field: then a pipeline
    /// that listed a bucket need not ask once more for each object. A difference would make two tasks of one object.
    fn lists_whole_references(&self) -> bool {
        false
    }

    /// The account at its vendor's that the bucket is in, where its address does not hold it: two accounts may each have a
    /// bucket of that name. `None` where there are no accounts, or it is not known.
    fn account(&self) -> Option<&str> {
        None
    }
}

/// What a bucket can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// It keeps versions, so every state stays readable.
    pub versions: bool,
    /// Objects can have tags.
    pub tags: bool,
    /// A delete can be made conditional on the etag, or names a version. Where it cannot, handlers delete nothing unless
    /// that is accepted ([`Buckets::accept_unpinned_delete`]).
    pub pinned_delete: bool,
    /// Objects appear whole. Where they do not (a directory that others write to), one may still be growing when it is
    /// first seen; a pipeline then waits until it has not changed for a while.
    pub whole_objects: bool,
    /// A listing that goes on behind any key takes no longer than one from the start. Where it goes through all that
    /// comes before, a bulk job lists the bucket in one piece.
    pub seekable_listing: bool,
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The pinned reference, with size and time of change.
    pub object: ObjectRef,
    /// The media type that was stored with it.
    pub content_type: Option<String>,
    /// Metadata of the user's, names in small letters.
    pub metadata: BTreeMap<String, String>,
}

/// An object's bytes on their way.
pub struct ObjectRead {
    /// What is being read.
    pub info: ObjectInfo,
    /// The bytes, in order. It ends after `info.object.size` bytes or with an error.
    pub stream: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for ObjectRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectRead").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What became of a tagging.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagsSet {
    /// The whole set that the object has now.
    pub tags: Tags,
    /// Names of ours for which there was no room.
    pub dropped: Vec<String>,
}

/// How an object is written.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// The media type.
    pub content_type: Option<String>,
    /// Metadata; on a copy it is put over the source's.
    pub metadata: BTreeMap<String, String>,
    /// Tags from most to least important; on a copy they are merged into the source's.
    pub tags: Vec<(String, String)>,
    /// Fail with [`ErrorKind::Exists`] when the key is taken.
    pub only_new: bool,
    /// Fail with [`ErrorKind::Superseded`] when the bytes that were written have another digest. A backend that
    /// copies without seeing the bytes relies on the pinned source instead.
    pub expect: Option<ContentDigest>,
}

/// Which keys to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// Only keys that begin with it.
    pub prefix: String,
    /// Only keys behind this one, which resumes a listing.
    pub after: Option<String>,
    /// Only keys before this one, which shards a listing.
    pub before: Option<String>,
    /// Most good entries of a page; 0 leaves it to the backend. Bad ones come with them.
    pub most: usize,
}

impl KeyRange {
    /// All keys with a prefix.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// Cuts the range at these keys, so that the parts together give every key of it exactly once. A bound is the last
    /// key of its part. Bounds that are not in ascending order are put in order.
    ///
    /// ```
    /// use scan_pipeline::objects::KeyRange;
    /// let parts = KeyRange::prefix("logs/").shards(["logs/2026", "logs/2025"]);
    /// assert_eq!(parts.len(), 3);
    /// assert!(parts[0].contains("logs/2025") && !parts[1].contains("logs/2025"));
    /// ```
    pub fn shards<S: Into<String>>(&self, bounds: impl IntoIterator<Item = S>) -> Vec<Self> {
        let mut bounds: Vec<String> = bounds.into_iter().map(Into::into).collect();
        bounds.sort();
        bounds.dedup();
        let mut parts = vec![self.clone()];
        for bound in bounds.into_iter().filter(|bound| self.contains(bound)) {
            let mut next = parts[parts.len() - 1].clone();
            if let Some(last) = parts.last_mut() {
                // No key is between a bound and the same with a NUL.
                last.before = Some(format!("{bound}\0"));
            }
            next.after = Some(bound);
            parts.push(next);
        }
        parts
    }

    /// Whether a key is in the range.
    pub fn contains(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
            && self.after.as_deref().is_none_or(|after| key > after)
            && self.before.as_deref().is_none_or(|before| key < before)
    }
}

/// A page of a listing.
#[derive(Debug, Default)]
pub struct Page {
    /// What was found, in byte order of the keys; an entry that cannot be used is an error with its name, and the
    /// others are there all the same.
    pub entries: Vec<Result<ObjectRef>>,
    /// Where the next page begins: set [`KeyRange::after`] to it. `None` on the last page. It need not be the key of
    /// an entry, and a page with `next` may be empty.
    pub next: Option<String>,
}

/// Keeps the tags of buckets that cannot keep them (file systems without extended attributes).
#[async_trait]
pub trait TagStore: fmt::Debug + Send + Sync + 'static {
    /// The tags of a pinned object.
    async fn get(&self, object: &ObjectRef) -> Result<Tags>;
    /// Replaces the tags of a pinned object.
    async fn set(&self, object: &ObjectRef, tags: &Tags) -> Result<()>;
}

/// The buckets that a pipeline works with, by address and by short name.
#[derive(Debug, Clone, Default)]
pub struct Buckets {
    by_url: BTreeMap<BucketUrl, Arc<dyn ObjectOps>>,
    names: BTreeMap<String, BucketUrl>,
    /// Those from which may be deleted although a delete cannot be pinned there.
    unpinned: BTreeSet<BucketUrl>,
}

impl Buckets {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a bucket under a short name.
    pub fn insert(&mut self, name: impl Into<String>, bucket: Arc<dyn ObjectOps>) {
        self.names.insert(name.into(), bucket.url().clone());
        self.by_url.insert(bucket.url().clone(), bucket);
    }

    /// The bucket by short name or address.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is none; the message names those that there are.
    pub fn get(&self, name_or_url: &str) -> Result<&Arc<dyn ObjectOps>> {
        self.names
            .get(name_or_url)
            .cloned()
            .or_else(|| name_or_url.parse().ok())
            .and_then(|url| self.by_url.get(&url))
            .ok_or_else(|| {
                let known: Vec<_> = self.names.keys().map(String::as_str).collect();
                let known = if known.is_empty() { String::from("there is none") } else { known.join(", ") };
                Error::new(ErrorKind::Config, format!("no bucket of this name or address is set up (known: {known})"))
                    .about(name_or_url.to_owned())
            })
    }

    /// The bucket that an object is in.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn of(&self, object: &ObjectRef) -> Result<&Arc<dyn ObjectOps>> {
        self.get(object.bucket.as_str())
    }

    /// Lets handlers delete from a bucket that cannot delete just the state that was scanned ([`Caps::pinned_delete`]): an
    /// upload that lands between the last look and the delete is lost, and nobody has scanned it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn accept_unpinned_delete(&mut self, name_or_url: &str) -> Result<()> {
        let url = self.get(name_or_url)?.url().clone();
        self.unpinned.insert(url);
        Ok(())
    }

    /// What a handler asks before it deletes, or does anything that ends with a delete.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when the bucket cannot delete just this state, and nobody has accepted that.
    pub fn check_delete(&self, object: &ObjectRef) -> Result<()> {
        let bucket = self.of(object)?;
        if bucket.caps().pinned_delete || self.unpinned.contains(bucket.url()) {
            return Ok(());
        }
        let why = "the bucket cannot delete just the state that was scanned: an upload that lands in between would be lost, \
                   and never scanned. Keep the source, let the bucket keep versions, or accept it with \
                   accept_unpinned_delete";
        Err(Error::new(ErrorKind::Config, why).about(object.to_string()))
    }

    /// The same object in the bucket that is set up for it, for an object that somebody else names: an
    /// [event](crate::event) says `s3://uploads`, and the bucket may be set up as
    /// `s3://uploads?endpoint=http://127.0.0.1:9000`.
    ///
    /// An address that says more than the name is taken as it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when no bucket is set up for it, or when several have that name, at different endpoints:
    /// then nobody can say which is meant, and a guess might act on another object. Let a pipeline of its own read the
    /// events of each.
    pub fn locate(&self, object: ObjectRef) -> Result<ObjectRef> {
        let same = |other: &&BucketUrl| {
            let named = other.rest().split_once('?').map_or(other.rest(), |(name, _)| name);
            **other == object.bucket || other.scheme() == object.bucket.scheme() && named == object.bucket.rest()
        };
        let found: Vec<_> = self.by_url.keys().filter(same).collect();
        match found[..] {
            [url] => Ok(ObjectRef { bucket: url.clone(), ..object }),
            [] => self.of(&object).map(|_| object.clone()),
            _ => {
                let found: Vec<_> = found.iter().map(|url| url.as_str()).collect();
                let why = format!("several buckets have this name, and which one is not said: {}", found.join(", "));
                Err(Error::new(ErrorKind::Config, why).about(object.to_string()))
            }
        }
    }

    /// The bucket that an address such as `s3://uploads/2026/` is in, and what is left of the address; the whole bucket
    /// by its short name. An endpoint need not be in the address, as for [`locate`](Self::locate).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when it is in none of them, or when several have that name, at different endpoints.
    pub fn within(&self, url: &str) -> Result<(&Arc<dyn ObjectOps>, String)> {
        if let Ok(bucket) = self.get(url) {
            return Ok((bucket, String::new()));
        }
        let behind = |address: &str| match url.strip_prefix(address)? {
            "" => Some(String::new()),
            rest => Some(rest.strip_prefix('/')?.to_owned()),
        };
        let whole = self.by_url.iter().filter_map(|(address, bucket)| Some((bucket, behind(address.as_str())?)));
        if let Some(found) = whole.min_by_key(|(_, rest)| rest.len()) {
            return Ok(found);
        }
        // A folder's name may have a question mark in it, which begins nothing.
        let plain = |address: &BucketUrl| match address.as_str().split_once('?') {
            Some((plain, _)) if address.scheme() != "file" => behind(plain),
            _ => None,
        };
        let mut named = self.by_url.iter().filter_map(|(address, bucket)| Some((bucket, plain(address)?)));
        let why = match (named.next(), named.next()) {
            (Some(found), None) => return Ok(found),
            (None, _) => "is in none of the buckets that are set up",
            _ => "several buckets have this name: put the endpoint into the address, or write the short name",
        };
        Err(Error::new(ErrorKind::Config, why).about(url.to_owned()))
    }

    /// The same buckets, each in a wrapping of its own.
    #[must_use]
    pub fn wrapped(&self, mut wrap: impl FnMut(&Arc<dyn ObjectOps>) -> Arc<dyn ObjectOps>) -> Self {
        let by_url = self.by_url.iter().map(|(url, bucket)| (url.clone(), wrap(bucket))).collect();
        Self { by_url, names: self.names.clone(), unpinned: self.unpinned.clone() }
    }

    /// Short names and buckets.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn ObjectOps>)> {
        self.names.iter().filter_map(|(name, url)| Some((name.as_str(), self.by_url.get(url)?)))
    }
}
