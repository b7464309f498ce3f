//! The audit log, and what is still there when a store is opened again.

use super::*;
use crate::store::{AuditHead, CacheKey, CachedReport};

/// Entries of many who write at the same time are numbered without gaps, and the head is the last of them.
pub async fn the_log_has_no_gaps(fixture: &StoreFixture) {
    assert_eq!(fixture.store.audit_head().await.expect("the head"), AuditHead::EMPTY);
    let writers = (0..50).map(|i| {
        let store = Arc::clone(&fixture.store);
        tokio::spawn(async move {
            let key = format!("k{i}");
            let (lease, _) = mine(&*store, &request(&key)).await;
            for changes in [scanned(report(1, 0), &key), step_done("a"), ended(TaskState::Done)] {
                store.commit(&lease, changes).await.expect("written");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    let entries = fixture.store.audit(0, usize::MAX).await.expect("the log");
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=150).collect::<Vec<_>>());
    assert_eq!(fixture.store.audit_head().await.expect("the head"), entries[149].head());
    let of_one: Vec<_> =
        entries.iter().filter(|entry| entry.task == request("k7").id).map(|entry| entry.kind.as_str()).collect();
    assert_eq!(of_one, ["scanned", "step.done", "task.done"]);
    fixture.whole().await;
}

/// The log is read from any entry on, in pages of any size.
pub async fn the_log_is_read_in_pages(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    let audit: Vec<_> = (0..10).map(|i| NewAudit::new("note", json!({ "i": i }))).collect();
    fixture.commit(&lease, Changes { audit, ..Changes::default() }).await;
    let all = fixture.store.audit(0, 100).await.expect("the log");
    assert_eq!(all.len(), 10);
    assert_eq!(fixture.store.audit(3, 4).await.expect("the log"), all[3..7]);
    for (after, most) in [(10, 5), (11, 5), (u64::MAX, 5), (0, 0)] {
        assert_eq!(fixture.store.audit(after, most).await.expect("the log"), []);
    }
}

/// What the log says agrees with what the store has, for every way that a task may end.
pub async fn the_log_is_whole(fixture: &StoreFixture) {
    fixture.whole().await;
    for (i, state) in TaskState::ALL.into_iter().enumerate() {
        let key = state.as_str();
        let (lease, _) = fixture.mine(key).await;
        if i % 2 == 0 {
            fixture.commit(&lease, scanned(report(2, i), key)).await;
            fixture.commit(&lease, step_done("a")).await;
        }
        let changes = if state.is_terminal() { ended(state) } else { Changes::default() };
        fixture.commit(&lease, changes).await;
        fixture.whole().await;
    }
}

/// Opened again, the store has everything that it acknowledged, and leases and fences go on.
pub async fn what_was_acknowledged_is_there_again(fixture: &StoreFixture) {
    let (held, _) = fixture.mine("held").await;
    let (lease, _) = fixture.mine("done").await;
    let key = CacheKey { sha256: ContentDigest::of(b"1"), generation: String::from("1"), settings: String::new() };
    let cached = CachedReport { name: String::from("k"), report: report(1, 0) };
    fixture.commit(&lease, scanned(report(2, 2), "done")).await;
    fixture.commit(&lease, Changes { cache: Some((key.clone(), cached.clone())), ..step_done("a") }).await;
    fixture.commit(&lease, ended(TaskState::Done)).await;

    let again = fixture.again().await;
    for key in ["held", "done"] {
        let record = again.task(request(key).id).await.expect("reads");
        assert_eq!(record, Some(fixture.record(key).await), "{key}");
    }
    let record = again.task(lease.task).await.expect("reads").expect("is there");
    assert_eq!((record.report, record.steps), (Some(report(2, 2)), vec![step("a", StepState::Done)]));
    assert_eq!(again.cached(&key).await.expect("reads"), Some(cached));
    let entries = again.audit(0, 100).await.expect("the log");
    assert_eq!(entries, fixture.store.audit(0, 100).await.expect("the log"));
    assert_eq!(again.audit_head().await.expect("the head"), entries[2].head());
    assert!(matches!(again.claim(&request("held")).await.expect("answers"), Claim::Busy { .. }));
    assert!(matches!(again.claim(&request("done")).await.expect("answers"), Claim::Finished(_)));
    again.commit(&held, ended(TaskState::Gone)).await.expect("the lease holds there, too");
    fails(ErrorKind::Fenced, fixture.store.commit(&held, ended(TaskState::Gone)).await);
    fixture.whole().await;
}
