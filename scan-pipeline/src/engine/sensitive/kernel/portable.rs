//! The kernel without special instructions: eight bytes of a block at a time in an ordinary register.

use super::triples::SIGHT;
use super::{BEFORE, BLOCK, Bytes, Found, LOOK, List, Look, Triples, WINDOW, walk};

walk!();

pub(super) fn run(text: &[u8], from: usize, to: usize, found: &mut Found) -> bool {
    walk(text, from, to, found)
}

pub(super) fn find(text: &[u8], from: usize, to: usize, words: &Triples, out: &mut List) {
    search(text, from, to, words, out);
}

/// Which of the first 64 places may begin a word.
pub(super) fn begins(sight: &[u8; SIGHT], triples: &Triples) -> u64 {
    let begins = |i: usize| triples.may_begin([sight[i], sight[i + 1], sight[i + 2]]);
    (0..BLOCK).fold(0, |mask, i| mask | u64::from(begins(i)) << i)
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
/// What makes letters lower-case.
const FOLD: u64 = 0x2020_2020_2020_2020;

/// The eight bytes at an offset of the window.
#[inline(always)]
fn eight<const SIZE: usize>(window: &[u8; SIZE], at: usize) -> u64 {
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
fn equals(word: u64, byte: u8) -> u64 {
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
        mask |= gather(of(eight(window, i + offset))) << i;
    }
    mask
}

/// `least` is for each byte, in its highest bit, whether it was ever a zero.
#[inline(always)]
fn look(window: &[u8; LOOK], least: &mut u64) -> Look {
    let (mut digits, mut marks) = (0, 0);
    for i in (0..BLOCK).step_by(8) {
        let bytes = eight(window, i);
        *least |= zero(bytes);
        digits |= gather(range(bytes, b'0', b'9')) << i;
        let third = eight(window, i + 3);
        let key = equals(bytes, b'A') & equals(third, b'A');
        let secret =
            equals(bytes | FOLD, b's') & equals(eight(window, i + 2) | FOLD, b'c') & equals(third | FOLD, b'r');
        marks |= equals(bytes, b'@') | key | secret;
    }
    Look { digits, marked: marks != 0 }
}

fn most() -> u64 {
    0
}

fn has_zeros(least: u64) -> bool {
    least != 0
}

#[inline(always)]
fn zeros(window: &[u8; LOOK]) -> u64 {
    (0..BLOCK).step_by(8).fold(0, |mask, i| mask | gather(zero(eight(window, i))) << i)
}

/// Whether a byte of the block has bit 6, as letters have.
#[inline(always)]
fn has_letters(window: &[u8; WINDOW]) -> bool {
    let any = (0..BLOCK).step_by(8).fold(0, |any, i| any | eight(window, BEFORE + i));
    any & (HIGH >> 1) != 0
}

#[inline(always)]
fn one_of<const OFFSET: usize>(window: &[u8; WINDOW], of: &Bytes) -> u64 {
    let is = |byte: u8| of.0[usize::from(byte & 15)] == byte;
    (0..BLOCK).fold(0, |mask, i| mask | u64::from(is(window[OFFSET + i])) << i)
}

#[inline(always)]
fn equal<const OFFSET: usize>(window: &[u8; WINDOW], byte: u8) -> u64 {
    mask(window, OFFSET, |bytes| equals(bytes, byte))
}

/// A letter in either case, given in lower case.
#[inline(always)]
fn letter<const OFFSET: usize>(window: &[u8; WINDOW], byte: u8) -> u64 {
    mask(window, OFFSET, |bytes| equals(bytes | FOLD, byte))
}

/// Letters, digits and `_`.
#[inline(always)]
fn word<const OFFSET: usize>(window: &[u8; WINDOW]) -> u64 {
    mask(window, OFFSET, |bytes| range(bytes, b'0', b'9') | range(bytes | FOLD, b'a', b'z') | equals(bytes, b'_'))
}

/// What is not below `2`.
#[inline(always)]
fn from_two<const OFFSET: usize>(window: &[u8; WINDOW]) -> u64 {
    mask(window, OFFSET, |bytes| range(bytes, b'2', 0x7f) | bytes & HIGH)
}

/// What prints, other than a blank.
#[inline(always)]
fn visible<const OFFSET: usize>(window: &[u8; WINDOW]) -> u64 {
    mask(window, OFFSET, |bytes| range(bytes, b'!', b'~'))
}
