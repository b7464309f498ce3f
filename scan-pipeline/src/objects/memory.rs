//! Buckets in memory: for tests, and for programs that keep nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::pin::{check_bucket, check_expected, exists, gone, merged_metadata, superseded, tags_of};
use super::{Caps, KeyRange, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, TagsSet};
use crate::content::Content;
use crate::model::{BucketUrl, ObjectRef, Tags, Timestamp};
use crate::{Error, ErrorKind, Result};

/// Entries of a page, where the caller leaves it to us.
const PAGE: usize = 1000;

/// A bucket in memory that keeps the whole contract, with exact keys, tags and conditional deletes, and versions if
/// asked. Clones are the same bucket.
///
/// ```
/// use scan_pipeline::content::Content;
/// use scan_pipeline::objects::{MemoryBucket, ObjectOps, PutOptions};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let uploads = MemoryBucket::new("uploads")?;
/// let first = uploads.put("a.txt", &Content::from_bytes("one"), &PutOptions::default()).await?;
/// uploads.put("a.txt", &Content::from_bytes("two"), &PutOptions::default()).await?;
/// let error = uploads.read(&first).await.expect_err("another state is there");
/// assert_eq!(error.kind(), scan_pipeline::ErrorKind::Superseded);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct MemoryBucket {
    url: BucketUrl,
    options: Options,
    world: Arc<Mutex<World>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Options {
    versions: bool,
    content_etags: bool,
}

/// The buckets between which copies are possible.
#[derive(Debug, Default)]
struct World {
    /// Counts every write, so that no two states have the same version or etag.
    writes: u64,
    buckets: BTreeMap<BucketUrl, Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    options: Options,
    /// From oldest to newest; never empty, and one alone where no versions are kept.
    objects: BTreeMap<String, Vec<State>>,
}

#[derive(Debug, Clone)]
struct State {
    object: ObjectRef,
    content: Content,
    content_type: Option<String>,
    metadata: BTreeMap<String, String>,
    tags: Tags,
}

impl MemoryBucket {
    /// An empty bucket with the address `memory://name`, which keeps no versions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when that is no address.
    pub fn new(name: &str) -> Result<Self> {
        Self::make(name, Options::default(), Arc::default())
    }

    /// An empty bucket that keeps every version.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn versioned(name: &str) -> Result<Self> {
        Self::make(name, Options { versions: true, content_etags: false }, Arc::default())
    }

    /// An empty bucket without versions whose etags depend on the content alone, as most of S3's do: the same bytes
    /// put again have the same etag.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_content_etags(name: &str) -> Result<Self> {
        Self::make(name, Options { versions: false, content_etags: true }, Arc::default())
    }

    /// An empty bucket of the same kind, to which and from which this one can copy.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn sibling(&self, name: &str) -> Result<Self> {
        Self::make(name, self.options, Arc::clone(&self.world))
    }

    /// An empty bucket that goes by the address of another kind: it stands in for that one where events name it.
    pub fn at(url: BucketUrl) -> Self {
        Self::put_up(url, Options::default(), Arc::default())
    }

    fn make(name: &str, options: Options, world: Arc<Mutex<World>>) -> Result<Self> {
        Ok(Self::put_up(format!("memory://{name}").parse()?, options, world))
    }

    fn put_up(url: BucketUrl, options: Options, world: Arc<Mutex<World>>) -> Self {
        let bucket = Self { url, options, world };
        bucket.world().buckets.entry(bucket.url.clone()).or_default().options = options;
        bucket
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // Every change below is made in one step, so what a panic left is whole.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, object: &ObjectRef) -> Result<State> {
        check_bucket(&self.url, object)?;
        let mut world = self.world();
        let (states, at) = world.find(object)?;
        Ok(states[at].clone())
    }
}

impl World {
    /// The states under a key, and which of them is meant.
    fn find(&mut self, object: &ObjectRef) -> Result<(&mut Vec<State>, usize)> {
        let kept = self.buckets.get_mut(&object.bucket).ok_or_else(|| gone(object))?;
        let versions = kept.options.versions;
        let states = kept.objects.get_mut(&object.key).ok_or_else(|| gone(object))?;
        let last = states.len().checked_sub(1).ok_or_else(|| gone(object))?;
        let at = match (&object.version, &object.etag) {
            (Some(version), _) if versions => {
                let same = |state: &State| state.object.version.as_ref() == Some(version);
                states.iter().position(same).ok_or_else(|| gone(object))?
            }
            (Some(_), _) => return Err(superseded(object)),
            (None, Some(etag)) if states[last].object.etag.as_ref() != Some(etag) => return Err(superseded(object)),
            _ => last,
        };
        Ok((states, at))
    }

    fn write(&mut self, mut state: State, only_new: bool) -> Result<ObjectRef> {
        let World { writes, buckets } = self;
        let kept = buckets.get_mut(&state.object.bucket).ok_or_else(|| gone(&state.object))?;
        let states = kept.objects.entry(state.object.key.clone()).or_default();
        if only_new && !states.is_empty() {
            return Err(exists(&state.object));
        }
        *writes += 1;
        if !kept.options.versions {
            states.clear();
        }
        let etag = if kept.options.content_etags {
            state.content.sha256().to_string()[..32].to_owned()
        } else {
            format!("{writes:032x}")
        };
        let size = state.content.size();
        state.object = ObjectRef::new(state.object.bucket, state.object.key).with_etag(etag).with_size(size);
        state.object.version = kept.options.versions.then(|| format!("v{writes}"));
        state.object.modified = Some(Timestamp::now());
        let object = state.object.clone();
        states.push(state);
        Ok(object)
    }
}

impl State {
    fn info(&self) -> ObjectInfo {
        let (content_type, metadata) = (self.content_type.clone(), self.metadata.clone());
        ObjectInfo { object: self.object.clone(), content_type, metadata }
    }
}

#[async_trait]
impl ObjectOps for MemoryBucket {
    fn url(&self) -> &BucketUrl {
        &self.url
    }

    fn caps(&self) -> Caps {
        Caps {
            versions: self.options.versions,
            tags: true,
            pinned_delete: true,
            whole_objects: true,
            seekable_listing: true,
        }
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        Ok(self.find(object)?.info())
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        let state = self.find(object)?;
        Ok(ObjectRead { info: state.info(), stream: state.content.stream() })
    }

    async fn tags(&self, object: &ObjectRef) -> Result<Tags> {
        Ok(self.find(object)?.tags)
    }

    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet> {
        check_bucket(&self.url, object)?;
        let mut world = self.world();
        let (states, at) = world.find(object)?;
        let merged = states[at].tags.merge(ours);
        states[at].tags = merged.tags.clone();
        Ok(TagsSet { tags: merged.tags, dropped: merged.dropped })
    }

    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef> {
        let object = ObjectRef::new(self.url.clone(), key);
        check_expected(&object, content, options)?;
        // Bytes of our own, so that what lies in the bucket does not hold on to a budget.
        let content = Content::from_bytes(content.bytes().await?);
        let state = State {
            object,
            content,
            content_type: options.content_type.clone(),
            metadata: merged_metadata(&BTreeMap::new(), &options.metadata),
            tags: tags_of(options),
        };
        self.world().write(state, options.only_new)
    }

    async fn copy(&self, from: &ObjectRef, to: &BucketUrl, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        check_bucket(&self.url, from)?;
        let mut world = self.world();
        if !world.buckets.contains_key(to) {
            let why = format!("{} cannot copy to {to}", self.url);
            return Err(Error::new(ErrorKind::Unsupported, why).about(from.to_string()));
        }
        let (states, at) = world.find(from)?;
        let mut state = states[at].clone();
        check_expected(from, &state.content, options)?;
        state.object = ObjectRef::new(to.clone(), key);
        state.metadata = merged_metadata(&state.metadata, &options.metadata);
        state.tags = state.tags.merge(&options.tags).tags;
        if options.content_type.is_some() {
            state.content_type.clone_from(&options.content_type);
        }
        world.write(state, options.only_new)
    }

    async fn delete(&self, object: &ObjectRef) -> Result<()> {
        check_bucket(&self.url, object)?;
        let mut world = self.world();
        let (states, at) = world.find(object)?;
        states.remove(at);
        if states.is_empty()
            && let Some(kept) = world.buckets.get_mut(&self.url)
        {
            kept.objects.remove(&object.key);
        }
        Ok(())
    }

    async fn list(&self, range: &KeyRange) -> Result<Page> {
        let most = if range.most == 0 { PAGE } else { range.most };
        let world = self.world();
        let Some(kept) = world.buckets.get(&self.url) else { return Ok(Page::default()) };
        let from = range.after.as_deref().unwrap_or_default().max(range.prefix.as_str());
        let mut page = Page::default();
        for (key, states) in kept.objects.range(from.to_owned()..) {
            if !range.contains(key) {
                // Behind the last key with the prefix comes none again.
                if !key.starts_with(&range.prefix) {
                    break;
                }
                continue;
            }
            if page.entries.len() == most {
                page.next = page.entries.last().and_then(|last| last.as_ref().ok()).map(|last| last.key.clone());
                break;
            }
            page.entries.extend(states.last().map(|state| Ok(state.object.clone())));
        }
        Ok(page)
    }

    fn lists_whole_references(&self) -> bool {
        true
    }
}
