//! Where a match could be: the only look that every byte of every layer gets.
//!
//! The bytes are read 64 at a time, and of each block two things are told: which bytes are digits, and whether it is
//! marked, that is, has an `@`, the beginning of an AWS key id or of the word `secret`. Operations on the bits of the
//! digits, which reach into the blocks beside, say in which blocks rows or groups of digits may be numbers. Those, and
//! marked ones, get a second look at what stands around the digits, of which come candidates. Everything that the rules
//! accept is at a candidate; that a candidate is anything is for the rules to say.
//!
//! All of it is done for 64 blocks before the next ones: what gets the second look lies in the nearest cache, and while it
//! does, memory brings what comes. As masks of 64 bits are the same for several blocks at once, what is said of digits
//! alone costs next to nothing.
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

/// How many blocks get both looks before the next ones get the first: few enough for the nearest cache, and for memory
/// to bring more during the second look. As many as a mask has bits.
const BLOCKS: usize = 64;
/// How many bytes they have.
const PIECE: usize = BLOCKS * BLOCK;
/// What is seen of a piece: what its blocks' windows see.
const AROUND: usize = PIECE - BLOCK + WINDOW;

/// What a candidate could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The fourth digit of a group of four or more. Before it: a separator, and four digits or more.
    Card,
    /// The last digit of a group of four. Before it: a separator, two digits, a separator, three digits.
    Ssn,
    /// The fourth digit of a group that ends like a phone number:
    /// - the group has four digits, and before it is a separator, three digits, one of [`CLOSED`], and with or without a
    ///   byte between, a parenthesis or directly three digits;
    /// - the group has four digits, and before it is a separator, four digits, and with or without a byte between, a
    ///   parenthesis;
    /// - the group has seven digits, and before it is a parenthesis, or a separator, and before that a parenthesis or
    ///   three digits.
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
    /// The first letter of what could be `secret`: an `s`, a `c` and an `r` stand where they should.
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
    /// AVX-512 with byte and word instructions and VBMI2, as processors have since 2019 (Intel Ice Lake, AMD Zen 4).
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
                    && std::is_x86_feature_detected!("avx512vbmi2")
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

/// What the first look saw of a piece, and what its digits say.
struct Piece {
    /// The digits of the block before, of each block, and of the one behind; of those outside, as many as the second
    /// look asks for.
    digits: [u64; BLOCKS + 2],
    /// Of each block, the ninth digits of rows, and the fourth ones of groups that may be the last of a number.
    rows: [u64; BLOCKS],
    groups: [u64; BLOCKS],
    /// The blocks that have some, the first in the lowest bit; and those that are marked.
    in_rows: u64,
    in_groups: u64,
    marked: u64,
}

impl Piece {
    const EMPTY: Self =
        Self { digits: [0; BLOCKS + 2], rows: [0; BLOCKS], groups: [0; BLOCKS], in_rows: 0, in_groups: 0, marked: 0 };

    /// Begins with the digits outside so many blocks, and says how many of those are in the piece.
    #[inline(always)]
    fn begin(&mut self, around: &[u8; AROUND], blocks: usize) -> usize {
        let blocks = blocks.min(BLOCKS);
        let digits = |place: usize| {
            let sixteen: &[u8; 16] = around[place..].first_chunk().unwrap_or(&[0; 16]);
            (0..16).fold(0, |mask, i| mask | u64::from(sixteen[i].is_ascii_digit()) << i)
        };
        self.digits[0] = digits(0) << (64 - BEFORE);
        self.digits[blocks + 1] = digits(BEFORE + blocks * BLOCK);
        self.digits[blocks + 2..].fill(0);
        blocks
    }
}

/// What is seen of a piece, unless the text begins or ends there.
#[inline(always)]
fn around(text: &[u8], place: usize) -> Option<&[u8; AROUND]> {
    text.get(place.checked_sub(BEFORE)?..)?.first_chunk()
}

/// What is seen of a block of the piece: by the second look [`WINDOW`] bytes, by the first one [`LOOK`].
#[inline(always)]
fn part<const SIZE: usize>(around: &[u8; AROUND], block: usize) -> &[u8; SIZE] {
    const { assert!(SIZE == WINDOW || SIZE == LOOK && BEFORE + LOOK <= WINDOW) };
    let before = if SIZE == LOOK { BEFORE } else { 0 };
    around[before + block * BLOCK..].first_chunk().unwrap_or(&[0; SIZE])
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
