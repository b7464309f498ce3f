//! The order of events about one key, as far as their senders tell it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Most characters of a sequencer; the longest known has 48.
const LONGEST: usize = 128;

/// Tells which of two events about **the same key** is the later one. Between keys it says nothing, and between
/// senders neither.
///
/// It is a hint and no more: what an object is now, its bucket says when it is read pinned. S3 writes hexadecimal
/// digits of different lengths; the shorter is filled up with zeros on the right, and then they compare as text.
///
/// ```
/// use scan_pipeline::event::Sequencer;
/// let earlier = Sequencer::new("0055AED6DCD90281E5").expect("a sequencer");
/// let later = Sequencer::new("0055AED6DCD90281E6").expect("a sequencer");
/// assert!(earlier < later);
/// assert_eq!(earlier, Sequencer::new("0055aed6dcd90281e500").expect("a sequencer"));
/// ```
#[derive(Debug, Clone)]
pub struct Sequencer(String);

impl Sequencer {
    /// One from its text. `None` when that is empty, longer than 128 characters or holds other than ASCII letters and
    /// digits: a hint that cannot be used is no reason to refuse an event.
    pub fn new(text: &str) -> Option<Self> {
        let usable =
            (1..=LONGEST).contains(&text.len()) && text.bytes().all(|character| character.is_ascii_alphanumeric());
        usable.then(|| Self(text.to_owned()))
    }

    /// The text as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What counts: S3's notifications write capital digits, EventBridge small ones.
    fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.trim_end_matches('0').bytes().map(|digit| digit.to_ascii_lowercase())
    }
}

impl Ord for Sequencer {
    fn cmp(&self, other: &Self) -> Ordering {
        let longest = self.0.len().max(other.0.len());
        let filled = |sequencer: &Self| {
            let mut digits: Vec<u8> = sequencer.digits().collect();
            digits.resize(longest, b'0');
            digits
        };
        filled(self).cmp(&filled(other))
    }
}

impl PartialOrd for Sequencer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sequencer {
    fn eq(&self, other: &Self) -> bool {
        self.digits().eq(other.digits())
    }
}

impl Eq for Sequencer {}

impl Hash for Sequencer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digits().for_each(|digit| digit.hash(state));
    }
}

impl fmt::Display for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sequencer(text: &str) -> Sequencer {
        Sequencer::new(text).expect("a sequencer")
    }

    #[test]
    fn the_shorter_is_filled_up_on_the_right() {
        for (earlier, later) in [
            ("0055AED6DCD90281E5", "0055AED6DCD90281E6"),
            ("0055AED6DCD90281E5", "0055AED6DCD90281E501"),
            ("00", "01"),
            ("9", "a"),
            ("1", "11"),
            ("0A", "1"),
            ("617f08299329d189", "617F08299329D18A"),
        ] {
            assert!(sequencer(earlier) < sequencer(later), "{earlier} {later}");
        }
        for (one, other) in [("5", "500"), ("0", "0000"), ("AB", "ab00")] {
            assert_eq!(sequencer(one), sequencer(other));
        }
        for unusable in ["", "12 34", "12-34", "ü", &"1".repeat(129)] {
            assert_eq!(Sequencer::new(unusable), None);
        }
        assert_eq!(sequencer("00AbC").to_string(), "00AbC");
    }

    proptest! {
        /// Of the same length they compare as the numbers that they write, and one with zeros behind it is the same.
        #[test]
        fn they_are_ordered_as_numbers(a: u64, b: u64, zeros in 0usize..20) {
            let written = |number: u64| sequencer(&format!("{number:016X}"));
            prop_assert_eq!(written(a).cmp(&written(b)), a.cmp(&b));
            let longer = sequencer(&format!("{a:016x}{}", "0".repeat(zeros)));
            prop_assert_eq!(longer.cmp(&written(b)), a.cmp(&b));
            prop_assert_eq!(longer == written(a), longer.cmp(&written(a)).is_eq());
        }

        /// A total order, which agrees with equality and with hashes.
        #[test]
        fn it_is_a_total_order(texts in proptest::collection::vec("[0-9a-fA-F]{1,6}0{0,3}", 3)) {
            use std::collections::hash_map::DefaultHasher;
            let [a, b, c] = [sequencer(&texts[0]), sequencer(&texts[1]), sequencer(&texts[2])];
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
            prop_assert_eq!(a == b, a.cmp(&b).is_eq());
            let hash = |sequencer: &Sequencer| {
                let mut state = DefaultHasher::new();
                sequencer.hash(&mut state);
                state.finish()
            };
            if a == b {
                prop_assert_eq!(hash(&a), hash(&b));
            }
        }
    }
}
