//! A pipeline on what a listing has pinned: nobody looks once more, and what has changed since is found out.

use std::sync::Arc;

use futures_util::StreamExt;
use scan_pipeline::Pipeline;
use scan_pipeline::engine::Closure;
use scan_pipeline::model::Verdict;
use scan_pipeline::pipeline::Progress;
use scan_pipeline::store::{SqliteStore, TaskFilter, TaskState};
use scan_pipeline::testkit::Fault;

use super::*;

async fn pipeline(place: &Place) -> Pipeline {
    let engine = Closure::new("none", |_: &[u8], _: &str| Ok(Verdict::Clean));
    let bucket: Arc<dyn ObjectOps> = Arc::new(place.once.clone());
    let builder = Pipeline::builder().engine(engine).bucket("in", bucket);
    builder.store(SqliteStore::in_memory().await.expect("a store")).build().expect("a pipeline")
}

/// Processes all there is; the SHA-256 of each.
async fn everything(pipeline: &Pipeline) -> Vec<Option<scan_pipeline::model::ContentDigest>> {
    let events: Vec<_> = pipeline.process_prefix("in").expect("a bucket").collect().await;
    let digest = |event: &Progress| match event {
        Progress::Done(done) if done.record.state == TaskState::Done => done.report().and_then(|report| report.sha256),
        other => panic!("{other:?}"),
    };
    events.iter().map(digest).collect()
}

fn sum(bytes: &str) -> Option<scan_pipeline::model::ContentDigest> {
    Some(scan_pipeline::model::ContentDigest::of(bytes.as_bytes()))
}

on!(Versitygw Minio Moto: what_is_listed_is_read_at_once);

async fn what_is_listed_is_read_at_once(place: Place) {
    for key in ["a", "b/c", "d"] {
        place.object(key, "one").await;
    }
    let pipeline = pipeline(&place).await;
    assert_eq!(everything(&pipeline).await, vec![sum("one"); 3]);
    let seen = place.proxy.seen();
    assert_eq!(seen.iter().filter(|request| request.starts_with("HEAD")).count(), 0, "{seen:?}");
    // One listing, and one read each.
    assert_eq!(seen.iter().filter(|request| request.starts_with("GET")).count(), 1 + 3, "{seen:?}");
    // An event about the same state is the same task.
    let event = pipeline.object("in", "a").expect("the bucket");
    let again = pipeline.process(place.once.stat(&event).await.expect("is there").object).await.expect("done");
    assert!(again.repeated);
    assert_eq!(everything(&pipeline).await.len(), 3);
    let tasks = pipeline.store().tasks(&TaskFilter::default()).await.expect("reads");
    assert_eq!(tasks.len(), 3);
}

on!(Versitygw Minio Moto: an_overwrite_behind_the_listing_gives_way);

async fn an_overwrite_behind_the_listing_gives_way(place: Place) {
    place.object("a", "one").await;
    let pipeline = pipeline(&place).await;
    let overwrite = place.overwriting("a", b"other".to_vec(), PutOptions::default());
    place.proxy.add(Fault::call(overwrite).on("GET", "/a"));
    assert_eq!(everything(&pipeline).await, [sum("other")]);
    // Deleted behind the listing: on record as gone, and nobody says clean.
    place.object("b", "one").await;
    let (direct, there) = (place.direct.clone(), place.there("b"));
    place.proxy.clear();
    let delete = move || {
        let (direct, there) = (direct.clone(), there.clone());
        async move {
            let info = direct.stat(&there).await.expect("is there");
            direct.delete(&info.object).await.expect("is deleted");
        }
    };
    place.proxy.add(Fault::call(delete).on("GET", "/b").nth(1));
    let events: Vec<_> = pipeline.process_prefix("in").expect("a bucket").collect().await;
    let gone = events.iter().filter(|event| match event {
        Progress::Done(done) => done.record.state == TaskState::Gone && done.report().is_none(),
        _ => false,
    });
    assert_eq!(gone.count(), 1, "{events:?}");
}

on!(Versitygw Minio: a_listing_from_the_middle_goes_through_what_comes_before_once);

/// These servers are not asked to begin behind a key, which MinIO does not do well.
async fn a_listing_from_the_middle_goes_through_what_comes_before_once(place: Place) {
    let keys: Vec<_> = (0..1200).map(|number| format!("k{number:04}")).collect();
    futures_util::stream::iter(&keys).for_each_concurrent(16, |key| async { drop(place.object(key, "x").await) }).await;
    place.proxy.clear();
    let (mut range, mut seen) = (KeyRange { after: Some(keys[349].clone()), most: 100, ..KeyRange::default() }, vec![]);
    loop {
        let page = place.once.list(&range).await.expect("is listed");
        seen.extend(page.entries.into_iter().map(|entry| entry.expect("a good one").key));
        let Some(next) = page.next else { break };
        range.after = Some(next);
    }
    assert_eq!(seen, keys[350..]);
    let asked = place.proxy.seen().len();
    assert!(asked <= 11, "nine pages took {asked} requests");
}
