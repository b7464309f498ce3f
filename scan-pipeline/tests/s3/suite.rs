//! The contract of all buckets, on three servers, with versions and without.

use std::sync::Arc;

use async_trait::async_trait;
use scan_pipeline::content::Content;
use scan_pipeline::model::{BucketUrl, ObjectRef, Tags};
use scan_pipeline::objects::{
    Caps, KeyRange, MemoryBucket, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, S3Bucket, TagsSet,
};
use scan_pipeline::testkit::object_suite::{ObjectFixture, awkward_keys};
use scan_pipeline::{Error, ErrorKind, Result};
use scan_pipeline_tests::servers::S3Server;

use crate::servers::{fresh, open, server};

async fn on(kind: S3Server, versions: bool) -> ObjectFixture {
    let Some(running) = server(kind) else {
        // It said so. The suite has no way to be skipped, so it runs on something.
        let bucket = MemoryBucket::new("absent").expect("an address");
        let other = bucket.sibling("other").expect("an address");
        return ObjectFixture::new(Arc::new(bucket), Arc::new(other));
    };
    let (bucket, other) = (fresh(running, versions).await, fresh(running, versions).await);
    let (bucket, other) = (open(running, &bucket, versions).await, open(running, &other, versions).await);
    let (refuses, fixture): (fn(&str) -> bool, _) = match kind {
        S3Server::Minio => (is_no_path, ObjectFixture::new(Arc::new(bucket), Arc::new(other))),
        // An object whose key ends in a slash has to be empty there.
        S3Server::Versitygw => (|key| is_no_path(key) || ends_in_a_slash(key), without(bucket, other, ends_in_a_slash)),
        // Answers 404 to a key with a newline.
        S3Server::Moto => (has_a_newline, without(bucket, other, has_a_newline)),
    };
    fixture.refusing(awkward_keys().into_iter().filter(|key| refuses(key)))
}

fn is_no_path(key: &str) -> bool {
    let path = key.strip_suffix('/').unwrap_or(key);
    path.split('/').any(|part| matches!(part, "" | "." | "..") || part.len() > 255)
}

fn ends_in_a_slash(key: &str) -> bool {
    key.ends_with('/')
}

fn has_a_newline(key: &str) -> bool {
    key.contains('\n')
}

fn without(bucket: S3Bucket, other: S3Bucket, refused: fn(&str) -> bool) -> ObjectFixture {
    ObjectFixture::new(Arc::new(Without { bucket, refused }), Arc::new(Without { bucket: other, refused }))
}

/// A bucket without the keys that its server gets wrong, so that the suite can try all others.
#[derive(Debug)]
struct Without {
    bucket: S3Bucket,
    refused: fn(&str) -> bool,
}

impl Without {
    fn check(&self, key: &str) -> Result<&S3Bucket> {
        if (self.refused)(key) {
            return Err(Error::new(ErrorKind::InvalidInput, "a key that this server gets wrong"));
        }
        Ok(&self.bucket)
    }
}

#[async_trait]
impl ObjectOps for Without {
    fn url(&self) -> &BucketUrl {
        self.bucket.url()
    }

    fn caps(&self) -> Caps {
        self.bucket.caps()
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        self.check(&object.key)?.stat(object).await
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        self.check(&object.key)?.read(object).await
    }

    async fn tags(&self, object: &ObjectRef) -> Result<Tags> {
        self.check(&object.key)?.tags(object).await
    }

    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet> {
        self.check(&object.key)?.set_tags(object, ours).await
    }

    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef> {
        self.check(key)?.put(key, content, options).await
    }

    async fn copy(&self, from: &ObjectRef, to: &BucketUrl, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        self.check(&from.key)?;
        self.check(key)?.copy(from, to, key, options).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<()> {
        self.check(&object.key)?.delete(object).await
    }

    async fn list(&self, range: &KeyRange) -> Result<Page> {
        self.bucket.list(range).await
    }

    fn lists_whole_references(&self) -> bool {
        self.bucket.lists_whole_references()
    }
}

macro_rules! suite {
    ($module:ident, $kind:ident, $versions:literal $(, $ascii_tags:ident)?) => {
        mod $module {
            use super::*;

            async fn fixture() -> ObjectFixture {
                on(S3Server::$kind, $versions).await
            }

            scan_pipeline::object_suite!(fixture $(, $ascii_tags)?);
        }
    };
}

suite!(versitygw, Versitygw, false);
suite!(versitygw_with_versions, Versitygw, true);
suite!(minio, Minio, false, ascii_tags);
suite!(minio_with_versions, Minio, true, ascii_tags);
suite!(moto, Moto, false);
suite!(moto_with_versions, Moto, true);
