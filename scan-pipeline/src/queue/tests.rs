//! The behaviour suite on the embedded queue, and what only a file can have wrong.

use std::sync::Arc;

use super::{Queue, SqliteQueue, TestClock};
use crate::testkit::queue_suite::QueueFixture;

mod memory {
    use super::*;

    async fn fixture() -> QueueFixture {
        let clock = TestClock::default();
        let queue = SqliteQueue::memory().clock(clock.clone()).open().await.expect("a queue");
        QueueFixture::new(Arc::new(queue)).passing(move |time| clock.advance(time))
    }

    crate::queue_suite!(fixture);
}

mod file {
    use super::*;

    async fn fixture() -> QueueFixture {
        let directory = tempfile::tempdir().expect("a directory");
        let clock = TestClock::default();
        let builder = SqliteQueue::builder(directory.path().join("queue.db")).clock(clock.clone());
        let queue = builder.clone().open().await.expect("a queue");
        let reopen = move || {
            let builder = builder.clone();
            async move { Arc::new(builder.open().await.expect("opens again")) as Arc<dyn Queue> }
        };
        let fixture = QueueFixture::new(Arc::new(queue)).passing(move |time| clock.advance(time));
        fixture.reopening(reopen).keeping(directory)
    }

    crate::queue_suite!(fixture);
}
