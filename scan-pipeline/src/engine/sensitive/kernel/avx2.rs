//! The kernel with AVX2: two registers of 32 bytes for a block.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi8, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8,
    _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_setr_epi8, _mm256_shuffle_epi8,
    _mm256_testz_si256,
};

use super::{Candidate, Instructions, Look, Marks, WINDOW, walk};

/// How far ahead memory is asked for.
const AHEAD: usize = 1024;

walk!(#[target_feature(enable = "avx2")]);

/// Finds nothing on a machine without AVX2.
pub(super) fn run(text: &[u8], from: usize, to: usize, out: &mut Vec<Candidate>) -> bool {
    if Instructions::Avx2.is_there() {
        // SAFETY: the one thing that `walk` asks for is AVX2, which is there.
        unsafe { walk(text, from, to, out) }
    } else {
        false
    }
}

/// The 32 bytes at an offset of the window.
#[inline]
#[target_feature(enable = "avx2")]
fn load<const OFFSET: usize>(window: &[u8; WINDOW]) -> __m256i {
    const { assert!(OFFSET + 32 <= WINDOW) };
    // SAFETY: 32 bytes from the offset on lie in the window, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(window.as_ptr().add(OFFSET).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn equal(bytes: __m256i, byte: u8) -> __m256i {
    _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte.cast_signed()))
}

/// The same of letters in either case, given in lower case.
#[inline]
#[target_feature(enable = "avx2")]
fn letter(bytes: __m256i, byte: u8) -> __m256i {
    equal(_mm256_or_si256(bytes, _mm256_set1_epi8(0x20)), byte)
}

#[inline]
#[target_feature(enable = "avx2")]
fn digits(bytes: __m256i) -> __m256i {
    // Moved so that '0' is the lowest of the signed numbers; what is below 10 then is a digit.
    let moved = _mm256_add_epi8(bytes, _mm256_set1_epi8((0x80_u8 - b'0').cast_signed()));
    _mm256_cmpgt_epi8(_mm256_set1_epi8((0x80_u8 + 10).cast_signed()), moved)
}

#[inline]
#[target_feature(enable = "avx2")]
fn mask(low: __m256i, high: __m256i) -> u64 {
    let half = |half| u64::from(_mm256_movemask_epi8(half).cast_unsigned());
    half(low) | half(high) << 32
}

#[inline]
#[target_feature(enable = "avx2")]
fn look(window: &[u8; WINDOW]) -> Look {
    #[allow(unused_unsafe, reason = "older compilers have it as unsafe")]
    // SAFETY: a prefetch reads nothing and takes any address; the place may well lie beyond the text.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(window.as_ptr().wrapping_add(AHEAD).cast());
    }
    let (low, high) = (load::<0>(window), load::<32>(window));
    let key = |here, there| _mm256_and_si256(equal(here, b'A'), equal(there, b'A'));
    let secret = |here, there| _mm256_and_si256(letter(here, b's'), letter(there, b'c'));
    let keys = _mm256_or_si256(key(low, load::<3>(window)), key(high, load::<35>(window)));
    let secrets = _mm256_or_si256(secret(low, load::<2>(window)), secret(high, load::<34>(window)));
    let ats = _mm256_or_si256(equal(low, b'@'), equal(high, b'@'));
    let any = _mm256_or_si256(_mm256_or_si256(keys, secrets), ats);
    Look {
        digits: mask(digits(low), digits(high)),
        marked: _mm256_testz_si256(any, any) == 0,
        zeros: mask(equal(low, 0), equal(high, 0)),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn separators(window: &[u8; WINDOW]) -> u64 {
    // At the place of its low four bits, the separator that has them; elsewhere what no byte of that place is.
    #[rustfmt::skip]
    let table = _mm256_setr_epi8(
        0x20, 0, 0, 0, 0, 0, 0, 0, 0x28, 0x29, 0, 0, 0, 0x2d, 0x2e, 0x2f,
        0x20, 0, 0, 0, 0, 0, 0, 0, 0x28, 0x29, 0, 0, 0, 0x2d, 0x2e, 0x2f,
    );
    let of = |bytes| _mm256_cmpeq_epi8(_mm256_shuffle_epi8(table, bytes), bytes);
    mask(of(load::<0>(window)), of(load::<32>(window)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn marks(window: &[u8; WINDOW]) -> Marks {
    let (low, high) = (load::<0>(window), load::<32>(window));
    Marks {
        at: mask(equal(low, b'@'), equal(high, b'@')),
        key: mask(equal(low, b'A'), equal(high, b'A'))
            & mask(equal(load::<3>(window), b'A'), equal(load::<35>(window), b'A')),
        secret: mask(letter(low, b's'), letter(high, b's'))
            & mask(letter(load::<2>(window), b'c'), letter(load::<34>(window), b'c'))
            & mask(letter(load::<5>(window), b't'), letter(load::<37>(window), b't')),
    }
}
