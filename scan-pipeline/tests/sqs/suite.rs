//! The behaviour suite for queues.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scan_pipeline::Result;
use scan_pipeline::queue::{
    DeadLetter, DeadLetters, Delivery, Depth, Held, MessageId, NewMessage, Queue, QueueCaps, Receipt, Settle,
    SqliteQueue, TestClock, Which,
};
use scan_pipeline::testkit::queue_suite::QueueFixture;
use scan_pipeline_tests::brokers::Broker;

use crate::scene::Scene;

/// On an ordered queue messages of nobody would all wait for each other: each gets a tenant of its own, unless it has one.
#[derive(Debug)]
struct Apart<Q>(Q);

const APART: &str = "nobody ";

fn whose(tenant: String) -> String {
    if tenant.starts_with(APART) { String::new() } else { tenant }
}

#[async_trait]
impl<Q: Queue> Queue for Apart<Q> {
    fn caps(&self) -> QueueCaps {
        self.0.caps()
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        let apart = |message: &NewMessage| match message.tenant.is_empty() {
            true => message.clone().tenant(format!("{APART}{:x}", fastrand::u64(..))),
            false => message.clone(),
        };
        self.0.enqueue(&messages.iter().map(apart).collect::<Vec<_>>()).await
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        let mut deliveries = self.0.lease(most, ttl, wait).await?;
        deliveries.iter_mut().for_each(|one| one.tenant = whose(std::mem::take(&mut one.tenant)));
        Ok(deliveries)
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        self.0.extend(leases).await
    }

    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        self.0.settle(messages).await
    }

    async fn depth(&self) -> Result<Depth> {
        self.0.depth().await
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self
    }
}

/// moto looks whether a message is free and takes it in two steps, so two who ask at the same moment may both get it. Here
/// nobody asks while another does.
#[derive(Debug)]
struct InTurn<Q>(Q, Arc<tokio::sync::Mutex<()>>);

#[async_trait]
impl<Q: Queue> Queue for InTurn<Q> {
    fn caps(&self) -> QueueCaps {
        self.0.caps()
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> Result<Vec<Result<MessageId>>> {
        self.0.enqueue(messages).await
    }

    async fn lease(&self, most: usize, ttl: Duration, wait: Duration) -> Result<Vec<Delivery>> {
        let _turn = self.1.lock().await;
        self.0.lease(most, ttl, wait).await
    }

    async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        self.0.extend(leases).await
    }

    async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        self.0.settle(messages).await
    }

    async fn depth(&self) -> Result<Depth> {
        self.0.depth().await
    }

    fn dead_letters(&self) -> &dyn DeadLetters {
        self.0.dead_letters()
    }
}

#[async_trait]
impl<Q: Queue> DeadLetters for Apart<Q> {
    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<DeadLetter>> {
        let mut letters = self.0.dead_letters().list(after, most).await?;
        letters.iter_mut().for_each(|one| one.tenant = whose(std::mem::take(&mut one.tenant)));
        Ok(letters)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>> {
        self.0.dead_letters().get(id).await
    }

    async fn redrive(&self, which: &Which, most: usize) -> Result<u64> {
        self.0.dead_letters().redrive(which, most).await
    }

    async fn purge(&self, which: &Which, most: usize) -> Result<u64> {
        self.0.dead_letters().purge(which, most).await
    }
}

async fn fixture(broker: Broker, fifo: bool) -> QueueFixture {
    let Some(scene) = Scene::new(broker, fifo).await else {
        // It said so. The suite has no way to be skipped, so it runs on something.
        let clock = TestClock::default();
        let queue = SqliteQueue::memory().clock(clock.clone()).open().await.expect("a queue");
        return QueueFixture::new(Arc::new(queue)).passing(move |time| clock.advance(time));
    };
    let (builder, turns) = (scene.builder(), Arc::default());
    let open = move || {
        let (builder, turns) = (builder.clone(), Arc::clone(&turns));
        async move {
            let queue = builder.build().await.expect("a queue");
            match broker {
                Broker::Moto => Arc::new(InTurn(queue, turns)) as Arc<dyn Queue>,
                _ if fifo => Arc::new(Apart(queue)),
                _ => Arc::new(queue),
            }
        }
    };
    let quiet = Duration::from_secs(1);
    QueueFixture::new(open().await).quiet(quiet).reopening(open)
}

macro_rules! on {
    ($name:ident, $broker:expr, $fifo:expr) => {
        mod $name {
            use super::*;

            async fn here() -> QueueFixture {
                fixture($broker, $fifo).await
            }

            scan_pipeline::queue_suite!(here);
        }
    };
}

// Not moto's FIFO queues: many receivers at a time get the same message, and a duplicate takes another's place.
on!(moto, Broker::Moto, false);
on!(elasticmq, Broker::ElasticMq, false);
on!(elasticmq_fifo, Broker::ElasticMq, true);
