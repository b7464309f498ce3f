//! The behaviour suite on the buckets that need no server.

use std::sync::Arc;

#[cfg(feature = "object-store")]
use super::ObjectStoreBucket;
use super::{LocalBucket, LocalOptions, MemoryBucket, ObjectOps, TagStore};
use crate::testkit::MemoryTagStore;
use crate::testkit::object_suite::ObjectFixture;

fn with_sibling(bucket: MemoryBucket) -> ObjectFixture {
    let other = bucket.sibling("other").expect("an address");
    ObjectFixture::new(Arc::new(bucket), Arc::new(other))
}

mod memory {
    use super::*;

    async fn fixture() -> ObjectFixture {
        with_sibling(MemoryBucket::new("suite").expect("an address"))
    }

    crate::object_suite!(fixture);
}

mod memory_with_versions {
    use super::*;

    async fn fixture() -> ObjectFixture {
        with_sibling(MemoryBucket::versioned("suite").expect("an address"))
    }

    crate::object_suite!(fixture);
}

mod memory_with_content_etags {
    use super::*;

    async fn fixture() -> ObjectFixture {
        with_sibling(MemoryBucket::with_content_etags("suite").expect("an address"))
    }

    crate::object_suite!(fixture);
}

/// Copies pass through this process where the backend cannot make them.
mod memory_between_worlds {
    use super::*;

    async fn fixture() -> ObjectFixture {
        let bucket = MemoryBucket::new("suite").expect("an address");
        let other = MemoryBucket::versioned("other").expect("an address");
        assert_ne!(bucket.url(), other.url());
        ObjectFixture::new(Arc::new(bucket), Arc::new(other))
    }

    crate::object_suite!(fixture);
}

/// Keys that no path carries exactly.
const NO_PATHS: [&str; 10] =
    ["/evil", "//evil", "a//b", "a/../b", "../up", "a/./b", "./x", "dir/.", "trailing/", ".scan-pipeline/x"];

async fn local(options: LocalOptions) -> ObjectFixture {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["bucket", "other"] {
        std::fs::create_dir(dir.path().join(name)).expect("is made");
    }
    let root = dir.path().join("bucket");
    let bucket = LocalBucket::open_with(&root, options.clone()).await.expect("opens");
    let other = LocalBucket::open_with(dir.path().join("other"), options).await.expect("opens");
    let long = "h".repeat(1024);
    ObjectFixture::new(Arc::new(bucket), Arc::new(other))
        .refusing(NO_PATHS.into_iter().map(String::from).chain([long]))
        .keeping(dir)
        .planting(move || {
            use std::os::unix::ffi::OsStrExt;
            let name = std::ffi::OsStr::from_bytes(b"b\xff\n");
            std::fs::write(root.join("bad").join(name), b"x").expect("is written");
            // What is no object is no error either.
            std::os::unix::fs::symlink("a", root.join("bad/link")).expect("is made");
            async {}
        })
}

mod local_with_attributes {
    use super::*;

    async fn fixture() -> ObjectFixture {
        local(LocalOptions::default()).await
    }

    crate::object_suite!(fixture);
}

mod local_with_a_tag_store {
    use super::*;

    async fn fixture() -> ObjectFixture {
        let tag_store: Arc<dyn TagStore> = Arc::new(MemoryTagStore::default());
        local(LocalOptions { tag_store: Some(tag_store), without_attributes: true }).await
    }

    crate::object_suite!(fixture);
}

mod local_without_tags {
    use super::*;

    async fn fixture() -> ObjectFixture {
        local(LocalOptions { tag_store: None, without_attributes: true }).await
    }

    crate::object_suite!(fixture);
}

#[cfg(feature = "object-store")]
fn in_memory_store(tag_store: Option<Arc<dyn TagStore>>) -> ObjectFixture {
    use ::object_store::memory::InMemory;
    let [bucket, other] = ["memory://suite", "memory://other"].map(|url| {
        let bucket = ObjectStoreBucket::new(url.parse().expect("an address"), Arc::new(InMemory::new()));
        let with_tags = tag_store.clone().map(|tags| bucket.clone().with_tag_store(tags));
        Arc::new(with_tags.unwrap_or(bucket))
    });
    let no_paths = NO_PATHS.into_iter().filter(|key| !key.starts_with(".scan-pipeline"));
    ObjectFixture::new(bucket, other).refusing(no_paths.chain(["line\nbreak"]))
}

#[cfg(feature = "object-store")]
mod object_store_with_a_tag_store {
    use super::*;

    async fn fixture() -> ObjectFixture {
        in_memory_store(Some(Arc::new(MemoryTagStore::default())))
    }

    crate::object_suite!(fixture);
}

#[cfg(feature = "object-store")]
mod object_store_without_tags {
    use super::*;

    async fn fixture() -> ObjectFixture {
        in_memory_store(None)
    }

    crate::object_suite!(fixture);
}

#[test]
fn an_address_need_not_say_the_endpoint_where_one_bucket_alone_has_the_name() {
    let mut buckets = super::Buckets::new();
    let mut add = |name: &str, url: &str| {
        buckets.insert(name, Arc::new(MemoryBucket::at(url.parse().expect("an address"))));
        buckets.clone()
    };
    let one = add("uploads", "s3://uploads?endpoint=http://127.0.0.1:9000");
    for (url, key) in [
        ("uploads", ""),
        ("s3://uploads", ""),
        ("s3://uploads/", ""),
        ("s3://uploads/a//b?c", "a//b?c"),
        ("s3://uploads?endpoint=http://127.0.0.1:9000/2026/", "2026/"),
    ] {
        let (bucket, rest) = one.within(url).expect(url);
        assert_eq!((bucket.url().rest(), rest.as_str()), ("uploads?endpoint=http://127.0.0.1:9000", key), "{url}");
    }
    for url in ["s3://upload", "s3://uploads2/a", "gs://uploads/a", "uploads/a"] {
        assert_eq!(one.within(url).expect_err(url).kind(), crate::ErrorKind::Config, "{url}");
    }
    let two = add("others", "s3://uploads?endpoint=http://127.0.0.1:9001");
    let why = two.within("s3://uploads/a").expect_err("which one is not said");
    assert!(why.to_string().contains("several buckets have this name"), "{why}");
    assert_eq!(two.within("s3://uploads?endpoint=http://127.0.0.1:9001/a").expect("said").1, "a");
    let three = add("plain", "s3://uploads");
    assert_eq!(three.within("s3://uploads/a").expect("it has just that address").0.url().rest(), "uploads");
}
