//! Stores and buckets whose calls go through a breaker.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt};

use super::Breaker;
use crate::Result;
use crate::content::Content;
use crate::model::{BucketUrl, ObjectRef, Tags, TaskId, Timestamp};
use crate::objects::{Caps, KeyRange, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, TagsSet};
use crate::store::{
    Advance, AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Counters, Job, JobId,
    JobState, JobStore, Lease, NewJob, Store, TaskFilter, TaskRecord,
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

    fn account(&self) -> Option<&str> {
        self.inner.account()
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        self.breaker.call(self.inner.stat(object)).await
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        let ObjectRead { info, stream } = self.breaker.begin(self.inner.read(object)).await?;
        Ok(ObjectRead { info, stream: Watched { breaker: Arc::clone(&self.breaker), stream }.boxed() })
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

/// An object's bytes: a connection that breaks among them counts as well as one that never came about.
struct Watched {
    breaker: Arc<Breaker>,
    stream: BoxStream<'static, Result<Bytes>>,
}

impl Stream for Watched {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.stream.poll_next_unpin(cx));
        match &next {
            None => self.breaker.tell(None),
            Some(Err(why)) => self.breaker.tell(Some(why)),
            Some(Ok(_)) => {}
        }
        Poll::Ready(next)
    }
}

#[async_trait]
impl JobStore for Guarded<dyn JobStore> {
    async fn create_job(&self, job: &NewJob) -> Result<()> {
        self.breaker.call(self.inner.create_job(job)).await
    }

    async fn job(&self, id: &JobId) -> Result<Option<Job>> {
        self.breaker.call(self.inner.job(id)).await
    }

    async fn job_head(&self, id: &JobId) -> Result<Option<Job>> {
        self.breaker.call(self.inner.job_head(id)).await
    }

    async fn jobs(&self, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
        self.breaker.call(self.inner.jobs(before, most)).await
    }

    async fn advance(&self, id: &JobId, shard: u32, step: &Advance) -> Result<Option<JobState>> {
        self.breaker.call(self.inner.advance(id, shard, step)).await
    }

    async fn count(&self, id: &JobId, shard: u32, chunk: u64, counters: &Counters) -> Result<JobState> {
        self.breaker.call(self.inner.count(id, shard, chunk, counters)).await
    }

    async fn end_job(&self, id: &JobId, state: JobState, why: Option<&str>) -> Result<JobState> {
        self.breaker.call(self.inner.end_job(id, state, why)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BreakerOptions, BreakerState, Health};
    use super::*;
    use crate::{Error, ErrorKind};

    /// Reads an object of these parts through a breaker, up to its end or its failure.
    async fn read(breaker: &Arc<Breaker>, parts: Vec<Result<Bytes>>) -> Result<()> {
        breaker.begin(async { Ok(()) }).await?;
        let stream = futures_util::stream::iter(parts).boxed();
        let mut read = Watched { breaker: Arc::clone(breaker), stream };
        while let Some(part) = read.next().await {
            part?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_a_failure_and_a_whole_one_an_answer() {
        let options = BreakerOptions { failures: 3, ..BreakerOptions::default() };
        let breaker = Health::new(options).breaker("bucket");
        let bytes = || Ok(Bytes::from_static(b"some"));
        let cut = || vec![bytes(), Err(Error::new(ErrorKind::Unavailable, "connection reset"))];
        for _ in 0..2 {
            read(&breaker, cut()).await.expect_err("it is cut");
        }
        read(&breaker, vec![bytes(), bytes()]).await.expect("whole");
        assert_eq!(breaker.dependency().failures, 0);
        for _ in 0..3 {
            assert_eq!(breaker.dependency().state, BreakerState::Closed);
            read(&breaker, cut()).await.expect_err("it is cut");
        }
        assert_eq!(breaker.dependency().state, BreakerState::Open, "though each had begun with an answer");
    }
}
