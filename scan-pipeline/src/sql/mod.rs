//! What stores and queues on SQL share: opening, migrating, writing, reading, and errors in words. It knows nothing of
//! tasks or messages.

#[cfg(feature = "postgres")]
#[allow(dead_code, reason = "the store and the queue that use it come next")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
