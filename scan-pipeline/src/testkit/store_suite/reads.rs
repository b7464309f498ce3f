//! Listings, and the verdict cache.

use super::*;
use crate::store::{CacheKey, CachedReport, LeaseChange, TaskFilter};

async fn ids(fixture: &StoreFixture, filter: TaskFilter) -> Vec<TaskId> {
    let tasks = fixture.store.tasks(&filter).await.expect("lists");
    assert!(tasks.iter().all(|task| task.steps.is_empty()), "steps are not listed");
    tasks.iter().map(|task| task.id).collect()
}

fn sorted(keys: &[&str]) -> Vec<TaskId> {
    let mut ids: Vec<_> = keys.iter().map(|key| request(key).id).collect();
    ids.sort();
    ids
}

/// Tasks are listed by their state, with their reports, ordered by id.
pub async fn listings_go_by_state(fixture: &StoreFixture) {
    assert_eq!(ids(fixture, TaskFilter::default()).await, []);
    for (key, changes) in [
        ("scanning", Changes::default()),
        ("handling", scanned(report(1, 1), "handling")),
        ("done", Changes { steps: vec![step("a", StepState::Done)], ..ended(TaskState::Done) }),
        ("dead", ended(TaskState::Dead)),
    ] {
        let (lease, _) = fixture.mine(key).await;
        fixture.commit(&lease, changes).await;
    }
    let of = |states: &[TaskState]| TaskFilter { states: states.to_vec(), ..TaskFilter::default() };
    assert_eq!(ids(fixture, of(&[])).await, sorted(&["scanning", "handling", "done", "dead"]));
    assert_eq!(ids(fixture, of(&[TaskState::Handling])).await, sorted(&["handling"]));
    let both = [TaskState::Dead, TaskState::Scanning, TaskState::Dead];
    assert_eq!(ids(fixture, of(&both)).await, sorted(&["scanning", "dead"]));
    assert_eq!(ids(fixture, of(&[TaskState::Gone])).await, []);
    let listed = fixture.store.tasks(&of(&[TaskState::Handling])).await.expect("lists");
    assert_eq!(listed, [fixture.record("handling").await]);
}

/// A listing comes in pages that give every task once.
pub async fn listings_resume(fixture: &StoreFixture) {
    let keys: Vec<_> = (0..25).map(|i| format!("k{i}")).collect();
    for (i, key) in keys.iter().enumerate() {
        let (lease, _) = fixture.mine(key).await;
        let changes = if i % 2 == 0 { ended(TaskState::Done) } else { Changes::default() };
        fixture.commit(&lease, changes).await;
    }
    for most in [1, 4, 25, 26] {
        let mut all = Vec::new();
        let mut filter = TaskFilter { most, ..TaskFilter::default() };
        loop {
            let page = ids(fixture, filter.clone()).await;
            assert!(page.len() <= most);
            let Some(last) = page.last() else { break };
            filter.after = Some(*last);
            all.extend(page);
        }
        assert_eq!(all, sorted(&keys.iter().map(String::as_str).collect::<Vec<_>>()));
    }
}

/// What is due is what nobody holds, is not at its end, and does not wait.
pub async fn what_is_due_is_listed(fixture: &StoreFixture) {
    let release = || Changes { lease: LeaseChange::Release, ..Changes::default() };
    let later = Some(Some(Timestamp::now().plus(LONG)));
    for (key, changes) in [
        ("held", Changes::default()),
        ("expired", Changes { lease: LeaseChange::Extend(Duration::ZERO), ..Changes::default() }),
        ("free", release()),
        ("waits", Changes { next_at: later, ..release() }),
        ("waited", Changes { next_at: Some(Some(Timestamp(1))), ..release() }),
        ("handling", Changes { lease: LeaseChange::Release, ..scanned(report(0, 0), "handling") }),
        ("done", ended(TaskState::Done)),
    ] {
        let (lease, _) = fixture.mine(key).await;
        fixture.commit(&lease, changes).await;
    }
    let due = |states: &[TaskState]| TaskFilter { states: states.to_vec(), due: true, ..TaskFilter::default() };
    assert_eq!(ids(fixture, due(&[])).await, sorted(&["expired", "free", "waited", "handling"]));
    assert_eq!(ids(fixture, due(&[TaskState::Handling])).await, sorted(&["handling"]));
    assert_eq!(ids(fixture, due(&[TaskState::Done])).await, []);
    let first = TaskFilter { most: 2, ..due(&[]) };
    assert_eq!(ids(fixture, first).await, sorted(&["expired", "free", "waited", "handling"])[..2]);
}

fn key(i: u32) -> CacheKey {
    let sha256 = ContentDigest::of(&i.to_be_bytes());
    CacheKey { sha256, generation: String::from("1"), settings: String::from("s\u{0}") }
}

async fn remember(fixture: &StoreFixture, lease: &Lease, key: CacheKey, name: &str) {
    let cached = CachedReport { name: name.to_owned(), report: report(2, 0) };
    fixture.commit(lease, Changes { cache: Some((key, cached)), ..Changes::default() }).await;
}

/// A verdict is found under all parts of its key, and replaced under them.
pub async fn verdicts_are_remembered(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    assert_eq!(fixture.store.cached(&key(1)).await.expect("reads"), None);
    remember(fixture, &lease, key(1), "first").await;
    let cached = fixture.store.cached(&key(1)).await.expect("reads").expect("is remembered");
    assert_eq!(cached, CachedReport { name: String::from("first"), report: report(2, 0) });
    for other in [
        key(2),
        CacheKey { generation: String::from("2"), ..key(1) },
        CacheKey { settings: String::from("s"), ..key(1) },
    ] {
        assert_eq!(fixture.store.cached(&other).await.expect("reads"), None);
    }
    remember(fixture, &lease, key(1), "second").await;
    assert_eq!(fixture.store.cached(&key(1)).await.expect("reads").expect("is remembered").name, "second");
}

/// The cache keeps to its bound: the newest stay.
pub async fn the_oldest_verdicts_make_room(fixture: &StoreFixture) {
    let Some(most) = fixture.cache_entries else { return };
    let most = u32::try_from(most).expect("a bound that a test can fill");
    let (lease, _) = fixture.mine("k").await;
    for i in 0..most + 3 {
        remember(fixture, &lease, key(i), "k").await;
    }
    let mut there = Vec::new();
    for i in 0..most + 3 {
        if fixture.store.cached(&key(i)).await.expect("reads").is_some() {
            there.push(i);
        }
    }
    assert_eq!(there, (3..most + 3).collect::<Vec<_>>());
    // Replacing makes an entry new again.
    remember(fixture, &lease, key(3), "k").await;
    remember(fixture, &lease, key(1000), "k").await;
    assert!(fixture.store.cached(&key(3)).await.expect("reads").is_some());
    assert!(fixture.store.cached(&key(4)).await.expect("reads").is_none());
}
