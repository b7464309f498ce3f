//! Buckets of Google Cloud Storage, Azure Blob Storage and whatever else the crate [`object_store`] reaches.
//!
//! # What it can and cannot do
//!
//! - **Reads are pinned**: each is one request, and the state that answers is compared with the one that was asked
//!   for before a byte is given out.
//! - **Deletes are not.** The crate has no conditional delete. The state is looked at right before; an overwrite
//!   between the two requests is lost. [`Caps::pinned_delete`] says so.
//! - **Tags** can be written with an object but neither read nor changed, so there are none without a [`TagStore`].
//! - **Copies** are not conditional on the source and cannot change metadata, so they are
//!   [`Unsupported`](ErrorKind::Unsupported), and [`transfer`](super::transfer) reads and writes.
//! - **Keys** that the crate's path type changes (`/evil`, `a//b`, `a/../b`, `dir/`, control characters) are refused.
//!   In a listing the crate trims a slash at either end of a key, and no caller can see it: `dir/` is listed as `dir`,
//!   with the etag of `dir/`, so that using it ends with [`Gone`](ErrorKind::Gone) or
//!   [`Superseded`](ErrorKind::Superseded) and never with another object.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::object_store as os;
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use os::path::Path;
use os::{Attribute, Attributes, GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};

use super::pin::{bad_key, check_bucket, check_expected, exists, gone, merged_metadata, superseded, tags_of};
use super::{Caps, KeyRange, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, TagStore, TagsSet};
use crate::content::Content;
use crate::model::{BucketUrl, ObjectRef, Tags, Timestamp};
use crate::{Error, ErrorKind, Result};

mod list;
#[cfg(test)]
mod tests;

use list::Lister;

/// Larger objects are written in parts of this size.
const PART: usize = 8 << 20;

/// A bucket over an [`ObjectStore`]; the module page says what it can do.
///
/// ```
/// use std::sync::Arc;
/// use scan_pipeline::content::Content;
/// use scan_pipeline::objects::{ObjectOps, ObjectStoreBucket, PutOptions};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let store = Arc::new(object_store::memory::InMemory::new());
/// let bucket = ObjectStoreBucket::new("memory://uploads".parse()?, store);
/// let object = bucket.put("a.txt", &Content::from_bytes("one"), &PutOptions::default()).await?;
/// assert_eq!(bucket.stat(&object).await?.object, object);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ObjectStoreBucket {
    url: BucketUrl,
    account: Option<String>,
    store: Arc<dyn ObjectStore>,
    lister: Lister,
    tag_store: Option<Arc<dyn TagStore>>,
    tagging: Arc<tokio::sync::Mutex<()>>,
}

impl ObjectStoreBucket {
    /// A bucket over any store that lists keys in the order of their bytes.
    pub fn new(url: BucketUrl, store: Arc<dyn ObjectStore>) -> Self {
        let lister = Lister::Plain(Arc::clone(&store));
        Self { url, account: None, store, lister, tag_store: None, tagging: Arc::default() }
    }

    /// The same for a store that can also list page by page, so that a key it cannot carry hides no other.
    pub fn paginated<S: ObjectStore + os::list::PaginatedListStore>(url: BucketUrl, store: S) -> Self {
        let store = Arc::new(store);
        Self { lister: Lister::Paginated(Arc::clone(&store) as _), ..Self::new(url, store) }
    }

    /// Keeps tags in a store beside the bucket.
    #[must_use]
    pub fn with_tag_store(mut self, tags: Arc<dyn TagStore>) -> Self {
        self.tag_store = Some(tags);
        self
    }

    /// `gs://name`, with credentials and settings of the builder (`GoogleCloudStorageBuilder::from_env()` takes them
    /// from the environment).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when the settings do not suffice, [`ErrorKind::InvalidInput`] when that is no name,
    /// [`ErrorKind::Unsupported`] when this processor cannot run the default cryptography.
    #[cfg(feature = "gcs")]
    pub fn gcs(name: &str, builder: os::gcp::GoogleCloudStorageBuilder) -> Result<Self> {
        let url: BucketUrl = format!("gs://{name}").parse()?;
        install_tls()?;
        let store = builder.with_bucket_name(name).build().map_err(|why| not_configured(&url, why))?;
        Ok(Self::paginated(url, store))
    }

    /// `az://container`, with account, credentials and settings of the builder (`MicrosoftAzureBuilder::from_env()`
    /// takes them from the environment).
    ///
    /// # Errors
    ///
    /// As for Google.
    #[cfg(feature = "azure")]
    pub fn azure(container: &str, builder: os::azure::MicrosoftAzureBuilder) -> Result<Self> {
        let url: BucketUrl = format!("az://{container}").parse()?;
        install_tls()?;
        let account = builder.get_config_value(&os::azure::AzureConfigKey::AccountName);
        let store = builder.with_container_name(container).build().map_err(|why| not_configured(&url, why))?;
        Ok(Self { account, ..Self::paginated(url, store) })
    }

    fn path(&self, key: &str) -> Result<Path> {
        // Parsing trims, so what comes out is compared with what went in.
        match Path::parse(key) {
            Ok(path) if path.as_ref() == key && !key.is_empty() => Ok(path),
            Ok(_) => Err(bad_key(&self.url, key, "a slash at its start or end, or all of it, would be lost")),
            Err(why) => Err(bad_key(&self.url, key, &why.to_string())),
        }
    }

    /// One answer about one state, which is the one that is meant.
    async fn get(&self, object: &ObjectRef, head: bool) -> Result<GetResult> {
        check_bucket(&self.url, object)?;
        let path = self.path(&object.key)?;
        let options = GetOptions::new().with_head(head);
        let got = self.store.get_opts(&path, options).await.map_err(|why| from_theirs(why, object))?;
        let there = pinned(&self.url, &got.meta);
        let same = match (&object.version, &object.etag) {
            (Some(version), _) if there.version.is_some() => there.version.as_ref() == Some(version),
            (_, Some(etag)) => there.etag.as_ref() == Some(etag),
            (Some(_), None) => false,
            (None, None) => true,
        };
        if same { Ok(got) } else { Err(superseded(object)) }
    }

    fn tag_store(&self, object: &ObjectRef) -> Result<&Arc<dyn TagStore>> {
        self.tag_store.as_ref().ok_or_else(|| {
            let why = "objects of this bucket have no tags that can be read; give a tag store";
            Error::new(ErrorKind::Unsupported, why).about(object.to_string())
        })
    }

    async fn write(&self, path: &Path, content: &Content, attributes: Attributes, only_new: bool) -> os::Result<()> {
        if only_new || content.size() <= PART as u64 {
            let bytes = content.bytes().await.map_err(to_theirs)?;
            let mode = if only_new { PutMode::Create } else { PutMode::Overwrite };
            let options = os::PutOptions { mode, attributes, ..os::PutOptions::default() };
            return self.store.put_opts(path, bytes.into(), options).await.map(|_| ());
        }
        let options = os::PutMultipartOptions { attributes, ..os::PutMultipartOptions::default() };
        let mut upload = self.store.put_multipart_opts(path, options).await?;
        let mut offset = 0;
        let written = async {
            while offset < content.size() {
                let part = content.range(offset, PART).await.map_err(to_theirs)?;
                offset += part.len() as u64;
                upload.put_part(part.into()).await?;
            }
            upload.complete().await
        }
        .await;
        match written {
            Ok(_) => Ok(()),
            Err(why) => {
                // The parts would be paid for. The error that matters is the first.
                let _ = upload.abort().await;
                Err(why)
            }
        }
    }
}

#[async_trait]
impl ObjectOps for ObjectStoreBucket {
    fn url(&self) -> &BucketUrl {
        &self.url
    }

    fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    fn caps(&self) -> Caps {
        Caps {
            versions: false,
            tags: self.tag_store.is_some(),
            pinned_delete: false,
            whole_objects: true,
            seekable_listing: true,
        }
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        Ok(info(&self.url, &self.get(object, true).await?))
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        let got = self.get(object, false).await?;
        let info = info(&self.url, &got);
        let about = info.object.clone();
        let size = got.meta.size;
        let parts = got.into_stream().map_err({
            let about = about.clone();
            move |why| from_theirs(why, &about)
        });
        // A stream that ends early is an error, also where the client below does not notice.
        let ended = futures_util::stream::once(async move { None });
        let checked = parts.map(Some).chain(ended).scan(0, move |seen, part| {
            let next = match part {
                Some(Ok(part)) => {
                    *seen += part.len() as u64;
                    Some(Ok(part))
                }
                None if *seen != size => {
                    let why = format!("ended after {seen} of {size} bytes");
                    Some(Err(Error::new(ErrorKind::Truncated, why).about(about.to_string())))
                }
                other => other,
            };
            std::future::ready(next)
        });
        Ok(ObjectRead { info, stream: checked.boxed() })
    }

    async fn tags(&self, object: &ObjectRef) -> Result<Tags> {
        let there = pinned(&self.url, &self.get(object, true).await?.meta);
        self.tag_store(object)?.get(&there).await
    }

    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet> {
        let there = pinned(&self.url, &self.get(object, true).await?.meta);
        let store = self.tag_store(object)?;
        let _one_at_a_time = self.tagging.lock().await;
        let before = store.get(&there).await?;
        let merged = before.merge(ours);
        // They are kept under the pin, and so are never another state's.
        store.set(&there, &merged.tags).await?;
        if let Err(why) = self.get(&there, true).await {
            store.set(&there, &before).await?;
            return Err(why);
        }
        Ok(TagsSet { tags: merged.tags, dropped: merged.dropped })
    }

    /// With [`only_new`](PutOptions::only_new) the whole object is in memory for a time: only a put in one request
    /// can be conditional.
    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef> {
        let (path, object) = (self.path(key)?, ObjectRef::new(self.url.clone(), key));
        check_expected(&object, content, options)?;
        let tags = tags_of(options);
        if !tags.is_empty() {
            self.tag_store(&object)?;
        }
        let mut attributes = Attributes::new();
        if let Some(content_type) = &options.content_type {
            attributes.insert(Attribute::ContentType, content_type.clone().into());
        }
        for (name, value) in merged_metadata(&BTreeMap::new(), &options.metadata) {
            attributes.insert(Attribute::Metadata(name.into()), value.into());
        }
        self.write(&path, content, attributes, options.only_new).await.map_err(|why| from_theirs(why, &object))?;
        let written = self.store.head(&path).await.map_err(|why| from_theirs(why, &object))?;
        let written = pinned(&self.url, &written);
        if written.size != Some(content.size()) {
            return Err(superseded(&object));
        }
        if !tags.is_empty() {
            self.tag_store(&object)?.set(&written, &tags).await?;
        }
        Ok(written)
    }

    async fn copy(&self, from: &ObjectRef, _to: &BucketUrl, _key: &str, _options: &PutOptions) -> Result<ObjectRef> {
        check_bucket(&self.url, from)?;
        let why = "this backend's copies cannot be pinned; read and write instead";
        Err(Error::new(ErrorKind::Unsupported, why).about(from.to_string()))
    }

    /// Looks at the state and then removes what is there: an overwrite between the two is lost.
    async fn delete(&self, object: &ObjectRef) -> Result<()> {
        check_bucket(&self.url, object)?;
        let path = self.path(&object.key)?;
        if object.is_pinned() {
            self.get(object, true).await?;
        }
        self.store.delete(&path).await.map_err(|why| from_theirs(why, object))
    }

    async fn list(&self, range: &KeyRange) -> Result<Page> {
        self.lister.page(&self.url, range).await
    }
}

/// The pinned reference of what they describe.
fn pinned(url: &BucketUrl, meta: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        bucket: url.clone(),
        key: meta.location.as_ref().to_owned(),
        version: meta.version.clone(),
        etag: meta.e_tag.as_ref().map(|etag| etag.trim_matches('"').to_owned()),
        size: Some(meta.size),
        // To the second: a HEAD says no more, and a listing of the same object has to say the same.
        modified: Some(Timestamp(meta.last_modified.timestamp() * 1000)),
    }
}

fn info(url: &BucketUrl, got: &GetResult) -> ObjectInfo {
    let mut info = ObjectInfo { object: pinned(url, &got.meta), content_type: None, metadata: BTreeMap::new() };
    for (name, value) in &got.attributes {
        match name {
            Attribute::ContentType => info.content_type = Some(value.to_string()),
            Attribute::Metadata(name) => {
                info.metadata.insert(name.to_ascii_lowercase(), value.to_string());
            }
            _ => {}
        }
    }
    info
}

/// Their error as one of ours.
fn from_theirs(why: os::Error, object: &ObjectRef) -> Error {
    let (kind, message) = match &why {
        os::Error::NotFound { .. } => return gone(object),
        os::Error::AlreadyExists { .. } => return exists(object),
        os::Error::Precondition { .. } | os::Error::NotModified { .. } => return superseded(object),
        os::Error::InvalidPath { .. } => (ErrorKind::InvalidInput, "the key cannot be carried exactly"),
        os::Error::NotSupported { .. } | os::Error::NotImplemented { .. } => {
            (ErrorKind::Unsupported, "the backend cannot do this")
        }
        os::Error::PermissionDenied { .. } | os::Error::Unauthenticated { .. } => {
            (ErrorKind::Denied, "the backend does not allow this")
        }
        os::Error::UnknownConfigurationKey { .. } => (ErrorKind::Config, "the backend is not set up"),
        _ => (ErrorKind::Unavailable, "the request failed"),
    };
    Error::new(kind, message).with_source(why).about(object.to_string())
}

fn to_theirs(why: Error) -> os::Error {
    os::Error::Generic { store: "spool", source: Box::new(why) }
}

#[cfg(any(feature = "gcs", feature = "azure"))]
fn not_configured(url: &BucketUrl, why: os::Error) -> Error {
    Error::new(ErrorKind::Config, "the bucket cannot be set up").with_source(why).about(url.to_string())
}

/// Makes our cryptography the process's, where it has none: the client below takes no other, and panics without.
#[cfg(any(feature = "gcs", feature = "azure"))]
fn install_tls() -> Result<()> {
    let provider = crate::tls::provider()?;
    // Somebody who was faster made the same choice or a better one.
    let _ = Arc::unwrap_or_clone(provider).install_default();
    Ok(())
}
