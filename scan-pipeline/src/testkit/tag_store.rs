//! Tags in memory, for buckets that keep none.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::Result;
use crate::model::{ObjectRef, Tags};
use crate::objects::TagStore;

/// A [`TagStore`] that forgets with the process.
///
/// ```
/// use std::sync::Arc;
/// use scan_pipeline::objects::{LocalBucket, LocalOptions, ObjectOps};
/// use scan_pipeline::testkit::MemoryTagStore;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// let options = LocalOptions { tag_store: Some(Arc::new(MemoryTagStore::default())), without_attributes: true };
/// assert!(LocalBucket::open_with(dir.path(), options).await?.caps().tags);
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct MemoryTagStore {
    tags: Mutex<BTreeMap<[Option<String>; 4], Tags>>,
}

fn key(object: &ObjectRef) -> [Option<String>; 4] {
    [Some(object.bucket.to_string()), Some(object.key.clone()), object.version.clone(), object.etag.clone()]
}

#[async_trait]
impl TagStore for MemoryTagStore {
    async fn get(&self, object: &ObjectRef) -> Result<Tags> {
        let tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(tags.get(&key(object)).cloned().unwrap_or_default())
    }

    async fn set(&self, object: &ObjectRef, tags: &Tags) -> Result<()> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).insert(key(object), tags.clone());
        Ok(())
    }
}
