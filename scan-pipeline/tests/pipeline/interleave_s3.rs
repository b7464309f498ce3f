//! The same on a server of S3, with versions and without: a stranger writes and deletes before any request of ours.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use scan_pipeline::objects::ObjectOps;
use scan_pipeline::testkit::{Fault, FaultProxy};
use scan_pipeline_tests::servers::{Running, S3Server};

use crate::common::Rig;
use crate::interleave::{ACTS, Plan, Stage, play_on};

#[path = "../s3/servers.rs"]
mod servers;

/// Each takes a hundred requests or two.
const CASES: usize = 12;

async fn play(server: &'static Running, versions: bool, listed: bool, first: &'static str, plan: Plan) -> u32 {
    let proxy = FaultProxy::start(server.address()).await.expect("a port");
    let names = [(); 3].map(|()| servers::fresh(server, versions));
    let [quarantine, clean, infected] = futures_util::future::join_all(names).await.try_into().expect("three");
    let direct = async |name: &str| Arc::new(servers::open(server, name, versions).await) as Arc<dyn ObjectOps>;
    let through = async |name: &str| {
        // It honours the condition, and cannot be asked.
        let builder = servers::builder(server, &proxy.endpoint(), name).conditional_delete(true);
        Arc::new(builder.build().await.expect("a bucket")) as Arc<dyn ObjectOps>
    };
    let rig = Rig::new();
    let mut builder = rig.builder().await;
    for (name, bucket) in [("quarantine", &quarantine), ("clean", &clean), ("infected", &infected)] {
        builder = builder.bucket(name, through(bucket).await);
    }
    let stage = Stage {
        pipeline: builder.build().expect("a pipeline"),
        quarantine: direct(&quarantine).await,
        clean: direct(&clean).await,
        infected: direct(&infected).await,
        told_apart: versions,
    };
    let begin = || {
        proxy.clear();
        for (moment, act) in &plan {
            let (act, bucket) = (*act, Arc::clone(&stage.quarantine));
            let happens = Fault::call(move || {
                let bucket = Arc::clone(&bucket);
                async move { act.happens(&*bucket).await }
            });
            proxy.add(happens.nth(moment + 1));
        }
    };
    let end = || {
        let moments = proxy.seen().len();
        proxy.clear();
        u32::try_from(moments).expect("few")
    };
    play_on(&stage, listed, first, &plan, begin, end).await
}

async fn acts_at_any_requests(versions: bool) {
    let Some(server) = servers::server(S3Server::Versitygw) else { return };
    let firsts = prop::sample::select(vec!["fine", "infected", "locked"]);
    let moments = play(server, versions, false, "infected", Plan::new()).await;
    assert!(moments >= 8, "only {moments} requests");
    let acts = prop::collection::btree_map(0..moments, prop::sample::select(ACTS.to_vec()), 1..4);
    let cases = (firsts, any::<bool>(), acts);
    let mut runner = TestRunner::default();
    for _ in 0..CASES {
        let (first, listed, plan) = cases.new_tree(&mut runner).expect("a case").current();
        play(server, versions, listed, first, plan).await;
    }
}

#[tokio::test]
async fn acts_at_any_requests_with_versions() {
    acts_at_any_requests(true).await;
}

#[tokio::test]
async fn acts_at_any_requests_without_versions() {
    acts_at_any_requests(false).await;
}
