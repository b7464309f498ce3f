//! A store and a bucket whose calls go through a breaker.

use std::sync::Arc;

use async_trait::async_trait;

use super::Breaker;
use crate::Result;
use crate::content::Content;
use crate::model::{BucketUrl, ObjectRef, Tags, TaskId, Timestamp};
use crate::objects::{Caps, KeyRange, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, TagsSet};
use crate::store::{
    AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Lease, Store, TaskFilter, TaskRecord,
};

/// Something that is called through a breaker.
#[derive(Debug)]
pub(crate) struct Guarded<T: ?Sized> {
    breaker: Arc<Breaker>,
    inner: Arc<T>,
}

impl<T: ?Sized> Guarded<T> {
    pub(crate) fn new(inner: Arc<T>, breaker: Arc<Breaker>) -> Self {
        Self { breaker, inner }
    }
}

#[async_trait]
impl Store for Guarded<dyn Store> {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.breaker.call(self.inner.claim(request)).await
    }

    async fn reopen(&self, request: &ClaimRequest) -> Result<Claim> {
        self.breaker.call(self.inner.reopen(request)).await
    }

    async fn commit(&self, lease: &Lease, changes: Changes) -> Result<Timestamp> {
        self.breaker.call(self.inner.commit(lease, changes)).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>> {
        self.breaker.call(self.inner.task(id)).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        self.breaker.call(self.inner.tasks(filter)).await
    }

    async fn audit(&self, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
        self.breaker.call(self.inner.audit(after, most)).await
    }

    async fn audit_head(&self) -> Result<AuditHead> {
        self.breaker.call(self.inner.audit_head()).await
    }

    async fn cached(&self, key: &CacheKey) -> Result<Option<CachedReport>> {
        self.breaker.call(self.inner.cached(key)).await
    }
}

#[async_trait]
impl ObjectOps for Guarded<dyn ObjectOps> {
    fn url(&self) -> &BucketUrl {
        self.inner.url()
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn lists_whole_references(&self) -> bool {
        self.inner.lists_whole_references()
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        self.breaker.call(self.inner.stat(object)).await
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        self.breaker.call(self.inner.read(object)).await
    }

    async fn tags(&self, object: &ObjectRef) -> Result<Tags> {
        self.breaker.call(self.inner.tags(object)).await
    }

    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet> {
        self.breaker.call(self.inner.set_tags(object, ours)).await
    }

    async fn take_back_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<()> {
        self.breaker.call(self.inner.take_back_tags(object, ours)).await
    }

    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef> {
        self.breaker.call(self.inner.put(key, content, options)).await
    }

    async fn copy(&self, from: &ObjectRef, to: &BucketUrl, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        self.breaker.call(self.inner.copy(from, to, key, options)).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<()> {
        self.breaker.call(self.inner.delete(object)).await
    }

    async fn list(&self, range: &KeyRange) -> Result<Page> {
        self.breaker.call(self.inner.list(range)).await
    }
}
