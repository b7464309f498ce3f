//! A server that is killed, and connections that are cut in mid-request: nothing that was acknowledged is lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scan_pipeline::queue::{Held, NatsQueue, NewMessage, Queue, Settle};
use scan_pipeline_tests::brokers::{Broker, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::suite::fresh;

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(120);

/// Passes bytes on, and cuts every connection after so many of them, until it is told to stop.
async fn cutter(upstream: SocketAddr, after: usize, cuts: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let cuts = Arc::clone(&cuts);
            connections.spawn(async move {
                let Ok(server) = TcpStream::connect(upstream).await else { return };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                // Whichever way has had its bytes first takes the other with it, in the middle of whatever it is.
                let there = pass(from_client, to_server, after, &cuts);
                let back = pass(from_server, to_client, after, &cuts);
                tokio::select! { () = there => {}, () = back => {} }
            });
        }
    });
    address
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, limit: usize, cuts: &AtomicBool) {
    let (mut buffer, mut passed) = ([0; 512], 0);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if cuts.load(Ordering::Relaxed) {
            passed += count;
        }
        if passed >= limit || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// Takes all there is until every one of these was seen and the queue is empty. Odd ones die.
async fn work_off(queue: &NatsQueue, acknowledged: &BTreeSet<String>) {
    let mut seen = BTreeSet::new();
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let missing: Vec<_> = acknowledged.difference(&seen).collect();
        assert!(tokio::time::Instant::now() < until, "lost, or late: {missing:?}");
        let Ok(got) = queue.lease(10, Duration::from_secs(20), Duration::from_secs(1)).await else { continue };
        if got.is_empty()
            && missing.is_empty()
            && queue.depth().await.is_ok_and(|depth| depth.ready + depth.leased + depth.delayed == 0)
        {
            return;
        }
        let mut settle = Vec::new();
        for one in got {
            let body = String::from_utf8_lossy(&one.body).into_owned();
            let odd = body.parse::<u32>().expect("a number") % 2 == 1;
            seen.insert(body);
            let dead = Settle::Dead { reason: String::from("odd") };
            settle.push((one.receipt, if odd { dead } else { Settle::Done }));
        }
        // Whatever it says: what was not settled comes again.
        let _ = queue.settle(&settle).await;
    }
}

async fn dead_are(queue: &NatsQueue, acknowledged: &BTreeSet<String>) {
    let letters = queue.dead_letters().list(None, 1000).await.expect("lists");
    let dead: BTreeSet<_> = letters.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect();
    assert_eq!(letters.len(), dead.len(), "each is there once");
    for body in acknowledged {
        let odd = body.parse::<u32>().expect("a number") % 2 == 1;
        assert_eq!(odd, dead.contains(body), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_connections_are_cut() {
    let Some(server) = start(Broker::Nats) else { return };
    for after in [2_000, 7_000] {
        let name = fresh();
        let settings = |address| {
            let builder = NatsQueue::builder(format!("nats://{address}")).name(name.as_str());
            builder.ack_wait(Duration::from_secs(2)).timeout(Duration::from_secs(2))
        };
        // Made without cuts, since a connection that never comes about is another story.
        let straight = settings(server.address()).build().await.expect("a queue");
        let cuts = Arc::new(AtomicBool::new(false));
        let proxy = cutter(server.address(), after, Arc::clone(&cuts)).await;
        let queue = settings(proxy).build().await.expect("a queue");
        cuts.store(true, Ordering::Relaxed);
        let messages: Vec<_> = (0..60).map(|at| NewMessage::new(at.to_string())).collect();
        let mut acknowledged = BTreeSet::new();
        for part in messages.chunks(10) {
            let answers = queue.enqueue(part).await.expect("answers");
            let taken = part.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
            acknowledged.extend(taken.map(|(message, _)| String::from_utf8_lossy(&message.body).into_owned()));
        }
        let stop = Arc::clone(&cuts);
        let calm = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            stop.store(false, Ordering::Relaxed);
        });
        work_off(&queue, &acknowledged).await;
        calm.await.expect("no panic");
        dead_are(&straight, &acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_server_is_killed() {
    let Some(mut server) = start(Broker::Nats) else { return };
    let builder = NatsQueue::builder(server.url()).ack_wait(Duration::from_secs(2)).timeout(Duration::from_secs(2));
    let queue = builder.build().await.expect("a queue");
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let messages: Vec<_> = (0..30).map(|at| NewMessage::new((round * 100 + at).to_string())).collect();
        let answers = queue.enqueue(&messages).await.expect("answers");
        let taken = messages.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
        acknowledged.extend(taken.map(|(message, _)| String::from_utf8_lossy(&message.body).into_owned()));
        // With some leased, some settled, some waiting.
        let got = queue.lease(10, HOUR, Duration::from_secs(10)).await.expect("leases");
        if let Some(one) = got.iter().find(|one| one.body.last().is_some_and(|last| last % 2 == 0)) {
            let held = queue.settle(&[(one.receipt.clone(), Settle::Done)]).await.expect("answers");
            assert_eq!(held, [Held::Held]);
            acknowledged.remove(&String::from_utf8_lossy(&one.body).into_owned());
        }
        drop(got);
        tokio::task::block_in_place(|| server.restart());
    }
    assert!(acknowledged.len() >= 50, "{} were acknowledged", acknowledged.len());
    // Those that are leased by this process it would keep up for an hour.
    drop(queue);
    let queue = NatsQueue::builder(server.url()).build().await.expect("a queue");
    work_off(&queue, &acknowledged).await;
    dead_are(&queue, &acknowledged).await;
}
