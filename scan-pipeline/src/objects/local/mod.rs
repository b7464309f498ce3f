//! Buckets in directories of a file system.
//!
//! # What a pin is
//!
//! The etag is made of device, inode, size and time of change. A file that was written less than a tick of the file
//! system's clock ago is waited for before it is read, so that a later write cannot have the same time. What a pin
//! cannot see is somebody who writes into a file in place and then sets its time back: who may do that to uploads
//! (`sftp`, `touch -r`) should not be trusted with them, or their objects be copied away with
//! [`PutOptions::expect`](super::PutOptions::expect), which looks at the bytes.
//!
//! # What lies on the disk
//!
//! An object is a regular file under its key's path. Symbolic links are not followed and not listed, and keys that no
//! path carries exactly are refused. The directory `.scan-pipeline` in the root is no part of the key space: there
//! files are written before they get their name, and pinned deletes look at what they took. Media type, metadata and
//! tags are extended attributes, bound to the state that they were set for: after an overwrite they are void.
//!
//! A bucket is one file system, and tells upper from lower case.

mod list;
mod notes;
mod place;
mod remove;
mod state;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use self::notes::Meta;
use self::place::Temporary;
use self::tree::{Opened, Place};
use super::pin::{check_bucket, check_expected, merged_metadata, superseded, tags_of};
use super::{Caps, KeyRange, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, TagStore, TagsSet};
use crate::content::{Content, blocking};
use crate::model::{BucketUrl, ContentDigest, ObjectRef, Tags};
use crate::{Error, ErrorKind, Result};

/// How long a file that is written all the time is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A directory as a bucket. Clones are the same bucket.
///
/// ```
/// use scan_pipeline::content::Content;
/// use scan_pipeline::objects::{LocalBucket, ObjectOps, PutOptions};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// let uploads = LocalBucket::open(dir.path()).await?;
/// let object = uploads.put("2026/a.txt", &Content::from_bytes("one"), &PutOptions::default()).await?;
/// assert_eq!(std::fs::read(dir.path().join("2026/a.txt")).expect("a file"), b"one");
///
/// let error = uploads.put("../a.txt", &Content::from_bytes("one"), &PutOptions::default()).await;
/// assert_eq!(error.expect_err("it would be another object").kind(), scan_pipeline::ErrorKind::InvalidInput);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct LocalBucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: BucketUrl,
    /// Everything is opened from here, so that no link on the way leads out.
    root: OwnedFd,
    /// Whether the file system keeps extended attributes, and we are to use them.
    attributes: bool,
    options: LocalOptions,
    /// Merging tags is reading, then writing.
    tagging: tokio::sync::Mutex<()>,
}

/// How a [`LocalBucket`] is opened.
#[derive(Debug, Clone, Default)]
pub struct LocalOptions {
    /// Keeps the tags where the file system has no extended attributes.
    pub tag_store: Option<Arc<dyn TagStore>>,
    /// Use no extended attributes even where there are some.
    pub without_attributes: bool,
}

impl LocalBucket {
    /// The bucket in this directory, which has to be there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when it is no directory or cannot be opened, [`ErrorKind::InvalidInput`] when its path is
    /// not UTF-8.
    pub async fn open(path: impl AsRef<Path> + Send) -> Result<Self> {
        Self::open_with(path, LocalOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_with(path: impl AsRef<Path> + Send, options: LocalOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let about = path.display().to_string();
        let opened = blocking(move || {
            let path = std::path::absolute(&path).map_err(|why| Error::io("is no path", why))?;
            let url = path.to_str().ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "the path is not UTF-8, and cannot be an address")
            })?;
            let url = format!("file://{url}").parse()?;
            let root = tree::open_root(&path)?;
            let attributes = !options.without_attributes && notes::has_attributes(&root);
            let inner = Inner { url, root, attributes, options, tagging: tokio::sync::Mutex::default() };
            inner.recover()?;
            Ok(inner)
        });
        Ok(Self(Arc::new(opened.await.map_err(|why| why.about(about))?)))
    }

    /// The bucket of an address such as `file:///srv/quarantine`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`ErrorKind::InvalidInput`] for an address of another kind.
    pub async fn at(url: &BucketUrl, options: LocalOptions) -> Result<Self> {
        if url.scheme() != "file" || !url.rest().starts_with('/') {
            let why = "is no bucket in a file system; write it as file:///absolute/path";
            return Err(Error::new(ErrorKind::InvalidInput, why).about(url.to_string()));
        }
        let opened = Self::open_with(PathBuf::from(url.rest()), options).await?;
        if opened.url() != url {
            let why = format!("is written {}", opened.url());
            return Err(Error::new(ErrorKind::InvalidInput, why).about(url.to_string()));
        }
        Ok(opened)
    }

    /// The file of an object in the state that is meant.
    async fn opened(&self, object: &ObjectRef) -> Result<Opened> {
        check_bucket(&self.0.url, object)?;
        let place = Place::of(&self.0.url, &object.key)?;
        self.run(move |inner| inner.open_object(&place)).await.and_then(|opened| {
            opened.state.check(object)?;
            Ok(opened)
        })
    }

    /// Merges tags, when no other process does. One that was stopped in the middle of it is not waited for without end.
    async fn merge_tags(&self, object: &ObjectRef, opened: &Arc<Opened>, ours: &[(String, String)]) -> Result<TagsSet> {
        let until = tokio::time::Instant::now() + PATIENCE;
        let busy = |whose: &str| {
            let why = format!(
                "{whose} has kept the lock of the bucket's tags for {PATIENCE:?}; if a process was stopped, end it"
            );
            Error::new(ErrorKind::Busy, why).about(object.to_string())
        };
        let ours_first = tokio::time::timeout_at(until, self.0.tagging.lock()).await;
        let _one_at_a_time = ours_first.map_err(|_| busy("this process"))?;
        loop {
            let (of, at, tags) = (object.clone(), Arc::clone(opened), ours.to_vec());
            if let Some(set) = self.run(move |inner| inner.merge_tags(&of, &at, &tags)).await? {
                return Ok(set);
            }
            if tokio::time::Instant::now() > until {
                return Err(busy("another process"));
            }
            // The lock of a file wakes nobody.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
        }
    }

    /// The same once its time of change tells it from every later state.
    async fn settled(&self, object: &ObjectRef) -> Result<Opened> {
        let started = Instant::now();
        loop {
            let opened = self.opened(object).await?;
            let Some(wait) = opened.state.unsettled() else { return Ok(opened) };
            if started.elapsed() > PATIENCE {
                let why = format!("the file is still being written after {PATIENCE:?}");
                return Err(Error::new(ErrorKind::Busy, why).about(object.to_string()));
            }
            // Not to wait for somebody, but for the clock that stamps the file.
            tokio::time::sleep(wait).await;
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }

    fn store(&self) -> Option<&Arc<dyn TagStore>> {
        self.0.options.tag_store.as_ref().filter(|_| !self.0.attributes)
    }

    fn tagged(&self) -> bool {
        self.0.attributes || self.store().is_some()
    }

    fn check_tags(&self, object: &ObjectRef, wanted: bool) -> Result<()> {
        if !wanted || self.tagged() {
            return Ok(());
        }
        let why = "this file system keeps no extended attributes, so objects have no tags; give a tag store";
        Err(Error::new(ErrorKind::Unsupported, why).about(object.to_string()))
    }

    /// The tags of an opened object.
    async fn tags_of(&self, object: &ObjectRef, opened: &Opened) -> Result<Tags> {
        if let Some(store) = self.store() {
            return store.get(&opened.state.pin(object)).await;
        }
        let (file, state) = (Arc::clone(&opened.file), opened.state);
        self.run(move |inner| if inner.attributes { notes::tags(&file, &state) } else { Ok(Tags::new()) }).await
    }

    /// Gives a written file its notes, and then its name.
    async fn place(
        &self,
        place: Place,
        temporary: Temporary,
        meta: Meta,
        tags: Tags,
        only_new: bool,
    ) -> Result<ObjectRef> {
        let object = ObjectRef::new(self.0.url.clone(), &place.key);
        let attribute = if self.0.attributes { tags.clone() } else { Tags::new() };
        let (temporary, state) = self
            .run(move |inner| {
                let state = inner.seal(&temporary, &meta, &attribute)?;
                Ok((temporary, state))
            })
            .await?;
        let object = state.pin(&object);
        // Before the object can be seen: what is tagged is tagged from the start.
        if let Some(store) = self.store().filter(|_| !tags.is_empty()) {
            store.set(&object, &tags).await?;
        }
        self.run(move |inner| inner.name(temporary, &place, only_new)).await?;
        Ok(object)
    }
}

#[async_trait]
impl ObjectOps for LocalBucket {
    fn url(&self) -> &BucketUrl {
        &self.0.url
    }

    fn caps(&self) -> Caps {
        Caps { versions: false, tags: self.tagged(), pinned_delete: true, whole_objects: false, seekable_listing: true }
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        let opened = self.settled(object).await?;
        let object = object.clone();
        self.run(move |inner| inner.info(&object, &opened)).await
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        let opened = self.settled(object).await?;
        let (file, state, about) = (Arc::clone(&opened.file), opened.state, object.clone());
        let info = self.run(move |inner| inner.info(&about, &opened)).await?;
        let about = object.clone();
        let parts = stream::try_unfold(0, move |offset| {
            let (file, about) = (Arc::clone(&file), about.clone());
            blocking(move || {
                let part = state::read_part(&file, &state, offset).map_err(|why| why.about(about.to_string()))?;
                let next = offset + part.len() as u64;
                Ok((!part.is_empty()).then_some((part, next)))
            })
        });
        Ok(ObjectRead { info, stream: parts.boxed() })
    }

    async fn tags(&self, object: &ObjectRef) -> Result<Tags> {
        let opened = self.opened(object).await?;
        self.check_tags(object, true)?;
        let tags = self.tags_of(object, &opened).await?;
        let object = object.clone();
        self.run(move |_| opened.check_again(&object)).await?;
        Ok(tags)
    }

    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet> {
        let opened = self.opened(object).await?;
        self.check_tags(object, true)?;
        let Some(store) = self.store() else { return self.merge_tags(object, &Arc::new(opened), ours).await };
        let _one_at_a_time = self.0.tagging.lock().await;
        let pinned = opened.state.pin(object);
        let before = store.get(&pinned).await?;
        let merged = before.merge(ours);
        store.set(&pinned, &merged.tags).await?;
        let checked = object.clone();
        if let Err(why) = self.run(move |_| opened.check_again(&checked)).await {
            store.set(&pinned, &before).await?;
            return Err(why);
        }
        Ok(TagsSet { tags: merged.tags, dropped: merged.dropped })
    }

    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef> {
        let place = Place::of(&self.0.url, key)?;
        let object = ObjectRef::new(self.0.url.clone(), key);
        check_expected(&object, content, options)?;
        self.check_tags(&object, !options.tags.is_empty())?;
        let content = content.clone();
        let temporary =
            self.run(move |inner| inner.write(&content)).await.map_err(|why| why.about(object.to_string()))?;
        let metadata = merged_metadata(&BTreeMap::new(), &options.metadata);
        let meta = Meta { content_type: options.content_type.clone(), metadata };
        self.place(place, temporary, meta, tags_of(options), options.only_new).await
    }

    async fn copy(&self, from: &ObjectRef, to: &BucketUrl, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        check_bucket(&self.0.url, from)?;
        let dest = if *to == self.0.url {
            self.clone()
        } else if to.scheme() == "file" {
            Self::at(to, self.0.options.clone()).await?
        } else {
            let why = format!("{} cannot copy to {to}", self.0.url);
            return Err(Error::new(ErrorKind::Unsupported, why).about(from.to_string()));
        };
        let place = Place::of(to, key)?;
        dest.check_tags(from, !options.tags.is_empty())?;
        let opened = self.settled(from).await?;
        let tags = self.tags_of(from, &opened).await?.merge(&options.tags).tags;
        let (file, state) = (Arc::clone(&opened.file), opened.state);
        let (temporary, sha256) =
            dest.run(move |inner| inner.duplicate(&file, &state)).await.map_err(|why| why.about(from.to_string()))?;
        check_copied(from, sha256, options)?;
        let about = from.clone();
        let info = self
            .run(move |inner| {
                let info = inner.info(&about, &opened)?;
                opened.check_again(&about)?;
                Ok(info)
            })
            .await?;
        let metadata = merged_metadata(&info.metadata, &options.metadata);
        let meta = Meta { content_type: options.content_type.clone().or(info.content_type), metadata };
        dest.place(place, temporary, meta, tags, options.only_new).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<()> {
        check_bucket(&self.0.url, object)?;
        let place = Place::of(&self.0.url, &object.key)?;
        let object = object.clone();
        self.run(move |inner| inner.remove(&object, &place)).await
    }

    async fn list(&self, range: &KeyRange) -> Result<Page> {
        let range = range.clone();
        self.run(move |inner| inner.list(&range)).await
    }
}

fn check_copied(from: &ObjectRef, sha256: ContentDigest, options: &PutOptions) -> Result<()> {
    match options.expect {
        Some(expected) if expected != sha256 => Err(superseded(from)),
        _ => Ok(()),
    }
}

/// The error of a call to the file system.
fn failed(doing: &str, why: rustix::io::Errno) -> Error {
    Error::io(doing, why.into())
}
