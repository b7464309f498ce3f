//! Buckets in which something else happens in between, and buckets that fail.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::content::Content;
use crate::model::{BucketUrl, ObjectRef, Tags};
use crate::objects::{Caps, KeyRange, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, TagsSet};
use crate::{Error, ErrorKind, Result};

/// An operation of [`ObjectOps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// [`ObjectOps::stat`].
    Stat,
    /// [`ObjectOps::read`].
    Read,
    /// [`ObjectOps::tags`].
    Tags,
    /// [`ObjectOps::set_tags`].
    SetTags,
    /// [`ObjectOps::put`].
    Put,
    /// [`ObjectOps::copy`].
    Copy,
    /// [`ObjectOps::delete`].
    Delete,
    /// [`ObjectOps::list`].
    List,
}

/// A moment around a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// Before the call has any effect.
    Before,
    /// After it had its effect, before the caller hears of it.
    After,
}

type Between = Box<dyn Fn(Moment, usize, Op) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// A bucket around another one, with a function that runs before and after each call: to overwrite an object between
/// any two steps of a program, or to make one of them fail.
///
/// The function is given the moment, the number of the call counted from 0, and which operation it is. An error before
/// a call is the caller's answer in place of the call; one after it takes the place of the call's answer, as when a
/// connection breaks before the answer came.
///
/// ```
/// use std::sync::Arc;
/// use scan_pipeline::content::Content;
/// use scan_pipeline::objects::{MemoryBucket, ObjectOps, PutOptions};
/// use scan_pipeline::testkit::{Interleaved, Moment};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let inner = MemoryBucket::new("uploads")?;
/// let object = inner.put("a", &Content::from_bytes("one"), &PutOptions::default()).await?;
/// let rival = inner.clone();
/// let bucket = Interleaved::new(Arc::new(inner), move |moment, call, _| {
///     let rival = rival.clone();
///     async move {
///         if (moment, call) == (Moment::Before, 1) {
///             rival.put("a", &Content::from_bytes("two"), &PutOptions::default()).await?;
///         }
///         Ok(())
///     }
/// });
/// bucket.stat(&object).await?;
/// let error = bucket.delete(&object).await.expect_err("it was overwritten in between");
/// assert_eq!(error.kind(), scan_pipeline::ErrorKind::Superseded);
/// # Ok(()) }
/// ```
pub struct Interleaved {
    inner: Arc<dyn ObjectOps>,
    between: Between,
    calls: AtomicUsize,
}

impl Interleaved {
    /// Wraps a bucket.
    pub fn new<F, R>(inner: Arc<dyn ObjectOps>, between: F) -> Self
    where
        F: Fn(Moment, usize, Op) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let between: Between = Box::new(move |moment, call, op| Box::pin(between(moment, call, op)));
        Self { inner, between, calls: AtomicUsize::new(0) }
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn around<T>(&self, op: Op, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        (self.between)(Moment::Before, number, op).await?;
        let answer = call.await;
        (self.between)(Moment::After, number, op).await?;
        answer
    }
}

impl fmt::Debug for Interleaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interleaved").field("inner", &self.inner).field("calls", &self.calls).finish_non_exhaustive()
    }
}

#[async_trait]
impl ObjectOps for Interleaved {
    fn url(&self) -> &BucketUrl {
        self.inner.url()
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        self.around(Op::Stat, self.inner.stat(object)).await
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        self.around(Op::Read, self.inner.read(object)).await
    }

    async fn tags(&self, object: &ObjectRef) -> Result<Tags> {
        self.around(Op::Tags, self.inner.tags(object)).await
    }

    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet> {
        self.around(Op::SetTags, self.inner.set_tags(object, ours)).await
    }

    async fn take_back_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<()> {
        self.around(Op::SetTags, self.inner.take_back_tags(object, ours)).await
    }

    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef> {
        self.around(Op::Put, self.inner.put(key, content, options)).await
    }

    async fn copy(&self, from: &ObjectRef, to: &BucketUrl, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        self.around(Op::Copy, self.inner.copy(from, to, key, options)).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<()> {
        self.around(Op::Delete, self.inner.delete(object)).await
    }

    async fn list(&self, range: &KeyRange) -> Result<Page> {
        self.around(Op::List, self.inner.list(range)).await
    }

    fn lists_whole_references(&self) -> bool {
        self.inner.lists_whole_references()
    }

    fn account(&self) -> Option<&str> {
        self.inner.account()
    }
}

/// Errors to come, for [`Interleaved`]: the n-th call of an operation fails before or after its effect. Clones share
/// the plan.
///
/// ```
/// use std::sync::Arc;
/// use scan_pipeline::ErrorKind;
/// use scan_pipeline::content::Content;
/// use scan_pipeline::objects::{MemoryBucket, ObjectOps, PutOptions};
/// use scan_pipeline::testkit::{Faults, Moment, Op};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let faults = Faults::default().failing(Op::Put, 0, Moment::After, ErrorKind::Timeout);
/// let bucket = faults.around(Arc::new(MemoryBucket::new("uploads")?));
/// let content = Content::from_bytes("one");
/// let error = bucket.put("a", &content, &PutOptions::default()).await.expect_err("no answer came");
/// assert!(error.is_retryable());
/// assert_eq!(bucket.list(&Default::default()).await?.entries.len(), 1, "it was written all the same");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    seen: BTreeMap<Op, usize>,
    due: BTreeMap<(Op, usize, Moment), ErrorKind>,
}

impl Faults {
    /// Lets the call with this number (counted from 0 for each operation) fail. The error is as retryable as errors
    /// of its kind are.
    #[must_use]
    pub fn failing(self, op: Op, call: usize, moment: Moment, kind: ErrorKind) -> Self {
        self.plan().due.insert((op, call, moment), kind);
        self
    }

    /// Faults that did not come up yet.
    pub fn outstanding(&self) -> usize {
        self.plan().due.len()
    }

    /// A bucket with these faults.
    pub fn around(&self, inner: Arc<dyn ObjectOps>) -> Interleaved {
        let faults = self.clone();
        // The number of this bucket's calls of all kinds is of no use here.
        Interleaved::new(inner, move |moment, _, op| std::future::ready(faults.happen(moment, op)))
    }

    fn happen(&self, moment: Moment, op: Op) -> Result<()> {
        let mut plan = self.plan();
        let call = plan.seen.get(&op).copied().unwrap_or_default();
        let due = plan.due.remove(&(op, call, moment));
        // A call that failed before it began does not come to its end.
        if moment == Moment::After || due.is_some() {
            plan.seen.insert(op, call + 1);
        }
        match due {
            Some(kind) => Err(Error::new(kind, format!("a fault was planned: {moment:?} {op:?} number {call}"))),
            None => Ok(()),
        }
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Spool;
    use crate::objects::{MemoryBucket, transfer};

    /// Every way to overwrite the source between two steps of a transfer: what arrives is what was pinned, or nothing.
    #[tokio::test]
    async fn a_transfer_never_carries_another_state() {
        let mut outcomes = [0, 0];
        for moment in [Moment::Before, Moment::After] {
            for at in 0..4 {
                let source = MemoryBucket::new("source").expect("an address");
                let dest = MemoryBucket::new("dest").expect("an address");
                let object =
                    source.put("a", &Content::from_bytes("old"), &PutOptions::default()).await.expect("is put");
                let rival = source.clone();
                let wrapped = Interleaved::new(Arc::new(source), move |now, call, _| {
                    let rival = rival.clone();
                    async move {
                        if (now, call) == (moment, at) {
                            rival.put("a", &Content::from_bytes("new"), &PutOptions::default()).await?;
                        }
                        Ok(())
                    }
                });
                let options = PutOptions::default();
                match transfer(&wrapped, &object, &dest, "b", &options, &Spool::default()).await {
                    Ok(copy) => {
                        outcomes[0] += 1;
                        assert_eq!(dest.stat(&copy).await.expect("is there").object.size, Some(3));
                        let parts = dest.read(&copy).await.expect("opens").stream;
                        let parts: Vec<_> = futures_util::TryStreamExt::try_collect(parts).await.expect("is read");
                        assert_eq!(parts.concat(), b"old");
                    }
                    Err(error) => {
                        outcomes[1] += 1;
                        assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
                        assert!(dest.list(&KeyRange::default()).await.expect("is listed").entries.is_empty());
                    }
                }
            }
        }
        assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    }

    #[tokio::test]
    async fn faults_come_once_where_they_were_planned() {
        let inner = MemoryBucket::new("uploads").expect("an address");
        let faults = Faults::default().failing(Op::Put, 1, Moment::Before, ErrorKind::Unavailable).failing(
            Op::Put,
            2,
            Moment::After,
            ErrorKind::Timeout,
        );
        let bucket = faults.around(Arc::new(inner.clone()));
        let put = async |key: &str| {
            bucket.put(key, &Content::from_bytes(""), &PutOptions::default()).await.map_err(|why| why.kind())
        };
        assert!(put("0").await.is_ok());
        assert_eq!(put("1").await, Err(ErrorKind::Unavailable));
        assert_eq!(put("2").await, Err(ErrorKind::Timeout));
        assert!(put("3").await.is_ok());
        assert_eq!((faults.outstanding(), bucket.calls()), (0, 4));
        let keys = inner.list(&KeyRange::default()).await.expect("is listed").entries;
        let keys: Vec<_> = keys.into_iter().map(|entry| entry.expect("a good one").key).collect();
        assert_eq!(keys, ["0", "2", "3"], "1 failed before its effect, 2 after it");
    }
}
