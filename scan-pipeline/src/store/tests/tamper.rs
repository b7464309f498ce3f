//! Whatever is changed behind the store's back is found, and nothing else is.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::handler::{Place, StepOutput};
use crate::model::{ContentDigest, EngineInfo, Finding, ObjectRef, Report, TaskId, Threat, Timestamp, Verdict};
use crate::sql::fixture::execute;
use crate::store::{
    Changes, Claim, ClaimRequest, NewAudit, SqliteStore, StepRecord, StepState, Store, TaskState, audit,
};

/// One task's way.
#[derive(Debug, Clone)]
pub(super) struct Way {
    scanned: bool,
    steps: usize,
    end: Option<TaskState>,
}

fn way() -> impl Strategy<Value = Way> {
    let states = vec![Some(TaskState::Done), Some(TaskState::Dead), Some(TaskState::Gone), None];
    (any::<bool>(), 0..3_usize, prop::sample::select(states)).prop_map(|(scanned, steps, end)| Way {
        scanned,
        steps,
        end,
    })
}

/// The first is done with everything that a task can have; the second is not done, and the third is dead.
pub(super) fn ways() -> impl Strategy<Value = Vec<Way>> {
    let full = Way { scanned: true, steps: 2, end: Some(TaskState::Done) };
    let open = Way { scanned: false, steps: 0, end: None };
    let dead = Way { end: Some(TaskState::Dead), ..full.clone() };
    let always = vec![full, open, dead];
    prop::collection::vec(way(), 0..4).prop_map(move |more| [always.clone(), more].concat())
}

fn report(i: usize) -> Report {
    let threats = vec![Threat { signature: format!("Test-{i}"), layer_path: String::from("a.zip/b") }];
    let mut report = Report::new(Verdict::Infected { threats }, EngineInfo::new("test", "1", "2"));
    report.sha256 = Some(ContentDigest::of(&[0]));
    report.findings = vec![Finding {
        detector: String::from("card"),
        masked_match: String::from("4***"),
        context: String::from("c"),
        layer_path: String::from("l"),
        byte_offset: 7,
        raw_offset: Some(9),
        confidence: 0.1,
        tags: vec![String::from("test")],
        fingerprint: String::from("f"),
    }];
    report
}

pub(super) async fn build(store: &dyn Store, ways: &[Way]) {
    let mut leases = Vec::new();
    for i in 0..ways.len() {
        let object = ObjectRef::new("memory://tamper".parse().expect("an address"), i.to_string()).with_etag("1");
        let id = TaskId::of(&object, 0);
        let request = ClaimRequest { id, object, owner: String::from("t"), ttl: std::time::Duration::from_secs(60) };
        let Claim::Mine(lease, record) = store.claim(&request).await.expect("answers") else { panic!("not free") };
        leases.push((lease, record));
    }
    // Round by round, so that the entries of the tasks are mixed.
    for round in 0..4_usize {
        for (i, (way, (lease, record))) in ways.iter().zip(&leases).enumerate() {
            let changes = match round {
                0 if way.scanned => Changes {
                    state: Some(TaskState::Handling),
                    report: Some(report(i)),
                    workflow: Some(String::from("w")),
                    audit: vec![NewAudit::scanned(&report(i), Some("w"), &record.object)],
                    ..Changes::default()
                },
                1 | 2 if round <= way.steps => {
                    let output = StepOutput::new(json!({ "n": round, "r": 0.1 + 0.2 })).with_place(Place::Deleted);
                    let step = format!("s{round}");
                    Changes {
                        audit: vec![NewAudit::step_done("w", &step, 1, &output)],
                        place: Some(Place::Deleted),
                        steps: vec![StepRecord {
                            workflow: String::from("w"),
                            step,
                            state: StepState::Done,
                            attempt: 1,
                            output: Some(output),
                            error: None,
                            next_at: None,
                            updated: Timestamp::now(),
                        }],
                        ..Changes::default()
                    }
                }
                3 if way.end.is_some() => Changes {
                    state: way.end,
                    audit: way.end.map(|state| NewAudit::task(state, json!({ "i": i }))).into_iter().collect(),
                    ..Changes::default()
                },
                _ => continue,
            };
            store.commit(lease, changes).await.expect("written");
        }
    }
}

/// Statements that change what the log vouches for, one case each. `R` is some number, `DONE` a task that is done with
/// everything. Other databases than SQLite get its `randomblob` and `zeroblob`.
pub(super) const TAMPERINGS: &[&str] = &[
    // Any field of any entry.
    "UPDATE audit SET at = at + 1 WHERE seq = 1 + R % (SELECT max(seq) FROM audit)",
    "UPDATE audit SET kind = kind || 'x' WHERE seq = 1 + R % (SELECT max(seq) FROM audit)",
    "UPDATE audit SET body = body || ' ' WHERE seq = 1 + R % (SELECT max(seq) FROM audit)",
    "UPDATE audit SET task = randomblob(32) WHERE seq = 1 + R % (SELECT max(seq) FROM audit)",
    "UPDATE audit SET previous = randomblob(32) WHERE seq = 1 + R % (SELECT max(seq) FROM audit)",
    "UPDATE audit SET hash = randomblob(32) WHERE seq = 1 + R % (SELECT max(seq) FROM audit)",
    "UPDATE audit SET hash = zeroblob(1) WHERE seq = 1 + R % (SELECT max(seq) FROM audit)",
    "UPDATE audit SET seq = 100000 + R WHERE seq = 1 + R % (SELECT max(seq) FROM audit)",
    // Removed: first, last, in the middle, the tail, everything.
    "DELETE FROM audit WHERE seq = 1",
    "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
    "DELETE FROM audit WHERE seq = 1 + R % (SELECT max(seq) FROM audit)",
    "DELETE FROM audit WHERE seq > R % (SELECT max(seq) FROM audit)",
    "DELETE FROM audit",
    // Removed, and those behind it moved up.
    "DELETE FROM audit WHERE seq = 1; UPDATE audit SET seq = seq - 1; UPDATE audit_head SET seq = seq - 1",
    // The tail removed, and the head made to fit: the tasks still know.
    "DELETE FROM audit WHERE seq > 1;
     UPDATE audit_head SET (seq, hash) = (SELECT seq, hash FROM audit WHERE seq = 1)",
    "DELETE FROM audit; UPDATE audit_head SET seq = 0, hash = zeroblob(32)",
    // Inserted at the end, and in the middle.
    "INSERT INTO audit SELECT seq + 1, at, task, 'note', body, hash, randomblob(32) FROM audit
     ORDER BY seq DESC LIMIT 1",
    "UPDATE audit SET seq = -seq - 1 WHERE seq > 1; UPDATE audit SET seq = -seq WHERE seq < 0;
     INSERT INTO audit SELECT 2, at, task, 'note', body, hash, previous FROM audit WHERE seq = 1;
     UPDATE audit_head SET seq = seq + 1",
    // Swapped: neighbours, and the first with the last.
    "UPDATE audit SET seq = -1 WHERE seq = 1; UPDATE audit SET seq = 1 WHERE seq = 2;
     UPDATE audit SET seq = 2 WHERE seq = -1",
    "CREATE TABLE swap AS SELECT task, kind, body FROM audit WHERE seq = 1;
     UPDATE audit SET (task, kind, body) = (SELECT task, kind, body FROM audit ORDER BY seq DESC LIMIT 1) WHERE seq = 1;
     UPDATE audit SET (task, kind, body) = (SELECT task, kind, body FROM swap)
     WHERE seq = (SELECT max(seq) FROM audit)",
    // The head.
    "UPDATE audit_head SET seq = seq - 1",
    "UPDATE audit_head SET seq = seq + 1",
    "UPDATE audit_head SET hash = randomblob(32)",
    "DELETE FROM audit_head",
    // A dead one is to be handled once more, without a word about it, or was never scanned.
    "UPDATE tasks SET state = 'handling' WHERE id = (SELECT id FROM tasks WHERE state = 'dead' LIMIT 1)",
    "DELETE FROM reports WHERE task = (SELECT id FROM tasks WHERE state = 'dead' AND workflow IS NOT NULL LIMIT 1)",
    // A task that is not done becomes so, and one that is done is to be done again, or otherwise, or never was.
    "UPDATE tasks SET state = 'done' WHERE id = (SELECT id FROM tasks WHERE state = 'scanning' LIMIT 1)",
    "UPDATE tasks SET state = 'pending' WHERE id = (SELECT id FROM tasks WHERE state = 'done' LIMIT 1)",
    "UPDATE tasks SET state = 'superseded' WHERE id = (SELECT id FROM tasks WHERE state = 'done' LIMIT 1)",
    "DELETE FROM tasks WHERE id = (SELECT id FROM tasks WHERE state = 'done' LIMIT 1)",
    "UPDATE tasks SET state = 'dead' WHERE state = 'scanning' AND id IN (SELECT id FROM tasks LIMIT 10);
     UPDATE tasks SET state = 'pending' WHERE state = 'done'",
    // Another verdict, other bytes, another workflow, another place.
    r#"UPDATE reports SET report = replace(report, '"infected"', '"unscannable"') WHERE task IN DONE"#,
    "UPDATE reports SET report = replace(report, 'Test-', 'Other-') WHERE task IN DONE",
    r#"UPDATE reports SET report = replace(report, '"sha256":"6', '"sha256":"7') WHERE task IN DONE"#,
    "UPDATE reports SET report = '{' WHERE task IN DONE",
    "DELETE FROM reports WHERE task IN DONE",
    "UPDATE tasks SET workflow = 'other' WHERE id IN DONE",
    "UPDATE tasks SET workflow = NULL WHERE id IN DONE",
    r#"UPDATE tasks SET place = '{"place":"here"}' WHERE id IN DONE"#,
    // Findings.
    "DELETE FROM findings WHERE task IN DONE",
    "UPDATE findings SET confidence = 0.2 WHERE task IN DONE",
    "UPDATE findings SET byte_offset = 8 WHERE task IN DONE",
    "UPDATE findings SET masked_match = '5***' WHERE task IN DONE",
    "UPDATE findings SET raw_offset = NULL WHERE task IN DONE",
    "UPDATE findings SET tags = '[]' WHERE task IN DONE",
    "UPDATE findings SET tags = '[' WHERE task IN DONE",
    "UPDATE findings SET fingerprint = '' WHERE task IN DONE",
    r#"UPDATE reports SET report = replace(report, '"findings_omitted":0', '"findings_omitted":1') WHERE task IN DONE"#,
    // Steps.
    r#"UPDATE steps SET output = '{"value":1}' WHERE task IN DONE AND step = 's1'"#,
    "UPDATE steps SET output = NULL WHERE task IN DONE AND step = 's1'",
    "UPDATE steps SET state = 'failed' WHERE task IN DONE AND step = 's2'",
    "UPDATE steps SET step = 's9' WHERE task IN DONE AND step = 's2'",
    "DELETE FROM steps WHERE task IN DONE AND step = 's2'",
    "INSERT INTO steps (task, workflow, step, state, attempt, updated)
     SELECT id, 'w', 'more', 'done', 1, 1 FROM tasks WHERE id IN DONE",
];

/// One of [`TAMPERINGS`], to be executed.
pub(super) fn statement(tampering: &str, number: u32) -> String {
    let done = "(SELECT id FROM tasks WHERE state = 'done' AND place LIKE '%deleted%' AND workflow IS NOT NULL \
                AND id IN (SELECT task FROM steps WHERE step = 's2') ORDER BY id LIMIT 1)";
    tampering.replace(" R", &format!(" {number}")).replace("DONE", done)
}

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).foreign_keys(false).connect().await.expect("opens")
}

async fn problems(path: &Path) -> Vec<String> {
    let store = SqliteStore::open(path).await.expect("opens");
    let problems = audit::verify(&store).await.expect("reads").problems;
    store.close().await.expect("closes");
    problems
}

async fn check(ways: &[Way], number: u32) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).await.expect("a store");
    build(&store, ways).await;
    assert_eq!(audit::verify(&store).await.expect("reads").problems, Vec::<String>::new());
    store.close().await.expect("closes");
    for (i, tampering) in TAMPERINGS.iter().enumerate() {
        let copy = directory.path().join(format!("{i}.db"));
        std::fs::copy(&path, &copy).expect("copies");
        let mut connection = connect(&copy).await;
        execute(&mut connection, "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_removed").await;
        execute(&mut connection, &statement(tampering, number)).await;
        let changed: i64 =
            sqlx::query_scalar("SELECT total_changes()").fetch_one(&mut connection).await.expect("counts");
        connection.close().await.expect("closes");
        assert!(changed > 0, "changes nothing: {tampering}");
        let found = problems(&copy).await;
        assert!(!found.is_empty(), "not found: {tampering}");
        assert!(found.iter().all(|problem| !problem.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_is_tampered_with_is_found(ways in ways(), number in 0..1000_u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(&ways, number));
    }
}

#[tokio::test]
async fn a_store_in_use_is_verified_without_false_alarms() {
    verified_in_use(SqliteStore::in_memory().await.expect("a store")).await;
}

/// Verifies a store again and again while somebody writes to it.
pub(super) async fn verified_in_use(store: impl Store + Clone) {
    let full = Way { scanned: true, steps: 2, end: Some(TaskState::Done) };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            let (mut n, mut dead) = (0_usize, Vec::new());
            // A writer without an end could be faster than each verification after it.
            while !*stopped.borrow() && n < 1000 {
                let object = ObjectRef::new("memory://busy".parse().expect("an address"), n.to_string()).with_etag("1");
                let (id, owner) = (TaskId::of(&object, 0), String::from("t"));
                let request = ClaimRequest { id, object, owner, ttl: std::time::Duration::from_secs(60) };
                let Claim::Mine(lease, _) = store.claim(&request).await.expect("answers") else { panic!("not free") };
                let ended = |state| Changes {
                    state: Some(state),
                    audit: vec![NewAudit::task(state, json!({}))],
                    ..Changes::default()
                };
                // Every third dies, and every third of these is opened again at once, and those before it later.
                if n % 3 != 0 {
                    store.commit(&lease, ended(TaskState::Gone)).await.expect("written");
                } else {
                    store.commit(&lease, ended(TaskState::Dead)).await.expect("written");
                    dead.push(request);
                    if n % 9 == 0 {
                        for request in dead.drain(..) {
                            let Claim::Mine(lease, _) = store.reopen(&request).await.expect("answers") else {
                                panic!("not free")
                            };
                            store
                                .commit(&lease, ended([TaskState::Gone, TaskState::Dead][n % 2]))
                                .await
                                .expect("written");
                        }
                    }
                }
                n += 1;
            }
            n
        }
    });
    build(&store, &vec![full; 20]).await;
    for _ in 0..20 {
        assert_eq!(audit::verify(&store).await.expect("reads").problems, Vec::<String>::new());
    }
    // It may have come to its end by itself.
    let _ = stop.send(true);
    assert!(writer.await.expect("no panic") > 0);
}
