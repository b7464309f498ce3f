//! Somebody else writes and deletes at any moment between two calls: the wrong bytes are never moved, tagged or deleted,
//! and what is there in the end is where its verdict says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use proptest::prelude::*;
use scan_pipeline::content::Content;
use scan_pipeline::model::{BucketUrl, ObjectRef, Tags};
use scan_pipeline::objects::{
    Caps, KeyRange, MemoryBucket, ObjectInfo, ObjectOps, ObjectRead, Page, PutOptions, TagsSet,
};
use scan_pipeline::pipeline::Progress;
use scan_pipeline::store::TaskState;
use scan_pipeline::{ErrorKind, Result};

use crate::common::{Rig, get, put, whole};

const KEY: &str = "a.txt";

/// What the stranger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Write(&'static str),
    Delete,
}

const ACTS: [Act; 4] = [Act::Write("fine"), Act::Write("infected"), Act::Write("locked"), Act::Delete];

/// Before the first call is moment 0, behind it moment 1, before the second moment 2.
type Plan = BTreeMap<u32, Act>;

/// A bucket that a stranger uses, too.
#[derive(Debug)]
struct Shared {
    bucket: Arc<MemoryBucket>,
    plan: Plan,
    moment: AtomicU32,
}

impl Shared {
    async fn moment(&self) {
        let now = self.moment.fetch_add(1, Ordering::SeqCst);
        match self.plan.get(&now) {
            Some(Act::Write(text)) => {
                put(&*self.bucket, KEY, text).await;
            }
            Some(Act::Delete) => {
                let object = ObjectRef::new(self.bucket.url().clone(), KEY);
                if let Ok(info) = self.bucket.stat(&object).await {
                    self.bucket.delete(&info.object).await.expect("deleted");
                }
            }
            None => {}
        }
    }

    async fn around<T>(&self, call: impl Future<Output = T>) -> T {
        self.moment().await;
        let result = call.await;
        self.moment().await;
        result
    }
}

#[async_trait]
impl ObjectOps for Shared {
    fn url(&self) -> &BucketUrl {
        self.bucket.url()
    }

    fn caps(&self) -> Caps {
        self.bucket.caps()
    }

    async fn stat(&self, object: &ObjectRef) -> Result<ObjectInfo> {
        self.around(self.bucket.stat(object)).await
    }

    async fn read(&self, object: &ObjectRef) -> Result<ObjectRead> {
        self.around(self.bucket.read(object)).await
    }

    async fn tags(&self, object: &ObjectRef) -> Result<Tags> {
        self.around(self.bucket.tags(object)).await
    }

    async fn set_tags(&self, object: &ObjectRef, ours: &[(String, String)]) -> Result<TagsSet> {
        self.around(self.bucket.set_tags(object, ours)).await
    }

    async fn put(&self, key: &str, content: &Content, options: &PutOptions) -> Result<ObjectRef> {
        self.around(self.bucket.put(key, content, options)).await
    }

    async fn copy(&self, from: &ObjectRef, to: &BucketUrl, key: &str, options: &PutOptions) -> Result<ObjectRef> {
        self.around(self.bucket.copy(from, to, key, options)).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<()> {
        self.around(self.bucket.delete(object)).await
    }

    async fn list(&self, range: &KeyRange) -> Result<Page> {
        self.bucket.list(range).await
    }
}

/// Processes one object while the plan happens, then everything that is left in peace, and looks at all buckets.
/// Returns how many moments there were.
///
/// Where an etag is a hash of the bytes, the same bytes written again within one tick of the bucket's clock are the same
/// state to everybody. If the first was only tagged, nobody can see that the second is not: `told_apart` is false.
async fn play(bucket: MemoryBucket, told_apart: bool, first: &'static str, plan: Plan) -> u32 {
    let rig = Rig::with(bucket);
    let shared =
        Arc::new(Shared { bucket: Arc::clone(&rig.quarantine), plan: plan.clone(), moment: AtomicU32::new(0) });
    let pipeline = rig.builder().await.bucket("quarantine", Arc::clone(&shared) as Arc<dyn ObjectOps>);
    let pipeline = pipeline.build().expect("a pipeline");
    let object = rig.drop_in(KEY, first).await;
    match pipeline.process(object).await {
        Ok(_) => {}
        Err(why) => assert!(matches!(why.kind(), ErrorKind::Gone | ErrorKind::Busy), "{first} {plan:?}: {why}"),
    }
    let moments = shared.moment.swap(u32::MAX / 2, Ordering::SeqCst);
    // Where versions are kept, an older one shows up when the one on top of it has moved.
    loop {
        let left: Vec<_> = pipeline.process_prefix("quarantine").expect("a bucket").collect().await;
        let mut all_repeated = true;
        for event in &left {
            let Progress::Done(done) = event else { panic!("{first} {plan:?}: {event:?}") };
            assert!(done.record.state.is_terminal(), "{first} {plan:?}: {event:?}");
            all_repeated &= done.repeated;
        }
        if all_repeated {
            break;
        }
    }
    let context = format!("{first} {plan:?}");

    // What is released is clean, what is isolated infected, and only locked contents are left.
    assert!(matches!(get(&*rig.clean, KEY).await.as_deref(), None | Some("fine")), "{context}");
    assert!(matches!(get(&*rig.infected, KEY).await.as_deref(), None | Some("infected")), "{context}");
    let left = get(&*rig.quarantine, KEY).await;
    // An older version that shows up when a newer one has moved away stays where it is: it must not take its place.
    let older = match pipeline.object("quarantine", KEY).map(|object| pipeline.process(object)).expect("a bucket").await
    {
        Ok(done) => rig.quarantine.caps().versions && done.record.state == TaskState::Superseded,
        Err(_) => false,
    };
    assert!(older || matches!(left.as_deref(), None | Some("locked")), "{context}: {left:?}");
    if left.is_some() && !older && told_apart {
        let there = ObjectRef::new(rig.quarantine.url().clone(), KEY);
        let tags = rig.quarantine.tags(&there).await.expect("tags");
        assert_eq!(tags.get("scan-status"), Some("unscannable"), "{context}");
    }
    // Nobody's last word is lost: it is where its verdict says, unless it was deleted by its writer.
    let last = plan.range(..moments).next_back().map_or(Act::Write(first), |(_, act)| *act);
    match last {
        Act::Write("fine") => assert!(get(&*rig.clean, KEY).await.is_some(), "{context}"),
        Act::Write("infected") => assert!(get(&*rig.infected, KEY).await.is_some(), "{context}"),
        Act::Write(_) => assert!(left.is_some() && !older, "{context}"),
        Act::Delete => {}
    }
    whole(&pipeline).await;
    moments
}

/// The kinds of bucket that pin differently.
fn buckets() -> [MemoryBucket; 3] {
    [MemoryBucket::new("q"), MemoryBucket::versioned("q"), MemoryBucket::with_content_etags("q")]
        .map(|bucket| bucket.expect("a bucket"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn one_act_at_every_moment() {
    let runtime = runtime();
    for first in ["fine", "infected", "locked"] {
        for kind in 0..buckets().len() {
            let bucket = || buckets().into_iter().nth(kind).expect("a kind");
            let moments = runtime.block_on(play(bucket(), kind != 2, first, Plan::new()));
            assert!(moments >= 6, "only {moments} moments");
            for moment in 0..moments {
                for act in ACTS {
                    runtime.block_on(play(bucket(), kind != 2, first, Plan::from([(moment, act)])));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_acts_at_any_moments(
        first in prop::sample::select(vec!["fine", "infected", "locked"]),
        kind in 0..3_usize,
        plan in prop::collection::btree_map(0..40_u32, prop::sample::select(ACTS.to_vec()), 0..6),
    ) {
        let bucket = buckets().into_iter().nth(kind).expect("a kind");
        runtime().block_on(play(bucket, kind != 2, first, plan));
    }
}
