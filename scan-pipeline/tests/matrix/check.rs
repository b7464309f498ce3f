//! What has to be true of a history that has come to its end, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use scan_pipeline::queue::Queue;
use scan_pipeline::store::{Store, TaskFilter, TaskRecord, TaskState, audit};

use crate::history::{Fate, fate, text};

/// Holds what is left of the objects with these numbers against their fates, and the dead letters against their number.
pub(crate) async fn all(
    dir: &Path,
    (store, queue): (&dyn Store, &dyn Queue),
    numbers: Range<usize>,
    dead_letters: usize,
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
            assert!(task.state.is_terminal(), "{at}: {} is {}", task.object, task.state);
            assert!(task.attempts <= 4, "{at}: {} was begun {} times", task.object, task.attempts);
            tasks.entry(task.object.key.clone()).or_default().push(task);
        }
    }
    each_end_is_logged_once(store, at).await;
    let scanned = lines(dir, "scans");
    for number in numbers.clone() {
        object(dir, number, tasks.get(&number.to_string()).map_or(&[], Vec::as_slice), at);
    }
    for key in ["clean", "infected"].iter().flat_map(|bucket| std::fs::read_dir(dir.join(bucket)).expect("a bucket")) {
        let path = key.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        let digest = scan_pipeline::content::Content::from_bytes(bytes).sha256();
        let verdict = path.parent().and_then(Path::file_name).expect("a bucket").to_string_lossy().into_owned();
        assert!(scanned.contains(&format!("{digest} {verdict}")), "{at}: {} was never scanned so", path.display());
    }
    effects(dir, &scanned, numbers, at);
    let dead = queue.dead_letters().list(None, 100).await.expect("the dead letters");
    let reasons: Vec<_> = dead.iter().map(|letter| &letter.reason).collect();
    assert_eq!(dead.len(), dead_letters, "{at}: {reasons:?}");
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
    let places =
        ["quarantine", "clean", "infected"].map(|bucket| std::fs::read_to_string(dir.join(bucket).join(&key)).ok());
    let there = Some(text(number));
    let expected = match fate {
        Fate::Clean => [None, there, None],
        Fate::Infected => [None, None, there],
        Fate::Locked | Fate::Poison => [there, None, None],
        Fate::Deleted => [None, None, None],
    };
    let states: Vec<_> = tasks.iter().map(|task| (task.state, task.error.as_deref())).collect();
    assert_eq!(places, expected, "{at}: {key} ({fate:?}) {states:?}");
    let end = match fate {
        Fate::Deleted => TaskState::Gone,
        Fate::Poison => TaskState::Dead,
        _ => TaskState::Done,
    };
    assert!(tasks.iter().any(|task| task.state == end), "{at}: {key} ({fate:?}) {states:?}");
    let done = tasks.iter().filter(|task| task.state == TaskState::Done).count();
    assert!(done <= 1, "{at}: {key} was handled {done} times: {states:?}");
    assert!(fate == Fate::Poison || tasks.iter().all(|task| task.state != TaskState::Dead), "{at}: {key} {states:?}");
}

/// One effect for each state that was handled, under one key, about bytes that were scanned to that verdict.
fn effects(dir: &Path, scanned: &BTreeSet<String>, numbers: Range<usize>, at: &str) {
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines(dir, "effects") {
        let (key, what) = line.split_once(' ').expect("an effect");
        keys.entry(what.to_owned()).or_default().insert(key.to_owned());
        let (_, scan) = what.split_once(' ').expect("an object");
        assert!(scanned.contains(scan), "{at}: an effect about what was not scanned: {what}");
    }
    for (what, keys) in &keys {
        assert_eq!(keys.len(), 1, "{at}: {what} has {} effects", keys.len());
    }
    let handled = |number: &usize| !matches!(fate(*number).0, Fate::Deleted | Fate::Poison);
    assert_eq!(keys.len(), numbers.filter(handled).count(), "{at}");
}

fn lines(dir: &Path, file: &str) -> BTreeSet<String> {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}
