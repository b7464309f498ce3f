//! What every bucket has to do: one named test for each behaviour of the contract in [`objects`](crate::objects).
//!
//! ```no_run
//! use std::sync::Arc;
//! use scan_pipeline::objects::MemoryBucket;
//! use scan_pipeline::testkit::object_suite::ObjectFixture;
//!
//! mod memory {
//!     use super::*;
//!
//!     async fn fixture() -> ObjectFixture {
//!         let bucket = MemoryBucket::new("suite").expect("an address");
//!         let other = bucket.sibling("other").expect("an address");
//!         ObjectFixture::new(Arc::new(bucket), Arc::new(other))
//!     }
//!
//!     scan_pipeline::object_suite!(fixture);
//! }
//! # fn main() {}
//! ```

mod keys;
mod listing;
mod states;
mod tagging;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;

pub use keys::*;
pub use listing::*;
pub use states::*;
pub use tagging::*;

use crate::content::{Content, Spool};
use crate::model::ObjectRef;
use crate::objects::{ObjectOps, PutOptions, transfer};
use crate::{Error, ErrorKind, Result};

/// Two empty buckets of the kind that is tested, for one test.
pub struct ObjectFixture {
    /// The bucket that is tested.
    pub bucket: Arc<dyn ObjectOps>,
    /// A second one, to copy to.
    pub other: Arc<dyn ObjectOps>,
    refused: Vec<String>,
    plant: Option<Plant>,
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

type Plant = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

impl ObjectFixture {
    /// Two empty buckets that carry every key.
    pub fn new(bucket: Arc<dyn ObjectOps>, other: Arc<dyn ObjectOps>) -> Self {
        Self { bucket, other, refused: Vec::new(), plant: None, _keep: None }
    }

    /// Says which of [`awkward_keys`] the backend cannot carry. It has to refuse these, and to carry all others.
    #[must_use]
    pub fn refusing<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.refused = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Says how an entry comes into the bucket that the backend cannot use, with a key that begins with `bad/` and
    /// sorts between `bad/a` and `bad/z`.
    #[must_use]
    pub fn planting<F>(mut self, plant: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.plant = Some(Box::new(move || Box::pin(plant())));
        self
    }

    /// Keeps something to the end of the test: a directory, a server.
    #[must_use]
    pub fn keeping(mut self, what: impl Any + Send + Sync) -> Self {
        self._keep = Some(Box::new(what));
        self
    }

    /// A reference to whatever is there now.
    fn unpinned(&self, key: &str) -> ObjectRef {
        ObjectRef::new(self.bucket.url().clone(), key)
    }

    async fn put(&self, key: &str, bytes: &str) -> ObjectRef {
        put(&*self.bucket, key, bytes, &PutOptions::default()).await
    }

    async fn copy(&self, from: &ObjectRef, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        transfer(&*self.bucket, from, &*self.other, key, options, &Spool::default()).await
    }
}

impl fmt::Debug for ObjectFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectFixture").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

async fn put(bucket: &dyn ObjectOps, key: &str, bytes: &str, options: &PutOptions) -> ObjectRef {
    let content = Content::from_bytes(bytes.to_owned());
    bucket.put(key, &content, options).await.expect("the object is written")
}

/// All bytes of a state, or the error on the way.
async fn bytes_of(bucket: &dyn ObjectOps, object: &ObjectRef) -> Result<Vec<u8>> {
    let parts: Vec<_> = bucket.read(object).await?.stream.try_collect().await?;
    Ok(parts.concat())
}

async fn text_of(bucket: &dyn ObjectOps, object: &ObjectRef) -> Result<String> {
    let bytes = bytes_of(bucket, object).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same state pinned by its etag alone, which means the current state in any bucket.
fn by_etag(object: &ObjectRef) -> ObjectRef {
    assert!(object.etag.is_some(), "{object} came out without an etag");
    ObjectRef { version: None, ..object.clone() }
}

#[track_caller]
fn fails<T: fmt::Debug>(kind: ErrorKind, result: Result<T>) -> Error {
    let error = result.expect_err("this has to fail");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect()
}

fn list_of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect()
}

/// Makes the tests of a bucket: one `#[tokio::test]` for each behaviour. It takes an async function that gives an
/// [`ObjectFixture`](crate::testkit::object_suite::ObjectFixture); call it in a module of its own. For a backend that
/// refuses tags that are not ASCII, `object_suite!(fixture, ascii_tags)` leaves out what only others can do.
#[macro_export]
macro_rules! object_suite {
    ($fixture:path) => {
        $crate::object_suite! { $fixture, ascii_tags }
        $crate::object_suite! { @each $fixture; tags_are_cleaned }
    };
    ($fixture:path, ascii_tags) => {
        $crate::object_suite! { @each $fixture;
            what_is_put_is_read
            references_agree
            what_is_not_there_is_gone
            an_overwrite_supersedes_stat_and_read
            an_overwrite_supersedes_tags
            an_overwrite_supersedes_copies
            an_overwrite_supersedes_deletes
            what_was_deleted_is_gone
            again_is_the_same
            only_new_takes_no_key_twice
            only_one_of_many_is_new
            unexpected_bytes_are_not_written
            readers_never_see_two_states
            old_versions_stay
            other_buckets_are_refused
            tags_are_merged_up_to_ten
            tags_change_no_state
            copies_keep_what_the_source_has
            copies_take_what_the_options_say
            keys_are_exact
            listings_are_in_byte_order
            listings_have_prefixes
            listings_resume_anywhere
            listings_pin_what_is_there
            shards_give_every_key_once
            a_bad_entry_hides_nothing
        }
    };
    (@each $fixture:path; $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                let fixture = $fixture().await;
                $crate::testkit::object_suite::$behaviour(&fixture).await;
            }
        )*
    };
}
