//! Where a match could be: the only look that every byte of every layer gets.
//!
//! The bytes are read 64 at a time, and of each block a few bit masks are made: which bytes are digits, whether any has
//! the bit of letters, whether there is an `@`, the beginning of an AWS key id or of the word `secret`. Blocks with
//! four digits in a row, and those with one of the marks, get a second look, of which come candidates by operations on
//! bits that reach into the blocks beside. Everything that the rules accept is at a candidate; that a candidate is
//! anything is for the rules to say.
//!
//! It exists for AVX-512, AVX2 and without either, and which one runs is chosen at run time. The variants differ in how
//! the masks are made; what is done with the masks is the same code. Only here may `unsafe` stand, in the variants: for
//! loads from an array, and for calls of functions that need an instruction set that was found to be there. A test
//! holds each variant to the plain definition of a candidate, and another one the findings of each to those of the
//! oracle.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod digits;
mod found;
mod portable;
mod triples;
mod walk;

use std::fmt;

use found::Blocks;
pub(super) use found::{Found, List};
pub(super) use triples::Triples;
use walk::walk;

/// How many bytes a block has.
const BLOCK: usize = 64;
/// How far the first look goes from the beginning of a block.
const LOOK: usize = BLOCK + 8;
/// How far before a block the second look begins.
const BEFORE: usize = 16;
/// What the second look sees: a block, and what is before and behind it.
const WINDOW: usize = BEFORE + BLOCK + 16;

/// What a candidate could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The fourth digit of a group of four or more. Before it: a separator, and four digits or more.
    Card,
    /// The fourth digit of a group of four or more. Before it: a separator, two digits, a separator, three digits.
    Ssn,
    /// The fourth digit of a group of four or more that ends like a phone number:
    /// - before it a separator, three digits, one of [`CLOSED`], and with or without a byte between, a parenthesis or
    ///   directly three digits;
    /// - before it a separator, four digits, and with or without a byte between, a parenthesis;
    /// - the group has seven digits or more, and before it is a parenthesis, or a separator, and before that a
    ///   parenthesis or three digits.
    Phone,
    /// The ninth digit of a row of nine that does not follow a letter, a digit or `_`.
    Nine,
    /// The ninth digit of a row of ten that begins with no 0 or 1, or of eleven that begins with one, in the same
    /// place.
    Ten,
    /// The ninth digit of a row of 12 or more, in the same place.
    Long,
    /// An `@` between a visible byte and a letter, a digit or `_`.
    At,
    /// An `A`, and another one three bytes on.
    Key,
    /// The first letter of what could be `secret`: an `s`, a `c` and a `t` stand where they should.
    Secret,
}

impl Kind {
    pub(super) const ALL: [Self; 9] =
        [Self::Card, Self::Ssn, Self::Phone, Self::Nine, Self::Ten, Self::Long, Self::At, Self::Key, Self::Secret];
}

/// Bytes of ASCII of which no two have the same low four bits; the first is at the place of its own.
struct Bytes([u8; 16]);

impl Bytes {
    const fn new(bytes: &[u8]) -> Self {
        // At the place of its low four bits, the byte that has them; elsewhere what no byte of that place is.
        let (mut table, mut i) = ([0; 16], 0);
        table[0] = 1;
        while i < bytes.len() {
            table[(bytes[i] & 15) as usize] = bytes[i];
            i += 1;
        }
        Self(table)
    }
}

/// What stands between the groups of a number.
const SEPARATORS: Bytes = Bytes::new(b" -./");
/// What stands before the last group of a number.
const PARTED: Bytes = Bytes::new(b" -./)");
/// What stands behind the area of a phone number.
const CLOSED: Bytes = Bytes::new(b" -./)");

/// A set of instructions that the kernel is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Instructions {
    /// What every processor has.
    Portable,
    /// AVX2.
    Avx2,
    /// AVX-512 with byte and word instructions.
    Avx512,
}

impl Instructions {
    /// Those that this machine has, the fastest last.
    pub fn available() -> Vec<Self> {
        [Self::Portable, Self::Avx2, Self::Avx512].into_iter().filter(|one| one.is_there()).collect()
    }

    /// The fastest that this machine has.
    pub fn best() -> Self {
        [Self::Avx512, Self::Avx2].into_iter().find(|one| one.is_there()).unwrap_or(Self::Portable)
    }

    /// Whether this machine has them.
    pub fn is_there(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                std::is_x86_feature_detected!("avx2")
                    && std::is_x86_feature_detected!("popcnt")
                    && std::is_x86_feature_detected!("bmi1")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                std::is_x86_feature_detected!("avx512f")
                    && std::is_x86_feature_detected!("avx512bw")
                    && Self::Avx2.is_there()
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
        })
    }
}

/// Finds the candidates between two places of a text, no further apart than 2^32 bytes; places count from `from`. The
/// text around the two is looked at, too. Says whether there are zeros between them as in UTF-16: three or more in one
/// block, each two bytes from the next.
pub(super) fn candidates(by: Instructions, text: &[u8], from: usize, to: usize, found: &mut Found) -> bool {
    debug_assert!(from <= to && to <= text.len() && to - from < 1 << 32);
    found.clear();
    match by {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 if by.is_there() => avx512::run(text, from, to, found),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 if by.is_there() => avx2::run(text, from, to, found),
        _ => portable::run(text, from, to, found),
    }
}

/// What the first look at a block has to say.
#[derive(Clone, Copy)]
struct Look {
    digits: u64,
    /// Whether there may be a candidate that is no number.
    marked: bool,
}

/// The bytes before a place as a mask, the last one in the highest bit.
fn mask_before(text: &[u8], place: usize, is: impl Fn(u8) -> bool) -> u64 {
    let part = &text[place.saturating_sub(16)..place];
    part.iter().rev().enumerate().filter(|(_, byte)| is(**byte)).fold(0, |mask, (i, _)| mask | 1 << (63 - i))
}

/// The bytes from a place on as a mask, the first one in the lowest bit.
fn mask_behind(text: &[u8], place: usize, is: impl Fn(u8) -> bool) -> u64 {
    let part = text.get(place..).unwrap_or_default();
    part.iter().take(16).enumerate().filter(|(_, byte)| is(**byte)).fold(0, |mask, (i, _)| mask | 1 << i)
}

/// What the second look at a block sees, unless the text begins or ends there.
#[inline(always)]
fn window(text: &[u8], place: usize) -> Option<&[u8; WINDOW]> {
    text.get(place.checked_sub(BEFORE)?..)?.first_chunk()
}

/// So many bytes that begin so much before a place. What is beyond the text reads as the end of a line.
#[cold]
#[inline(never)]
fn padded<const SIZE: usize>(text: &[u8], place: usize, before: usize) -> [u8; SIZE] {
    let mut all = [b'\n'; SIZE];
    let lacking = before.saturating_sub(place);
    let part = text.get(place + lacking - before..).unwrap_or_default();
    let length = part.len().min(SIZE - lacking);
    all[lacking..lacking + length].copy_from_slice(&part[..length]);
    all
}
