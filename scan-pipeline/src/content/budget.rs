//! How much memory contents and scans may take together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of account, so that large budgets fit a semaphore's `u32`.
const UNIT: u64 = 1 << 10;

/// A number of bytes that is shared by everything that holds contents in memory. Clones share one account.
///
/// Whoever asks for more than the whole gets the whole, alone: a file larger than the budget is still scanned.
#[derive(Debug, Clone)]
pub struct Budget {
    units: u32,
    free: Arc<Semaphore>,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation(OwnedSemaphorePermit);

impl Budget {
    /// A budget of that many bytes, at least 1 MiB.
    pub fn new(bytes: u64) -> Self {
        let units = units(bytes.max(1 << 20));
        Self { units, free: Arc::new(Semaphore::new(units as usize)) }
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
        Arc::clone(&self.free).try_acquire_many_owned(units(bytes)).ok().map(Reservation)
    }

    /// Waits until that much is free, in the order of asking, and takes it.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let wanted = units(bytes).min(self.units);
        match Arc::clone(&self.free).acquire_many_owned(wanted).await {
            Ok(permit) => Reservation(permit),
            // Only a closed semaphore refuses, and this one is never closed.
            Err(_) => unreachable!("the budget's semaphore is never closed"),
        }
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
    pub(super) fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
