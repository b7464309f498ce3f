//! What can be wrong with a file, its directory, its disk, and who else has it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::model::{EngineInfo, ObjectRef, Reason, ReasonKind, Report, TaskId, Verdict};
use crate::sql::fixture::{self, execute, is, raw};
use crate::store::{Changes, Claim, ClaimRequest, Lease, NewAudit, SqliteStore, Store, TaskFilter, TaskState, audit};
use crate::{Error, ErrorKind};

fn request(key: &str) -> ClaimRequest {
    let object = ObjectRef::new("memory://bad".parse().expect("an address"), key).with_etag("1");
    let id = TaskId::of(&object, 0);
    ClaimRequest { id, object, owner: String::from("t"), ttl: Duration::from_secs(60) }
}

async fn mine(store: &SqliteStore, key: &str) -> Lease {
    match store.claim(&request(key)).await.expect("answers") {
        Claim::Mine(lease, _) => lease,
        claim => panic!("{claim:?}"),
    }
}

fn gone() -> Changes {
    let audit = vec![NewAudit::task(TaskState::Gone, json!({}))];
    Changes { state: Some(TaskState::Gone), audit, ..Changes::default() }
}

async fn refused(path: &Path) -> Error {
    fixture::refused(path, SqliteStore::open(path).await)
}

#[tokio::test]
async fn paths_are_taken_as_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["a b.db", "what?mode=memory", "50%25.db", "a#b", "file:x", ":memory:", "ü'\"日.db", "-x"] {
        let path = directory.path().join(name);
        let store = SqliteStore::open(&path).await.expect(name);
        mine(&store, "k").await;
        let mode = std::fs::metadata(&path).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        for beside in ["-wal", "-shm"] {
            let beside = directory.path().join(format!("{name}{beside}"));
            assert_eq!(std::fs::metadata(&beside).expect(name).permissions().mode() & 0o777, 0o600, "{name}");
        }
        store.audit_head().await.expect("a reader");
        store.close().await.expect("closes");
        assert!(!directory.path().join(format!("{name}-wal")).exists(), "it was closed in order");
        let again = SqliteStore::open(&path).await.expect(name);
        assert_eq!(again.tasks(&TaskFilter::default()).await.expect("lists").len(), 1, "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_store_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    is(&refused(directory.path()).await, ErrorKind::Config, false, "is a directory");
    is(&refused(&path("missing/store.db")).await, ErrorKind::Config, false, "create it first");
    let empty = SqliteStore::open("").await.expect_err("no path");
    is(&empty, ErrorKind::Config, false, "needs a path");

    std::fs::write(path("garbage"), "this is no database, and long enough to be sure of that ".repeat(50))
        .expect("writes");
    is(&refused(&path("garbage")).await, ErrorKind::Corrupt, false, "not a database");
    assert!(std::fs::read(path("garbage")).expect("reads").starts_with(b"this is"), "it is left alone");
    is(&refused(&path("garbage/store.db")).await, ErrorKind::Config, false, "directory");

    let mut other = raw(&path("other.db")).await;
    execute(&mut other, "CREATE TABLE songs (name TEXT); INSERT INTO songs VALUES ('a')").await;
    is(&refused(&path("other.db")).await, ErrorKind::Corrupt, false, "another program");
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut other).await.expect("reads");
    assert_eq!(tables, 1, "it is left alone");
}

#[tokio::test]
async fn a_store_of_a_newer_program_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    SqliteStore::open(&path).await.expect("a store").close().await.expect("closes");
    execute(&mut raw(&path).await, "PRAGMA user_version = 1000").await;
    is(&refused(&path).await, ErrorKind::Corrupt, false, "version 1000, and this program knows versions up to");
}

#[tokio::test]
async fn a_damaged_page_is_told_and_not_read_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).await.expect("a store");
    for i in 0..50 {
        mine(&store, &i.to_string()).await;
    }
    store.close().await.expect("closes");
    let roots = "SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'tasks'";
    let roots: Vec<i64> = sqlx::query_scalar(roots).fetch_all(&mut raw(&path).await).await.expect("the schema");
    let mut bytes = std::fs::read(&path).expect("reads");
    for root in roots {
        let from = (usize::try_from(root).expect("a page") - 1) * 4096;
        bytes[from..from + 4096].fill(0xa5);
    }
    std::fs::write(&path, bytes).expect("writes");
    let store = SqliteStore::open(&path).await.expect("the header is whole");
    let error = store.tasks(&TaskFilter::default()).await.expect_err("damage");
    is(&error, ErrorKind::Corrupt, false, "backup");
    is(&store.claim(&request("k")).await.expect_err("damage"), ErrorKind::Corrupt, false, "backup");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_another_process_is_waited_for_and_then_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let open = || SqliteStore::builder(&path).busy_timeout(Duration::from_millis(50)).open();
    let store = open().await.expect("a store");
    let lease = mine(&store, "k").await;
    let mut other = raw(&path).await;
    execute(&mut other, "BEGIN EXCLUSIVE").await;
    is(&store.commit(&lease, gone()).await.expect_err("locked"), ErrorKind::Busy, true, "another process");
    assert!(store.task(lease.task).await.expect("readers do not wait").is_some());
    open().await.expect("opening needs no lock").close().await.expect("closes");
    execute(&mut other, "ROLLBACK").await;
    store.commit(&lease, gone()).await.expect("the writer has survived");

    // With a longer patience the call goes through when the lock is let go.
    let patient = SqliteStore::open(&path).await.expect("a store");
    execute(&mut other, "BEGIN EXCLUSIVE").await;
    let claim = tokio::spawn(async move { patient.claim(&request("later")).await });
    execute(&mut other, "ROLLBACK").await;
    assert!(matches!(claim.await.expect("no panic").expect("answers"), Claim::Mine(..)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_make_the_same_store_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let opened = (0..8).map(|i| {
        let path = path.clone();
        tokio::spawn(async move {
            let store = SqliteStore::open(&path).await.expect("opens");
            let lease = mine(&store, &i.to_string()).await;
            store.commit(&lease, gone()).await.expect("written");
            store
        })
    });
    let mut stores = Vec::new();
    for store in opened.collect::<Vec<_>>() {
        stores.push(store.await.expect("no panic"));
    }
    for store in stores {
        assert_eq!(store.audit_head().await.expect("the head").seq, 8);
        assert_eq!(audit::verify(&store).await.expect("reads").problems, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_large_and_not_the_small() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let store = SqliteStore::builder(&path).max_size(400 << 10).open().await.expect("a store");
    let reason = Reason { kind: ReasonKind::Encrypted, layer_path: "x".repeat(1 << 20), detail: None };
    let report = Report::new(Verdict::Unscannable { reasons: vec![reason] }, EngineInfo::new("t", "1", "1"));
    let (large, small) = (mine(&store, "large").await, mine(&store, "small").await);
    let note = vec![NewAudit::new("note", json!({}))];
    let changes = Changes { report: Some(report), audit: note, ..Changes::default() };
    // At the same time, so that they may share a transaction.
    let (large_result, small_result) =
        tokio::join!(store.commit(&large, changes.clone()), store.commit(&small, gone()));
    is(&large_result.expect_err("no room"), ErrorKind::Resources, true, "make room");
    small_result.expect("there is room for it");
    assert_eq!(store.audit_head().await.expect("the head").seq, 1);
    store.commit(&large, gone()).await.expect("the writer has survived");
    assert_eq!(audit::verify(&store).await.expect("reads").problems, Vec::<String>::new());
    store.close().await.expect("closes");

    let roomy = SqliteStore::open(&path).await.expect("a store");
    let lease = mine(&roomy, "again").await;
    roomy.commit(&lease, changes).await.expect("now there is room");
}

/// A statement that fails in the midst of a commit, behind several that did not.
#[tokio::test]
async fn a_failure_in_the_middle_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).await.expect("a store");
    let lease = mine(&store, "k").await;
    let trigger =
        "CREATE TRIGGER no BEFORE INSERT ON audit WHEN NEW.kind = 'bad' BEGIN SELECT RAISE (ABORT, 'no'); END";
    execute(&mut raw(&path).await, trigger).await;
    let before = store.task(lease.task).await.expect("reads");
    let audit = vec![NewAudit::new("good", json!({})), NewAudit::new("bad", json!({}))];
    let report = Report::new(Verdict::Clean, EngineInfo::new("t", "1", "1"));
    let bad = Changes { report: Some(report), error: Some(Some(String::from("e"))), audit, ..Changes::default() };
    let other = request("other");
    let (failed, fine) = tokio::join!(store.commit(&lease, bad), store.claim(&other));
    failed.expect_err("the trigger");
    assert!(matches!(fine.expect("answers"), Claim::Mine(..)));
    assert_eq!(store.task(lease.task).await.expect("reads"), before);
    assert_eq!(store.audit_head().await.expect("the head"), audit::AuditHead::EMPTY);
    store.commit(&lease, gone()).await.expect("written");
    assert_eq!(audit::verify(&store).await.expect("reads").problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_closed_store_says_so() {
    for store in [SqliteStore::in_memory().await.expect("a store"), {
        let directory = tempfile::tempdir().expect("a directory");
        SqliteStore::open(directory.path().join("s")).await.expect("a store")
    }] {
        let clone = store.clone();
        store.close().await.expect("closes");
        clone.close().await.expect("closes again");
        is(&clone.claim(&request("k")).await.expect_err("closed"), ErrorKind::Unavailable, false, "closed");
        is(&clone.audit_head().await.expect_err("closed"), ErrorKind::Unavailable, false, "closed");
    }
}

/// What was accepted is written, although nobody waits for it and the runtime that opened the store is gone.
#[test]
fn the_last_handle_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    let store = first.block_on(SqliteStore::open(&path)).expect("a store");
    drop(first);
    runtime().block_on(async {
        let lease = mine(&store, "k").await;
        store.commit(&lease, gone()).await.expect("written");
        drop(store);
    });
    let again = runtime().block_on(async { SqliteStore::open(&path).await?.task(request("k").id).await });
    assert_eq!(again.expect("reads").expect("is there").state, TaskState::Gone);
}

/// Root may write anywhere, so this runs in a child process that is nobody.
#[test]
fn where_this_process_may_not_write_is_said_at_once() {
    const NOBODY: u32 = 65534;
    let directory = tempfile::tempdir().expect("a directory");
    let readable = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let inner = directory.path().join("file");
    std::fs::create_dir(&inner).expect("a directory");
    let (file, fresh) = (inner.join("store.db"), directory.path().join("fresh.db"));
    runtime.block_on(async { SqliteStore::open(&file).await?.close().await }).expect("a store");
    readable(&file, 0o444);
    readable(&inner, 0o777);
    readable(directory.path(), 0o555);
    let binary = std::env::current_exe().expect("this binary");
    let mut command = Command::new(binary);
    command.args(["--ignored", "--exact", "store::tests::bad_input::as_nobody", "--nocapture"]);
    command.env("STORE_FILE", &file).env("STORE_FRESH", &fresh).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().expect("the child starts");
    readable(directory.path(), 0o755);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
#[ignore = "the child of the test above"]
async fn as_nobody() {
    let path = |name: &str| std::env::var_os(name).expect("set by the parent");
    is(&refused(path("STORE_FILE").as_ref()).await, ErrorKind::Denied, false, "file is not readable and writable");
    is(&refused(path("STORE_FRESH").as_ref()).await, ErrorKind::Denied, false, "directory is not writable");
}
