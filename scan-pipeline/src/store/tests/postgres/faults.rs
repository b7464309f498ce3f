//! Servers that die and freeze, networks that end in the midst of a request, and several stores on one database.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scan_pipeline_tests::cutter::Cutter;
use scan_pipeline_tests::postgres::Server;
use serde_json::json;

use super::*;
use crate::handler::StepOutput;
use crate::model::{ObjectRef, TaskId, Timestamp};
use crate::store::{Changes, Claim, ClaimRequest, Lease, NewAudit, StepRecord, StepState, TaskState, audit};
use crate::{Error, ErrorKind};

fn request(key: &str, owner: &str) -> ClaimRequest {
    let object = ObjectRef::new("memory://faults".parse().expect("an address"), key).with_etag("1");
    let id = TaskId::of(&object, 0);
    ClaimRequest { id, object, owner: owner.to_owned(), ttl: Duration::from_secs(600) }
}

async fn mine(store: &PostgresStore, key: &str) -> Lease {
    match store.claim(&request(key, "t")).await.expect("answers") {
        Claim::Mine(lease, _) => lease,
        claim => panic!("{claim:?}"),
    }
}

/// A step and its entry, which belong together.
fn step(number: usize) -> Changes {
    let name = format!("s{number}");
    let output = StepOutput::new(json!(number));
    let record = StepRecord {
        workflow: String::from("w"),
        step: name.clone(),
        state: StepState::Done,
        attempt: 1,
        output: Some(output.clone()),
        error: None,
        next_at: None,
        updated: Timestamp(1),
    };
    Changes { steps: vec![record], audit: vec![NewAudit::step_done("w", &name, 1, &output)], ..Changes::default() }
}

fn passes(error: &Error) -> bool {
    error.is_retryable() && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Busy)
}

/// Once the server is back, which may take a moment.
async fn at_last<T, F: Future<Output = crate::Result<T>>>(mut call: impl FnMut() -> F) -> T {
    for _ in 0..300 {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(passes(&error), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come back");
}

async fn impatient(url: &str) -> PostgresStore {
    let builder = Postgres::builder(url).expect("an address").timeout(Duration::from_secs(6));
    let database = builder.connect_timeout(Duration::from_secs(6)).connect().await.expect("connects");
    PostgresStore::builder(database).open().await.expect("a store")
}

/// Some write without a pause while something happens; then what was acknowledged is there, what was not is there in
/// full or not at all, and the store goes on without being opened again.
async fn survives(store: &PostgresStore, round: &str, happen: impl FnOnce() + Send + 'static) {
    let ended = Arc::new(AtomicBool::new(false));
    let mut leases = Vec::new();
    for writer in 0..6 {
        leases.push(mine(store, &format!("{round} {writer}")).await);
    }
    let writers: Vec<_> = leases
        .into_iter()
        .map(|lease| {
            let (store, ended) = (store.clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut written = BTreeMap::new();
                for number in 0.. {
                    if ended.load(Ordering::SeqCst) {
                        break;
                    }
                    let result = store.commit(&lease, step(number)).await;
                    if let Err(error) = &result {
                        assert!(passes(error), "{error}");
                    }
                    written.insert(format!("s{number}"), result.is_ok());
                }
                (lease, written)
            })
        })
        .collect();
    // It happens while they write: each has written something by then.
    let before = store.audit_head().await.expect("answers").seq;
    while store.audit_head().await.expect("answers").seq < before + 30 {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(happen).await.expect("no panic");
    ended.store(true, Ordering::SeqCst);
    let mut failed = 0;
    for writer in writers {
        let (lease, written) = writer.await.expect("no panic");
        let task = at_last(|| store.task(lease.task)).await.expect("is known");
        let there: Vec<_> = task.steps.iter().map(|step| step.step.clone()).collect();
        for (name, acknowledged) in &written {
            assert!(!acknowledged || there.contains(name), "{round}: {name} was acknowledged and is lost");
            failed += usize::from(!acknowledged);
        }
        assert!(there.iter().all(|name| written.contains_key(name)));
        let entries = at_last(|| store.audit(0, usize::MAX)).await;
        let logged = entries.iter().filter(|entry| entry.task == lease.task).count();
        assert_eq!(logged, there.len(), "{round}: steps and entries belong together");
        let end = vec![NewAudit::task(TaskState::Done, json!({}))];
        let end = Changes { state: Some(TaskState::Done), audit: end, ..Changes::default() };
        let ended = async || match store.commit(&lease, end.clone()).await {
            // It was written, and the answer got lost.
            Err(error) if error.kind() == ErrorKind::Fenced => Ok(()),
            other => other.map(drop),
        };
        at_last(ended).await;
    }
    assert_eq!(audit::verify(store).await.expect("reads").problems, Vec::<String>::new(), "{round}");
    eprintln!("{round}: {failed} calls failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_death_of_the_server() {
    let Some(server) = postgres::start() else { return };
    let server: &'static Server = Box::leak(Box::new(server));
    let database = server.database();
    let store = impatient(&database.url()).await;
    let name = database.name().to_owned();
    let backends = move || {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{name}'");
        server.psql("postgres", &sql).lines().map(|line| line.parse().expect("a process")).collect::<Vec<i32>>()
    };
    for round in 0..2 {
        survives(&store, &format!("stop {round}"), || {
            server.stop();
            server.start_again();
        })
        .await;
    }
    let killed = backends.clone();
    survives(&store, "kill", move || server.kill(*killed().first().expect("a connection"))).await;
    survives(&store, "terminate", move || {
        for process in backends() {
            server.psql("postgres", &format!("SELECT pg_terminate_backend({process})"));
        }
    })
    .await;
    drop(database);
    // What is leaked goes with the process.
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_network_that_is_cut() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let cutter = Arc::new(Cutter::to(server.address()));
    let store = impatient(&database.url_at(cutter.address())).await;
    let cut = Arc::clone(&cutter);
    survives(&store, "cut", move || (0..10).for_each(|_| cut.cut())).await;
    // In the midst of requests, at every place of them.
    for bytes in [1, 9, 60, 333, 1000, 4000] {
        let cut = Arc::clone(&cutter);
        survives(&store, &format!("cut after {bytes}"), move || cut.cut_after(bytes)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_falls_silent_is_an_error_in_time() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let cutter = Cutter::to(server.address());
    let url = database.url_at(cutter.address());
    let builder = Postgres::builder(&url).expect("an address").timeout(Duration::from_secs(2));
    let connected = builder.connect_timeout(Duration::from_secs(2)).connect().await.expect("connects");
    let store = PostgresStore::builder(connected).open().await.expect("a store");
    let lease = mine(&store, "k").await;
    cutter.silence();
    let since = Instant::now();
    let error = store.commit(&lease, step(0)).await.expect_err("nobody hears it");
    assert!(error.kind() == ErrorKind::Timeout && error.is_retryable(), "{error}");
    assert_eq!(store.task(lease.task).await.expect_err("nobody hears it").kind(), ErrorKind::Timeout);
    assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
    cutter.speak();
    store.commit(&lease, step(1)).await.expect("goes on");
    let steps = store.task(lease.task).await.expect("reads").expect("is known").steps;
    assert_eq!(steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["s1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_froze_is_an_error_in_time() {
    let Some(server) = postgres::start() else { return };
    let database = server.database();
    let builder = Postgres::builder(&database.url()).expect("an address").timeout(Duration::from_secs(2));
    let connected = builder.connect_timeout(Duration::from_secs(2)).connect().await.expect("connects");
    let store = PostgresStore::builder(connected).open().await.expect("a store");
    let lease = mine(&store, "k").await;
    let ice = server.freeze();
    let since = Instant::now();
    let error = store.commit(&lease, step(0)).await.expect_err("frozen");
    assert!(error.kind() == ErrorKind::Timeout && error.is_retryable(), "{error}");
    assert_eq!(store.audit_head().await.expect_err("frozen").kind(), ErrorKind::Timeout);
    assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
    drop(ice);
    store.commit(&lease, step(1)).await.expect("goes on");
    // The server may have read the first one when it thawed: then it is there in full.
    let steps = store.task(lease.task).await.expect("reads").expect("is known").steps.len();
    assert_eq!(store.audit_head().await.expect("reads").seq, steps as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_froze_in_its_transaction_keeps_nobody_waiting() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let store = impatient(&database.url()).await;
    let lease = mine(&store, "k").await;
    let other = Postgres::builder(&database.url()).expect("an address").timeout(Duration::from_secs(6));
    let other = other.connect().await.expect("connects");
    let mut frozen = other.session().await.expect("a connection");
    let begun = "BEGIN; SELECT * FROM tasks FOR UPDATE; SELECT * FROM audit_head FOR UPDATE";
    sqlx::raw_sql(begun).execute(frozen.connection()).await.expect("locks");
    store.commit(&lease, step(0)).await.expect("the server lets go of what it held");
    assert!(sqlx::raw_sql("COMMIT").execute(frozen.connection()).await.is_err());
}

/// Two machines that race for every task.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_stores_one_gets_each_task() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let stores = [open(&database).await, open(&database).await];
    let mut claims = Vec::new();
    for key in 0..300 {
        for store in &stores {
            let store = store.clone();
            claims.push(tokio::spawn(async move {
                let key = format!("k{}", key % 150);
                match store.claim(&request(&key, "t")).await.expect("answers") {
                    Claim::Mine(lease, record) => {
                        assert_eq!((lease.fence, record.attempts), (1, 1), "{key}");
                        Some(lease)
                    }
                    Claim::Busy { .. } => None,
                    claim => panic!("{claim:?}"),
                }
            }));
        }
    }
    let mut won = BTreeMap::new();
    for claim in claims {
        if let Some(lease) = claim.await.expect("no panic") {
            assert!(won.insert(lease.task, lease).is_none(), "two have it");
        }
    }
    assert_eq!(won.len(), 150);
    // And both write to one log at the same time.
    let commits: Vec<_> = won
        .into_values()
        .enumerate()
        .map(|(number, lease)| {
            let store = stores[number % 2].clone();
            tokio::spawn(async move { store.commit(&lease, step(number)).await })
        })
        .collect();
    for commit in commits {
        commit.await.expect("no panic").expect("written");
    }
    assert_eq!(stores[0].audit_head().await.expect("reads").seq, 150);
    assert_eq!(audit::verify(&stores[1]).await.expect("reads").problems, Vec::<String>::new());
}

#[tokio::test]
async fn newer_tables_are_refused() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    drop(open(&database).await);
    database.psql("UPDATE scan_pipeline.scan_pipeline_versions SET version = 99");
    let error = PostgresStore::open(&database.url()).await.expect_err("refused");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Corrupt, false), "{error}");
    assert!(error.to_string().contains("are of version 99, and this program knows versions up to"), "{error}");
    assert!(!error.to_string().contains(server.password()), "{error}");
}

/// Locale, time zone and defaults that others have chosen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_settings_do_not_matter() {
    use crate::testkit::store_suite::{
        awkward_texts_survive, listings_resume, the_log_is_whole, what_is_due_is_listed,
    };
    let Some(server) = postgres::shared() else { return };
    let behaviours: [fn(&'static StoreFixture) -> futures_util::future::BoxFuture<'static, ()>; 4] = [
        |f| Box::pin(awkward_texts_survive(f)),
        |f| Box::pin(listings_resume(f)),
        |f| Box::pin(the_log_is_whole(f)),
        |f| Box::pin(what_is_due_is_listed(f)),
    ];
    for behaviour in behaviours {
        let database = server.database_with("LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'");
        for setting in
            ["timezone = 'Pacific/Apia'", "datestyle = 'German'", "default_transaction_isolation = serializable"]
        {
            server.psql("postgres", &format!("ALTER DATABASE {} SET {setting}", database.name()));
        }
        let store = open(&database).await;
        behaviour(Box::leak(Box::new(StoreFixture::new(Arc::new(store))))).await;
    }
}

/// What came before a call in its batch is as if it were written.
#[tokio::test]
async fn the_calls_of_a_batch_see_each_other() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let store = open(&database).await;
    let lease = mine(&store, "k").await;
    let release = Changes { lease: crate::store::LeaseChange::Release, ..step(3) };
    let other = request("k", "other");
    // Polled in this order, they reach the writer together.
    let (first, again, released, claimed, late) = futures_util::join!(
        store.commit(&lease, step(1)),
        store.commit(&lease, Changes { error: Some(Some(String::from("twice"))), ..step(1) }),
        store.commit(&lease, release),
        store.claim(&other),
        store.commit(&lease, step(4)),
    );
    let at = [first.expect("written"), again.expect("written"), released.expect("written")];
    assert!(at.iter().all(|one| *one >= at[0]));
    let Claim::Mine(second, record) = claimed.expect("answers") else { panic!("it was given back") };
    assert_eq!((second.fence, record.attempts, record.error.as_deref()), (lease.fence + 1, 2, Some("twice")));
    assert_eq!(record.steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["s1", "s3"]);
    assert_eq!(late.expect_err("given back").kind(), ErrorKind::Fenced);
    assert_eq!(store.audit_head().await.expect("reads").seq, 3);
}
