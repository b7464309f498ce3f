//! The behaviour suite and the model on PostgreSQL, and what only a server that is shared can show.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use scan_pipeline_tests::cutter::Cutter;
use scan_pipeline_tests::postgres::{self, Database};

use super::*;
use crate::ErrorKind;
use crate::queue::PostgresQueue;
use crate::sql::postgres::Postgres;

async fn open(url: &str, clock: TestClock) -> PostgresQueue {
    let database = Postgres::builder(url).expect("an address").connect().await.expect("connects");
    PostgresQueue::builder(database).clock(clock).open().await.expect("a queue")
}

mod suite {
    use super::*;

    async fn fixture() -> Option<QueueFixture> {
        let database = postgres::shared()?.database();
        let (url, clock) = (database.url(), TestClock::default());
        let queue = open(&url, clock.clone()).await;
        let reopened = clock.clone();
        let reopen = move || {
            let (url, clock) = (url.clone(), reopened.clone());
            async move { Arc::new(open(&url, clock).await) as Arc<dyn Queue> }
        };
        Some(fixture_of(queue, clock).reopening(reopen).keeping(database))
    }

    crate::queue_suite!(fixture);
}

#[test]
fn postgres_is_as_the_model() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let count = std::cell::Cell::new(0);
    super::model::run(40, async |clock| {
        count.set(count.get() + 1);
        let builder = Postgres::builder(&database.url()).expect("an address").schema(format!("case_{}", count.get()));
        let connected = builder.connect().await.expect("connects");
        PostgresQueue::builder(connected).clock(clock).open().await.expect("a queue")
    });
}

#[tokio::test]
async fn clocks_jump() {
    let Some(server) = postgres::shared() else { return };
    let (far, near) = (server.database(), server.database());
    let clock = TestClock::default();
    a_clock_set_right_hides_nothing(&open(&far.url(), clock.clone()).await, &clock).await;
    let clock = TestClock::default();
    a_small_step_back_changes_little(&open(&near.url(), clock.clone()).await, &clock).await;
}

#[tokio::test]
async fn a_queue_of_a_newer_program_is_refused() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    open(&database.url(), TestClock::default()).await;
    database.psql("UPDATE scan_pipeline.scan_pipeline_versions SET version = 1000 WHERE part = 'queue'");
    let error = PostgresQueue::open(&database.url()).await.expect_err("it is newer");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Corrupt, false), "{error}");
    assert!(error.to_string().contains("version 1000") && error.to_string().contains("use a newer program"), "{error}");
}

/// Two schemas of one database are two queues, and one does not wake the other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_are_apart() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let mut queues = Vec::new();
    for schema in ["one", "two"] {
        let connected = Postgres::builder(&database.url()).expect("an address").schema(schema).connect().await;
        queues.push(PostgresQueue::builder(connected.expect("connects")).open().await.expect("a queue"));
    }
    put(&queues[0], &[NewMessage::new("a").dedupe("k")]).await;
    put(&queues[1], &[NewMessage::new("b").dedupe("k")]).await;
    assert_eq!(all(&queues[0]).await, [(String::from("a"), 1)]);
    assert_eq!(all(&queues[1]).await, [(String::from("b"), 1)]);
}

/// Everything at once from several handles, with leases that run out, flows that all share, and keys in every order: no
/// call fails, and every message is settled once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_do_everything_at_once() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let mut queues = Vec::new();
    for _ in 0..3 {
        queues.push(open(&database.url(), TestClock::default()).await);
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut makers = Vec::new();
    for maker in 0..4_usize {
        let queue = queues[maker % 3].clone();
        makers.push(tokio::spawn(async move {
            for round in 0..30_usize {
                let mut messages: Vec<_> = (0..10_usize)
                    .map(|i| {
                        let message = NewMessage::new(format!("{maker} {round} {i}")).tenant(format!("{}", i % 4));
                        // Everybody's key for that round, which one of them gets.
                        if i < 5 { message.dedupe(format!("{round} {i}")) } else { message }
                    })
                    .collect();
                if maker % 2 == 0 {
                    messages.reverse();
                }
                put(&queue, &messages).await;
            }
        }));
    }
    let mut workers = Vec::new();
    for worker in 0..6_usize {
        let (queue, done) = (queues[worker % 3].clone(), Arc::clone(&done));
        workers.push(tokio::spawn(async move {
            let mut settled = Vec::new();
            loop {
                // Some of the leases run out in their hands.
                let ttl = if worker == 0 { Duration::from_millis(1) } else { LONG };
                let leased = queue.lease(7, ttl, Duration::from_millis(200)).await.expect("answers");
                if leased.is_empty() && done.load(Ordering::SeqCst) {
                    return settled;
                }
                let retried: Vec<_> = leased
                    .iter()
                    .map(|one| {
                        let retry = one.attempt == 1 && one.body.len() % 2 == 0;
                        let settle = if retry { Settle::Retry { after: Duration::ZERO } } else { Settle::Done };
                        (one.receipt.clone(), settle)
                    })
                    .collect();
                let held = queue.settle(&retried).await.expect("answers");
                for ((one, held), (_, settle)) in leased.into_iter().zip(held).zip(retried) {
                    if held == Held::Held && settle == Settle::Done {
                        settled.push(one.body);
                    }
                }
            }
        }));
    }
    for maker in makers {
        maker.await.expect("no panic");
    }
    done.store(true, Ordering::SeqCst);
    let mut settled = Vec::new();
    for worker in workers {
        settled.extend(worker.await.expect("no panic"));
    }
    settled.extend(queues[0].lease(1000, LONG, Duration::ZERO).await.expect("answers").into_iter().map(|one| one.body));
    let many = settled.len();
    settled.sort();
    settled.dedup();
    // Of each round's five keys one each, and twenty without.
    assert_eq!((many, settled.len()), (30 * (5 + 20), 30 * (5 + 20)));
    assert_eq!(queues[0].depth().await.expect("answers").ready, 0);
}

/// Who waits is woken by another process's handle, and again after the connection that listens was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_woken_after_a_lost_connection() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let (waiting, other) =
        (open(&database.url(), TestClock::default()).await, open(&database.url(), TestClock::default()).await);
    for round in 0..3 {
        let queue = waiting.clone();
        let lease = tokio::spawn(async move { queue.lease(1, LONG, LONG).await });
        while listeners(&database) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if round > 0 {
            database.psql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND query LIKE 'LISTEN%'",
            );
        }
        put(&other, &[NewMessage::new("a")]).await;
        assert_eq!(lease.await.expect("no panic").expect("answers").len(), 1);
    }
}

fn listeners(database: &Database<'_>) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    database.psql(sql).parse().expect("a number")
}

/// Connections are cut in the midst of calls. A call that fails says that another try may help; what was acknowledged is
/// delivered until it is settled, and what was settled is not delivered any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let cutter = Cutter::to(server.address());
    let clock = TestClock::default();
    let queue = open(&database.url_at(cutter.address()), clock.clone()).await;
    let mut failed = 0;
    let mut failure = |error: crate::Error| {
        assert!(error.is_retryable(), "{error}");
        failed += 1;
    };
    let (mut known, mut settled, mut open_ended) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for round in 0..150_u64 {
        cutter.cut_after(round * 97 % 2500);
        let body = round.to_string();
        match queue.enqueue(&[NewMessage::new(body.clone())]).await.expect("answers").remove(0) {
            Ok(_) => assert!(known.insert(body)),
            Err(error) => failure(error),
        }
        for delivery in queue.lease(2, LONG, Duration::ZERO).await.unwrap_or_else(|error| {
            failure(error);
            Vec::new()
        }) {
            let body = String::from_utf8(delivery.body.to_vec()).expect("text");
            match queue.settle(&[(delivery.receipt, Settle::Done)]).await {
                Ok(held) => {
                    assert_eq!(held, [Held::Held]);
                    assert!(settled.insert(body), "it was settled already");
                }
                Err(error) => {
                    failure(error);
                    open_ended.insert(body);
                }
            }
        }
    }
    assert!(failed > 10, "the control: {failed} calls failed");
    // Leases whose answers did not come run out.
    clock.advance(LONG * 2);
    let left: BTreeSet<_> = all(&open(&database.url(), clock).await).await.into_iter().map(|(body, _)| body).collect();
    assert_eq!(settled.intersection(&left).count(), 0, "settled, and delivered again");
    let lost: Vec<_> = known
        .iter()
        .filter(|body| !settled.contains(*body) && !open_ended.contains(*body) && !left.contains(*body))
        .collect();
    assert_eq!(lost, Vec::<&String>::new(), "acknowledged, and never seen again");
}

/// Flows and keys that say nothing any more do not pile up.
#[tokio::test]
async fn nothing_piles_up() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let clock = TestClock::default();
    let queue = open(&database.url(), clock.clone()).await;
    // As often as it takes for one of the calls to tidy up, which all but one in a million runs does.
    for round in 0..900 {
        let message = NewMessage::new("a").tenant(format!("{round}")).dedupe(format!("{round}"));
        put(&queue, &[message]).await;
        let leased = queue.lease(1, LONG, Duration::ZERO).await.expect("answers");
        assert_eq!(queue.settle(&[(leased[0].receipt.clone(), Settle::Done)]).await.expect("answers"), [Held::Held]);
        clock.advance(Duration::from_secs(25 * 3600));
    }
    let count = |table: &str| -> u32 {
        database.psql(&format!("SELECT count(*) FROM scan_pipeline.{table}")).parse().expect("a number")
    };
    assert_eq!(count("queue_messages"), 0);
    assert!(count("queue_flows") < 900 && count("queue_keys") < 900);
}

/// The costs of the lanes stand in the SQL, too.
#[tokio::test]
async fn lanes_cost_what_they_cost_elsewhere() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let queue = open(&database.url(), TestClock::default()).await;
    for lane in crate::queue::Lane::ALL {
        put(
            &queue,
            &[
                NewMessage::new("a").lane(lane).tenant(lane.as_str()),
                NewMessage::new("b").lane(lane).tenant(lane.as_str()),
            ],
        )
        .await;
        let sql = format!("SELECT max(rank) - min(rank) FROM scan_pipeline.queue_messages WHERE lane = '{lane}'");
        assert_eq!(database.psql(&sql), crate::queue::sql::cost(lane).to_string());
    }
}
