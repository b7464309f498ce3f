//! What every store of bulk jobs has to do: one named test for each behaviour of the contract of
//! [`JobStore`].
//!
//! ```no_run
//! use std::sync::Arc;
//! use scan_pipeline::store::{JobStore, SqliteStore};
//!
//! mod memory {
//!     use super::*;
//!
//!     async fn fixture() -> Arc<dyn JobStore> {
//!         Arc::new(SqliteStore::in_memory().await.expect("a store"))
//!     }
//!
//!     scan_pipeline::job_suite!(fixture);
//! }
//! # fn main() {}
//! ```

use crate::ErrorKind;
use crate::model::ObjectRef;
use crate::store::{
    Advance, Counters, Job, JobId, JobSource, JobState, JobStore, NewJob, OpenPage, Rescan, ShardRange,
};

/// Makes a test of each behaviour. The argument is a function that gives an empty store for one test, as an
/// `Arc<dyn JobStore>`, or `None` where there is nothing to test and it has said so.
#[macro_export]
macro_rules! job_suite {
    ($fixture:expr) => {
        $crate::job_suite!(@all $fixture,
            a_job_comes_back_as_it_was_created, the_same_job_again_changes_nothing, jobs_are_listed_the_newest_first,
            of_two_listers_one_moves_the_cursor, an_open_page_is_kept_until_the_next_step,
            a_chunk_that_is_counted_again_replaces_its_counters, a_chunk_with_fewer_objects_than_before_changes_nothing,
            a_job_is_done_when_the_last_chunk_is_counted, a_job_is_done_when_the_last_shard_ends,
            a_job_that_has_ended_stays_so, cursors_and_bounds_are_exact, an_unknown_job_is_an_error
        );
    };
    (@all $fixture:expr, $($name:ident),+) => {$(
        #[tokio::test]
        async fn $name() {
            let store: Option<std::sync::Arc<dyn $crate::store::JobStore>> = $fixture().await.into();
            let Some(store) = store else { return };
            $crate::testkit::job_suite::$name(&*store).await;
        }
    )+};
}

fn new(shards: usize) -> NewJob {
    NewJob {
        id: JobId::new(),
        source: JobSource::Prefix { bucket: "memory://suite".parse().expect("an address"), prefix: String::from("a/") },
        rescan: Rescan::Outdated,
        chunk: 500,
        shards: vec![ShardRange::default(); shards],
    }
}

async fn begun(store: &dyn JobStore, shards: usize) -> NewJob {
    let job = new(shards);
    store.create_job(&job).await.expect("it is created");
    job
}

async fn read(store: &dyn JobStore, id: &JobId) -> Job {
    store.job(id).await.expect("the store reads").expect("the job is known")
}

fn step(from: u64, chunks: u64) -> Advance {
    Advance { from, chunks, cursor: Some(format!("key {chunks}")), listed: 10 * (chunks - from), ..Advance::default() }
}

fn clean(clean: u64) -> Counters {
    Counters { clean, bytes: clean * 1000, ..Counters::default() }
}

/// Behaviour.
pub async fn a_job_comes_back_as_it_was_created(store: &dyn JobStore) {
    let manifest = ObjectRef::new("memory://lists".parse().expect("an address"), "manifest.json").with_etag("1");
    let bucket = "memory://suite".parse().expect("an address");
    for rescan in Rescan::ALL {
        let mut job = new(3);
        job.rescan = rescan;
        job.source =
            JobSource::Inventory { bucket: "memory://suite".parse().expect("an address"), manifest: manifest.clone() };
        job.shards[1] = ShardRange { after: Some(String::from("a")), before: Some(String::from("b")) };
        store.create_job(&job).await.expect("it is created");
        let back = read(store, &job.id).await;
        assert_eq!((&back.id, &back.source, back.rescan, back.chunk), (&job.id, &job.source, rescan, 500));
        assert_eq!((back.state, back.error, back.totals), (JobState::Running, None, Counters::default()));
        assert_eq!(back.source.bucket(), &bucket);
        let ranges: Vec<_> = back.shards.iter().map(|shard| (shard.number as usize, shard.range.clone())).collect();
        assert_eq!(ranges, job.shards.into_iter().enumerate().collect::<Vec<_>>());
        assert!(back.shards.iter().all(|shard| (shard.chunks, shard.counted, shard.ended) == (0, 0, false)));
    }
}

/// Behaviour.
pub async fn the_same_job_again_changes_nothing(store: &dyn JobStore) {
    let job = begun(store, 2).await;
    store.advance(&job.id, 0, &step(0, 2)).await.expect("it moves");
    let before = read(store, &job.id).await;
    store.create_job(&job).await.expect("again");
    assert_eq!(read(store, &job.id).await, before);
}

/// Behaviour.
pub async fn jobs_are_listed_the_newest_first(store: &dyn JobStore) {
    let mut ids = Vec::new();
    for number in 0..5 {
        let id = format!("{number:012x}{number:016x}").parse().expect("an id");
        store.create_job(&NewJob { id, ..new(1) }).await.expect("it is created");
        ids.insert(0, format!("{number:012x}{number:016x}"));
    }
    store.count(&ids[0].parse().expect("an id"), 0, 0, &clean(7)).await.expect("it is counted");
    let all = store.jobs(None, 10).await.expect("the store reads");
    assert_eq!(all.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ids);
    assert_eq!((all[0].totals, all[1].totals), (clean(7), Counters::default()));
    let page = store.jobs(Some(&all[1].id), 2).await.expect("the store reads");
    assert_eq!(page.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ids[2..4]);
}

/// Behaviour.
pub async fn of_two_listers_one_moves_the_cursor(store: &dyn JobStore) {
    let job = begun(store, 2).await;
    assert_eq!(store.advance(&job.id, 0, &step(0, 3)).await.expect("it moves"), Some(JobState::Running));
    let before = read(store, &job.id).await;
    assert_eq!(store.advance(&job.id, 0, &step(0, 5)).await.expect("an answer"), None, "the other one is late");
    assert_eq!(read(store, &job.id).await, before);
    assert_eq!(store.advance(&job.id, 0, &step(3, 4)).await.expect("it moves on"), Some(JobState::Running));
    let shard = &read(store, &job.id).await.shards[0];
    assert_eq!((shard.cursor.as_deref(), shard.listed, shard.chunks), (Some("key 4"), 40, 4));
    let ended = Advance { ended: true, ..step(4, 4) };
    store.advance(&job.id, 0, &ended).await.expect("it ends");
    assert_eq!(store.advance(&job.id, 0, &step(4, 5)).await.expect("an answer"), None, "it has ended");
}

/// Behaviour.
pub async fn a_chunk_that_is_counted_again_replaces_its_counters(store: &dyn JobStore) {
    let job = begun(store, 1).await;
    store.advance(&job.id, 0, &step(0, 2)).await.expect("it moves");
    let all = Counters { clean: 1, infected: 2, unscannable: 3, skipped: 4, gone: 5, failed: 6, bytes: 7 };
    for counters in [clean(3), all, all] {
        store.count(&job.id, 0, 0, &counters).await.expect("it is counted");
    }
    store.count(&job.id, 0, 1, &clean(10)).await.expect("it is counted");
    let job = read(store, &job.id).await;
    let mut sum = all;
    sum.add(&clean(10));
    assert_eq!((job.totals, job.totals.objects(), job.shards[0].counted), (sum, 31, 2));
    let head = store.job_head(&job.id).await.expect("the store reads").expect("the job is known");
    let (shards, totals, updated) = (Vec::new(), Counters::default(), head.updated);
    assert_eq!(head, Job { shards, totals, updated, ..job });
}

/// Behaviour.
pub async fn an_open_page_is_kept_until_the_next_step(store: &dyn JobStore) {
    let job = begun(store, 2).await;
    for (from, after) in [(0, None), (2, Some(String::from("a\0\"\u{10ffff}")))] {
        let bounds = vec![String::from("b\0"), "\u{20ac}".repeat(340)];
        let open = Some(OpenPage { after, bounds });
        let step = Advance { open: open.clone(), ..step(from, from + 2) };
        store.advance(&job.id, 0, &step).await.expect("it moves");
        let shards = read(store, &job.id).await.shards;
        assert_eq!((&shards[0].open, &shards[1].open), (&open, &None));
    }
    store.advance(&job.id, 0, &step(4, 4)).await.expect("it moves");
    assert_eq!(read(store, &job.id).await.shards[0].open, None);
}

/// Behaviour.
pub async fn a_chunk_with_fewer_objects_than_before_changes_nothing(store: &dyn JobStore) {
    let job = begun(store, 1).await;
    store.advance(&job.id, 0, &step(0, 2)).await.expect("it moves");
    store.count(&job.id, 0, 0, &clean(10)).await.expect("it is counted");
    for fewer in [clean(9), Counters::default(), Counters { gone: 3, failed: 6, ..Counters::default() }] {
        assert_eq!(store.count(&job.id, 0, 0, &fewer).await.expect("an answer"), JobState::Running);
    }
    let counted = read(store, &job.id).await;
    assert_eq!((counted.totals, counted.shards[0].counted), (clean(10), 1));
}

/// Behaviour.
pub async fn a_job_is_done_when_the_last_chunk_is_counted(store: &dyn JobStore) {
    let job = begun(store, 2).await;
    for shard in [0, 1] {
        let step = Advance { ended: true, ..step(0, 1) };
        assert_eq!(store.advance(&job.id, shard, &step).await.expect("it ends"), Some(JobState::Running));
    }
    assert_eq!(store.count(&job.id, 0, 0, &clean(1)).await.expect("it is counted"), JobState::Running);
    assert_eq!(store.count(&job.id, 0, 0, &clean(1)).await.expect("again"), JobState::Running);
    assert_eq!(store.count(&job.id, 1, 0, &clean(1)).await.expect("it is counted"), JobState::Done);
    assert_eq!(read(store, &job.id).await.state, JobState::Done);
}

/// Behaviour.
pub async fn a_job_is_done_when_the_last_shard_ends(store: &dyn JobStore) {
    let job = begun(store, 1).await;
    store.advance(&job.id, 0, &step(0, 1)).await.expect("it moves");
    assert_eq!(store.count(&job.id, 0, 0, &clean(1)).await.expect("it is counted"), JobState::Running);
    let ended = Advance { ended: true, ..step(1, 1) };
    assert_eq!(store.advance(&job.id, 0, &ended).await.expect("it ends"), Some(JobState::Done));
}

/// Behaviour.
pub async fn a_job_that_has_ended_stays_so(store: &dyn JobStore) {
    let job = begun(store, 1).await;
    store.advance(&job.id, 0, &step(0, 1)).await.expect("it moves");
    let ended = store.end_job(&job.id, JobState::Cancelled, Some("enough")).await.expect("it ends");
    assert_eq!(ended, JobState::Cancelled);
    let before = read(store, &job.id).await;
    assert_eq!((before.state, before.error.as_deref()), (JobState::Cancelled, Some("enough")));
    assert_eq!(store.end_job(&job.id, JobState::Failed, Some("no")).await.expect("an answer"), JobState::Cancelled);
    assert_eq!(store.advance(&job.id, 0, &step(1, 2)).await.expect("an answer"), None);
    assert_eq!(store.count(&job.id, 0, 0, &clean(1)).await.expect("an answer"), JobState::Cancelled);
    assert_eq!(read(store, &job.id).await, before);
}

/// Behaviour.
pub async fn cursors_and_bounds_are_exact(store: &dyn JobStore) {
    for key in ["", "\0", "a\0b", "\u{10ffff}", "\"'\\", "a//../b\n", "\u{7f}", &"\u{20ac}".repeat(340)] {
        let mut job = new(1);
        job.shards[0] = ShardRange { after: Some(key.to_owned()), before: Some(format!("{key}\0")) };
        store.create_job(&job).await.expect("it is created");
        let step = Advance { cursor: Some(key.to_owned()), ..step(0, 1) };
        store.advance(&job.id, 0, &step).await.expect("it moves");
        let shard = &read(store, &job.id).await.shards[0];
        assert_eq!((&shard.range, shard.cursor.as_deref()), (&job.shards[0], Some(key)));
    }
}

/// Behaviour.
pub async fn an_unknown_job_is_an_error(store: &dyn JobStore) {
    let id = JobId::new();
    assert_eq!(store.job(&id).await.expect("the store reads"), None);
    assert_eq!(store.job_head(&id).await.expect("the store reads"), None);
    let errors = [
        store.advance(&id, 0, &step(0, 1)).await.map(drop),
        store.count(&id, 0, 0, &clean(1)).await.map(drop),
        store.end_job(&id, JobState::Failed, None).await.map(drop),
    ];
    for error in errors {
        assert_eq!(error.expect_err("nobody knows it").kind(), ErrorKind::InvalidInput);
    }
}
