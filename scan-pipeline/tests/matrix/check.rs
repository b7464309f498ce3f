//! What has to be true of a history that has come to its end, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use scan_pipeline::content::Content;
use scan_pipeline::model::ObjectRef;
use scan_pipeline::objects::{LocalBucket, ObjectOps};
use scan_pipeline::queue::Queue;
use scan_pipeline::store::{JobId, JobState, JobStore, Store, TaskFilter, TaskRecord, TaskState, audit};

use crate::history::{ARCHIVED, Fate, OVERWRITTEN, before, fate, text};

/// Where objects can be in the end.
const BUCKETS: [&str; 4] = ["quarantine", "clean", "infected", "archive"];

/// Holds what is left of the objects with these numbers against their fates, the dead letters against their number, and
/// how often anybody was told against how often a process died or was frozen.
pub(crate) async fn all(
    dir: &Path,
    (store, queue): (&dyn Store, &dyn Queue),
    numbers: &[usize],
    (dead_letters, deaths): (usize, u32),
    at: &str,
) {
    let verified = audit::verify(store).await.expect("the log is read");
    assert_eq!(verified.problems, Vec::<String>::new(), "{at}");
    let mut tasks: BTreeMap<String, Vec<TaskRecord>> = BTreeMap::new();
    let mut filter = TaskFilter { most: 500, ..TaskFilter::default() };
    loop {
        let page = store.tasks(&filter).await.expect("tasks");
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        for task in page {
            assert!(task.state.is_terminal(), "{at}: {} is {}: {task:?}", task.object, task.state);
            assert!(task.attempts <= 4, "{at}: {} was begun {} times", task.object, task.attempts);
            tasks.entry(task.object.key.clone()).or_default().push(task);
        }
    }
    each_end_is_logged_once(store, at).await;
    let scanned: BTreeSet<_> = lines(dir, "scans").into_iter().collect();
    for number in numbers {
        object(dir, *number, tasks.get(&number.to_string()).map_or(&[], Vec::as_slice), at);
    }
    let handled: BTreeSet<_> =
        tasks.values().flatten().filter_map(|task| report(task, &scanned, at).filter(|_| is_done(task))).collect();
    for bucket in BUCKETS {
        tags(dir, bucket, &scanned, at).await;
    }
    for outside in ["effects", "webhooks"] {
        effects(dir, outside, &handled, deaths as usize, at);
    }
    let dead = queue.dead_letters().list(None, 100).await.expect("the dead letters");
    let reasons: Vec<_> = dead.iter().map(|letter| &letter.reason).collect();
    assert_eq!(dead.len(), dead_letters, "{at}: {reasons:?}");
}

/// A job has seen each of its objects, and counted it once.
pub(crate) async fn job(jobs: &dyn JobStore, id: &JobId, at: &str) {
    let job = jobs.job(id).await.expect("answers").expect("the job");
    let count = ARCHIVED.len() as u64;
    assert_eq!((job.state, job.error), (JobState::Done, None), "{at}");
    assert_eq!((job.totals.unscannable, job.totals.objects()), (count, count), "{at}: {:?}", job.totals);
    assert_eq!(job.shards.iter().map(|shard| shard.listed).sum::<u64>(), count, "{at}");
}

fn is_done(task: &TaskRecord) -> bool {
    task.state == TaskState::Done
}

/// One end a task, with its entry.
async fn each_end_is_logged_once(store: &dyn Store, at: &str) {
    let mut ended = BTreeSet::new();
    for entry in store.audit(0, usize::MAX).await.expect("the log") {
        if TaskState::ALL.iter().any(|state| state.is_terminal() && entry.kind == format!("task.{state}")) {
            assert!(ended.insert(entry.task), "{at}: task {} has two ends", entry.task);
        }
    }
}

/// The object is where it belongs, and its task says so.
fn object(dir: &Path, number: usize, tasks: &[TaskRecord], at: &str) {
    let (fate, _) = fate(number);
    let key = number.to_string();
    let places = BUCKETS.map(|bucket| std::fs::read_to_string(dir.join(bucket).join(&key)).ok());
    let there = Some(text(number));
    let expected = match fate {
        _ if ARCHIVED.contains(&number) => [None, None, None, there],
        Fate::Clean => [None, there, None, None],
        Fate::Infected => [None, None, there, None],
        Fate::Locked | Fate::Poison => [there, None, None, None],
        Fate::Deleted => [None, None, None, None],
    };
    let states: Vec<_> = tasks.iter().map(|task| (task.state, task.error.as_deref())).collect();
    // What it was before may have been dealt with before it was overwritten.
    let late = OVERWRITTEN.contains(&number);
    let earlier = late.then(|| before(number));
    let fits = places.iter().zip(&expected).enumerate().all(|(bucket, (there, expected))| {
        there == expected || (bucket > 0 && expected.is_none() && *there == earlier)
    });
    assert!(fits, "{at}: {key} ({fate:?}) is {places:?} and not {expected:?}: {states:?}");
    let end = match fate {
        Fate::Deleted => TaskState::Gone,
        Fate::Poison => TaskState::Dead,
        _ => TaskState::Done,
    };
    assert!(tasks.iter().any(|task| task.state == end), "{at}: {key} ({fate:?}) {states:?}");
    let done = tasks.iter().filter(|task| is_done(task)).count();
    assert!(done <= 1 + usize::from(late), "{at}: {key} was handled {done} times: {states:?}");
    assert!(fate == Fate::Poison || tasks.iter().all(|task| task.state != TaskState::Dead), "{at}: {key} {states:?}");
}

/// A task's report is of bytes that its object had and that were scanned to this verdict. What it is about: key, bytes and
/// verdict.
fn report(task: &TaskRecord, scanned: &BTreeSet<String>, at: &str) -> Option<String> {
    let (report, key) = (task.report.as_ref()?, &task.object.key);
    let number: usize = key.parse().expect("a number");
    let sha256 = report.sha256.expect("it was scanned");
    let had = [text(number), before(number)].map(|text| Content::from_bytes(text).sha256());
    assert!(had.contains(&sha256), "{at}: {key} has a report about other bytes than its own");
    let scan = format!("{sha256} {}", report.verdict.status());
    assert!(scanned.contains(&scan), "{at}: {key} has a report of a scan that never was: {scan}");
    Some(format!("{key} {scan}"))
}

/// Every object of a bucket has the tag of the verdict to which its very bytes were scanned; those that nobody could scan
/// have none.
async fn tags(dir: &Path, name: &str, scanned: &BTreeSet<String>, at: &str) {
    let bucket = LocalBucket::open(dir.join(name)).await.expect("a bucket");
    for entry in std::fs::read_dir(dir.join(name)).expect("a bucket") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let key = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("readable");
        let expected = match text.split(' ').next() {
            Some("fine") => Some("clean"),
            Some("infected") => Some("infected"),
            Some("locked") => Some("unscannable"),
            _ => None,
        };
        let tags = bucket.tags(&ObjectRef::new(bucket.url().clone(), &key)).await.expect("tags");
        assert_eq!(tags.get("scan-status"), expected, "{at}: {name}/{key}, which says {text:?}");
        let Some(status) = expected else { continue };
        let digest = Content::from_bytes(text).sha256();
        assert!(scanned.contains(&format!("{digest} {status}")), "{at}: {name}/{key} was never scanned so");
        let place = if status == "unscannable" { matches!(name, "quarantine" | "archive") } else { name == status };
        assert!(place, "{at}: {key} is {status}, and in {name}");
    }
}

/// One effect for each state that was handled, under one key, about bytes that were scanned to that verdict; and no more
/// calls under a key than processes that may have died between a call and its journal.
fn effects(dir: &Path, outside: &str, handled: &BTreeSet<String>, deaths: usize, at: &str) {
    let mut calls: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for line in lines(dir, outside) {
        let (key, what) = line.split_once(' ').expect("an effect");
        let (first, count) = calls.entry(key.to_owned()).or_insert_with(|| (what.to_owned(), 0));
        assert_eq!(first, what, "{at}: {outside} were told two things under one key");
        *count += 1;
        assert!(*count <= 1 + deaths, "{at}: {outside} were told {count} times of {what}, after {deaths} deaths");
    }
    let about: Vec<_> = calls.into_values().map(|(what, _)| what).collect();
    let once: BTreeSet<_> = about.iter().cloned().collect();
    assert_eq!(about.len(), once.len(), "{at}: {outside} were told of something under two keys: {about:?}");
    let differ: Vec<_> = once.symmetric_difference(handled).collect();
    assert!(differ.is_empty(), "{at}: {outside} and what was handled differ in {differ:?}");
}

pub(crate) fn lines(dir: &Path, file: &str) -> Vec<String> {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}
