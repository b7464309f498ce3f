//! A network that cuts requests and loses answers: nothing that was acknowledged is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use scan_pipeline::queue::{DeadLetters, Held, NewMessage, Queue, Settle, SqsQueue};
use scan_pipeline::testkit::{Fault, FaultProxy};
use scan_pipeline_tests::brokers::Broker;

use crate::scene::Scene;

const SERVERS: [Broker; 2] = [Broker::Moto, Broker::ElasticMq];
const HOUR: Duration = Duration::from_secs(3600);

/// A queue behind a proxy, with leases short enough to come again.
async fn behind(scene: &Scene) -> (FaultProxy, SqsQueue) {
    let proxy = FaultProxy::start(scene.server.address()).await.expect("a proxy");
    let builder = scene.builder().endpoint(proxy.endpoint());
    let queue = builder.read_timeout(Duration::from_secs(25)).build().await.expect("a queue");
    (proxy, queue)
}

type Make = fn() -> Fault;

const FAULTS: [(&str, Make); 5] = [
    ("cut request", || Fault::cut_request(10)),
    ("lost answer", Fault::lose_answer),
    ("truncated answer", || Fault::truncate(5)),
    ("failure", || Fault::answer(500)),
    ("unavailable", || Fault::answer(503)),
];

/// Every third request fails in some way, on the way there or back: enqueued, leased, settled, dead, and redriven,
/// every message ends where it was put, or comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_the_way() {
    for server in SERVERS {
        for (name, fault) in FAULTS {
            let Some(scene) = Scene::new(server, false).await else { continue };
            let (proxy, queue) = behind(&scene).await;
            let spoil = |first: u32| {
                for round in 0..20 {
                    proxy.add(fault().on("POST", "").nth(first + round * 3));
                }
            };
            spoil(1);
            let messages: Vec<_> = (0..25).map(|at| NewMessage::new(format!("{at}"))).collect();
            let mut acknowledged = Vec::new();
            for (message, answer) in messages.iter().zip(queue.enqueue(&messages).await.expect("answers")) {
                if answer.is_ok() {
                    acknowledged.push(String::from_utf8_lossy(&message.body).into_owned());
                }
            }
            // Odd ones die, even ones are done; what is not held comes again, until there is nothing left.
            let mut seen: BTreeSet<String> = BTreeSet::new();
            let until = tokio::time::Instant::now() + Duration::from_secs(120);
            loop {
                assert!(tokio::time::Instant::now() < until, "{name} on {}: {} came", server.name(), seen.len());
                let Ok(got) = queue.lease(10, Duration::from_secs(5), Duration::from_secs(1)).await else { continue };
                let left = scene.queue().await.depth().await.expect("answers");
                if got.is_empty() && left.ready + left.leased == 0 {
                    break;
                }
                let mut settle = Vec::new();
                for one in got {
                    let body = String::from_utf8_lossy(&one.body).into_owned();
                    let odd = body.parse::<u32>().expect("a number") % 2 == 1;
                    seen.insert(body);
                    let dead = Settle::Dead { reason: String::from("odd") };
                    settle.push((one.receipt, if odd { dead } else { Settle::Done }));
                }
                // Whatever it says: who did not lose their lease and hears of nothing tries again when it comes again.
                let _ = queue.settle(&settle).await;
            }
            proxy.clear();
            // Without faults, and with another eye: the odd ones are all dead letters, and nothing is left over.
            let queue = scene.queue().await;
            let letters = queue.list(None, 100).await.expect("lists");
            for body in &acknowledged {
                assert!(seen.contains(body), "{body} was lost: {name} on {}", server.name());
                let odd = body.parse::<u32>().expect("a number") % 2 == 1;
                let dead = letters.iter().any(|letter| letter.body == body.as_bytes());
                assert_eq!(odd, dead, "{body}, {name} on {}", server.name());
            }
            for letter in letters {
                assert_eq!(letter.reason, "odd");
            }
        }
    }
}

/// SQS answers that some entries of a batch failed: they are tried again, the others are not.
#[tokio::test]
async fn a_broker_that_goes_away_loses_no_lease() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let (proxy, queue) = behind(&scene).await;
        scene.send("a").await;
        let got = queue.lease(1, HOUR, Duration::from_secs(20)).await.expect("leases").remove(0);
        proxy.add(Fault::answer(503).on("POST", "").times(100));
        let done = [(got.receipt.clone(), Settle::Done)];
        let error = queue.settle(&done).await.expect_err("nobody answers");
        assert!(error.is_retryable(), "{error}");
        proxy.clear();
        // The lease is as good as before.
        assert_eq!(queue.settle(&done).await.expect("answers"), [Held::Held], "{}", server.name());
        assert_eq!(queue.lease(1, HOUR, Duration::from_secs(1)).await.expect("leases"), []);
    }
}
