//! The kernel with AVX-512: one register of 64 bytes for a block, and masks as the instructions give them.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_cmpeq_epi8_mask, _mm512_cmplt_epu8_mask, _mm512_loadu_si512,
    _mm512_mask_cmpeq_epi8_mask, _mm512_or_si512, _mm512_set1_epi8, _mm512_set4_epi32, _mm512_shuffle_epi8,
    _mm512_sub_epi8, _mm512_testn_epi8_mask,
};

use super::{Candidate, Instructions, Look, Marks, WINDOW, walk};

/// How far ahead memory is asked for.
const AHEAD: usize = 1024;

walk!(#[target_feature(enable = "avx512f,avx512bw")]);

/// Finds nothing on a machine without AVX-512.
pub(super) fn run(text: &[u8], from: usize, to: usize, out: &mut Vec<Candidate>) -> bool {
    if Instructions::Avx512.is_there() {
        // SAFETY: the one thing that `walk` asks for is AVX-512 with byte and word instructions, which are there.
        unsafe { walk(text, from, to, out) }
    } else {
        false
    }
}

/// The 64 bytes at an offset of the window.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load<const OFFSET: usize>(window: &[u8; WINDOW]) -> __m512i {
    const { assert!(OFFSET + 64 <= WINDOW) };
    // SAFETY: 64 bytes from the offset on lie in the window, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(window.as_ptr().add(OFFSET).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn all(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte.cast_signed())
}

/// Letters are compared in lower case.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn lower(bytes: __m512i) -> __m512i {
    _mm512_or_si512(bytes, all(0x20))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn look(window: &[u8; WINDOW]) -> Look {
    #[allow(unused_unsafe, reason = "older compilers have it as unsafe")]
    // SAFETY: a prefetch reads nothing and takes any address; the place may well lie beyond the text.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(window.as_ptr().wrapping_add(AHEAD).cast());
    }
    let bytes = load::<0>(window);
    let digits = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, all(b'0')), all(10));
    let at = _mm512_cmpeq_epi8_mask(bytes, all(b'@'));
    let key = _mm512_cmpeq_epi8_mask(bytes, all(b'A'));
    let key = _mm512_mask_cmpeq_epi8_mask(key, load::<3>(window), all(b'A'));
    let secret = _mm512_cmpeq_epi8_mask(lower(bytes), all(b's'));
    let secret = _mm512_mask_cmpeq_epi8_mask(secret, lower(load::<2>(window)), all(b'c'));
    let secret = _mm512_mask_cmpeq_epi8_mask(secret, lower(load::<5>(window)), all(b't'));
    Look { digits, marked: at | key | secret != 0, zeros: _mm512_testn_epi8_mask(bytes, bytes) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn separators(window: &[u8; WINDOW]) -> u64 {
    // At the place of its low four bits, the separator that has them; elsewhere what no byte of that place is.
    let table = _mm512_set4_epi32(0x2f2e_2d00, 0x0000_2928, 0, 0x0000_0020);
    let bytes = load::<0>(window);
    _mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(table, bytes), bytes)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn marks(window: &[u8; WINDOW]) -> Marks {
    let bytes = load::<0>(window);
    let key = _mm512_cmpeq_epi8_mask(bytes, all(b'A'));
    let secret = _mm512_cmpeq_epi8_mask(lower(bytes), all(b's'));
    let secret = _mm512_mask_cmpeq_epi8_mask(secret, lower(load::<2>(window)), all(b'c'));
    Marks {
        at: _mm512_cmpeq_epi8_mask(bytes, all(b'@')),
        key: _mm512_mask_cmpeq_epi8_mask(key, load::<3>(window), all(b'A')),
        secret: _mm512_mask_cmpeq_epi8_mask(secret, lower(load::<5>(window)), all(b't')),
    }
}
