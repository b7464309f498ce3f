//! The kernel without special instructions: eight bytes of a block at a time in an ordinary register.

use super::{BLOCK, Candidate, Look, Marks, WINDOW, walk};

walk!();

pub(super) fn run(text: &[u8], from: usize, to: usize, out: &mut Vec<Candidate>) -> bool {
    walk(text, from, to, out)
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
/// What makes letters lower-case.
const FOLD: u64 = 0x2020_2020_2020_2020;

/// The eight bytes at an offset of the window.
#[inline(always)]
fn word(window: &[u8; WINDOW], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&window[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// For each byte that is in a range of ASCII, its highest bit.
#[inline(always)]
fn range(word: u64, from: u8, to: u8) -> u64 {
    let low = word & !HIGH;
    // Sums of seven bits each, so nothing carries into the next byte.
    let over = low + LOW * u64::from(0x80 - from);
    let beyond = low + LOW * u64::from(0x7f - to);
    over & !beyond & !word & HIGH
}

#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    range(word, byte, byte)
}

/// For each byte that is zero, its highest bit.
#[inline(always)]
fn zero(word: u64) -> u64 {
    !((word & !HIGH) + !HIGH) & !word & HIGH
}

/// The highest bits of eight bytes as the lowest bits of a number.
#[inline(always)]
fn gather(high: u64) -> u64 {
    (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[inline(always)]
fn mask(window: &[u8; WINDOW], offset: usize, of: impl Fn(u64) -> u64) -> u64 {
    let mut mask = 0;
    for i in (0..BLOCK).step_by(8) {
        mask |= gather(of(word(window, i + offset))) << i;
    }
    mask
}

#[inline(always)]
fn look(window: &[u8; WINDOW]) -> Look {
    let (mut digits, mut marks, mut zeros) = (0, 0, 0);
    for i in (0..BLOCK).step_by(8) {
        let bytes = word(window, i);
        digits |= gather(range(bytes, b'0', b'9')) << i;
        zeros |= gather(zero(bytes)) << i;
        let key = equal(bytes, b'A') & equal(word(window, i + 3), b'A');
        let secret = equal(bytes | FOLD, b's') & equal(word(window, i + 2) | FOLD, b'c');
        marks |= equal(bytes, b'@') | key | secret;
    }
    Look { digits, marked: marks != 0, zeros }
}

#[inline(always)]
fn separators(window: &[u8; WINDOW]) -> u64 {
    mask(window, 0, |bytes| equal(bytes, b' ') | range(bytes, b'(', b')') | range(bytes, b'-', b'/'))
}

#[inline(always)]
fn marks(window: &[u8; WINDOW]) -> Marks {
    let letter = |offset, letter| mask(window, offset, move |bytes| equal(bytes | FOLD, letter));
    Marks {
        at: mask(window, 0, |bytes| equal(bytes, b'@')),
        key: mask(window, 0, |bytes| equal(bytes, b'A')) & mask(window, 3, |bytes| equal(bytes, b'A')),
        secret: letter(0, b's') & letter(2, b'c') & letter(5, b't'),
    }
}
