//! Where a match could be: the only look that every byte of every layer gets.
//!
//! The bytes are read 64 at a time, and of each block a few bit masks are made: which bytes are digits, which are
//! separators, whether there is an `@`, the beginning of an AWS key id or of the word `secret`. From these come
//! candidates, in the order of their offsets, by bit operations that carry over from one block to the next. Everything
//! that the rules accept is at a candidate; that a candidate is anything is for the rules to say.
//!
//! It exists for AVX-512, AVX2 and without either, and which one runs is chosen at run time. The variants differ in how
//! the masks are made; what is done with the masks is the same code. Only here may `unsafe` stand, in the variants: for
//! loads from a slice whose length was checked, and for calls of functions that need an instruction set that was found
//! to be there. A test holds each variant to the plain definition of a candidate, and another one the findings of each
//! to those of the oracle.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::fmt;

/// How many bytes a block has.
const BLOCK: usize = 64;
/// How far a variant reads from the beginning of a block.
const WINDOW: usize = BLOCK + 8;

/// What a candidate could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The fourth digit of a group of four or more. Before it: one or two separators, and two digits or more.
    Pair,
    /// The ninth digit of a row.
    Run,
    /// An `@`.
    At,
    /// An `A`, and another one three bytes on.
    Key,
    /// The first letter of what could be `secret`: an `s`, a `c` and a `t` stand where they should.
    Secret,
}

/// A place and what could be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate(u32);

impl Candidate {
    const KINDS: [Kind; 5] = [Kind::Pair, Kind::Run, Kind::At, Kind::Key, Kind::Secret];

    /// A place, which is below 2^29.
    #[inline]
    pub(super) fn new(place: usize, kind: Kind) -> Self {
        Self((place as u32) << 3 | kind as u32)
    }

    /// The place, counted from where the kernel began.
    #[inline]
    pub(super) fn place(self) -> usize {
        (self.0 >> 3) as usize
    }

    #[inline]
    pub(super) fn kind(self) -> Kind {
        Self::KINDS[(self.0 & 7) as usize]
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.kind(), self.place())
    }
}

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
            Self::Avx2 => std::is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512bw"),
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

/// Adds the candidates between two places of a text, no further apart than 2^29 bytes; places count from `from`. The
/// text around the two is looked at, too. Says whether there are zeros between them as in UTF-16: three or more in one
/// block, each two bytes from the next.
pub(super) fn candidates(by: Instructions, text: &[u8], from: usize, to: usize, out: &mut Vec<Candidate>) -> bool {
    debug_assert!(from <= to && to <= text.len() && to - from < 1 << 29);
    match by {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 if by.is_there() => avx512::run(text, from, to, out),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 if by.is_there() => avx2::run(text, from, to, out),
        _ => portable::run(text, from, to, out),
    }
}

/// The separators among the five bytes before a place, which is as far as a pair looks back, as the highest bits.
#[inline(always)]
fn separators_before(text: &[u8], place: usize) -> u64 {
    let is_separator = |byte: u8| matches!(byte, b' ' | b'(' | b')' | b'.' | b'-' | b'/');
    match place.checked_sub(5).and_then(|start| text.get(start..place)) {
        Some(part) => (0..5).fold(0, |mask, i| mask | u64::from(is_separator(part[i])) << (59 + i)),
        None => mask_before(text, place, is_separator),
    }
}

/// The bytes before a place as a mask, the last one in the highest bit.
fn mask_before(text: &[u8], place: usize, is: impl Fn(u8) -> bool) -> u64 {
    let part = &text[place.saturating_sub(16)..place];
    part.iter().rev().enumerate().filter(|(_, byte)| is(**byte)).fold(0, |mask, (i, _)| mask | 1 << (63 - i))
}

/// A mask moved up, with the bits of the block before moved in.
#[inline(always)]
fn up(mask: u64, before: u64, by: u32) -> u64 {
    mask << by | before >> (64 - by)
}

/// What is known of the digits of one block and the one before.
#[derive(Clone, Copy)]
struct Digits {
    these: u64,
    before: u64,
    /// Bytes that are digits and follow one, and the same of the block before.
    two: u64,
    two_before: u64,
    /// Fourth digits and further ones.
    four: u64,
}

impl Digits {
    #[inline(always)]
    fn new(these: u64, before: u64) -> Self {
        let two = these & up(these, before, 1);
        // Its lowest bits would need one more block; nothing below reads them.
        let two_before = before & before << 1;
        Self { these, before, two, two_before, four: two & up(two, two_before, 2) }
    }

    /// The fourth digits of groups.
    #[inline(always)]
    fn fourth(&self) -> u64 {
        self.four & !up(self.these, self.before, 4)
    }

    /// [`Kind::Pair`], with the separators of both blocks.
    #[inline(always)]
    fn pairs(&self, separators: u64, separators_before: u64) -> u64 {
        let one = up(separators, separators_before, 4);
        let other = up(separators, separators_before, 5);
        let digits = |by| up(self.two, self.two_before, by);
        self.fourth() & one & (digits(5) | other & digits(6))
    }

    /// [`Kind::Run`].
    #[inline(always)]
    fn runs(&self) -> u64 {
        let four_before = self.two_before & self.two_before << 2;
        let nine = self.four & up(self.four, four_before, 4) & up(self.these, self.before, 8);
        nine & !up(self.these, self.before, 9)
    }
}

/// The masks of what is no digit and seldom.
#[derive(Clone, Copy, Default)]
struct Marks {
    at: u64,
    key: u64,
    secret: u64,
}

/// What one block has to say, beyond its digits: whether anything in it may be a candidate, and whether it has zeros as
/// UTF-16 has them.
#[derive(Clone, Copy)]
struct Look {
    digits: u64,
    marked: bool,
    zeros: u64,
}

/// Adds the candidates of a block that begins at `place`, in order.
#[inline(always)]
fn emit(place: usize, pairs: u64, runs: u64, marks: Marks, out: &mut Vec<Candidate>) {
    let mut all = pairs | runs | marks.at | marks.key | marks.secret;
    while all != 0 {
        let i = all.trailing_zeros();
        let is = |mask: u64| mask >> i & 1 == 1;
        let kind = if is(runs) {
            Kind::Run
        } else if is(pairs) {
            Kind::Pair
        } else if is(marks.at) {
            Kind::At
        } else if is(marks.key) {
            Kind::Key
        } else {
            Kind::Secret
        };
        out.push(Candidate::new(place + i as usize, kind));
        all &= all - 1;
    }
}

/// The walk over all blocks, for each variant anew so that it is compiled with the variant's instructions. A variant
/// has `look`, `marks` and `separators`. Most blocks hold nothing: the loop over those is kept small, and what is done
/// with the others is in a function of its own. Gives whether there are zeros as UTF-16 has them.
macro_rules! walk {
    ($(#[$attribute:meta])*) => {
        $(#[$attribute])*
        fn walk(text: &[u8], from: usize, to: usize, out: &mut Vec<super::Candidate>) -> bool {
            use super::{BLOCK, Digits, WINDOW, mask_before};

            let mut before = mask_before(text, from, |byte| byte.is_ascii_digit());
            let mut zeros = 0;
            let mut place = from;
            while place < to {
                let Some(window) = text.get(place..).and_then(<[u8]>::first_chunk::<WINDOW>) else { break };
                let seen = look(window);
                zeros |= seen.zeros & seen.zeros >> 2 & seen.zeros >> 4;
                let digits = Digits::new(seen.digits, before);
                if digits.four != 0 || seen.marked {
                    within(text, from, place, to, window, digits, seen.marked, out);
                }
                before = seen.digits;
                place += BLOCK;
            }
            // What is left is less than a window, which is two blocks at most.
            while place < to {
                let mut window = [0; WINDOW];
                let rest = &text[place..];
                let length = rest.len().min(WINDOW);
                window[..length].copy_from_slice(&rest[..length]);
                let seen = look(&window);
                // The padding is no text.
                let real = if rest.len() < BLOCK { (1 << rest.len()) - 1 } else { u64::MAX };
                let these = seen.zeros & real;
                zeros |= these & these >> 2 & these >> 4;
                within(text, from, place, to, &window, Digits::new(seen.digits, before), seen.marked, out);
                before = seen.digits;
                place += BLOCK;
            }
            zeros != 0
        }

        /// Adds the candidates of a block that may have some.
        $(#[$attribute])*
        #[inline(never)]
        #[allow(clippy::too_many_arguments, reason = "they are what the loop has in its registers")]
        fn within(
            text: &[u8],
            from: usize,
            place: usize,
            to: usize,
            window: &[u8; super::WINDOW],
            digits: super::Digits,
            marked: bool,
            out: &mut Vec<super::Candidate>,
        ) {
            use super::{BLOCK, Marks, emit, separators_before};

            let within = if to - place < BLOCK { (1 << (to - place)) - 1 } else { u64::MAX };
            let (mut pairs, mut runs) = (0, 0);
            if digits.four != 0 {
                let fourth = digits.fourth();
                if fourth != 0 {
                    // Only a group that begins right here has its separators in the block before.
                    let before = if fourth & 0x1f == 0 { 0 } else { separators_before(text, place) };
                    pairs = digits.pairs(separators(window), before);
                }
                runs = digits.runs();
            }
            let Marks { at, key, secret } = if marked { marks(window) } else { Marks::default() };
            let marks = Marks { at: at & within, key: key & within, secret: secret & within };
            emit(place - from, pairs & within, runs & within, marks, out);
        }
    };
}
use walk;
