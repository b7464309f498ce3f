//! The behaviour suite on the embedded store, and what only a file can have wrong.

use std::sync::Arc;

use super::{SqliteStore, Store};
use crate::testkit::store_suite::StoreFixture;

mod bad_input;
mod crash;
mod migrations;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
mod tamper;

mod memory {
    use super::*;

    async fn fixture() -> StoreFixture {
        StoreFixture::new(Arc::new(SqliteStore::in_memory().await.expect("a store")))
    }

    crate::store_suite!(fixture);
}

mod jobs {
    use super::*;
    use crate::store::JobStore;

    async fn fixture() -> Arc<dyn JobStore> {
        Arc::new(SqliteStore::in_memory().await.expect("a store"))
    }

    crate::job_suite!(fixture);
}

mod file {
    use super::*;

    async fn fixture() -> StoreFixture {
        let directory = tempfile::tempdir().expect("a directory");
        let builder = SqliteStore::builder(directory.path().join("store.db")).cache_entries(5);
        let store = builder.clone().open().await.expect("a store");
        let reopen = move || {
            let builder = builder.clone();
            async move { Arc::new(builder.open().await.expect("opens again")) as Arc<dyn Store> }
        };
        StoreFixture::new(Arc::new(store)).reopening(reopen).caching(5).keeping(directory)
    }

    crate::store_suite!(fixture);
}
