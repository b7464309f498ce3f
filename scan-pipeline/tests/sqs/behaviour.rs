//! What SQS has of its own: foreign messages, the broker's own dead letters, limits of requests.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName};
use scan_pipeline::ErrorKind;
use scan_pipeline::queue::{DeadLetters, Delivery, Held, Lane, NewMessage, Queue, Receipt, Settle, SqsQueue, Which};
use scan_pipeline_tests::brokers::Broker;

use crate::scene::{Scene, client};

const SERVERS: [Broker; 2] = [Broker::Moto, Broker::ElasticMq];
const HOUR: Duration = Duration::from_secs(3600);
const WAIT: Duration = Duration::from_secs(20);

async fn one(queue: &SqsQueue) -> Delivery {
    queue.lease(1, HOUR, WAIT).await.expect("leases").pop().expect("it comes")
}

async fn settle(queue: &SqsQueue, receipt: &Receipt, settle: Settle) -> Held {
    queue.settle(&[(receipt.clone(), settle)]).await.expect("answers")[0]
}

fn dead(reason: &str) -> Settle {
    Settle::Dead { reason: reason.to_owned() }
}

#[tokio::test]
async fn a_message_of_anybody_is_a_message() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let queue = scene.queue().await;
        let body = r#"{"Records":[{"s3":{"object":{"key":"a+b%2Fc"}}}]}"#;
        let attribute = MessageAttributeValue::builder().data_type("Binary");
        let attribute = attribute.binary_value(aws_sdk_sqs::primitives::Blob::new([0, 255])).build().expect("complete");
        let request = scene.client.send_message().queue_url(&scene.url).message_body(body);
        request.message_attributes("theirs", attribute.clone()).send().await.expect("sent");
        let got = one(&queue).await;
        assert_eq!((&got.body[..], got.attempt, got.lane, got.tenant.as_str()), (body.as_bytes(), 1, Lane::Normal, ""));
        assert!(got.enqueued.is_some());
        // It goes through the dead letters and back as it was.
        assert_eq!(settle(&queue, &got.receipt, dead("no use")).await, Held::Held);
        assert_eq!(queue.redrive(&Which::all(), 1).await.expect("answers"), 1);
        let request = scene.client.receive_message().queue_url(&scene.url).message_attribute_names("All");
        let message = request.wait_time_seconds(5).send().await.expect("answers").messages.expect("it").remove(0);
        assert_eq!(message.body.as_deref(), Some(body));
        let attributes = message.message_attributes.expect("attributes");
        assert_eq!(attributes.len(), 1, "{attributes:?}");
        assert_eq!(attributes["theirs"].binary_value, attribute.binary_value);
    }
}

#[tokio::test]
async fn what_the_broker_moved_away_says_so() {
    for server in SERVERS {
        let Some(scene) = Scene::moving_after(server, false, 2).await else { continue };
        let queue = scene.queue().await;
        scene.send("poison").await;
        for attempt in 1..=2 {
            let got = one(&queue).await;
            assert_eq!(got.attempt, attempt);
            assert_eq!(settle(&queue, &got.receipt, Settle::Retry { after: Duration::ZERO }).await, Held::Held);
        }
        assert_eq!(queue.lease(1, HOUR, Duration::from_secs(1)).await.expect("leases"), []);
        let letters = queue.list(None, 10).await.expect("lists");
        assert_eq!(letters.len(), 1, "{}", server.name());
        assert_eq!((&letters[0].body[..], letters[0].attempts, letters[0].died), (&b"poison"[..], 2, None));
        assert!(letters[0].reason.contains("the broker moved it here after 2 receives"), "{}", letters[0].reason);
        // And once more the same, though looking counts as a receive.
        assert_eq!(queue.get(&letters[0].id).await.expect("answers").as_ref(), Some(&letters[0]));
        assert_eq!(queue.redrive(&Which::one(letters[0].id.clone()), 1).await.expect("answers"), 1);
        assert_eq!(one(&queue).await.attempt, 1);
    }
}

#[tokio::test]
async fn a_message_as_large_as_the_queue_takes_dies_whole() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let queue = scene.queue().await;
        // Of anybody: ours leave room for what we put beside.
        let body = "x".repeat(1 << 20);
        scene.send(&body).await;
        let got = one(&queue).await;
        assert_eq!(settle(&queue, &got.receipt, dead("too much")).await, Held::Held);
        let letters = queue.list(None, 10).await.expect("lists");
        assert!(letters.len() == 1 && letters[0].body == body, "{}", server.name());
    }
}

/// Ten messages of 200 KiB are more than a request holds.
#[tokio::test]
async fn large_messages_are_divided_by_size() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let queue = scene.queue().await;
        let messages: Vec<_> = (0..12).map(|at| NewMessage::new(format!("{at} {}", "x".repeat(200_000)))).collect();
        let answers = queue.enqueue(&messages).await.expect("answers");
        assert!(answers.into_iter().all(|answer| answer.is_ok()), "{}", server.name());
        let mut bodies = BTreeSet::new();
        while bodies.len() < messages.len() {
            let got = queue.lease(12, HOUR, WAIT).await.expect("leases");
            assert!(!got.is_empty(), "{} of 12 came", bodies.len());
            bodies.extend(got.into_iter().map(|one| one.body));
        }
    }
}

#[tokio::test]
async fn dead_letters_in_tens_are_all_found() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let queue = scene.queue().await;
        let bodies: BTreeSet<_> = (0..35).map(|at| at.to_string()).collect();
        let messages: Vec<_> = bodies.iter().map(|body| NewMessage::new(body.clone())).collect();
        queue.enqueue(&messages).await.expect("answers");
        let mut left = bodies.len();
        while left > 0 {
            let got = queue.lease(left, HOUR, WAIT).await.expect("leases");
            left -= got.len();
            let all: Vec<_> = got.into_iter().map(|one| (one.receipt, dead("no use"))).collect();
            assert!(queue.settle(&all).await.expect("answers").into_iter().all(|held| held == Held::Held));
        }
        let letters = queue.list(None, 100).await.expect("lists");
        let found: BTreeSet<_> = letters.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect();
        assert_eq!(found, bodies, "{}", server.name());
        // They were put back.
        assert_eq!(queue.list(None, 20).await.expect("lists").len(), 20);
        assert_eq!(queue.purge(&Which::all(), 100).await.expect("answers"), 35);
        assert_eq!(queue.list(None, 100).await.expect("lists"), []);
    }
}

/// Somebody else leased it, and only they have its body.
#[tokio::test]
async fn another_process_can_settle_but_not_bury() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let (queue, other) = (scene.queue().await, scene.queue().await);
        scene.send("a").await;
        let got = one(&queue).await;
        assert_eq!(settle(&other, &got.receipt, dead("no use")).await, Held::Lost);
        assert_eq!(other.list(None, 10).await.expect("lists"), []);
        assert_eq!(settle(&other, &got.receipt, Settle::Done).await, Held::Held);
        assert_eq!(queue.lease(1, HOUR, Duration::from_secs(1)).await.expect("leases"), []);
    }
}

/// However often somebody stops waiting, and whatever had come by then.
#[tokio::test]
async fn a_dropped_lease_puts_back_what_comes() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let queue = scene.queue().await;
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.lease(10, HOUR, WAIT).await }
        });
        // It is waiting at the broker, or about to: either way nobody will take what comes.
        tokio::time::sleep(Duration::from_millis(500)).await;
        waiting.abort();
        assert!(waiting.await.is_err());
        scene.send("a").await;
        // Well within the hour that was asked for.
        let got = queue.lease(1, HOUR, Duration::from_secs(60)).await.expect("leases");
        assert_eq!(got.len(), 1, "{}", server.name());
    }
}

#[tokio::test]
async fn leases_end_after_twelve_hours() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let queue = scene.queue().await;
        scene.send("a").await;
        let got = queue.lease(1, Duration::from_secs(100 * 3600), WAIT).await.expect("leases").remove(0);
        // More than there can be is as much as there can be.
        let long = [(got.receipt.clone(), Duration::from_secs(100 * 3600))];
        assert_eq!(queue.extend(&long).await.expect("answers"), [Held::Held], "{}", server.name());
        assert_eq!(settle(&queue, &got.receipt, Settle::Done).await, Held::Held);
    }
}

#[tokio::test]
async fn tenants_of_a_fifo_queue_are_its_groups() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, true).await else { continue };
        let queue = scene.queue().await;
        assert!(queue.is_fifo() && queue.caps().ordered);
        let request = scene.client.send_message().queue_url(&scene.url).message_body("theirs");
        request.message_group_id("g").message_deduplication_id("d").send().await.expect("sent");
        let got = one(&queue).await;
        assert_eq!((&got.body[..], got.tenant.as_str()), (&b"theirs"[..], "g"));
        assert_eq!(settle(&queue, &got.receipt, dead("no use")).await, Held::Held);
        assert_eq!(queue.list(None, 10).await.expect("lists")[0].tenant, "g");
        assert_eq!(queue.redrive(&Which::all(), 10).await.expect("answers"), 1);
        let request = scene.client.receive_message().queue_url(&scene.url).wait_time_seconds(5);
        let request = request.message_system_attribute_names(aws_sdk_sqs::types::MessageSystemAttributeName::All);
        let message = request.send().await.expect("answers").messages.expect("it").remove(0);
        let group =
            &message.attributes.expect("attributes")[&aws_sdk_sqs::types::MessageSystemAttributeName::MessageGroupId];
        assert_eq!(group, "g");
    }
}

#[tokio::test]
async fn what_is_set_up_wrong_is_said() {
    for server in SERVERS {
        let Some(scene) = Scene::moving_after(server, false, 5).await else { continue };
        let queue = scene.queue().await;
        assert_eq!(queue.check(3).await.expect("answers").iter().filter(|one| one.contains("maxReceive")).count(), 0);
        let warnings = queue.check(4).await.expect("answers");
        assert!(warnings.iter().any(|one| one.contains("set maxReceiveCount to 6")), "{warnings:?}");

        let client = client(&scene.server.url());
        let alone = client.create_queue().queue_name("alone").send().await.expect("created").queue_url.expect("url");
        let builder = || SqsQueue::builder(&alone).region("us-east-1").credentials("test", "test", None);
        let error = builder().build().await.expect_err("no dead letters");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("no dead-letter queue"), "{error}");
        let queue = builder().dead_letters(&scene.dead).build().await.expect("named");
        let warnings = queue.check(4).await.expect("answers");
        assert!(warnings.iter().any(|one| one.contains("no redrive policy")), "{warnings:?}");

        let Some(fifo) = Scene::new(server, true).await else { continue };
        let error = builder().dead_letters(&fifo.dead).build().await.expect_err("of two kinds");
        assert!(error.to_string().contains("is FIFO, and the other is not"), "{error}");
        let absent = SqsQueue::builder("sqs://absent").endpoint(scene.server.url()).region("us-east-1");
        let error = absent.credentials("test", "test", None).build().await.expect_err("absent");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().starts_with("absent: there is no queue of this name"), "{error}");
    }
}

#[tokio::test]
async fn a_queue_is_found_by_its_name() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let name = scene.url.rsplit('/').next().expect("a name");
        let address = format!("sqs://{name}?endpoint={}&region=us-east-1", scene.server.url());
        let queue = SqsQueue::builder(address).credentials("test", "test", None).build().await.expect("found");
        scene.send("a").await;
        assert_eq!(one(&queue).await.body, "a");
        let request = scene.client.get_queue_attributes().queue_url(&scene.dead);
        request.attribute_names(QueueAttributeName::All).send().await.expect("the dead letters are there, too");
    }
}
