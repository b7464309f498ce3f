//! How much memory contents and scans may take together.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::{Error, ErrorKind, Result};

/// The unit of account, so that large budgets fit a semaphore's `u32`.
const UNIT: u64 = 1 << 10;

/// A number of bytes that is shared by everything that holds contents in memory. Clones share one account.
///
/// Whoever asks for more than the whole gets the whole, alone: a file larger than the budget is still scanned.
#[derive(Debug, Clone)]
pub struct Budget {
    units: u32,
    free: Arc<Semaphore>,
    /// How often something was given back.
    returned: Arc<AtomicU64>,
    patience: Option<Duration>,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
    returned: Arc<AtomicU64>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // One that was merged into another has nothing left to give back.
        if self.permit.num_permits() > 0 {
            self.returned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Budget {
    /// A budget of that many bytes, at least 1 MiB.
    pub fn new(bytes: u64) -> Self {
        let units = units(bytes.max(1 << 20));
        Self { units, free: Arc::new(Semaphore::new(units as usize)), returned: Arc::default(), patience: None }
    }

    /// The same account, in which a scan waits no longer than this while nobody gives anything back: those who hold it
    /// may be waiting for that very scan, or have forgotten it. Without, it waits as long as its caller does.
    #[must_use]
    pub fn patience(mut self, longest: Duration) -> Self {
        self.patience = Some(longest);
        self
    }

    /// Another account of that many bytes, with the same patience.
    #[cfg(feature = "config")]
    pub(crate) fn anew(&self, bytes: u64) -> Self {
        Self { patience: self.patience, ..Self::new(bytes) }
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Bytes that nobody holds.
    pub fn available(&self) -> u64 {
        self.free.available_permits() as u64 * UNIT
    }

    /// Takes that much if it is free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        Arc::clone(&self.free).try_acquire_many_owned(units(bytes)).ok().map(|permit| self.held(permit))
    }

    /// Waits until that much is free, in the order of asking, and takes it.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let wanted = units(bytes).min(self.units);
        match Arc::clone(&self.free).acquire_many_owned(wanted).await {
            Ok(permit) => self.held(permit),
            // Only a closed semaphore refuses, and this one is never closed.
            Err(_) => unreachable!("the budget's semaphore is never closed"),
        }
    }

    /// The same, no longer than the budget's [`patience`](Self::patience) while nothing is given back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when that is over; retryable.
    pub async fn reserve_patiently(&self, bytes: u64) -> Result<Reservation> {
        let Some(patience) = self.patience else { return Ok(self.reserve(bytes).await) };
        let mut reserve = pin!(self.reserve(bytes));
        loop {
            let before = self.returned.load(Ordering::Relaxed);
            if let Ok(reserved) = timeout(patience, &mut reserve).await {
                return Ok(reserved);
            }
            if before == self.returned.load(Ordering::Relaxed) {
                let why = format!(
                    "there is no room for {bytes} bytes in the {} bytes for contents and scans, and nobody gave any back \
                     within {patience:?}",
                    self.total()
                );
                return Err(Error::new(ErrorKind::Busy, why).after(patience).untried());
            }
        }
    }

    fn held(&self, permit: OwnedSemaphorePermit) -> Reservation {
        Reservation { permit, returned: Arc::clone(&self.returned) }
    }
}

impl Default for Budget {
    /// 512 MiB.
    fn default() -> Self {
        Self::new(512 << 20)
    }
}

impl Reservation {
    /// Joins two parts of one budget.
    pub(super) fn merge(&mut self, mut other: Self) {
        if let Some(permit) = other.permit.split(other.permit.num_permits()) {
            self.permit.merge(permit);
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_lasts_as_long_as_something_is_given_back() {
        let budget = Budget::new(1 << 20).patience(Duration::from_secs(10));
        let kept = budget.try_reserve(512 << 10).expect("free");
        let refused = budget.reserve_patiently(1 << 20).await.expect_err("somebody keeps half of it");
        assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Busy, true));
        assert_eq!(budget.available(), 512 << 10, "who was refused holds nothing");

        let others = budget.try_reserve(512 << 10).expect("free");
        let waits = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve_patiently(1 << 20).await.map(|reserved| (budget, reserved)) }
        });
        tokio::time::sleep(Duration::from_secs(8)).await;
        drop(others);
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(!waits.is_finished(), "something came back in the first ten seconds");
        drop(kept);
        let (budget, all) = waits.await.expect("no panic").expect("there is room");
        assert_eq!(budget.available(), 0);
        drop(all);
    }

    #[tokio::test]
    async fn what_is_taken_is_gone_until_it_is_given_back() {
        let budget = Budget::new(1 << 20);
        let first = budget.try_reserve(600 << 10).expect("free");
        assert!(budget.try_reserve(600 << 10).is_none());
        drop(first);
        assert_eq!(budget.available(), budget.total());
        let all = budget.reserve(1 << 40).await;
        assert_eq!(budget.available(), 0, "more than the whole is the whole");
        drop(all);
        assert_eq!(budget.available(), budget.total());
    }
}
