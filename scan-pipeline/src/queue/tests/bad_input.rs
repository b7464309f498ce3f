//! What can be wrong with a file, its disk, its owner, and who else has it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sqlx::AssertSqlSafe;

use super::*;
use crate::sql::fixture::{self, execute, is, raw};
use crate::store::SqliteStore;
use crate::{Error, ErrorKind};

async fn refused(path: &Path) -> Error {
    fixture::refused(path, SqliteQueue::open(path).await)
}

#[tokio::test]
async fn what_cannot_be_a_queue_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    is(&refused(directory.path()).await, ErrorKind::Config, false, "the queue is a file, and this is a directory");
    is(&refused(&path("missing/queue.db")).await, ErrorKind::Config, false, "create it first");
    std::fs::write(path("garbage"), "this is no database, and long enough to be sure of that ".repeat(50))
        .expect("writes");
    is(&refused(&path("garbage")).await, ErrorKind::Corrupt, false, "not a database");

    let mut other = raw(&path("other.db")).await;
    execute(&mut other, "CREATE TABLE messages (name TEXT); INSERT INTO messages VALUES ('a')").await;
    is(&refused(&path("other.db")).await, ErrorKind::Corrupt, false, "no queue, but a database of another program");
    let store = SqliteStore::open(path("store.db")).await.expect("a store");
    is(&refused(&path("store.db")).await, ErrorKind::Corrupt, false, "no queue");
    store.close().await.expect("closes");
    SqliteQueue::open(path("queue.db")).await.expect("a queue").close().await.expect("closes");
    let error = SqliteStore::open(path("queue.db")).await.expect_err("this is a queue");
    is(&error, ErrorKind::Corrupt, false, "no store");
    SqliteQueue::open(path("queue.db")).await.expect("it is left alone");
}

#[tokio::test]
async fn a_queue_of_a_newer_program_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    SqliteQueue::open(&path).await.expect("a queue").close().await.expect("closes");
    execute(&mut raw(&path).await, "PRAGMA user_version = 1000").await;
    let words = "the queue is of version 1000, and this program knows versions up to 1: use a newer program";
    is(&refused(&path).await, ErrorKind::Corrupt, false, words);
}

/// Half of it was written when the process died.
#[tokio::test]
async fn a_migration_that_was_interrupted_begins_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let output = this("a_migration_that_dies", &path).output().expect("the child starts");
    assert!(!output.status.success(), "it has to die");
    assert!(std::fs::metadata(&path).expect("the file").len() > 0, "something was written");
    let queue = SqliteQueue::open(&path).await.expect("it is made now");
    put(&queue, &[NewMessage::new("a")]).await;
    assert_eq!(all(&queue).await, [(String::from("a"), 1)]);

    // The same where the disk was full.
    let path = directory.path().join("small.db");
    let error = SqliteQueue::builder(&path).max_size(3 * 4096).open().await.expect_err("there is no room");
    is(&error, ErrorKind::Resources, true, "make room");
    let queue = SqliteQueue::open(&path).await.expect("there is room now");
    put(&queue, &[NewMessage::new("a")]).await;
}

#[tokio::test]
#[ignore = "a child of the test above"]
async fn a_migration_that_dies() {
    let mut connection = raw(&path()).await;
    execute(&mut connection, "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE").await;
    let sql = include_str!("../migrations/sqlite/0001_start.sql");
    let half = sql.match_indices(";\n").map(|(at, _)| at + 1).nth(3).expect("more than three statements");
    execute(&mut connection, &sql[..half]).await;
    // So that pages of it come to the file.
    execute(
        &mut connection,
        "PRAGMA cache_size = 1; CREATE TABLE filler AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL \
         SELECT i + 1 FROM n WHERE i < 50) SELECT randomblob(10000) FROM n",
    )
    .await;
    std::process::abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_large_and_not_the_small() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let queue = SqliteQueue::builder(&path).max_size(400 << 10).open().await.expect("a queue");
    put(&queue, &[NewMessage::new("before")]).await;
    // At the same time, so that they may share a transaction.
    let (large, small) = (NewMessage::new("x".repeat(1 << 20)), NewMessage::new("small"));
    let (large_answers, small_answers) = (std::slice::from_ref(&large), std::slice::from_ref(&small));
    let (large_result, small_result) = tokio::join!(queue.enqueue(large_answers), queue.enqueue(small_answers));
    let error = large_result.expect("answers").remove(0).expect_err("no room");
    is(&error, ErrorKind::Resources, true, "make room");
    small_result.expect("answers").remove(0).expect("there is room for it");
    // What there is can be worked off, and that makes room.
    let mut filled = 0;
    while queue.enqueue(&[NewMessage::new("y".repeat(10_000))]).await.expect("answers").remove(0).is_ok() {
        filled += 1;
    }
    let mut settled = 0;
    loop {
        let leased = queue.lease(5, LONG, Duration::ZERO).await.expect("leasing needs no room");
        if leased.is_empty() {
            break;
        }
        let done: Vec<_> = leased.into_iter().map(|one| (one.receipt, Settle::Done)).collect();
        assert!(queue.settle(&done).await.expect("settling needs no room").iter().all(|held| *held == Held::Held));
        settled += done.len();
    }
    assert_eq!(settled, filled + 2);
    put(&queue, &[NewMessage::new("z".repeat(10_000))]).await;
    queue.close().await.expect("closes");
    let roomy = SqliteQueue::open(&path).await.expect("a queue");
    put(&roomy, &[large]).await;
    assert_eq!(all(&roomy).await.len(), 2);
}

/// A message goes back at once, and was not delivered, when its caller has gone while the writer was at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_took_was_not_delivered() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let queue = SqliteQueue::open(&path).await.expect("a queue");
    put(&queue, &[NewMessage::new("a")]).await;
    for _ in 0..5 {
        let mut other = raw(&path).await;
        execute(&mut other, "BEGIN IMMEDIATE").await;
        let leasing = tokio::spawn({
            let queue = queue.clone();
            async move { queue.lease(1, LONG, Duration::ZERO).await }
        });
        // So that it is likely to be with the writer, who waits for the other.
        tokio::time::sleep(Duration::from_millis(20)).await;
        leasing.abort();
        execute(&mut other, "ROLLBACK").await;
    }
    let leased = queue.lease(1, LONG, Duration::from_secs(60)).await.expect("answers");
    assert_eq!((leased.len(), leased[0].attempt), (1, 1));
}

/// Flows and keys that say nothing any more do not pile up.
#[tokio::test]
async fn nothing_piles_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let clock = TestClock::default();
    let queue = SqliteQueue::builder(&path).clock(clock.clone()).open().await.expect("a queue");
    for round in 0..5 {
        let of = |i: usize| format!("{round} {i}");
        let messages: Vec<_> = (0..500).map(|i| NewMessage::new("a").tenant(of(i)).dedupe(of(i))).collect();
        put(&queue, &messages).await;
        let leased = queue.lease(500, LONG, Duration::ZERO).await.expect("answers");
        let done: Vec<_> = leased.into_iter().map(|one| (one.receipt, Settle::Done)).collect();
        assert_eq!(queue.settle(&done).await.expect("answers").len(), 500);
        clock.advance(Duration::from_secs(25 * 3600));
    }
    put(&queue, &[NewMessage::new("a").tenant("last").dedupe("last")]).await;
    let mut connection = raw(&path).await;
    for table in ["messages", "bodies", "flows", "dedupe"] {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("reads");
        assert_eq!(count, 1, "{table}");
    }
}

#[tokio::test]
async fn a_closed_queue_says_so() {
    let queue = SqliteQueue::in_memory().await.expect("a queue");
    let clone = queue.clone();
    queue.close().await.expect("closes");
    clone.close().await.expect("closes again");
    let error = clone.lease(1, LONG, LONG).await.expect_err("closed");
    is(&error, ErrorKind::Unavailable, false, "closed");
    is(&clone.depth().await.expect_err("closed"), ErrorKind::Unavailable, false, "closed");
    let answer = clone.enqueue(&[NewMessage::new("a")]).await.expect("answers").remove(0);
    is(&answer.expect_err("closed"), ErrorKind::Unavailable, false, "closed");
}

/// This program as another process, which runs one of the tests that are ignored.
fn this(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--ignored", "--exact", &format!("queue::tests::bad_input::{test}"), "--nocapture"]);
    command.env("QUEUE_FILE", path);
    command
}

fn path() -> std::path::PathBuf {
    std::env::var_os("QUEUE_FILE").expect("set by the parent").into()
}

fn worker(test: &str, path: &Path) -> Child {
    this(test, path).stdout(Stdio::piped()).spawn().expect("the child starts")
}

/// What a worker has said that it settled.
fn said(child: Child) -> Vec<String> {
    let output = child.wait_with_output().expect("the child ends");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.split_once("settled ").map(|(_, body)| body.to_owned())).collect()
}

/// Works until there is nothing left or it has done so many, and says what it has settled.
async fn work(queue: &dyn Queue, most: usize) -> Vec<String> {
    let mut settled = Vec::new();
    while settled.len() < most {
        let leased = queue.lease(3, LONG, Duration::from_millis(500)).await.expect("answers");
        if leased.is_empty() {
            break;
        }
        for delivery in leased {
            assert_eq!(delivery.attempt, 1);
            let held = queue.settle(&[(delivery.receipt, Settle::Done)]).await.expect("answers");
            assert_eq!(held, [Held::Held]);
            settled.push(String::from_utf8(delivery.body.to_vec()).expect("text"));
        }
    }
    settled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_one_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let queue = SqliteQueue::open(&path).await.expect("a queue");
    let messages: Vec<_> = (0..300).map(|i| NewMessage::new(format!("{i}")).tenant(format!("{}", i % 3))).collect();
    put(&queue, &messages[..200]).await;
    let children = [worker("a_worker", &path), worker("a_worker", &path)];
    put(&queue, &messages[200..]).await;
    // The others do at least the rest.
    let mut settled = work(&queue, 150).await;
    for child in children {
        settled.extend(said(child));
    }
    assert_eq!(settled.len(), 300, "none twice");
    assert_eq!(settled.iter().collect::<BTreeSet<_>>().len(), 300, "all of them");
}

#[tokio::test]
#[ignore = "a child of the test above"]
async fn a_worker() {
    let queue = SqliteQueue::open(path()).await.expect("a queue");
    for body in work(&queue, usize::MAX).await {
        say(&format!("settled {body}"));
    }
}

/// A process is killed with messages in its hands, by the real clock: they come again, with the next number.
#[tokio::test]
async fn what_a_killed_process_held_comes_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queue.db");
    let queue = SqliteQueue::open(&path).await.expect("a queue");
    put(&queue, &[NewMessage::new("a"), NewMessage::new("b")]).await;
    assert_eq!(said(worker("a_worker_that_dies", &path)), ["nothing, but leased 2"]);
    let mut came = Vec::new();
    while came.len() < 2 {
        let leased = queue.lease(2, LONG, Duration::from_secs(60)).await.expect("answers");
        assert!(!leased.is_empty(), "they come within a minute");
        came.extend(leased.into_iter().map(|one| (one.body, one.attempt)));
    }
    came.sort();
    assert_eq!(came, [("a".into(), 2), ("b".into(), 2)]);
}

#[tokio::test]
#[ignore = "a child of the test above"]
async fn a_worker_that_dies() {
    let queue = SqliteQueue::open(path()).await.expect("a queue");
    let leased = queue.lease(2, Duration::from_millis(300), Duration::ZERO).await.expect("answers");
    say(&format!("settled nothing, but leased {}", leased.len()));
    std::process::abort();
}

fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent reads");
}
