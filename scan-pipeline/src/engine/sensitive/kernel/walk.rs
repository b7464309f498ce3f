//! The walks over a text, for each variant anew so that they are compiled with the variant's instructions.

/// A variant has `look`, for every block, and `zeros`, `begins`, `one_of`, `equal`, `word`, `from_two`, `visible`,
/// `has_letters` and `letter`, which are of the 64 bytes at an offset of a window.
///
/// A text is walked in pieces of 64 blocks. The first walk is over every block of a piece, the second over their digits,
/// and neither has a branch that depends on the text; the others are over the blocks in which those found something.
/// Each is a function of its own: as one, they get in the way of each other's registers.
macro_rules! walk {
    ($(#[$attribute:meta])*) => {
        $(#[$attribute])*
        fn walk(text: &[u8], from: usize, to: usize, found: &mut super::Found) -> bool {
            found.begin(to - from);
            let (mut piece, mut wide) = (super::Piece::EMPTY, false);
            for place in (from..to).step_by(super::PIECE) {
                let padded;
                let around = match super::around(text, place) {
                    Some(around) => around,
                    None => {
                        padded = super::padded::<{ super::AROUND }>(text, place, super::BEFORE);
                        &padded
                    }
                };
                wide |= survey(around, (to - place).div_ceil(super::BLOCK), &mut piece);
                sift(&mut piece);
                let (letters, mut out) = found.parts(place - from);
                rows(around, &piece, letters, &mut out);
                groups(around, &piece, letters, &mut out);
                marks(around, &piece, &mut out);
            }
            // The last block may go on behind the end.
            found.end_at(to - from);
            wide
        }

        /// Looks at so many blocks, or all of the piece. Says whether there are zeros as UTF-16 has them.
        $(#[$attribute])*
        #[inline(never)]
        fn survey(around: &[u8; super::AROUND], blocks: usize, piece: &mut super::Piece) -> bool {
            use super::{LOOK, part};

            let blocks = piece.begin(around, blocks);
            let (mut least, mut marked) = (most(), 0);
            for (i, digits) in piece.digits[1..=blocks].iter_mut().enumerate() {
                let seen = look(part::<LOOK>(around, i), &mut least);
                *digits = seen.digits;
                marked |= u64::from(seen.marked) << i;
            }
            piece.marked = marked;
            has_zeros(least)
                && (0..blocks).any(|i| {
                    let zeros = zeros(part::<LOOK>(around, i));
                    zeros & zeros >> 2 & zeros >> 4 != 0
                })
        }

        /// Finds out in which blocks there may be numbers, for what their digits say. It is compiled into operations on
        /// several blocks at once.
        $(#[$attribute])*
        #[inline(never)]
        fn sift(piece: &mut super::Piece) {
            use super::digits::Window as Digits;

            let (mut in_rows, mut in_groups) = (0, 0);
            for i in 0..super::BLOCKS {
                let digits = Digits::new(piece.digits[i], piece.digits[i + 1], piece.digits[i + 2]);
                (piece.rows[i], piece.groups[i]) = (digits.ninth(), digits.groups());
                in_rows |= u64::from(piece.rows[i] != 0) << i;
                in_groups |= u64::from(piece.groups[i] != 0) << i;
            }
            (piece.in_rows, piece.in_groups) = (in_rows, in_groups);
        }

        /// Adds the candidates that are digits in a row.
        $(#[$attribute])*
        #[inline(never)]
        fn rows(
            around: &[u8; super::AROUND],
            piece: &super::Piece,
            letters: &mut [u8],
            out: &mut super::found::Lists<'_>,
        ) {
            use super::digits::{Rows, Window as Digits};
            use super::{BEFORE, Kind, WINDOW, part};

            for i in super::found::bits(piece.in_rows) {
                let window = part::<WINDOW>(around, i);
                // Sizes of what lies before are those of `Digits`: 9 is before a row's ninth digit.
                let ninth = piece.rows[i] & !word::<{ BEFORE - 9 }>(window);
                if ninth != 0 {
                    letters[i] = u8::from(has_letters(window));
                    let digits = Digits::new(piece.digits[i], piece.digits[i + 1], piece.digits[i + 2]);
                    let rows = Rows { ninth, from_two: from_two::<{ BEFORE - 8 }>(window) };
                    out.add(Kind::Nine, i, rows.nine(&digits));
                    let ten = rows.ten(&digits);
                    // Timestamps have ten digits, too, and begin with a one: here a branch is foreseen well.
                    if ten != 0 {
                        out.add(Kind::Ten, i, ten);
                    }
                    out.add(Kind::Long, i, rows.long(&digits));
                }
            }
        }

        /// Adds the candidates that are digits in groups.
        $(#[$attribute])*
        #[inline(never)]
        fn groups(
            around: &[u8; super::AROUND],
            piece: &super::Piece,
            letters: &mut [u8],
            out: &mut super::found::Lists<'_>,
        ) {
            use super::digits::{Groups, Window as Digits};
            use super::{BEFORE, CLOSED, Kind, PARTED, SEPARATORS, WINDOW, part};

            for i in super::found::bits(piece.in_groups) {
                let window = part::<WINDOW>(around, i);
                // Sizes of what lies before are those of `Digits`: 4 is before a group's fourth digit.
                if piece.groups[i] & one_of::<{ BEFORE - 4 }>(window, &PARTED) == 0 {
                    continue;
                }
                letters[i] = u8::from(has_letters(window));
                let digits = Digits::new(piece.digits[i], piece.digits[i + 1], piece.digits[i + 2]);
                let groups = Groups {
                    separator_4: one_of::<{ BEFORE - 4 }>(window, &SEPARATORS),
                    separator_7: one_of::<{ BEFORE - 7 }>(window, &SEPARATORS),
                    closed_8: one_of::<{ BEFORE - 8 }>(window, &CLOSED),
                    bracket: [
                        equal::<{ BEFORE - 4 }>(window, b')'),
                        equal::<{ BEFORE - 5 }>(window, b')'),
                        equal::<{ BEFORE - 8 }>(window, b')'),
                        equal::<{ BEFORE - 9 }>(window, b')'),
                        equal::<{ BEFORE - 10 }>(window, b')'),
                    ],
                };
                out.add(Kind::Card, i, groups.cards(&digits));
                out.add(Kind::Ssn, i, groups.ssns(&digits));
                out.add(Kind::Phone, i, groups.phones(&digits));
            }
        }

        /// Adds the candidates that are no numbers.
        $(#[$attribute])*
        #[inline(never)]
        fn marks(around: &[u8; super::AROUND], piece: &super::Piece, out: &mut super::found::Lists<'_>) {
            use super::{BEFORE, Kind, WINDOW, part};

            for i in super::found::bits(piece.marked) {
                let window = part::<WINDOW>(around, i);
                let sign = equal::<BEFORE>(window, b'@') & visible::<{ BEFORE - 1 }>(window);
                out.add(Kind::At, i, sign & word::<{ BEFORE + 1 }>(window));
                let key = equal::<BEFORE>(window, b'A') & equal::<{ BEFORE + 3 }>(window, b'A');
                out.add(Kind::Key, i, key);
                let secret = letter::<BEFORE>(window, b's') & letter::<{ BEFORE + 2 }>(window, b'c');
                out.add(Kind::Secret, i, secret & letter::<{ BEFORE + 3 }>(window, b'r'));
            }
        }

        /// Adds the places between two at which a word may begin.
        $(#[$attribute])*
        fn search(text: &[u8], from: usize, to: usize, words: &super::Triples, out: &mut super::List) {
            use super::BLOCK;
            use super::triples::SIGHT;

            for place in (from..to).step_by(BLOCK) {
                let padded;
                let sight = match text.get(place..).and_then(<[u8]>::first_chunk::<SIGHT>) {
                    Some(sight) => sight,
                    None => {
                        padded = super::padded::<SIGHT>(text, place, 0);
                        &padded
                    }
                };
                out.add((place - from) as u32, begins(sight, words));
            }
            out.end_at(to - from);
        }
    };
}
pub(super) use walk;
