//! Whatever is changed behind the store's back is found on PostgreSQL as well.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::super::tamper::{TAMPERINGS, Way, build, statement, verified_in_use, ways};
use super::*;
use crate::store::audit;

const TABLES: [&str; 6] = ["tasks", "reports", "findings", "steps", "audit", "audit_head"];

/// What SQLite has, and no guard against mistakes.
const SCENE: &str = "
    CREATE FUNCTION randomblob(int) RETURNS bytea LANGUAGE sql AS
        'SELECT substr(sha256(convert_to(random()::text, ''UTF8'')), 1, $1)';
    CREATE FUNCTION zeroblob(int) RETURNS bytea LANGUAGE sql AS 'SELECT decode(repeat(''00'', $1), ''hex'')';
    ALTER TABLE steps ALTER name SET DEFAULT randomblob(32);
    DROP TRIGGER audit_only_grows ON audit;";

async fn check(ways: &[Way], number: u32) {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    build(&store, ways).await;
    let run = |sql: &str| {
        database.psql(&format!("SET search_path TO scan_pipeline; SET client_min_messages TO warning; {sql}"))
    };
    let each = |form: fn(&str) -> String| TABLES.map(form).join(";");
    run(SCENE);
    run(&each(|table| format!("CREATE TABLE saved_{table} AS TABLE {table}")));
    let changed = each(|table| {
        format!(
            "SELECT 1 FROM ((TABLE {table} EXCEPT TABLE saved_{table}) UNION ALL \
             (TABLE saved_{table} EXCEPT TABLE {table})) AS d LIMIT 1"
        )
    });
    for tampering in TAMPERINGS {
        run(&each(|table| {
            format!("TRUNCATE {table}; INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM saved_{table}")
        }));
        assert_eq!(audit::verify(&store).await.expect("reads").problems, Vec::<String>::new(), "before {tampering}");
        run(&format!("DROP TABLE IF EXISTS swap; {}", statement(tampering, number)));
        assert!(run(&changed).contains('1'), "changes nothing: {tampering}");
        let found = audit::verify(&store).await.expect("reads").problems;
        assert!(!found.is_empty() && found.iter().all(|problem| !problem.is_empty()), "not found: {tampering}");
    }
}

#[tokio::test]
async fn whatever_is_tampered_with_is_found() {
    let mut runner = TestRunner::default();
    for number in [0, 7] {
        check(&ways().new_tree(&mut runner).expect("ways").current(), number).await;
    }
}

#[tokio::test]
async fn the_log_only_grows() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    build(&store, &ways().new_tree(&mut TestRunner::default()).expect("ways").current()).await;
    for statement in
        ["UPDATE scan_pipeline.audit SET at = 0", "DELETE FROM scan_pipeline.audit", "TRUNCATE scan_pipeline.audit"]
    {
        let refused = std::panic::catch_unwind(|| database.psql(statement)).expect_err("refused");
        let why = refused.downcast_ref::<String>().expect("a message");
        assert!(why.contains("the audit log only grows"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_use_is_verified_without_false_alarms() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    verified_in_use(open(&database).await).await;
}
