//! Opening the store of a configuration, or one that the command line names.

use std::sync::Arc;

use super::store::StoreUrl;
use crate::objects::TagStore;
#[cfg(feature = "postgres")]
use crate::sql::postgres::Postgres;
#[cfg(feature = "postgres")]
use crate::store::PostgresStore;
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
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteStore),
    #[cfg(feature = "postgres")]
    Postgres(PostgresStore),
}

impl StoreUrl {
    /// Opens the store, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// The store's own; [`ErrorKind::Unsupported`] for a kind that is not compiled in.
    pub async fn open(&self) -> Result<OpenStore> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => Ok(SqliteStore::open(path).await?.into()),
            #[cfg(not(feature = "sqlite"))]
            Self::Sqlite(_) => {
                let why = "this build has no SQLite; rebuild with --features sqlite";
                Err(Error::new(ErrorKind::Unsupported, why).about(self.to_string()))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let database = Postgres::at(url.clone()).connect().await?;
                Ok(PostgresStore::builder(database).open().await?.into())
            }
        }
    }

    /// Opens a store that is there already, to look at it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is none; as [`open`](Self::open).
    pub async fn open_existing(&self) -> Result<OpenStore> {
        let absent = "there is no store; `scan-pipeline run` makes it when it begins";
        let path = match self {
            Self::Sqlite(path) => path,
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let database = Postgres::at(url.clone()).connect().await?;
                let store = PostgresStore::builder(database).open_existing().await?;
                let store = store.ok_or_else(|| Error::new(ErrorKind::Config, absent).about(self.to_string()))?;
                return Ok(store.into());
            }
        };
        match tokio::fs::metadata(path).await {
            Ok(data) if data.is_file() => self.open().await,
            Ok(_) => Err(Error::new(ErrorKind::Config, "is no store, because it is no file").about(self.to_string())),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::Config, absent).about(self.to_string()))
            }
            Err(why) => Err(Error::io("the store cannot be opened", why).about(self.to_string())),
        }
    }
}

#[cfg(feature = "sqlite")]
impl From<SqliteStore> for OpenStore {
    fn from(store: SqliteStore) -> Self {
        let one = Arc::new(store.clone());
        Self { store: one.clone(), tags: one.clone(), jobs: one, kind: Kind::Sqlite(store) }
    }
}

#[cfg(feature = "postgres")]
impl From<PostgresStore> for OpenStore {
    fn from(store: PostgresStore) -> Self {
        let one = Arc::new(store.clone());
        Self { store: one.clone(), tags: one.clone(), jobs: one, kind: Kind::Postgres(store) }
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
        match self.kind {
            #[cfg(feature = "sqlite")]
            Kind::Sqlite(ref store) => store.close().await,
            #[cfg(feature = "postgres")]
            Kind::Postgres(ref store) => store.close().await,
        }
    }
}
