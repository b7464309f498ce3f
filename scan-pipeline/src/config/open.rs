//! Opening the store of a configuration, or one that the command line names.

use std::sync::Arc;

use super::store::StoreUrl;
use crate::objects::TagStore;
#[cfg(feature = "sqlite")]
use crate::store::SqliteStore;
use crate::store::{JobStore, Store};
use crate::{Error, ErrorKind, Result};

/// A store that is open.
#[derive(Debug, Clone)]
pub struct OpenStore {
    store: Arc<dyn Store>,
    tags: Arc<dyn TagStore>,
    jobs: Arc<dyn JobStore>,
    #[cfg(feature = "sqlite")]
    sqlite: SqliteStore,
}

impl StoreUrl {
    /// Opens the store, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// The store's own; [`ErrorKind::Unsupported`] for a kind that is not compiled in.
    #[cfg(feature = "sqlite")]
    pub async fn open(&self) -> Result<OpenStore> {
        let Self::Sqlite(path) = self;
        let sqlite = SqliteStore::open(path).await?;
        let (store, tags, jobs) = (Arc::new(sqlite.clone()), Arc::new(sqlite.clone()), Arc::new(sqlite.clone()));
        Ok(OpenStore { store, tags, jobs, sqlite })
    }

    /// Opens the store, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`]: none is compiled in.
    #[cfg(not(feature = "sqlite"))]
    pub async fn open(&self) -> Result<OpenStore> {
        let why = "this build has no SQLite; rebuild with --features sqlite";
        Err(Error::new(ErrorKind::Unsupported, why).about(self.to_string()))
    }

    /// Opens a store that is there already, to look at it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is none; as [`open`](Self::open).
    pub async fn open_existing(&self) -> Result<OpenStore> {
        let Self::Sqlite(path) = self;
        match tokio::fs::metadata(path).await {
            Ok(data) if data.is_file() => self.open().await,
            Ok(_) => Err(Error::new(ErrorKind::Config, "is no store, because it is no file").about(self.to_string())),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                let why = "there is no store; `scan-pipeline run` makes it when it begins";
                Err(Error::new(ErrorKind::Config, why).about(self.to_string()))
            }
            Err(why) => Err(Error::io("the store cannot be opened", why).about(self.to_string())),
        }
    }
}

impl OpenStore {
    /// The store.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The same for buckets that cannot keep tags themselves.
    pub fn tags(&self) -> Arc<dyn TagStore> {
        Arc::clone(&self.tags)
    }

    /// The same for bulk jobs.
    pub fn jobs(&self) -> Arc<dyn JobStore> {
        Arc::clone(&self.jobs)
    }

    /// Finishes what was accepted and closes it, for every handle.
    ///
    /// # Errors
    ///
    /// It could not be closed. What was acknowledged before is safe all the same.
    pub async fn close(&self) -> Result<()> {
        #[cfg(feature = "sqlite")]
        self.sqlite.close().await?;
        Ok(())
    }
}
