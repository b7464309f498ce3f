//! Who gets a task.

use super::*;
use crate::handler::Place;
use crate::store::LeaseChange;

/// A task that nobody knew is made and claimed.
pub async fn a_new_task_is_ours(fixture: &StoreFixture) {
    assert_eq!(fixture.store.task(request("k").id).await.expect("reads"), None);
    let (lease, record) = fixture.mine("k").await;
    assert_eq!(lease.task, request("k").id);
    assert!(lease.fence > 0);
    assert_eq!((record.id, &record.object, record.state), (lease.task, &object("k"), TaskState::Scanning));
    assert_eq!((record.attempts, record.report.is_none(), record.steps.len()), (1, true, 0));
    assert_eq!(record, fixture.record("k").await);
}

/// While a lease holds, others are told whose it is and until when.
pub async fn a_task_is_nobody_elses(fixture: &StoreFixture) {
    let before = Timestamp::now();
    let (_, record) = fixture.mine("k").await;
    let other = ClaimRequest { owner: String::from("other"), ..request("k") };
    match fixture.store.claim(&other).await.expect("answers") {
        Claim::Busy { owner, until } => {
            assert_eq!(owner, "suite");
            // Clocks of machines differ a little.
            assert!(until.since(before) > LONG / 2, "{until}");
        }
        claim => panic!("{claim:?}"),
    }
    assert_eq!(fixture.record("k").await, record, "a claim that fails changes nothing");
}

/// Of many who claim at once one gets the task.
pub async fn only_one_of_many_claims(fixture: &StoreFixture) {
    let claims = (0..30).map(|_| {
        let store = Arc::clone(&fixture.store);
        tokio::spawn(async move { store.claim(&request("k")).await.expect("answers") })
    });
    let mut got = 0;
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.expect("no panic") {
            Claim::Mine(..) => got += 1,
            Claim::Busy { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((got, fixture.record("k").await.attempts), (1, 1));
}

/// A lease that ran out may be claimed, with a higher fence.
pub async fn a_lease_that_ran_out_is_free(fixture: &StoreFixture) {
    let short = ClaimRequest { ttl: Duration::ZERO, ..request("k") };
    let (first, _) = mine(&*fixture.store, &short).await;
    fixture.commit(&first, Changes::default()).await;
    let (second, record) = fixture.mine("k").await;
    assert!(second.fence > first.fence);
    assert_eq!(record.attempts, 2);
    fails(ErrorKind::Fenced, fixture.store.commit(&first, Changes::default()).await);
}

/// A commit may extend its lease.
pub async fn a_lease_is_extended(fixture: &StoreFixture) {
    let short = ClaimRequest { ttl: Duration::ZERO, ..request("k") };
    let (lease, _) = mine(&*fixture.store, &short).await;
    fixture.commit(&lease, Changes { lease: LeaseChange::Extend(LONG), ..Changes::default() }).await;
    assert!(matches!(fixture.store.claim(&request("k")).await.expect("answers"), Claim::Busy { .. }));
    fixture.commit(&lease, Changes { lease: LeaseChange::Extend(Duration::ZERO), ..Changes::default() }).await;
    fixture.mine("k").await;
}

/// A lease that was given back is free at once, and not to be used any more.
pub async fn a_lease_is_given_back(fixture: &StoreFixture) {
    let release = || Changes { lease: LeaseChange::Release, ..Changes::default() };
    let (first, _) = fixture.mine("k").await;
    fixture.commit(&first, release()).await;
    let before = fixture.everything("k").await;
    fails(ErrorKind::Fenced, fixture.store.commit(&first, step_done("late")).await);
    fails(ErrorKind::Fenced, fixture.store.commit(&first, release()).await);
    assert_eq!(fixture.everything("k").await, before);
    let (second, _) = fixture.mine("k").await;
    assert!(second.fence > first.fence);
}

/// Every terminal state gives the lease back, is never claimed again, and never written again.
pub async fn what_is_at_its_end_is_not_claimed(fixture: &StoreFixture) {
    for state in TaskState::ALL.into_iter().filter(|state| state.is_terminal()) {
        let key = state.as_str();
        let (lease, _) = fixture.mine(key).await;
        fixture.commit(&lease, ended(state)).await;
        let record = fixture.record(key).await;
        assert_eq!(record.state, state);
        match fixture.store.claim(&request(key)).await.expect("answers") {
            Claim::Finished(finished) => assert_eq!(*finished, record),
            claim => panic!("{claim:?}"),
        }
        let before = fixture.everything(key).await;
        fails(ErrorKind::Fenced, fixture.store.commit(&lease, step_done("late")).await);
        fails(ErrorKind::Fenced, fixture.store.commit(&lease, ended(TaskState::Done)).await);
        assert_eq!(fixture.everything(key).await, before);
    }
    fixture.whole().await;
}

/// Claims of a task that waits for its scan are counted, those that resume its workflow are not.
pub async fn attempts_are_claims_for_the_scan(fixture: &StoreFixture) {
    let release = || Changes { lease: LeaseChange::Release, ..Changes::default() };
    for attempt in 1..=3 {
        let (lease, record) = fixture.mine("k").await;
        assert_eq!(record.attempts, attempt);
        fixture.commit(&lease, Changes { state: Some(TaskState::Scanning), ..release() }).await;
    }
    let (lease, _) = fixture.mine("k").await;
    fixture.commit(&lease, Changes { lease: LeaseChange::Release, ..scanned(report(0, 0), "k") }).await;
    for _ in 0..3 {
        let (lease, record) = fixture.mine("k").await;
        assert_eq!((record.attempts, record.state), (4, TaskState::Handling));
        assert_eq!(record.report, Some(report(0, 0)));
        fixture.commit(&lease, release()).await;
    }
}

/// Before its time nobody gets a task, and asking changes nothing.
pub async fn a_task_that_waits_is_not_claimed(fixture: &StoreFixture) {
    let later = Timestamp::now().plus(LONG);
    let (lease, _) = fixture.mine("k").await;
    let wait = Changes { next_at: Some(Some(later)), lease: LeaseChange::Release, ..Changes::default() };
    fixture.commit(&lease, wait).await;
    let before = fixture.record("k").await;
    assert_eq!(before.next_at, Some(later));
    match fixture.store.claim(&request("k")).await.expect("answers") {
        Claim::NotYet { until, record } => assert_eq!((until, &*record), (later, &before)),
        claim => panic!("{claim:?}"),
    }
    assert_eq!(fixture.record("k").await, before);

    // One whose time has come is claimed.
    let (lease, _) = fixture.mine("past").await;
    let past = Changes { next_at: Some(Some(Timestamp(1))), lease: LeaseChange::Release, ..Changes::default() };
    fixture.commit(&lease, past).await;
    assert_eq!(fixture.mine("past").await.1.attempts, 2);
}

/// A dead task is opened again where it stopped, as often as it is dead, and the log says so.
pub async fn what_is_dead_is_opened_again(fixture: &StoreFixture) {
    let (lease, _) = fixture.mine("k").await;
    let moved = Place::Moved { object: object("elsewhere") };
    let output = StepOutput { place: Some(moved.clone()), ..StepOutput::none() };
    let first = StepRecord { output: Some(output.clone()), ..step("a", StepState::Done) };
    let done = Changes {
        steps: vec![first.clone()],
        place: Some(moved.clone()),
        audit: vec![NewAudit::step_done("file", "a", 1, &output)],
        ..Changes::default()
    };
    let failed = StepRecord {
        attempt: 3,
        error: Some(String::from("503")),
        next_at: Some(Timestamp(9)),
        ..step("b", StepState::Failed)
    };
    fixture.commit(&lease, scanned(report(2, 1), "k")).await;
    fixture.commit(&lease, done).await;
    fixture.commit(&lease, Changes { steps: vec![failed.clone()], ..Changes::default() }).await;
    let dead = Changes { error: Some(Some(String::from("b: 503"))), ..ended(TaskState::Dead) };
    fixture.commit(&lease, dead).await;
    for round in 1..=2 {
        let before = fixture.record("k").await;
        assert!(matches!(fixture.store.claim(&request("k")).await.expect("answers"), Claim::Finished(_)));
        let (again, record) = match fixture.store.reopen(&request("k")).await.expect("answers") {
            Claim::Mine(lease, record) => (lease, *record),
            claim => panic!("{claim:?}"),
        };
        assert!(again.fence > lease.fence);
        assert_eq!((record.state, record.attempts, &record.place), (TaskState::Handling, 1, &moved));
        assert_eq!((&record.report, record.created), (&Some(report(2, 1)), before.created));
        assert_eq!((record.error.as_deref(), record.next_at), (None, None));
        let anew = StepRecord { attempt: 0, next_at: None, state: StepState::Waiting, ..failed.clone() };
        assert_eq!(record.steps, [first.clone(), anew]);
        assert_eq!(fixture.record("k").await, record);
        let last = fixture.store.audit_head().await.expect("the head").seq - 1;
        let entry = fixture.store.audit(last, 1).await.expect("the log").remove(0);
        assert_eq!((entry.task, entry.kind.as_str()), (lease.task, "task.retried"));
        fixture.whole().await;

        // It is somebody's, and nobody else's; and the lease of its first life is no good.
        assert!(matches!(fixture.store.reopen(&request("k")).await.expect("answers"), Claim::Busy { .. }));
        fails(ErrorKind::Fenced, fixture.store.commit(&lease, step_done("late")).await);
        if round == 1 {
            let failed = Changes { steps: vec![failed.clone()], ..ended(TaskState::Dead) };
            fixture.commit(&again, failed).await;
        } else {
            fixture.commit(&again, step_done("b")).await;
            fixture.commit(&again, ended(TaskState::Done)).await;
        }
        fixture.whole().await;
    }
    let before = fixture.everything("k").await;
    assert!(matches!(fixture.store.reopen(&request("k")).await.expect("answers"), Claim::Finished(_)));
    assert_eq!(fixture.everything("k").await, before, "what is done is not opened");
}

/// A task that died before it had a report is scanned as if for the first time.
pub async fn what_died_unscanned_is_scanned_again(fixture: &StoreFixture) {
    for _ in 1..=3 {
        let (lease, _) = fixture.mine("k").await;
        fixture.commit(&lease, Changes { lease: LeaseChange::Release, ..Changes::default() }).await;
    }
    let (lease, _) = fixture.mine("k").await;
    let wait = Some(Some(Timestamp::now().plus(LONG)));
    fixture.commit(&lease, Changes { next_at: wait, ..ended(TaskState::Dead) }).await;
    let Claim::Mine(lease, record) = fixture.store.reopen(&request("k")).await.expect("answers") else {
        panic!("it is nobody's");
    };
    assert_eq!((record.state, record.attempts, record.next_at), (TaskState::Scanning, 1, None));
    fixture.commit(&lease, scanned(report(0, 1), "k")).await;
    fixture.commit(&lease, ended(TaskState::Done)).await;
    fixture.whole().await;

    // Others are claimed as ever.
    let (lease, _) = fixture.mine("other").await;
    fixture.commit(&lease, Changes { lease: LeaseChange::Release, ..Changes::default() }).await;
    for (key, attempts) in [("other", 2), ("new", 1)] {
        let before = fixture.store.audit_head().await.expect("the head");
        match fixture.store.reopen(&request(key)).await.expect("answers") {
            Claim::Mine(_, record) => assert_eq!((record.state, record.attempts), (TaskState::Scanning, attempts)),
            claim => panic!("{claim:?}"),
        }
        assert_eq!(fixture.store.audit_head().await.expect("the head"), before);
    }
}
