//! The kernel with AVX-512: one register of 64 bytes for a block, and masks as the instructions give them.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_cmpeq_epi8_mask, _mm512_cmpge_epu8_mask, _mm512_cmplt_epu8_mask, _mm512_loadu_si512, _mm512_min_epu8,
    _mm512_or_si512, _mm512_set1_epi8, _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_sub_epi8,
    _mm512_ternarylogic_epi32, _mm512_test_epi8_mask, _mm512_testn_epi8_mask, _mm512_xor_si512,
};

use super::triples::SIGHT;
use super::{BEFORE, Bytes, Found, Instructions, LOOK, List, Look, Triples, WINDOW, walk};

/// How far ahead memory is asked for: more than a piece. A power of two would put what comes and what is there into the
/// same places of the nearest cache.
const AHEAD: usize = 73 * 64;

walk!(#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]);

/// Finds nothing on a machine without AVX-512.
pub(super) fn run(text: &[u8], from: usize, to: usize, found: &mut Found) -> bool {
    if Instructions::Avx512.is_there() {
        // SAFETY: all that `walk` asks for are the instructions of this variant, which are there.
        unsafe { walk(text, from, to, found) }
    } else {
        false
    }
}

/// Which of the first 64 places may begin a word; every one on a machine without AVX-512.
pub(super) fn words(sight: &[u8; SIGHT], triples: &Triples) -> u64 {
    if Instructions::Avx512.is_there() {
        // SAFETY: all that `begins` asks for are the instructions of this variant, which are there.
        unsafe { begins(sight, triples) }
    } else {
        u64::MAX
    }
}

/// Finds nothing on a machine without AVX-512.
pub(super) fn find(text: &[u8], from: usize, to: usize, words: &Triples, out: &mut List) {
    if Instructions::Avx512.is_there() {
        // SAFETY: all that `search` asks for are the instructions of this variant, which are there.
        unsafe { search(text, from, to, words, out) }
    }
}

/// The 64 bytes at an offset.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn load<const OFFSET: usize, const SIZE: usize>(window: &[u8; SIZE]) -> __m512i {
    const { assert!(OFFSET + 64 <= SIZE) };
    // SAFETY: 64 bytes from the offset on lie in the window, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(window.as_ptr().add(OFFSET).cast()) }
}

/// A table of 16 bytes, four times.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn table(bytes: &[u8; 16]) -> __m512i {
    // SAFETY: the 16 bytes lie in the array, and the load asks for no alignment.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn all(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte.cast_signed())
}

/// Letters are compared in lower case.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn lower(bytes: __m512i) -> __m512i {
    _mm512_or_si512(bytes, all(0x20))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn look(window: &[u8; LOOK], least: &mut __m512i) -> Look {
    #[allow(unused_unsafe, reason = "older compilers have it as unsafe")]
    // SAFETY: a prefetch reads nothing and takes any address; the place may well lie beyond the text.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(window.as_ptr().wrapping_add(AHEAD).cast());
    }
    let bytes = load::<0, LOOK>(window);
    *least = _mm512_min_epu8(*least, bytes);
    let digits = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, all(b'0')), all(10));
    // Differences, which are zero where all is as it should be: comparisons into masks are few at a time, and one is
    // enough for all of these.
    let at = _mm512_xor_si512(bytes, all(b'@'));
    // Loads that cross a line of the cache cost two: the third byte on serves twice.
    let third = load::<3, LOOK>(window);
    let key = _mm512_ternarylogic_epi32::<EITHER_DIFFERS>(bytes, third, all(b'A'));
    let letter = |bytes, letter| _mm512_ternarylogic_epi32::<LOWER_DIFFERS>(bytes, all(0x20), all(letter));
    let secret = _mm512_ternarylogic_epi32::<ANY>(
        letter(bytes, b's'),
        letter(load::<2, LOOK>(window), b'c'),
        letter(third, b'r'),
    );
    let marks = _mm512_min_epu8(_mm512_min_epu8(at, key), secret);
    Look { digits, marked: has_zeros(marks) }
}

/// The tables of three inputs, of which the first is the highest bit of the place (Intel, *VPTERNLOG*).
const fn ternary(of: [bool; 8]) -> i32 {
    let (mut table, mut place) = (0, 0);
    while place < 8 {
        table |= (of[place] as i32) << place;
        place += 1;
    }
    table
}

/// `(a ^ c) | (b ^ c)`
const EITHER_DIFFERS: i32 = ternary([false, true, true, true, true, true, true, false]);
/// `(a | b) ^ c`
const LOWER_DIFFERS: i32 = ternary([false, true, true, false, true, false, true, false]);
/// `a | b | c`
const ANY: i32 = ternary([false, true, true, true, true, true, true, true]);

/// Of no byte yet, the least one at each place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn most() -> __m512i {
    all(0xff)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn has_zeros(least: __m512i) -> bool {
    _mm512_testn_epi8_mask(least, least) != 0
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn zeros(window: &[u8; LOOK]) -> u64 {
    let bytes = load::<0, LOOK>(window);
    _mm512_testn_epi8_mask(bytes, bytes)
}

/// Whether a byte of the block has bit 6, as letters have.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn has_letters(window: &[u8; WINDOW]) -> bool {
    _mm512_test_epi8_mask(load::<BEFORE, WINDOW>(window), all(0x40)) != 0
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn one_of<const OFFSET: usize>(window: &[u8; WINDOW], of: &Bytes) -> u64 {
    let bytes = load::<OFFSET, WINDOW>(window);
    _mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(table(&of.0), bytes), bytes)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn equal<const OFFSET: usize>(window: &[u8; WINDOW], byte: u8) -> u64 {
    _mm512_cmpeq_epi8_mask(load::<OFFSET, WINDOW>(window), all(byte))
}

/// A letter in either case, given in lower case.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn letter<const OFFSET: usize>(window: &[u8; WINDOW], byte: u8) -> u64 {
    _mm512_cmpeq_epi8_mask(lower(load::<OFFSET, WINDOW>(window)), all(byte))
}

/// Letters, digits and `_`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn word<const OFFSET: usize>(window: &[u8; WINDOW]) -> u64 {
    let bytes = load::<OFFSET, WINDOW>(window);
    let digits = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, all(b'0')), all(10));
    let letters = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(lower(bytes), all(b'a')), all(26));
    digits | letters | _mm512_cmpeq_epi8_mask(bytes, all(b'_'))
}

/// What is not below `2`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn from_two<const OFFSET: usize>(window: &[u8; WINDOW]) -> u64 {
    _mm512_cmpge_epu8_mask(load::<OFFSET, WINDOW>(window), all(b'2'))
}

/// What prints, other than a blank.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn visible<const OFFSET: usize>(window: &[u8; WINDOW]) -> u64 {
    _mm512_cmplt_epu8_mask(_mm512_sub_epi8(load::<OFFSET, WINDOW>(window), all(b'!')), all(b'~' - b' '))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt,bmi1")]
fn begins(sight: &[u8; SIGHT], triples: &Triples) -> u64 {
    let half = all(15);
    let groups = |bytes, i: usize| {
        let low = _mm512_shuffle_epi8(table(&triples.low[i]), _mm512_and_si512(bytes, half));
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), half);
        _mm512_and_si512(low, _mm512_shuffle_epi8(table(&triples.high[i]), high))
    };
    let one = groups(load::<0, SIGHT>(sight), 0);
    let other = groups(load::<1, SIGHT>(sight), 1);
    _mm512_test_epi8_mask(_mm512_and_si512(one, other), groups(load::<2, SIGHT>(sight), 2))
}
