//! Hearing that something was enqueued: one connection for all who wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::Result;
use crate::sql::postgres::{Postgres, failed};

const CHANNEL: &str = "scan_pipeline_queue";
/// The longest pause between two tries to connect.
const PAUSE: Duration = Duration::from_secs(30);

/// Rings the bell for whatever is told, for as long as this is not dropped. Without a connection nobody is woken, and who
/// waits looks from time to time.
pub(super) async fn listen(database: Postgres, schema: String, bell: Arc<Notify>) {
    let mut pause = Duration::from_millis(100);
    loop {
        let heard = hear(&database, &schema, &bell, &mut pause).await;
        if let Err(error) = heard {
            tracing::debug!(database = database.name(), %error, "nobody is woken until there is a connection again");
        }
        // Not all at the same moment.
        tokio::time::sleep(pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
        pause = (pause * 2).min(PAUSE);
    }
}

async fn hear(database: &Postgres, schema: &str, bell: &Notify, pause: &mut Duration) -> Result<()> {
    let mut listener = database.listener(CHANNEL).await?;
    *pause = Duration::from_millis(100);
    // Something may have been told before it listened.
    bell.notify_waiters();
    while let Some(told) = listener.try_recv().await.map_err(failed("listening to the database"))? {
        if told.payload() == schema {
            bell.notify_waiters();
        }
    }
    Ok(())
}
