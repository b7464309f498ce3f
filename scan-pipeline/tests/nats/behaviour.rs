//! What NATS has of its own: receipts that it would take too late, lanes, streams that are there already.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use scan_pipeline::ErrorKind;
use scan_pipeline::queue::{Delivery, Held, Lane, NatsQueue, NewMessage, Queue, Settle, Which};
use scan_pipeline_tests::brokers::{Broker, RunningBroker, shared};

use crate::suite::fresh;

const HOUR: Duration = Duration::from_secs(3600);
const WAIT: Duration = Duration::from_secs(30);
const ACK_WAIT: Duration = Duration::from_secs(2);

async fn open(server: &RunningBroker, name: &str) -> NatsQueue {
    NatsQueue::builder(server.url()).name(name).ack_wait(ACK_WAIT).build().await.expect("a queue")
}

async fn one(queue: &NatsQueue, ttl: Duration) -> Delivery {
    queue.lease(1, ttl, WAIT).await.expect("leases").pop().expect("it comes")
}

/// NATS takes an acknowledgement of an earlier delivery for one of the latest: this is the server that we guard against.
#[tokio::test]
async fn the_server_takes_stale_acknowledgements() {
    let Some(server) = shared(Broker::Nats) else { return };
    let (name, client) = (fresh(), async_nats::connect(server.url()).await.expect("connects"));
    let queue = open(server, &name).await;
    queue.enqueue(&[NewMessage::new("a")]).await.expect("answers");
    let stale = one(&queue, Duration::from_secs(1)).await;
    let again = one(&queue, HOUR).await;
    assert_eq!((stale.attempt, again.attempt), (1, 2));
    let subject = stale.receipt.0.split_once(' ').expect("two parts").1.to_owned();
    client.request(subject, "+ACK".into()).await.expect("it answers as if that were right");
    assert_eq!(queue.depth().await.expect("answers").leased, 0);
}

/// So a receipt is good on the queue that leased the message, for as long as its lease lasts.
#[tokio::test]
async fn receipts_are_good_where_they_were_given_out() {
    let Some(server) = shared(Broker::Nats) else { return };
    let name = fresh();
    let (queue, other) = (open(server, &name).await, open(server, &name).await);
    queue.enqueue(&[NewMessage::new("a")]).await.expect("answers");
    let got = one(&queue, HOUR).await;
    for settle in [Settle::Done, Settle::Retry { after: Duration::ZERO }, Settle::Dead { reason: String::new() }] {
        let answer = other.settle(&[(got.receipt.clone(), settle)]).await.expect("answers");
        assert_eq!(answer, [Held::Lost]);
    }
    assert_eq!(other.extend(&[(got.receipt.clone(), HOUR)]).await.expect("answers"), [Held::Lost]);
    assert_eq!(queue.clone().settle(&[(got.receipt, Settle::Done)]).await.expect("answers"), [Held::Held]);
    assert_eq!(other.lease(1, HOUR, Duration::ZERO).await.expect("leases"), []);
}

/// Fairness goes by the bucket where nobody says whose a message is, also where it was published by others.
#[tokio::test]
async fn a_message_is_of_its_bucket_where_nobody_says_whose_it_is() {
    let Some(server) = shared(Broker::Nats) else { return };
    let queue = open(server, &fresh()).await;
    let event = r#"{"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "eventTime": "2026-11-04T08:15:30.123Z", "s3": {"bucket": {"name": "uploads"},
        "object": {"key": "a", "size": 1, "eTag": "e", "sequencer": "01"}}}]}"#;
    queue.enqueue(&[NewMessage::new(event), NewMessage::new(event).tenant("somebody")]).await.expect("answers");
    let mut tenants = Vec::new();
    while tenants.len() < 2 {
        tenants.push(one(&queue, HOUR).await.tenant);
    }
    tenants.sort();
    assert_eq!(tenants, ["s3://uploads", "somebody"]);
}

/// Several processes on one queue: each message is one's, and what one leaves undone when it goes comes to the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_leaves_comes_to_the_others() {
    let Some(server) = shared(Broker::Nats) else { return };
    let name = fresh();
    let (gone, left) = (open(server, &name).await, open(server, &name).await);
    let messages: Vec<_> = (0..50).map(|at| NewMessage::new(at.to_string())).collect();
    gone.enqueue(&messages).await.expect("answers");
    let first = gone.lease(20, HOUR, WAIT).await.expect("leases");
    assert_eq!(first.len(), 20);
    // Nothing of it is left that could keep its leases up.
    drop(gone);
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let until = tokio::time::Instant::now() + WAIT;
    while seen.len() < 50 {
        assert!(tokio::time::Instant::now() < until, "{} of 50 came", seen.len());
        for got in left.lease(50, HOUR, Duration::from_secs(1)).await.expect("leases") {
            assert_eq!(left.settle(&[(got.receipt, Settle::Done)]).await.expect("answers"), [Held::Held]);
            assert_eq!(seen.insert(got.body.to_vec(), got.attempt), None, "twice");
        }
    }
    for got in first {
        assert_eq!(seen[&got.body.to_vec()], 2, "its lease was the first attempt");
    }
}

/// A lease lasts as long as was asked for, though the server waits for much less.
#[tokio::test]
async fn leases_are_kept_up_beyond_the_servers_patience() {
    let Some(server) = shared(Broker::Nats) else { return };
    let name = fresh();
    let (queue, other) = (open(server, &name).await, open(server, &name).await);
    queue.enqueue(&[NewMessage::new("a")]).await.expect("answers");
    let got = one(&queue, HOUR).await;
    assert_eq!(other.lease(1, HOUR, ACK_WAIT * 3).await.expect("leases"), []);
    assert_eq!(queue.settle(&[(got.receipt, Settle::Done)]).await.expect("answers"), [Held::Held]);
}

/// Of three lanes that all have many waiting each is served by its weight, also by those who lease one by one.
#[tokio::test]
async fn lanes_share_by_weight() {
    let Some(server) = shared(Broker::Nats) else { return };
    let queue = open(server, &fresh()).await;
    let of = |lane| (0..100).map(move |at| NewMessage::new(at.to_string()).lane(lane));
    let messages: Vec<_> = Lane::ALL.into_iter().flat_map(of).collect();
    queue.enqueue(&messages).await.expect("answers");
    let mut got = BTreeMap::new();
    for most in std::iter::repeat_n(1, 21).chain([21]) {
        for one in queue.lease(most, HOUR, WAIT).await.expect("leases") {
            *got.entry(one.lane).or_insert(0) += 1;
        }
    }
    assert_eq!(got, BTreeMap::from([(Lane::Interactive, 32), (Lane::Normal, 8), (Lane::Bulk, 2)]));
    // What the others leave is for who has something.
    let queue = open(server, &fresh()).await;
    queue
        .enqueue(&(0..40).map(|at| NewMessage::new(at.to_string()).lane(Lane::Bulk)).collect::<Vec<_>>())
        .await
        .expect("ok");
    assert_eq!(queue.lease(40, HOUR, WAIT).await.expect("leases").len(), 40);
}

#[tokio::test]
async fn a_message_of_anybody_is_a_message() {
    let Some(server) = shared(Broker::Nats) else { return };
    let (name, client) = (fresh(), async_nats::connect(server.url()).await.expect("connects"));
    let queue = open(server, &name).await;
    let context = jetstream::new(client);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Theirs", "v");
    let subject = format!("{name}.interactive.somebody");
    context.publish_with_headers(subject, headers, "theirs".into()).await.expect("sent").await.expect("taken");
    let got = one(&queue, HOUR).await;
    assert_eq!((&got.body[..], got.lane, got.tenant.as_str()), (&b"theirs"[..], Lane::Interactive, "somebody"));
    let dead = Settle::Dead { reason: String::from("no\r\nuse ü") };
    assert_eq!(queue.settle(&[(got.receipt, dead)]).await.expect("answers"), [Held::Held]);
    let letters = queue.dead_letters().list(None, 10).await.expect("lists");
    assert_eq!((letters.len(), letters[0].reason.as_str(), letters[0].tenant.as_str()), (1, "no\r\nuse ü", "somebody"));
    let stream = context.get_stream(format!("{name}-dead")).await.expect("a stream");
    let kept = stream.get_raw_message(1).await.expect("kept");
    assert_eq!(kept.headers.get("Theirs").map(|value| value.as_str()), Some("v"));
    assert_eq!(queue.dead_letters().redrive(&Which::all(), 10).await.expect("answers"), 1);
    assert_eq!(one(&queue, HOUR).await.tenant, "somebody");
}

/// A stream of this name that would lose messages is not taken for a queue.
#[tokio::test]
async fn what_is_set_up_wrong_is_refused() {
    let Some(server) = shared(Broker::Nats) else { return };
    let context = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let work = RetentionPolicy::WorkQueue;
    let made = |name: &str| Config { name: name.to_owned(), subjects: vec![format!("{name}.>")], ..Config::default() };
    for (says, config) in [
        ("keeps messages by", made(&fresh())),
        ("does not take the subjects", Config { subjects: vec![fresh()], retention: work, ..made(&fresh()) }),
        ("would discard old messages", Config { max_messages: 10, retention: work, ..made(&fresh()) }),
    ] {
        let name = config.name.clone();
        context.create_stream(config).await.expect("a stream");
        let error = NatsQueue::builder(server.url()).name(name.as_str()).build().await.expect_err(says);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
    // One with limits that refuses what is new is somebody's choice.
    let config =
        Config { max_messages: 1, discard: jetstream::stream::DiscardPolicy::New, retention: work, ..made(&fresh()) };
    let name = config.name.clone();
    context.create_stream(config).await.expect("a stream");
    let queue = open(server, &name).await;
    assert_eq!(queue.caps().max_delay, Duration::ZERO, "no schedules go with that");
    let mut answers = queue.enqueue(&[NewMessage::new("a"), NewMessage::new("b")]).await.expect("answers");
    let error = answers.remove(1).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Resources, "{error}");
    assert!(answers.remove(0).is_ok());
}

#[tokio::test]
async fn a_server_that_is_away_is_said_to_be() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let error = NatsQueue::builder(format!("nats://{closed}/q")).build().await.expect_err("away");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable() && error.to_string().starts_with("q: "), "{error}");
}
