//! Stores of the program before this one, whose findings said less.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::SqliteStore;
use crate::Error;
use crate::handler::Place;
use crate::model::{EngineInfo, Finding, ObjectRef, Report, TaskId, Verdict};
use crate::store::{Changes, Claim, ClaimRequest, Lease, NewAudit, Store, TaskState};

/// Layer, detector and offset of what is in it.
pub(super) const OLD: [(&str, &str, i64); 4] =
    [("a.zip/b", "card", 7), ("a.zip/c", "card", 7), ("a.zip/ü'\\\\", "card", 7), ("a.zip/b", "ssn", -1)];

pub(super) fn object() -> ObjectRef {
    ObjectRef::new("memory://before".parse().expect("an address"), "a.zip").with_etag("1")
}

pub(super) fn id() -> TaskId {
    TaskId::of(&object(), 0)
}

/// The statements that make one task with a report and findings, where `blob` writes a hash and `escaped` says whether a
/// backslash is doubled.
pub(super) fn rows(blob: impl Fn(&[u8]) -> String) -> String {
    let id = blob(&id().0.0);
    let text = |value: &str| value.replace('\'', "''");
    let object = text(&json!(object()).to_string());
    let place = json!(Place::Here);
    let mut report = json!(Report::new(Verdict::Clean, EngineInfo::new("test", "1", "2")));
    report.as_object_mut().map(|report| report.remove("findings_omitted"));
    let mut sql = format!(
        "INSERT INTO tasks (id, object, state, attempts, place, created, updated, fence, lease_owner, lease_until) \
         VALUES ({id}, '{object}', 'handling', 1, '{place}', 1, 1, 1, NULL, NULL); \
         INSERT INTO reports (task, report) VALUES ({id}, '{report}');"
    );
    for (at, (layer, detector, offset)) in OLD.iter().enumerate() {
        let layer = text(layer);
        sql += &format!(
            "INSERT INTO findings (task, layer_path, detector, byte_offset, place, masked_match, context, confidence) \
             VALUES ({id}, '{layer}', '{detector}', {offset}, {at}, '4***', 'c', 0.5);"
        );
    }
    sql
}

/// What is read of it now. `layer` gives a layer's name as it was before it was stored.
pub(super) fn expected(layer: impl Fn(&str) -> String) -> Vec<Finding> {
    let finding = |(path, detector, offset): &(&str, &str, i64)| Finding {
        detector: (*detector).to_owned(),
        masked_match: String::from("4***"),
        context: String::from("c"),
        layer_path: layer(path),
        byte_offset: offset.cast_unsigned(),
        confidence: 0.5,
        ..Finding::default()
    };
    OLD.iter().map(finding).collect()
}

/// Takes the task and writes the same report anew: what was there gives way to it, row by row.
pub(super) async fn written_anew(store: &dyn Store) {
    let record = store.task(id()).await.expect("reads").expect("is there");
    let (before, object) = (record.report.expect("a report"), object());
    let ttl = std::time::Duration::from_secs(60);
    let request = ClaimRequest { id: id(), object: object.clone(), owner: String::from("t"), ttl };
    let Claim::Mine(lease, _) = store.claim(&request).await.expect("answers") else { panic!("not free") };
    let Lease { task, .. } = &lease;
    assert_eq!(*task, id());
    let audit = vec![NewAudit::scanned(&before, None, &object)];
    let changes =
        Changes { state: Some(TaskState::Handling), report: Some(before.clone()), audit, ..Changes::default() };
    store.commit(&lease, changes).await.expect("written");
    assert_eq!(store.task(id()).await.expect("reads").expect("is there").report, Some(before));
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.expect("opens")
}

async fn execute(connection: &mut SqliteConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect(sql);
}

/// A file of version 2.
async fn before(path: &Path) -> SqliteConnection {
    let mut connection = raw(path).await;
    execute(&mut connection, include_str!("../migrations/sqlite/0001_start.sql")).await;
    execute(&mut connection, include_str!("../migrations/sqlite/0002_jobs.sql")).await;
    execute(&mut connection, "PRAGMA application_id = 1399025232; PRAGMA user_version = 2").await;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    execute(&mut connection, &rows(|bytes| format!("x'{}'", hex(bytes)))).await;
    connection
}

async fn open(path: &Path) -> Result<SqliteStore, Error> {
    SqliteStore::open(path).await
}

#[tokio::test]
async fn the_findings_of_before_are_read_and_written_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    before(&path).await.close().await.expect("closes");
    let store = open(&path).await.expect("a store");
    let report = store.task(id()).await.expect("reads").expect("is there").report.expect("a report");
    assert_eq!(report.findings, expected(str::to_owned));
    assert_eq!(report.findings_omitted, 0);
    written_anew(&store).await;
    store.close().await.expect("closes");
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut raw(&path).await).await.expect("reads");
    assert_eq!(version, 4);
}

/// Cut short anywhere, the file is what it was, and the next program goes on.
#[tokio::test]
async fn an_interrupted_migration_begins_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let mut connection = before(&path).await;
    // The last of its columns is there already, so the migration fails behind the others.
    execute(&mut connection, "ALTER TABLE findings ADD COLUMN fingerprint TEXT NOT NULL DEFAULT ''").await;
    connection.close().await.expect("closes");
    assert!(open(&path).await.is_err());
    let mut connection = raw(&path).await;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await.expect("reads");
    let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info('findings')")
        .fetch_all(&mut connection)
        .await
        .expect("reads");
    assert_eq!((version, columns.contains(&String::from("raw_offset"))), (2, false), "{columns:?}");
    execute(&mut connection, "ALTER TABLE findings DROP COLUMN fingerprint").await;
    connection.close().await.expect("closes");
    written_anew(&open(&path).await.expect("goes on")).await;
}

/// The form of a report that another program left in the cache.
#[test]
fn the_cache_of_before_is_read() {
    let mut form: Value = json!(Report::new(Verdict::Clean, EngineInfo::new("test", "1", "2")));
    form.as_object_mut().map(|form| form.remove("findings_omitted"));
    let cached = json!({ "name": "a", "report": form });
    let read: crate::store::CachedReport = serde_json::from_value(cached).expect("a report");
    assert_eq!(read.report.findings_omitted, 0);
}
