//! The behaviour suite on PostgreSQL, and what only a server can do.

use std::sync::Arc;

use scan_pipeline_tests::postgres::{self, Database};

use crate::sql::postgres::Postgres;
use crate::store::{PostgresStore, Store};
use crate::testkit::store_suite::StoreFixture;

mod faults;
mod migrations;
mod tamper;

async fn open(database: &Database<'_>) -> PostgresStore {
    PostgresStore::open(&database.url()).await.expect("a store")
}

async fn five_verdicts(url: String) -> PostgresStore {
    let database = Postgres::builder(&url).expect("an address").connect().await.expect("connects");
    PostgresStore::builder(database).cache_entries(5).open().await.expect("a store")
}

mod suite {
    use super::*;

    async fn fixture() -> Option<StoreFixture> {
        let database = postgres::shared()?.database();
        let url = database.url();
        let store = five_verdicts(url.clone()).await;
        let reopen = move || {
            let url = url.clone();
            async move { Arc::new(five_verdicts(url).await) as Arc<dyn Store> }
        };
        Some(StoreFixture::new(Arc::new(store)).reopening(reopen).caching(5).keeping(database))
    }

    crate::store_suite!(fixture);
}

mod jobs {
    use super::*;
    use crate::store::JobStore;

    async fn fixture() -> Option<Arc<dyn JobStore>> {
        let database = postgres::shared()?.database();
        let store = open(&database).await;
        // It goes with the server.
        std::mem::forget(database);
        Some(Arc::new(store))
    }

    crate::job_suite!(fixture);
}

#[test]
fn postgres_is_as_the_model() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database();
    let count = std::cell::Cell::new(0);
    super::model::run(40, async || {
        count.set(count.get() + 1);
        let builder = Postgres::builder(&database.url()).expect("an address").schema(format!("case_{}", count.get()));
        let connected = builder.connect().await.expect("connects");
        Arc::new(PostgresStore::builder(connected).open().await.expect("a store")) as Arc<dyn Store>
    });
}
