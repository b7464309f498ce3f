//! The behaviour suite for queues.

use std::sync::Arc;
use std::time::Duration;

use scan_pipeline::queue::{NatsQueue, SqliteQueue, TestClock};
use scan_pipeline::testkit::queue_suite::QueueFixture;
use scan_pipeline_tests::brokers::{Broker, shared};

/// A name that no other test has.
pub(crate) fn fresh() -> String {
    format!("test-{:016x}", fastrand::u64(..))
}

async fn fixture() -> QueueFixture {
    let Some(server) = shared(Broker::Nats) else {
        // It said so. The suite has no way to be skipped, so it runs on something.
        let clock = TestClock::default();
        let queue = SqliteQueue::memory().clock(clock.clone()).open().await.expect("a queue");
        return QueueFixture::new(Arc::new(queue)).passing(move |time| clock.advance(time));
    };
    // Without another handle: receipts are good on the one that leased, see `behaviour`.
    let queue = NatsQueue::builder(server.url()).name(fresh()).ack_wait(Duration::from_secs(2)).build().await;
    QueueFixture::new(Arc::new(queue.expect("a queue")))
}

scan_pipeline::queue_suite!(fixture);
