//! Whose turn it is: lanes share what is leased by their weights.

use std::sync::{Mutex, PoisonError};

use crate::queue::Lane;

/// How much each lane is behind its share. The one that is most behind is next, which spreads their turns evenly.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<[i64; Lane::ALL.len()]>);

impl Turns {
    /// How many of the next so many turns each lane has, in their order.
    pub(super) fn take(&self, turns: usize) -> [usize; Lane::ALL.len()] {
        let mut behind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let weights = Lane::ALL.map(|lane| i64::from(lane.weight()));
        let all: i64 = weights.iter().sum();
        let mut taken = [0; Lane::ALL.len()];
        for _ in 0..turns {
            for (behind, weight) in behind.iter_mut().zip(weights) {
                *behind += weight;
            }
            // The first of those that are equal: the more urgent.
            let mut next = 0;
            for lane in 1..behind.len() {
                if behind[lane] > behind[next] {
                    next = lane;
                }
            }
            behind[next] -= all;
            taken[next] += 1;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_by_weight_however_they_are_taken() {
        for at_once in [1, 2, 7, 21, 210] {
            let turns = Turns::default();
            let mut sum = [0; 3];
            for _ in 0..210 / at_once {
                for (sum, taken) in sum.iter_mut().zip(turns.take(at_once)) {
                    *sum += taken;
                }
            }
            assert_eq!(sum, [160, 40, 10], "{at_once} at once");
        }
    }
}
