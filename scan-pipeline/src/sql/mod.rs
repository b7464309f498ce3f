//! What stores and queues on SQL share: opening, migrating, writing, reading, and errors in words. It knows nothing of
//! tasks or messages.

#[cfg(feature = "postgres")]
mod columns;
#[cfg(feature = "postgres")]
pub(crate) mod gather;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

#[cfg(feature = "postgres")]
pub(crate) use columns::{Columns, DAMAGED, damaged, digest, word};
