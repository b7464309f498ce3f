//! What stands around a place in a text.
//!
//! Every function looks a bounded number of bytes to either side. What is beyond the text reads as the end of a line,
//! so a rule need not tell the edge of a text from the edge of a line.

use std::num::NonZeroU64;

use super::kinds::Detector;

#[cfg(test)]
thread_local! {
    /// How many bytes the rules have looked at: their work, which a test holds to the length of the text.
    pub(super) static WORK: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts work, in tests.
#[inline]
pub(super) fn worked(_bytes: usize) {
    #[cfg(test)]
    WORK.with(|work| work.set(work.get() + _bytes as u64));
}

/// The byte there, or the end of a line beyond the text; a place before the text is one that wrapped around.
#[inline]
pub(super) fn at(text: &[u8], place: usize) -> u8 {
    worked(1);
    text.get(place).copied().unwrap_or(b'\n')
}

/// The byte before a place.
#[inline]
pub(super) fn before(text: &[u8], place: usize, by: usize) -> u8 {
    at(text, place.wrapping_sub(by))
}

/// `\w` of ASCII.
#[inline]
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// How many digits begin at a place, counted up to `most`.
#[inline]
pub(super) fn digits_from(text: &[u8], place: usize, most: usize) -> usize {
    worked(most);
    // Eight at a time: what is no digit has a high half other than 3, or a low half over 9.
    let mut count = 0;
    while let Some(bytes) = text.get(place + count..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*bytes);
        let low = word & 0x0f0f_0f0f_0f0f_0f0f;
        let other = (word ^ 0x3030_3030_3030_3030) & 0xf0f0_f0f0_f0f0_f0f0
            | (low + 0x0606_0606_0606_0606) & 0x1010_1010_1010_1010;
        if other != 0 {
            return most.min(count + other.trailing_zeros() as usize / 8);
        }
        count += 8;
        if count >= most {
            return most;
        }
    }
    count + (count..most).take_while(|i| at(text, place + i).is_ascii_digit()).count()
}

/// How many digits end before a place, counted up to `most`.
#[inline]
pub(super) fn digits_before(text: &[u8], place: usize, most: usize) -> usize {
    (1..=most).take_while(|i| before(text, place, *i).is_ascii_digit()).count()
}

/// Whether a number can begin here: it is not the rest of a word, of a decimal, of a serial number or of a part of a
/// UUID, nor the number of a foreign phone.
#[inline]
pub(super) fn clear_left(text: &[u8], start: usize) -> bool {
    let left = before(text, start, 1);
    !(is_word(left) || left == b'.' || left == b'+' || left == b'-' && is_word(before(text, start, 2)))
}

/// Whether a number can end here, in the same sense. What is part of an address is none.
#[inline]
pub(super) fn clear_right(text: &[u8], end: usize) -> bool {
    let right = at(text, end);
    let goes_on = (right == b'.' || right == b'-') && at(text, end + 1).is_ascii_digit();
    !(is_word(right) || right == b'@' || goes_on)
}

/// Whether a match is all that stands in its line, quotes and blanks aside.
pub(super) fn alone(text: &[u8], start: usize, end: usize) -> bool {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'"' | b'\'');
    let edge = |byte: u8| matches!(byte, b'\n' | b'\r' | 0);
    let left = (1..=8).map(|by| before(text, start, by)).find(|byte| !blank(byte));
    let right = (0..8).map(|by| at(text, end + by)).find(|byte| !blank(byte));
    left.is_some_and(edge) && right.is_some_and(edge)
}

/// Whether a match stands among other numbers, as in a log: several rows of digits near it in its line, or one where the
/// line begins with a digit or a bracket. A cell of a table stands by itself.
pub(super) fn crowded(text: &[u8], start: usize, end: usize) -> bool {
    const NEAR: usize = 100;
    let mark = |byte: u8| matches!(byte, b',' | b';' | b'|' | b'\t' | b'"');
    if mark(before(text, start, 1)) && mark(at(text, end)) {
        return false;
    }
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let (from, to) = (start.saturating_sub(NEAR), text.len().min(end + NEAR));
    worked(2 * NEAR);
    let line = text[from..start].iter().rposition(is_end).map(|i| from + i + 1);
    let left = &text[line.unwrap_or(from)..start];
    let right = &text[end..to];
    let right = &right[..right.iter().position(is_end).unwrap_or(right.len())];
    let rows = |part: &[u8]| {
        let follows = part.windows(2).filter(|pair| pair[1].is_ascii_digit() && !pair[0].is_ascii_digit()).count();
        follows + usize::from(part.first().is_some_and(u8::is_ascii_digit))
    };
    let begins = (line.is_some() || from == 0)
        && left.trim_ascii_start().first().is_some_and(|first| first.is_ascii_digit() || *first == b'[');
    let count = rows(left) + rows(right);
    count >= 3 || count >= 1 && begins
}

/// Bits of information that a character of these bytes carries, by Shannon's formula over their own frequencies.
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    worked(bytes.len());
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let all = bytes.len() as f64;
    counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all).map(|p| -p * p.log2()).sum()
}

/// What found a match: a detector of ours, or the pattern of the user's own by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    Ours(Detector),
    Own(u32),
}

/// A match as a rule gives it: places, no bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Raw {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) source: Source,
    pub(super) confidence: f64,
    pub(super) tags: [Option<&'static str>; 2],
    /// The account that an AWS key id names, and one.
    account: Option<NonZeroU64>,
}

/// There may be many of them at once.
const _: () = assert!(size_of::<Raw>() <= 72);

impl Raw {
    pub(super) fn new(start: usize, end: usize, detector: Detector, confidence: f64) -> Self {
        Self { start, end, source: Source::Ours(detector), confidence, tags: [None; 2], account: None }
    }

    pub(super) fn own(start: usize, end: usize, number: u32, confidence: f64) -> Self {
        Self { start, end, source: Source::Own(number), confidence, tags: [None; 2], account: None }
    }

    pub(super) fn tagged(mut self, tag: Option<&'static str>) -> Self {
        let slot = usize::from(self.tags[0].is_some());
        self.tags[slot] = tag;
        self
    }

    pub(super) fn of_account(self, account: Option<u64>) -> Self {
        Self { account: account.and_then(|account| NonZeroU64::new(account + 1)), ..self }
    }

    /// The tags as findings have them.
    pub(super) fn words(&self) -> Vec<String> {
        let account = self.account.map(|more| format!("account:{:012}", more.get() - 1));
        self.tags.iter().flatten().map(|tag| String::from(*tag)).chain(account).collect()
    }
}
