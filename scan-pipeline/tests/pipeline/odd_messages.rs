//! The longest keys and the largest messages, all the way: queue, worker, store and dead letters.

use std::collections::BTreeSet;
use std::sync::Arc;

use scan_pipeline::event::TaskMessage;
use scan_pipeline::model::ObjectRef;
use scan_pipeline::objects::ObjectOps;
use scan_pipeline::queue::{NewMessage, Queue, SqliteQueue, Which};
use scan_pipeline::store::{SqliteStore, Store, TaskFilter, TaskState};
use scan_pipeline::worker::Worker;

use crate::common::{Rig, get, whole};
use crate::worker::{is_empty, options, until};

/// The most that every queue has to carry.
const LARGEST: usize = 256 << 10;

/// Keys of exactly 1,024 bytes, as S3 takes them.
fn longest_keys() -> [String; 5] {
    let keys = [
        "k".repeat(1024),
        "\u{10ffff}".repeat(256),
        "\"".repeat(1024),
        "\\\n".repeat(512),
        format!("/{}.//", "a/../".repeat(204)),
    ];
    assert!(keys.iter().all(|key| key.len() == 1024), "{:?}", keys.iter().map(String::len).collect::<Vec<_>>());
    keys
}

fn padded(text: &str) -> String {
    format!("{text}{}", " ".repeat(LARGEST - text.len()))
}

async fn all_the_way<S: Store + Clone>(queue: Arc<dyn Queue>, store: S) {
    let rig = Rig::new();
    let pipeline = rig.builder().await.store(store.clone()).build().expect("a pipeline");
    let mut messages = Vec::new();
    for (number, key) in longest_keys().into_iter().enumerate() {
        let object = rig.drop_in(&key, &format!("fine {number}")).await;
        messages.push(NewMessage::new(padded(&TaskMessage::new(&object).to_json())));
    }
    let elsewhere = ObjectRef::new("s3://nobody-has-it".parse().expect("an address"), "k".repeat(1024));
    let too_long = ObjectRef::new(rig.quarantine.url().clone(), "k".repeat(1025));
    let bad = [
        "x".repeat(LARGEST),
        format!("{{\"{}\"}}", "y".repeat(LARGEST - 4)),
        "[".repeat(LARGEST),
        padded(&TaskMessage::new(&elsewhere).to_json()),
        padded(&TaskMessage::new(&too_long).to_json()),
        format!("{{\"scan_pipeline\":\"chunk/1\",\"job\":\"{}\"}}", "0".repeat(LARGEST - 36)),
    ];
    messages.extend(bad.iter().map(|body| NewMessage::new(body.clone())));
    assert!(messages.iter().all(|message| message.body.len() == LARGEST));
    for answer in queue.enqueue(&messages).await.expect("enqueued") {
        answer.expect("enqueued");
    }
    let worker = Worker::new(pipeline.clone(), Arc::clone(&queue), options()).expect("a worker");
    until(&worker, || is_empty(&*queue)).await;
    let done = TaskFilter { states: vec![TaskState::Done], most: 100, ..TaskFilter::default() };
    let tasks = pipeline.store().tasks(&done).await.expect("tasks");
    let keys: BTreeSet<_> = tasks.into_iter().map(|task| task.object.key).collect();
    assert_eq!(keys, longest_keys().into_iter().collect::<BTreeSet<_>>());
    for (number, key) in longest_keys().iter().enumerate() {
        assert_eq!(get(&*rig.clean, key).await, Some(format!("fine {number}")));
    }
    // What is dead is kept whole, with a reason of a length that can be shown, and comes back as it was.
    for _ in 0..2 {
        let dead = queue.dead_letters().list(None, 100).await.expect("the dead letters");
        let bodies: BTreeSet<_> = dead.iter().map(|letter| letter.body.to_vec()).collect();
        assert_eq!(bodies, bad.iter().map(|body| body.clone().into_bytes()).collect::<BTreeSet<_>>());
        assert!(dead.iter().all(|letter| (1..5000).contains(&letter.reason.len())), "{dead:?}");
        assert_eq!(queue.dead_letters().redrive(&Which::all(), 100).await.expect("put back"), bad.len() as u64);
        until(&worker, || is_empty(&*queue)).await;
    }
    assert_eq!(rig.scans.get(), 5);
    whole(&pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_keys_and_the_largest_messages_go_all_the_way_with_sqlite() {
    let queue = SqliteQueue::in_memory().await.expect("a queue");
    all_the_way(Arc::new(queue), SqliteStore::in_memory().await.expect("a store")).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn the_longest_keys_and_the_largest_messages_go_all_the_way_with_postgres() {
    use scan_pipeline::queue::PostgresQueue;
    use scan_pipeline::store::PostgresStore;

    let Some(server) = scan_pipeline_tests::postgres::shared() else { return };
    let database = server.database();
    let queue = PostgresQueue::open(&database.url()).await.expect("a queue");
    let store = PostgresStore::open(&database.url()).await.expect("a store");
    all_the_way(Arc::new(queue), store).await;
}
