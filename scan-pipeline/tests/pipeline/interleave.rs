//! Somebody else writes and deletes at any moment between two calls: the wrong bytes are never moved, tagged or deleted,
//! and what is there in the end is where its verdict says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::StreamExt;
use proptest::prelude::*;
use scan_pipeline::model::ObjectRef;
use scan_pipeline::objects::{MemoryBucket, ObjectOps};
use scan_pipeline::pipeline::Progress;
use scan_pipeline::store::TaskState;
use scan_pipeline::testkit::{Interleaved, Op};
use scan_pipeline::{ErrorKind, Pipeline};

use crate::common::{Rig, get, put, whole};

pub(crate) const KEY: &str = "a.txt";

/// What the stranger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Write(&'static str),
    Delete,
}

pub(crate) const ACTS: [Act; 4] = [Act::Write("fine"), Act::Write("infected"), Act::Write("locked"), Act::Delete];

/// Before the first call is moment 0, behind it moment 1, before the second moment 2.
pub(crate) type Plan = BTreeMap<u32, Act>;

/// A bucket that a stranger uses, too. Listings are no moments.
fn shared(bucket: &Arc<MemoryBucket>, plan: &Plan, moment: &Arc<AtomicU32>) -> Interleaved {
    let (stranger, plan, moment) = (Arc::clone(bucket), plan.clone(), Arc::clone(moment));
    Interleaved::new(Arc::clone(bucket) as Arc<dyn ObjectOps>, move |_, _, op| {
        let act = match op {
            Op::List => None,
            _ => plan.get(&moment.fetch_add(1, Ordering::SeqCst)).copied(),
        };
        let bucket = Arc::clone(&stranger);
        async move {
            if let Some(act) = act {
                act.happens(&*bucket).await;
            }
            Ok(())
        }
    })
}

impl Act {
    pub(crate) async fn happens(self, bucket: &dyn ObjectOps) {
        match self {
            Self::Write(text) => drop(put(bucket, KEY, text).await),
            Self::Delete => {
                let object = ObjectRef::new(bucket.url().clone(), KEY);
                let gone = |why: &scan_pipeline::Error| matches!(why.kind(), ErrorKind::Gone | ErrorKind::Superseded);
                let there = bucket.stat(&object).await;
                // The pipeline may be faster.
                if let Some(why) = match there {
                    Ok(info) => bucket.delete(&info.object).await.err(),
                    Err(why) => Some(why),
                } {
                    assert!(gone(&why), "{why}");
                }
            }
        }
    }
}

/// Where a plan is played.
pub(crate) struct Stage {
    pub(crate) pipeline: Pipeline,
    /// As everybody else sees them.
    pub(crate) quarantine: Arc<dyn ObjectOps>,
    pub(crate) clean: Arc<dyn ObjectOps>,
    pub(crate) infected: Arc<dyn ObjectOps>,
    /// Two states of the same bytes are two states to it.
    pub(crate) told_apart: bool,
}

/// Processes one object, by its reference or as it is listed, while the plan happens, then everything that is left in peace, and looks at all buckets.
/// Returns how many moments there were.
///
/// Where an etag is a hash of the bytes, the same bytes written again within one tick of the bucket's clock are the same
/// state to everybody. If the first was only tagged, nobody can see that the second is not.
async fn play(kind: usize, listed: bool, first: &'static str, plan: Plan) -> u32 {
    let rig = Rig::with(buckets().into_iter().nth(kind).expect("a kind"));
    let moment = Arc::new(AtomicU32::new(0));
    let shared = Arc::new(shared(&rig.quarantine, &plan, &moment));
    let stage = Stage {
        pipeline: rig.builder().await.bucket("quarantine", shared).build().expect("a pipeline"),
        quarantine: rig.quarantine.clone(),
        clean: rig.clean.clone(),
        infected: rig.infected.clone(),
        told_apart: kind != CONTENT_ETAGS,
    };
    play_on(&stage, listed, first, &plan, || {}, || moment.swap(u32::MAX / 2, Ordering::SeqCst)).await
}

/// The same on any stage. `begin` is called when the object is there, and `end` when it was processed; that stops the
/// plan, and says how many moments there were.
pub(crate) async fn play_on(
    stage: &Stage,
    listed: bool,
    first: &'static str,
    plan: &Plan,
    begin: impl FnOnce(),
    end: impl FnOnce() -> u32,
) -> u32 {
    let Stage { pipeline, quarantine, clean, infected, told_apart } = stage;
    let there = put(&**quarantine, KEY, first).await;
    // Pinned, as an event would have it.
    let object = ObjectRef { bucket: pipeline.object("quarantine", KEY).expect("a bucket").bucket, ..there };
    begin();
    let failed = match listed {
        false => pipeline.process(object).await.err(),
        true => {
            let mut events: Vec<_> = pipeline.process_prefix("quarantine").expect("a bucket").collect().await;
            assert!(events.len() <= 1, "{first} {plan:?}: {events:?}");
            match events.pop() {
                None | Some(Progress::Done(_)) => None,
                Some(Progress::Failed { error, .. } | Progress::ListingFailed { error, .. }) => Some(error),
                Some(other) => panic!("{first} {plan:?}: {other:?}"),
            }
        }
    };
    if let Some(why) = failed {
        assert!(matches!(why.kind(), ErrorKind::Gone | ErrorKind::Busy), "{first} {plan:?}: {why}");
    }
    let moments = end();
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
    assert!(matches!(get(&**clean, KEY).await.as_deref(), None | Some("fine")), "{context}");
    assert!(matches!(get(&**infected, KEY).await.as_deref(), None | Some("infected")), "{context}");
    let left = get(&**quarantine, KEY).await;
    // An older version that shows up when a newer one has moved away stays where it is: it must not take its place.
    let older = match pipeline.object("quarantine", KEY).map(|object| pipeline.process(object)).expect("a bucket").await
    {
        Ok(done) => quarantine.caps().versions && done.record.state == TaskState::Superseded,
        Err(_) => false,
    };
    assert!(older || matches!(left.as_deref(), None | Some("locked")), "{context}: {left:?}");
    if left.is_some() && !older {
        let there = ObjectRef::new(quarantine.url().clone(), KEY);
        let tags = quarantine.tags(&there).await.expect("tags");
        let known = [Some("unscannable"), None];
        assert!(known[..=usize::from(!told_apart)].contains(&tags.get("scan-status")), "{context}: {tags:?}");
    }
    // Nobody's last word is lost: it is where its verdict says, unless it was deleted by its writer.
    let last = plan.range(..moments).next_back().map_or(Act::Write(first), |(_, act)| *act);
    match last {
        Act::Write("fine") => assert!(get(&**clean, KEY).await.is_some(), "{context}"),
        Act::Write("infected") => assert!(get(&**infected, KEY).await.is_some(), "{context}"),
        Act::Write(_) => assert!(left.is_some() && !older, "{context}"),
        Act::Delete => {}
    }
    whole(pipeline).await;
    moments
}

/// The kinds of bucket that pin differently.
fn buckets() -> [MemoryBucket; 3] {
    [MemoryBucket::new("q"), MemoryBucket::versioned("q"), MemoryBucket::with_content_etags("q")]
        .map(|bucket| bucket.expect("a bucket"))
}

const CONTENT_ETAGS: usize = 2;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn one_act_at_every_moment() {
    let runtime = runtime();
    for first in ["fine", "infected", "locked"] {
        for (kind, listed) in (0..buckets().len()).flat_map(|kind| [(kind, false), (kind, true)]) {
            let moments = runtime.block_on(play(kind, listed, first, Plan::new()));
            // What a listing has pinned is not looked at again.
            assert!(moments >= if listed { 4 } else { 6 }, "only {moments} moments");
            for moment in 0..moments {
                for act in ACTS {
                    runtime.block_on(play(kind, listed, first, Plan::from([(moment, act)])));
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
        listed in any::<bool>(),
        plan in prop::collection::btree_map(0..40_u32, prop::sample::select(ACTS.to_vec()), 0..6),
    ) {
        runtime().block_on(play(kind, listed, first, plan));
    }
}
