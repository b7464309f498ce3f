//! The search for words by their first three bytes.

use super::{BLOCK, Instructions, List, padded, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// How many bytes a look for words sees: a block, and the two bytes behind its last.
pub(super) const SIGHT: usize = BLOCK + 2;

/// The first three bytes of words, in eight groups: a place may begin a word where each of its three bytes may stand in
/// words of one and the same group.
///
/// For each of the three and each value of a byte's low four bits, the groups that have such a byte, a bit each; and
/// the same of its high four bits.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Triples {
    pub(super) low: [[u8; 16]; 3],
    pub(super) high: [[u8; 16]; 3],
}

impl Triples {
    pub(in super::super) const NONE: Self = Self { low: [[0; 16]; 3], high: [[0; 16]; 3] };

    /// With a word of a group, which is below 8. Of a word of two bytes, any third one will do.
    pub(in super::super) const fn with(mut self, group: usize, word: &[u8], any_case: bool) -> Self {
        let (bit, mut i) = (1 << (group % 8), 0);
        while i < 3 {
            if i < word.len() {
                self = self.byte(i, bit, word[i]);
                if any_case {
                    self = self.byte(i, bit, word[i].to_ascii_uppercase());
                }
            } else {
                let mut half = 0;
                while half < 16 {
                    self.low[i][half] |= bit;
                    self.high[i][half] |= bit;
                    half += 1;
                }
            }
            i += 1;
        }
        self
    }

    const fn byte(mut self, i: usize, bit: u8, byte: u8) -> Self {
        self.low[i][(byte & 15) as usize] |= bit;
        self.high[i][(byte >> 4) as usize] |= bit;
        self
    }

    /// Whether a word may begin with these.
    #[inline(always)]
    pub(in super::super) fn may_begin(&self, bytes: [u8; 3]) -> bool {
        let groups = |i: usize| self.low[i][usize::from(bytes[i] & 15)] & self.high[i][usize::from(bytes[i] >> 4)];
        groups(0) & groups(1) & groups(2) != 0
    }

    /// Which of the 64 places from a place on may begin a word. What is beyond the text reads as the end of a line.
    pub(in super::super) fn at(&self, by: Instructions, text: &[u8], place: usize) -> u64 {
        let padding;
        let sight = match text.get(place..).and_then(<[u8]>::first_chunk::<SIGHT>) {
            Some(sight) => sight,
            None => {
                padding = padded::<SIGHT>(text, place, 0);
                &padding
            }
        };
        match by {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 if by.is_there() => avx512::words(sight, self),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 if by.is_there() => avx2::words(sight, self),
            _ => portable::begins(sight, self),
        }
    }

    /// Finds the places between two that may begin a word; they count from `from`.
    pub(in super::super) fn find(&self, by: Instructions, text: &[u8], from: usize, to: usize, out: &mut List) {
        out.clear();
        match by {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 if by.is_there() => avx512::find(text, from, to, self, out),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 if by.is_there() => avx2::find(text, from, to, self, out),
            _ => portable::find(text, from, to, self, out),
        }
    }
}
