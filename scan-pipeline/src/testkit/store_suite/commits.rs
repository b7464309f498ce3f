//! What a commit writes, and what it does not.

use super::*;
use crate::handler::Place;
use crate::store::{CacheKey, CachedReport, LeaseChange};

/// A lease that was lost writes nothing at all.
pub async fn a_stale_lease_writes_nothing(fixture: &StoreFixture) {
    let short = ClaimRequest { ttl: Duration::ZERO, ..request("k") };
    let (stale, _) = mine(&*fixture.store, &short).await;
    let (lease, _) = fixture.mine("k").await;
    let before = fixture.everything("k").await;
    let key = CacheKey { sha256: ContentDigest::of(b"1"), generation: String::from("1"), settings: String::new() };
    let everything = Changes {
        steps: vec![step("a", StepState::Done)],
        cache: Some((key.clone(), CachedReport { name: String::from("k"), report: report(0, 0) })),
        place: Some(Place::Deleted),
        lease: LeaseChange::Extend(LONG),
        ..scanned(report(1, 1), "k")
    };
    for changes in [everything.clone(), ended(TaskState::Done), Changes::default()] {
        fails(ErrorKind::Fenced, fixture.store.commit(&stale, changes).await);
    }
    let forged = Lease { fence: lease.fence + 1, ..lease.clone() };
    fails(ErrorKind::Fenced, fixture.store.commit(&forged, everything.clone()).await);
    let unknown = Lease { task: request("other").id, fence: 1 };
    fails(ErrorKind::Fenced, fixture.store.commit(&unknown, everything.clone()).await);
    assert_eq!(fixture.everything("k").await, before);
    assert_eq!(fixture.store.cached(&key).await.expect("reads"), None);
    assert_eq!(fixture.store.task(unknown.task).await.expect("reads"), None);
    fixture.commit(&lease, everything).await;
}

/// A finding that no store can keep, in the midst of much else: nothing of it is written.
pub async fn a_commit_that_fails_leaves_nothing(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    fixture.commit(&lease, step_done("before")).await;
    let before = fixture.everything("k").await;
    let key = CacheKey { sha256: ContentDigest::of(b"1"), generation: String::from("1"), settings: String::new() };
    let mut bad = report(3, 1);
    bad.findings[2].confidence = f64::NAN;
    let changes = Changes {
        steps: vec![step("before", StepState::Failed), step("after", StepState::Done)],
        cache: Some((key.clone(), CachedReport { name: String::from("k"), report: report(0, 0) })),
        place: Some(Place::Deleted),
        error: Some(Some(String::from("an error"))),
        lease: LeaseChange::Release,
        ..scanned(bad, "k")
    };
    fails(ErrorKind::InvalidInput, fixture.store.commit(&lease, changes).await);
    assert_eq!(fixture.everything("k").await, before);
    assert_eq!(fixture.store.cached(&key).await.expect("reads"), None);
    fixture.commit(&lease, step_done("after")).await;
}

/// Of commits that come at the same time, those that fail fail alone.
pub async fn one_bad_commit_disturbs_no_other(fixture: &StoreFixture) {
    let mut leases = Vec::new();
    for i in 0..40 {
        leases.push(fixture.mine(&format!("k{i}")).await.0);
    }
    let commits = leases.into_iter().enumerate().map(|(i, lease)| {
        let store = Arc::clone(&fixture.store);
        let stale = Lease { fence: lease.fence + u64::from(i % 3 == 0), ..lease };
        tokio::spawn(async move { (i, store.commit(&stale, ended(TaskState::Done)).await) })
    });
    for commit in commits.collect::<Vec<_>>() {
        let (i, result) = commit.await.expect("no panic");
        let record = fixture.record(&format!("k{i}")).await;
        if i % 3 == 0 {
            fails(ErrorKind::Fenced, result);
            assert_eq!(record.state, TaskState::Scanning);
        } else {
            result.expect("written");
            assert_eq!(record.state, TaskState::Done);
        }
    }
    assert_eq!(fixture.store.audit_head().await.expect("the head").seq, 26);
    fixture.whole().await;
}

/// A commit says when it was written, by the clock that the task's times are from.
pub async fn a_commit_says_when(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    for changes in [step_done("a"), Changes::default(), ended(TaskState::Done)] {
        let at = fixture.store.commit(&lease, changes).await.expect("the commit is written");
        assert_eq!(fixture.record("k").await.updated, at);
    }
}

/// A task does not come to its end without the entry that says so.
pub async fn no_end_without_its_entry(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    let before = fixture.everything("k").await;
    for state in TaskState::ALL.into_iter().filter(|state| state.is_terminal()) {
        let silent = Changes { state: Some(state), ..Changes::default() };
        fails(ErrorKind::InvalidInput, fixture.store.commit(&lease, silent.clone()).await);
        let wrong = vec![NewAudit::new("task.pending", json!({})), NewAudit::new("done", json!({}))];
        fails(ErrorKind::InvalidInput, fixture.store.commit(&lease, Changes { audit: wrong, ..silent }).await);
    }
    assert_eq!(fixture.everything("k").await, before);
    fixture.commit(&lease, ended(TaskState::Dead)).await;
}

/// What a commit does not name stays.
pub async fn none_leaves_as_it_is(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    let moved = Place::Moved { object: object("elsewhere") };
    let past = Timestamp(7);
    let changes = Changes {
        place: Some(moved.clone()),
        next_at: Some(Some(past)),
        error: Some(Some(String::from("an error"))),
        steps: vec![step("a", StepState::Waiting)],
        ..scanned(report(2, 2), "k")
    };
    fixture.commit(&lease, changes).await;
    let first = fixture.record("k").await;
    assert_eq!((first.state, &first.place, first.next_at), (TaskState::Handling, &moved, Some(past)));
    assert_eq!((first.workflow.as_deref(), first.error.as_deref()), (Some("file"), Some("an error")));
    fixture.commit(&lease, Changes::default()).await;
    let second = fixture.record("k").await;
    assert_eq!(TaskRecord { updated: first.updated, ..second }, first);
    fixture.commit(&lease, Changes { next_at: Some(None), error: Some(None), ..Changes::default() }).await;
    let third = fixture.record("k").await;
    assert_eq!((third.next_at, third.error), (None, None));
}

/// A step is written again under its key, and steps keep the order of their beginning.
pub async fn steps_have_one_row_each(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    let same_name = StepRecord { workflow: String::from("other"), ..step("b", StepState::Running) };
    let begun = vec![step("b", StepState::Running), step("a", StepState::Running), same_name.clone()];
    fixture.commit(&lease, Changes { steps: begun, ..Changes::default() }).await;
    let failed = StepRecord {
        attempt: 2,
        error: Some(String::from("503")),
        next_at: Some(Timestamp(9)),
        ..step("b", StepState::Waiting)
    };
    fixture.commit(&lease, Changes { steps: vec![failed.clone()], ..Changes::default() }).await;
    let expected = vec![failed, step("a", StepState::Running), same_name.clone()];
    assert_eq!(fixture.record("k").await.steps, expected);
    let done = StepRecord { attempt: 3, ..step("b", StepState::Done) };
    fixture.commit(&lease, Changes { steps: vec![done.clone()], ..Changes::default() }).await;
    assert_eq!(fixture.record("k").await.steps, [done, step("a", StepState::Running), same_name]);

    let (other, record) = fixture.mine("other").await;
    assert!(record.steps.is_empty(), "steps are the task's own");
    fixture.commit(&other, step_done("b")).await;
    assert_eq!(fixture.record("k").await.steps.len(), 3);
}

/// Every part of a report comes back, also when it replaces another.
pub async fn a_report_is_read_as_it_was_written(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    for report in [report(3, 0), report(0, 2), report(1, 1)] {
        fixture.commit(&lease, scanned(report.clone(), "k")).await;
        assert_eq!(fixture.record("k").await.report, Some(report));
    }
}

/// Size does no harm.
pub async fn a_large_report_is_read_as_it_was_written(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    let report = report(1000, 1000);
    fixture.commit(&lease, scanned(report.clone(), "k")).await;
    fixture.commit(&lease, ended(TaskState::Done)).await;
    assert_eq!(fixture.record("k").await.report, Some(report));
    fixture.whole().await;
}

/// The same detector at the same offset of the same layer is one finding, and the first counts.
pub async fn findings_are_unique(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    let mut twice = report(2, 0);
    let unique = twice.clone();
    let mut again = twice.findings[0].clone();
    again.context = String::from("another");
    twice.findings.push(again);
    fixture.commit(&lease, scanned(twice, "k")).await;
    assert_eq!(fixture.record("k").await.report, Some(unique.clone()));
    let mut elsewhere = unique;
    for (i, finding) in elsewhere.findings.clone().into_iter().enumerate() {
        elsewhere.findings.push(Finding { layer_path: format!("layer {i}"), ..finding.clone() });
        elsewhere.findings.push(Finding { detector: format!("detector {i}"), ..finding });
    }
    fixture.commit(&lease, scanned(elsewhere.clone(), "k")).await;
    assert_eq!(fixture.record("k").await.report, Some(elsewhere));
    fixture.commit(&lease, ended(TaskState::Done)).await;
    fixture.whole().await;
}

/// What two members of one archive have at the same offset are two findings, however alike their names are.
pub async fn members_of_an_archive_keep_their_findings(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    let mut found = report(1, 0);
    let first = found.findings.remove(0);
    let long = format!("a.zip/{}", "ä".repeat(5000));
    // Names of archives are as their makers like them: with a slash at their end, with NUL, as a part of another name.
    for path in ["a.zip/b", "a.zip/b/", "a.zip/b\u{0}", "a.zip/b\\0", "a.zip/B", "a.zip", "", &long] {
        for byte_offset in [0, 1, u64::MAX] {
            found.findings.push(Finding { layer_path: path.to_owned(), byte_offset, ..first.clone() });
        }
    }
    fixture.commit(&lease, scanned(found.clone(), "k")).await;
    assert_eq!(fixture.record("k").await.report, Some(found));
    fixture.commit(&lease, ended(TaskState::Done)).await;
    fixture.whole().await;
}

/// The same report once more, as after an answer that got lost: each finding is there once. Those of another task about
/// the same bytes are its own.
pub async fn a_repeated_commit_doubles_no_finding(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    let (other, _) = fixture.mine("other").await;
    let found = report(200, 0);
    for lease in [&lease, &other, &lease, &lease] {
        fixture.commit(lease, scanned(found.clone(), "k")).await;
    }
    for key in ["k", "other"] {
        assert_eq!(fixture.record(key).await.report.as_ref(), Some(&found));
    }
    fixture.commit(&lease, scanned(report(0, 0), "k")).await;
    assert_eq!(fixture.record("k").await.report.map(|report| report.findings.len()), Some(0));
    assert_eq!(fixture.record("other").await.report, Some(found), "it is another task's");
}

/// Any text is a text: keys, names, errors.
pub async fn awkward_texts_survive(fixture: &StoreFixture) {
    let long = "ä".repeat(512);
    let texts =
        ["", "\n", "a\u{0}b", "\u{0}", "'; DROP TABLE tasks; --", "a/../b", "%2B?#", "\u{feff}日本\u{1f600}", &long];
    for text in texts {
        let (lease, record) = fixture.mine(text).await;
        assert_eq!(record.object.key, text);
        let mut changes = step_done(text);
        changes.error = Some(Some(text.to_owned()));
        changes.audit.push(NewAudit::new(format!("note {text}"), json!({ "text": text })));
        changes.workflow = Some(text.to_owned());
        fixture.commit(&lease, changes).await;
        let record = fixture.record(text).await;
        assert_eq!((record.object, record.error.as_deref()), (object(text), Some(text)));
        assert_eq!((record.workflow.as_deref(), record.steps), (Some(text), vec![step(text, StepState::Done)]));
        let last = fixture.store.audit_head().await.expect("the head").seq - 1;
        let entries = fixture.store.audit(last, 10).await.expect("the log");
        assert_eq!((entries.len(), &entries[0].kind), (1, &format!("note {text}")));
        let body: serde_json::Value = serde_json::from_str(&entries[0].body).expect("JSON");
        assert_eq!(body["text"], text);
    }
    fixture.whole().await;
}

/// Calls whose futures are dropped at any moment are done in full or not at all.
pub async fn a_dropped_call_is_done_or_not(fixture: &StoreFixture) {
    use std::task::Poll;
    for polls in 0..20 {
        let key = format!("k{polls}");
        let (lease, _) = fixture.mine(&key).await;
        let mut changes = step_done("a");
        changes.steps.push(step("b", StepState::Running));
        let mut left = polls;
        {
            let mut commit = fixture.store.commit(&lease, changes);
            std::future::poll_fn(|cx| {
                while left > 0 {
                    left -= 1;
                    if commit.as_mut().poll(cx).is_ready() {
                        break;
                    }
                }
                Poll::Ready(())
            })
            .await;
        }
        // Through the same door: what was under way has been dealt with when this is answered.
        fixture.commit(&lease, Changes::default()).await;
        let steps = fixture.record(&key).await.steps.len();
        let entries = fixture.store.audit(0, usize::MAX).await.expect("the log");
        let logged = entries.iter().filter(|entry| entry.task == lease.task).count();
        assert!(matches!((steps, logged), (0, 0) | (2, 1)), "{steps} steps and {logged} entries");
    }
    fixture.whole().await;
}
