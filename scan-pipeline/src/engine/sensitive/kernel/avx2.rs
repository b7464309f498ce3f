//! The kernel with AVX2: two registers of 32 bytes for a block.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_add_epi8, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8, _mm256_loadu_si256, _mm256_max_epu8,
    _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_testz_si256,
};

use super::triples::SIGHT;
use super::{BEFORE, Bytes, Found, Instructions, LOOK, List, Look, Triples, WINDOW, walk};

/// How far ahead memory is asked for: more than a piece. A power of two would put what comes and what is there into the
/// same places of the nearest cache.
const AHEAD: usize = 73 * 64;

walk!(#[target_feature(enable = "avx2,popcnt,bmi1")]);

/// Finds nothing on a machine without AVX2.
pub(super) fn run(text: &[u8], from: usize, to: usize, found: &mut Found) -> bool {
    if Instructions::Avx2.is_there() {
        // SAFETY: all that `walk` asks for are the instructions of this variant, which are there.
        unsafe { walk(text, from, to, found) }
    } else {
        false
    }
}

/// Which of the first 64 places may begin a word; every one on a machine without AVX2.
pub(super) fn words(sight: &[u8; SIGHT], triples: &Triples) -> u64 {
    if Instructions::Avx2.is_there() {
        // SAFETY: all that `begins` asks for are the instructions of this variant, which are there.
        unsafe { begins(sight, triples) }
    } else {
        u64::MAX
    }
}

/// Finds nothing on a machine without AVX2.
pub(super) fn find(text: &[u8], from: usize, to: usize, words: &Triples, out: &mut List) {
    if Instructions::Avx2.is_there() {
        // SAFETY: all that `search` asks for are the instructions of this variant, which are there.
        unsafe { search(text, from, to, words, out) }
    }
}

/// The 32 bytes at an offset.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn half<const SIZE: usize>(window: &[u8; SIZE], offset: usize) -> __m256i {
    let bytes: &[u8; 32] = window[offset..].first_chunk().unwrap_or(&[0; 32]);
    // SAFETY: the 32 bytes lie in the array, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The 64 bytes at an offset.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn load<const OFFSET: usize, const SIZE: usize>(window: &[u8; SIZE]) -> [__m256i; 2] {
    const { assert!(OFFSET + 64 <= SIZE) };
    [half(window, OFFSET), half(window, OFFSET + 32)]
}

/// A table of 16 bytes, twice.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn table(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: the 16 bytes lie in the array, and the load asks for no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn all(byte: u8) -> __m256i {
    _mm256_set1_epi8(byte.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn same(bytes: __m256i, byte: u8) -> __m256i {
    _mm256_cmpeq_epi8(bytes, all(byte))
}

/// The same of letters in either case, given in lower case.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn fold(bytes: __m256i, byte: u8) -> __m256i {
    same(_mm256_or_si256(bytes, all(0x20)), byte)
}

/// So many bytes from one on.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn range(bytes: __m256i, first: u8, size: u8) -> __m256i {
    // Moved so that the first is the lowest of the signed numbers.
    let moved = _mm256_add_epi8(bytes, all(0x80_u8.wrapping_sub(first)));
    _mm256_cmpgt_epi8(all(0x80_u8.wrapping_add(size)), moved)
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn mask([low, high]: [__m256i; 2]) -> u64 {
    let half = |half| u64::from(_mm256_movemask_epi8(half).cast_unsigned());
    half(low) | half(high) << 32
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn look(window: &[u8; LOOK], least: &mut __m256i) -> Look {
    #[allow(unused_unsafe, reason = "older compilers have it as unsafe")]
    // SAFETY: a prefetch reads nothing and takes any address; the place may well lie beyond the text.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(window.as_ptr().wrapping_add(AHEAD).cast());
    }
    let [low, high] = load::<0, LOOK>(window);
    *least = _mm256_min_epu8(*least, _mm256_min_epu8(low, high));
    let [low_2, high_2] = load::<2, LOOK>(window);
    let [low_3, high_3] = load::<3, LOOK>(window);
    let key = |here, there| _mm256_and_si256(same(here, b'A'), same(there, b'A'));
    let secret =
        |here, there, third| _mm256_and_si256(_mm256_and_si256(fold(here, b's'), fold(there, b'c')), fold(third, b'r'));
    let keys = _mm256_or_si256(key(low, low_3), key(high, high_3));
    let secrets = _mm256_or_si256(secret(low, low_2, low_3), secret(high, high_2, high_3));
    let ats = _mm256_or_si256(same(low, b'@'), same(high, b'@'));
    let any = _mm256_or_si256(_mm256_or_si256(keys, secrets), ats);
    Look { digits: mask([range(low, b'0', 10), range(high, b'0', 10)]), marked: _mm256_testz_si256(any, any) == 0 }
}

/// Of no byte yet, the least one at each place.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn most() -> __m256i {
    all(0xff)
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn has_zeros(least: __m256i) -> bool {
    _mm256_movemask_epi8(same(least, 0)) != 0
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn zeros(window: &[u8; LOOK]) -> u64 {
    mask(load::<0, LOOK>(window).map(|bytes| same(bytes, 0)))
}

/// Whether a byte of the block has bit 6, as letters have.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn has_letters(window: &[u8; WINDOW]) -> bool {
    let [low, high] = load::<BEFORE, WINDOW>(window);
    _mm256_testz_si256(_mm256_or_si256(low, high), all(0x40)) == 0
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn one_of<const OFFSET: usize>(window: &[u8; WINDOW], of: &Bytes) -> u64 {
    let table = table(&of.0);
    mask(load::<OFFSET, WINDOW>(window).map(|bytes| _mm256_cmpeq_epi8(_mm256_shuffle_epi8(table, bytes), bytes)))
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn equal<const OFFSET: usize>(window: &[u8; WINDOW], byte: u8) -> u64 {
    mask(load::<OFFSET, WINDOW>(window).map(|bytes| same(bytes, byte)))
}

/// A letter in either case, given in lower case.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn letter<const OFFSET: usize>(window: &[u8; WINDOW], byte: u8) -> u64 {
    mask(load::<OFFSET, WINDOW>(window).map(|bytes| fold(bytes, byte)))
}

/// Letters, digits and `_`.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn word<const OFFSET: usize>(window: &[u8; WINDOW]) -> u64 {
    mask(load::<OFFSET, WINDOW>(window).map(|bytes| {
        let letters = range(_mm256_or_si256(bytes, all(0x20)), b'a', 26);
        _mm256_or_si256(_mm256_or_si256(range(bytes, b'0', 10), letters), same(bytes, b'_'))
    }))
}

/// What is not below `2`.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn from_two<const OFFSET: usize>(window: &[u8; WINDOW]) -> u64 {
    mask(load::<OFFSET, WINDOW>(window).map(|bytes| _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, all(b'2')), bytes)))
}

/// What prints, other than a blank.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn visible<const OFFSET: usize>(window: &[u8; WINDOW]) -> u64 {
    mask(load::<OFFSET, WINDOW>(window).map(|bytes| range(bytes, b'!', b'~' - b' ')))
}

#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1")]
fn begins(sight: &[u8; SIGHT], triples: &Triples) -> u64 {
    let half = all(15);
    let groups = |bytes: [__m256i; 2], i: usize| {
        let (lows, highs) = (table(&triples.low[i]), table(&triples.high[i]));
        bytes.map(|bytes| {
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half);
            let low = _mm256_shuffle_epi8(lows, _mm256_and_si256(bytes, half));
            _mm256_and_si256(low, _mm256_shuffle_epi8(highs, high))
        })
    };
    let [low_0, high_0] = groups(load::<0, SIGHT>(sight), 0);
    let [low_1, high_1] = groups(load::<1, SIGHT>(sight), 1);
    let [low_2, high_2] = groups(load::<2, SIGHT>(sight), 2);
    let none = |one, other, third| {
        _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_and_si256(one, other), third), _mm256_setzero_si256())
    };
    !mask([none(low_0, low_1, low_2), none(high_0, high_1, high_2)])
}
