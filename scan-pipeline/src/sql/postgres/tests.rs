//! What can be wrong with a server, its database, and the way to it.

use std::time::{Duration, Instant};

use scan_pipeline_tests::postgres::{self, Database};

use super::*;
use crate::sql::fixture::is;

const PART: Part = Part { name: "test", migrations: &["CREATE TABLE one (n int)", "CREATE TABLE two (n int)"] };

async fn connect(url: &str) -> Result<Postgres> {
    Postgres::builder(url)?.connect().await
}

async fn open(database: &Database<'_>) -> Postgres {
    connect(&database.url()).await.expect("connects")
}

async fn ask(database: &Postgres, sql: &'static str) -> Result<String> {
    let mut session = database.session().await?;
    let asking = async { sqlx::query_scalar(sql).fetch_one(session.connection()).await.map_err(failed("asking")) };
    let answer = database.run("asking", asking).await?;
    session.done();
    Ok(answer)
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_without_the_password() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let url = database.url();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let wrong = url.replace("test%2Fpassword", "hunter2");
    for (url, kind, retryable, words) in [
        (database.url_at(closed), ErrorKind::Unavailable, true, "cannot be reached"),
        (wrong, ErrorKind::Denied, false, "check user and password"),
        (url.replace("test_", "none_"), ErrorKind::Config, false, "createdb"),
        (url.replace("127.0.0.1", "no-such-host.invalid"), ErrorKind::Unavailable, true, "cannot be reached"),
    ] {
        let error = connect(&url).await.expect_err("this has to fail");
        is(&error, kind, retryable, words);
        assert!(error.context().is_some_and(|name| name.starts_with("postgres://tester@")), "{error}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains(server.password()) && !text.contains("%2F") && !text.contains("hunter2"), "{text}");
    }
    let open = open(&database).await;
    let text = format!("{open:?} {}", open.name());
    assert!(!text.contains(server.password()) && !text.contains("%2F"), "{text}");
}

#[tokio::test]
async fn too_many_connections_pass() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let name = database.name();
    database.psql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'x' CONNECTION LIMIT 1"));
    let url = database.url().replace("tester:test%2Fpassword", &format!("{name}:x"));
    let first = connect(&url).await.expect("connects");
    let held = first.session().await.expect("a connection");
    is(&first.session().await.map(drop).expect_err("one is allowed"), ErrorKind::Busy, true, "no connection left");
    held.done();
    assert_eq!(ask(&first, "SELECT 'a'").await.expect("answers"), "a");
    // This user may not make a schema here.
    is(&first.migrate(PART).await.expect_err("not allowed"), ErrorKind::Denied, false, "lacks a privilege");
    first.close().await;
    is(&first.session().await.map(drop).expect_err("is closed"), ErrorKind::Unavailable, false, "closed");
    database.psql(&format!("DROP ROLE {name}"));
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let Some(server) = postgres::start() else { return };
    let made = server.database();
    let builder = Postgres::builder(&made.url()).expect("an address").connections(2);
    let builder = builder.timeout(Duration::from_secs(2)).connect_timeout(Duration::from_secs(2));
    let database = builder.connect().await.expect("connects");

    // Too long for the server's own limit.
    is(&ask(&database, "SELECT pg_sleep(60)::text").await.expect_err("too long"), ErrorKind::Timeout, true, "in time");
    // Somebody froze in the midst of a transaction: the server lets go of what they hold.
    database.migrate(PART).await.expect("migrates");
    let mut frozen = database.session().await.expect("a connection");
    sqlx::raw_sql("BEGIN; LOCK TABLE one").execute(frozen.connection()).await.expect("locks");
    assert_eq!(ask(&database, "SELECT count(*)::text FROM one").await.expect("waits for it"), "0");
    assert!(sqlx::raw_sql("COMMIT").execute(frozen.connection()).await.is_err());
    drop(frozen);

    // All are in use.
    let held = [database.session().await.expect("one"), database.session().await.expect("two")];
    is(&database.session().await.map(drop).expect_err("no third"), ErrorKind::Busy, true, "in use");
    held.into_iter().for_each(Session::done);

    let since = Instant::now();
    let ice = server.freeze();
    is(&ask(&database, "SELECT 'a'").await.expect_err("frozen"), ErrorKind::Timeout, true, "did not answer within");
    let builder = Postgres::builder(&made.url()).expect("an address").connect_timeout(Duration::from_millis(300));
    is(&builder.connect().await.expect_err("frozen"), ErrorKind::Timeout, true, "did not answer within");
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
    drop(ice);
    assert_eq!(ask(&database, "SELECT 'a'").await.expect("thawed"), "a");

    server.stop();
    is(&ask(&database, "SELECT 'a'").await.expect_err("stopped"), ErrorKind::Unavailable, true, "hung up");
    is(&ask(&database, "SELECT 'a'").await.expect_err("stopped"), ErrorKind::Unavailable, true, "reached");
    server.start_again();
    assert_eq!(ask(&database, "SELECT 'a'").await.expect("is back"), "a");
}

#[tokio::test]
async fn a_connection_left_in_the_midst_is_not_used_again() {
    let Some(server) = postgres::shared() else { return };
    let made = server.database();
    let database = open(&made).await;
    let mut session = database.session().await.expect("a connection");
    sqlx::raw_sql("BEGIN; CREATE TABLE public.half (n int)").execute(session.connection()).await.expect("works");
    drop(session);
    for _ in 0..20 {
        assert_eq!(
            ask(&database, "SELECT count(*)::text FROM pg_tables WHERE tablename = 'half'").await.expect("answers"),
            "0"
        );
    }
}

#[tokio::test]
async fn settings_of_others_do_not_matter() {
    let Some(server) = postgres::shared() else { return };
    let made = server.database();
    for setting in [
        "synchronous_commit = off",
        "default_transaction_isolation = serializable",
        "default_transaction_read_only = on",
        "standard_conforming_strings = off",
        "timezone = 'Asia/Kathmandu'",
        "datestyle = 'German'",
        "search_path = nowhere",
        "statement_timeout = '7min'",
        "bytea_output = escape",
    ] {
        server.psql("postgres", &format!("ALTER DATABASE {} SET {setting}", made.name()));
    }
    let database = open(&made).await;
    database.migrate(PART).await.expect("migrates");
    assert_eq!(ask(&database, "SHOW synchronous_commit").await.expect("answers"), "on");
    assert_eq!(ask(&database, "SHOW statement_timeout").await.expect("answers"), "24s");
    assert_eq!(made.psql("SELECT count(*) FROM scan_pipeline.two"), "0");
    // What is stricter stays.
    server.psql("postgres", &format!("ALTER DATABASE {} SET synchronous_commit = remote_apply", made.name()));
    assert_eq!(ask(&open(&made).await, "SHOW synchronous_commit").await.expect("answers"), "remote_apply");
}

#[tokio::test]
async fn a_database_for_some_texts_only_is_refused() {
    let Some(server) = postgres::shared() else { return };
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let made = server.database_with(&format!("ENCODING '{encoding}'"));
        is(&connect(&made.url()).await.expect_err("refused"), ErrorKind::Config, false, encoding);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_migrate_at_once() {
    let Some(server) = postgres::shared() else { return };
    let made = server.database();
    let url = made.url();
    let all = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { connect(&url).await.expect("connects").migrate(PART).await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.expect("no panic").expect("migrates");
    }
    assert_eq!(made.psql("SELECT * FROM scan_pipeline.scan_pipeline_versions"), "test|2");
}

#[tokio::test]
async fn a_migration_that_is_interrupted_begins_again() {
    let Some(server) = postgres::shared() else { return };
    let made = server.database();
    let database = open(&made).await;
    let fails =
        Part { name: "test", migrations: &["CREATE TABLE one (n int)", "CREATE TABLE two (n int); SELECT 1 / 0"] };
    assert!(database.migrate(fails).await.is_err());
    assert_eq!(
        made.psql("SELECT version, to_regclass('scan_pipeline.two') FROM scan_pipeline.scan_pipeline_versions"),
        "1|"
    );
    database.migrate(PART).await.expect("goes on");
    // Cut by the death of its connection, with the lock in its hands.
    let mut session = database.session().await.expect("a connection");
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({}); CREATE TABLE three (n int)", 0x5363_6e50);
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(session.connection()).await.expect("works");
    drop(session);
    let three = Part { name: "test", migrations: &["", "", "CREATE TABLE three (n int)"] };
    database.migrate(three).await.expect("goes on");
    assert_eq!(made.psql("SELECT version FROM scan_pipeline.scan_pipeline_versions"), "3");
}

#[tokio::test]
async fn tables_of_others_and_of_newer_programs_are_left_alone() {
    let Some(server) = postgres::shared() else { return };
    let made = server.database();
    made.psql(
        "CREATE SCHEMA scan_pipeline; CREATE TABLE scan_pipeline.tasks (mine int); CREATE TABLE public.tasks (n int)",
    );
    let database = open(&made).await;
    is(
        &database.migrate(PART).await.expect_err("another's"),
        ErrorKind::Corrupt,
        false,
        "another program's, which has tasks",
    );
    let other = |schema: &str| Postgres::builder(&made.url()).expect("an address").schema(schema);
    let own = other("own_1").connect().await.expect("connects");
    own.migrate(PART).await.expect("a schema of our own");
    made.psql("UPDATE own_1.scan_pipeline_versions SET version = 7");
    is(
        &own.migrate(PART).await.expect_err("newer"),
        ErrorKind::Corrupt,
        false,
        "are of version 7, and this program knows versions up to 2",
    );
    // Another part of the same program comes and goes by itself.
    own.migrate(Part { name: "other", migrations: &["CREATE TABLE three (n int)"] }).await.expect("migrates");
    made.psql("CREATE SCHEMA empty");
    other("empty").connect().await.expect("connects").migrate(PART).await.expect("one that was made for us");
    for schema in ["", "pg_own", "a\"b", "A", "a b", &"x".repeat(64)] {
        is(&other(schema).connect().await.expect_err(schema), ErrorKind::Config, false, "lower-case");
    }
}
