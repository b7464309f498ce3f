//! What stores and queues on SQL share: opening, migrating, writing, reading, and errors in words. It knows nothing of
//! tasks or messages.

mod columns;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod gather;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

pub(crate) use columns::{Columns, DAMAGED, damaged, digest, word};

use crate::Error;

/// The same error for another caller: one transaction carries the calls of many.
pub(crate) fn again(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.to_string()).retryable(error.is_retryable());
    if let Some(wait) = error.retry_after() {
        copy = copy.after(wait);
    }
    copy
}
