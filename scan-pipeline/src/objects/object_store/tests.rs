//! Listings of a service that has keys which the crate's path type cannot carry.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::object_store as os;
use async_trait::async_trait;
use os::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use os::memory::InMemory;
use os::path::Path;
use os::{ListResult, ObjectMeta, ObjectStoreExt};

use super::Lister;
use crate::objects::KeyRange;

/// Lists raw keys as the clients of Google and Azure do: one key that is no path fails the page.
struct Service {
    keys: BTreeSet<String>,
    template: ObjectMeta,
    /// Azure's `startFrom`.
    inclusive: bool,
}

#[async_trait]
impl PaginatedListStore for Service {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> os::Result<PaginatedListResult> {
        let most = options.max_keys.expect("pages have a size");
        let (from, inclusive) = match (&options.page_token, &options.offset) {
            (Some(token), _) => (token.clone(), false),
            (None, Some(offset)) => (offset.clone(), self.inclusive),
            (None, None) => (String::new(), true),
        };
        let behind = self.keys.iter().filter(|key| **key > from || (inclusive && **key == from));
        let mut keys = behind.filter(|key| key.starts_with(prefix.unwrap_or_default()));
        let page: Vec<_> = keys.by_ref().take(most).collect();
        let page_token = keys.next().and(page.last()).map(|last| (*last).clone());
        let mut objects = Vec::new();
        for key in page {
            objects.push(ObjectMeta { location: Path::parse(key)?, ..self.template.clone() });
        }
        let result = ListResult { common_prefixes: Vec::new(), objects, extensions: os::Extensions::default() };
        Ok(PaginatedListResult { result, page_token })
    }
}

async fn service(keys: &[&str], inclusive: bool) -> Lister {
    let store = InMemory::new();
    store.put(&Path::from("x"), "x".into()).await.expect("is written");
    let template = store.head(&Path::from("x")).await.expect("is there");
    let keys = keys.iter().map(|key| String::from(*key)).collect();
    Lister::Paginated(Arc::new(Service { keys, template, inclusive }))
}

/// Good keys, and the errors' names.
async fn listed(lister: &Lister, range: KeyRange) -> (Vec<String>, Vec<String>) {
    let url = "gs://suite".parse().expect("an address");
    let (mut good, mut bad, mut range) = (Vec::new(), Vec::new(), range);
    for _ in 0..1000 {
        let page = lister.page(&url, &range).await.expect("is listed");
        for entry in page.entries {
            match entry {
                Ok(object) => good.push(object.key),
                Err(error) => bad.push(error.context().expect("a name").replace("gs://suite/", "")),
            }
        }
        let Some(next) = page.next else { return (good, bad) };
        range.after = Some(next);
    }
    panic!("the listing does not end: {good:?} {bad:?}");
}

#[tokio::test]
async fn one_bad_key_hides_no_other() {
    let keys = ["a", "a//b", "a/../b", "a/b", "a/c", "b", "b//", "b/\u{1}", "b0", "c", "d", "z//"];
    let good = ["a", "a/b", "a/c", "b", "b0", "c", "d"];
    let bad = ["a/../b", "a//b", "b/\\u{1}", "b//", "z//"];
    for inclusive in [false, true] {
        let lister = service(&keys, inclusive).await;
        for most in [0, 1, 2, 3, 7, 8] {
            let (came, errors) = listed(&lister, KeyRange { most, ..KeyRange::default() }).await;
            assert_eq!(came, good, "pages of {most}");
            assert_eq!(errors, bad, "pages of {most}");
            let (came, errors) = listed(&lister, KeyRange { most, ..KeyRange::prefix("a/") }).await;
            assert_eq!(
                (came, errors),
                (vec![String::from("a/b"), String::from("a/c")], bad[..2].iter().map(|s| String::from(*s)).collect())
            );
            let shards = KeyRange { most, ..KeyRange::default() }.shards(["a//z", "b", "c"]);
            let mut all = (Vec::new(), Vec::new());
            for shard in shards {
                let (came, errors) = listed(&lister, shard).await;
                all.0.extend(came);
                all.1.extend(errors);
            }
            assert_eq!(all.0, good);
            assert_eq!(all.1, bad);
        }
    }
}

/// The path type trims a slash without a word; the order gives it away.
#[tokio::test]
async fn a_key_that_lost_its_slash_skips_no_other() {
    let lister = service(&["/evil", "a", "b", "evil", "f"], false).await;
    for most in [0, 2, 3] {
        let (came, errors) = listed(&lister, KeyRange { most, ..KeyRange::default() }).await;
        assert_eq!((came.join(" "), errors.join(" ")), (String::from("a b evil f"), String::from("evil")), "{most}");
    }
}

/// Setting a client up needs no service, and shows that there is cryptography for it.
#[cfg(all(feature = "gcs", feature = "azure"))]
#[tokio::test]
async fn clients_can_be_set_up() {
    use super::ObjectStoreBucket;
    use crate::objects::ObjectOps;
    let google = os::gcp::GoogleCloudStorageBuilder::new().with_skip_signature(true);
    let bucket = ObjectStoreBucket::gcs("uploads", google).expect("is set up");
    assert_eq!(bucket.url().as_str(), "gs://uploads");
    let azure = os::azure::MicrosoftAzureBuilder::new().with_account("account").with_skip_signature(true);
    let bucket = ObjectStoreBucket::azure("uploads", azure).expect("is set up");
    assert_eq!(bucket.url().as_str(), "az://uploads");
    let error = ObjectStoreBucket::azure("uploads", os::azure::MicrosoftAzureBuilder::new()).expect_err("no account");
    assert_eq!(error.kind(), crate::ErrorKind::Config);
}
