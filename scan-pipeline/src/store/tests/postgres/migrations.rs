//! Tables of the program before this one.

use super::super::migrations::{OLD, expected, id, rows, written_anew};
use super::*;
use crate::sql::postgres::Part;

/// As it was released.
const BEFORE: Part = Part {
    name: "store",
    migrations: &[
        include_str!("../../migrations/postgres/0001_start.sql"),
        include_str!("../../migrations/postgres/0002_jobs.sql"),
    ],
};

/// A database of version 2, with findings.
async fn before(database: &Database<'_>) {
    let connected = Postgres::builder(&database.url()).expect("an address").connect().await.expect("connects");
    connected.migrate(BEFORE).await.expect("migrates");
    connected.close().await;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let rows = rows(|bytes| format!("'\\x{}'", hex(bytes)));
    database.psql(&format!("SET search_path TO scan_pipeline; {rows}"));
}

fn version(database: &Database<'_>) -> String {
    database.psql("SELECT version FROM scan_pipeline.scan_pipeline_versions WHERE part = 'store'")
}

#[tokio::test]
async fn the_findings_of_before_are_read_and_written_anew() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    before(&database).await;
    let store = open(&database).await;
    assert_eq!(version(&database), "4");
    let report = store.task(id()).await.expect("reads").expect("is there").report.expect("a report");
    // A backslash is stored as two.
    assert_eq!(report.findings, expected(|layer| layer.replace("\\\\", "\\")));
    // The migration gave them the keys that the program gives them.
    let keys = || database.psql("SELECT encode(id, 'hex') FROM scan_pipeline.findings ORDER BY place");
    let migrated = keys();
    assert_eq!(migrated.lines().collect::<std::collections::BTreeSet<_>>().len(), OLD.len());
    written_anew(&store).await;
    assert_eq!(keys(), migrated);
}

/// Cut short anywhere, the tables are what they were, and the next program goes on.
#[tokio::test]
async fn an_interrupted_migration_begins_again() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    before(&database).await;
    // The migration fails behind its first statements.
    database.psql("ALTER TABLE scan_pipeline.findings RENAME CONSTRAINT findings_pkey TO other");
    assert!(PostgresStore::open(&database.url()).await.is_err());
    assert_eq!(version(&database), "2");
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'scan_pipeline' AND \
                   table_name = 'findings'";
    assert_eq!(database.psql(columns), "8");
    database.psql("ALTER TABLE scan_pipeline.findings RENAME CONSTRAINT other TO findings_pkey");
    written_anew(&open(&database).await).await;
    assert_eq!((version(&database).as_str(), database.psql(columns).as_str()), ("4", "12"));
}
