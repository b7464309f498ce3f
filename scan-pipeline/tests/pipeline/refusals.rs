//! What is refused: by a bucket that takes no copy, by a pipeline whose deletes could not be pinned; and a cache that cannot
//! be read.

use std::sync::Arc;

use async_trait::async_trait;
use scan_pipeline::content::Content;
use scan_pipeline::handler::{Place, delete, relocate, tag};
use scan_pipeline::model::{BucketUrl, ObjectRef, Tags, Timestamp};
use scan_pipeline::objects::{
    Caps, KeyRange, MemoryBucket, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, TagsSet,
};
use scan_pipeline::store::{
    AuditEntry, AuditHead, CacheKey, CachedReport, Changes, Claim, ClaimRequest, Lease, SqliteStore, StepState, Store,
    TaskFilter, TaskRecord, TaskState,
};
use scan_pipeline::workflow::{Step, Workflow};
use scan_pipeline::{Error, ErrorKind, Policy, Result};

use crate::common::{Rig, get, kind, put, quick, whole};

/// A bucket that may be told to take nothing, and whose deletes may be those of Google and Azure.
#[derive(Debug)]
struct Odd {
    inner: MemoryBucket,
    takes: bool,
    pins: bool,
}

#[async_trait]
impl ObjectOps for Odd {
    fn url(&self) -> &BucketUrl {
        self.inner.url()
    }

    fn caps(&self) -> Caps {
        Caps { pinned_delete: self.pins, ..self.inner.caps() }
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        self.inner.stat(object).await
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        self.inner.read(object).await
    }

    async fn tags(&self, object: &ObjectRef) -> Result<Tags> {
        self.inner.tags(object).await
    }

    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet> {
        self.inner.set_tags(object, ours).await
    }

    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef> {
        match self.takes {
            true => self.inner.put(key, content, options).await,
            false => Err(Error::new(ErrorKind::Denied, "the bucket does not allow it")),
        }
    }

    async fn copy(&self, from: &ObjectRef, to: &BucketUrl, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        self.inner.copy(from, to, key, options).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<()> {
        self.inner.delete(object).await
    }

    async fn list(&self, range: &KeyRange) -> Result<Page> {
        self.inner.list(range).await
    }
}

#[tokio::test]
async fn a_clean_bucket_that_takes_no_copy_leaves_everything_as_it_is() {
    let rig = Rig::new();
    // No sibling of the quarantine, so that the copy goes through us.
    let clean = MemoryBucket::new("closed").expect("a bucket");
    let closed = Odd { inner: clean.clone(), takes: false, pins: true };
    let move_on = Step::new(relocate("closed")).retry(quick());
    let policy = Policy::new().clean(Workflow::new("w").then(tag()).then(move_on).then(rig.notify()));
    let pipeline = rig.builder().await.bucket("closed", Arc::new(closed)).policy(policy).build().expect("a pipeline");
    let object = rig.drop_in("k", "fine").await;
    let before = rig.quarantine.stat(&object).await.expect("there");
    let done = pipeline.process(object.clone()).await.expect("on record");
    assert_eq!((done.record.state, &done.record.place), (TaskState::Dead, &Place::Here));
    let step = done.record.steps.iter().find(|step| step.step == "relocate").expect("begun");
    assert_eq!((step.state, step.attempt), (StepState::Failed, 1), "no other attempt would go better");
    assert!(done.record.error.as_deref().is_some_and(|why| why.contains("does not allow it")), "{:?}", done.record);
    assert_eq!(rig.quarantine.stat(&object).await.expect("there"), before);
    assert_eq!(get(&*rig.quarantine, "k").await.as_deref(), Some("fine"));
    assert!(clean.list(&KeyRange::default()).await.expect("listed").entries.is_empty());
    assert!(rig.notified().is_empty());
    whole(&pipeline).await;
}

#[tokio::test]
async fn nothing_is_deleted_where_a_delete_might_hit_something_else() {
    let rig = Rig::new();
    let odd = || Arc::new(Odd { inner: (*rig.quarantine).clone(), takes: true, pins: false });
    let workflows = [
        ("moves", Workflow::new("w").then(relocate("clean")), false),
        ("deletes", Workflow::new("w").then(tag()).parallel([Step::new(delete()).into()]), false),
        ("when it fails", Workflow::new("w").on_fatal(Workflow::new("f").then(delete())), false),
        ("copies", Workflow::new("w").then(relocate("clean").keep_source()), true),
        ("tags", Workflow::new("w").then(tag()), true),
    ];
    for (what, workflow, good) in workflows {
        let policy = Policy::new().clean(workflow);
        let builder = || async { rig.builder().await.bucket("quarantine", odd()).policy(policy.clone()) };
        let built = builder().await.build();
        assert_eq!(built.is_ok(), good, "{what}");
        if let Err(why) = built {
            assert_eq!(why.kind(), ErrorKind::Config);
            let said = why.to_string();
            assert!(said.contains("bucket quarantine") && said.contains("accept_unpinned_delete"), "{said}");
        }
        builder().await.accept_unpinned_delete("quarantine").build().expect("it is accepted");
    }
    let unknown = rig.builder().await.accept_unpinned_delete("qarantine").build();
    assert_eq!(kind(unknown), ErrorKind::Config);
}

/// A bucket that others are moved to is none that objects come from, until one does.
#[tokio::test]
async fn a_handler_asks_about_the_object_at_hand() {
    let rig = Rig::new();
    let odd = Odd { inner: (*rig.infected).clone(), takes: true, pins: false };
    let policy = Policy::new()
        .clean(Workflow::new("w").then(relocate("clean")))
        .infected(Workflow::new("i").then(relocate("infected")));
    let builder = rig.builder().await.bucket("infected", Arc::new(odd)).policy(policy);
    let pipeline = builder.build().expect("nothing comes from there");
    let there = put(&*rig.infected, "k", "fine").await;
    let done = pipeline.process(there.clone()).await.expect("on record");
    assert_eq!(done.record.state, TaskState::Dead);
    assert!(
        done.record.error.as_deref().is_some_and(|why| why.contains("accept_unpinned_delete")),
        "{:?}",
        done.record
    );
    assert_eq!(get(&*rig.infected, "k").await.as_deref(), Some("fine"));
    assert_eq!(get(&*rig.clean, "k").await, None, "and nothing is copied for nothing");
}

/// A store whose verdict cache is damaged.
#[derive(Debug)]
struct Damaged(SqliteStore);

#[async_trait]
impl Store for Damaged {
    async fn claim(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.claim(request).await
    }

    async fn reopen(&self, request: &ClaimRequest) -> Result<Claim> {
        self.0.reopen(request).await
    }

    async fn commit(&self, lease: &Lease, changes: Changes) -> Result<Timestamp> {
        self.0.commit(lease, changes).await
    }

    async fn task(&self, id: scan_pipeline::model::TaskId) -> Result<Option<TaskRecord>> {
        self.0.task(id).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>> {
        self.0.tasks(filter).await
    }

    async fn audit(&self, after: u64, most: usize) -> Result<Vec<AuditEntry>> {
        self.0.audit(after, most).await
    }

    async fn audit_head(&self) -> Result<AuditHead> {
        self.0.audit_head().await
    }

    async fn cached(&self, _: &CacheKey) -> Result<Option<CachedReport>> {
        Err(Error::new(ErrorKind::Corrupt, "JSON that is none"))
    }
}

#[tokio::test]
async fn a_remembered_verdict_that_cannot_be_read_is_none() {
    let rig = Rig::new();
    let store = Damaged(SqliteStore::in_memory().await.expect("a store"));
    let pipeline = rig.builder().await.store(store).build().expect("a pipeline");
    let done = pipeline.process(rig.drop_in("k", "fine").await).await.expect("done");
    assert_eq!((done.record.state, done.record.attempts, rig.scans.get()), (TaskState::Done, 1, 1));
}
