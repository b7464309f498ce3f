//! What JavaScript holds of a call that is under way: how far it is, and the means to end it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use napi_derive::napi;
use scan_pipeline::{Error, ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::error::Result;

/// A call that is under way.
#[napi]
#[derive(Clone, Default)]
pub struct Ticket {
    cancelled: CancellationToken,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    bytes: AtomicU64,
    scanning: AtomicBool,
}

#[napi]
impl Ticket {
    /// A ticket for one call.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the call.
    #[napi]
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Bytes that were taken in.
    #[napi(getter)]
    pub fn bytes(&self) -> f64 {
        self.shared.bytes.load(Ordering::Relaxed) as f64
    }

    /// Whether everything was taken in.
    #[napi(getter)]
    pub fn scanning(&self) -> bool {
        self.shared.scanning.load(Ordering::Relaxed)
    }
}

impl Ticket {
    pub(crate) fn took(&self, bytes: usize) {
        self.shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn took_all(&self, size: u64) {
        self.shared.bytes.store(size, Ordering::Relaxed);
        self.ended();
    }

    /// There is nothing more to take in.
    pub(crate) fn ended(&self) {
        self.shared.scanning.store(true, Ordering::Relaxed);
    }

    pub(crate) fn token(&self) -> CancellationToken {
        self.cancelled.clone()
    }

    /// The work, unless it is ended before: then it is dropped where it stands.
    pub(crate) async fn until_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let cancelled = || Error::new(ErrorKind::Cancelled, "the call was cancelled").into();
        self.cancelled.run_until_cancelled(work).await.unwrap_or_else(|| Err(cancelled()))
    }
}
