//! The walks over a text, for each variant anew so that they are compiled with the variant's instructions.

/// A variant has `look`, for every block, and `zeros`, `begins`, `one_of`, `equal`, `word`, `from_two`, `visible`,
/// `has_letters` and `letter`, which are of the 64 bytes at an offset of a window.
///
/// The first walk is over every block and has no branch that depends on the text: what it sees is written to lists
/// whether or not it counts, and a list grows by one where it does. The second and the third are over the blocks on
/// those lists.
macro_rules! walk {
    ($(#[$attribute:meta])*) => {
        $(#[$attribute])*
        fn walk(text: &[u8], from: usize, to: usize, found: &mut super::Found) -> bool {
            let wide = survey(text, from, to, &mut found.blocks) && has_wide(text, from, to);
            numbers(text, from, found);
            marks(text, from, found);
            // The last block may go on behind the end.
            found.end_at(to - from);
            wide
        }

        /// Looks at every block. Says whether there are zeros.
        $(#[$attribute])*
        fn survey(text: &[u8], from: usize, to: usize, blocks: &mut super::Blocks) -> bool {
            use super::{BLOCK, Blocks, LOOK, digits};

            let all = blocks.begin(text, from, to);
            let Blocks { digits, numbers, marked, .. } = blocks;
            let (numbers, marked) = (&mut numbers[..=all], &mut marked[..=all]);
            let mut before = digits::Carry::new(digits[0]);
            let (mut numbers_len, mut marked_len) = (0, 0);
            let (mut least, mut rest) = (most(), &text[from..]);
            for (i, digits) in digits[1..=all].iter_mut().enumerate() {
                let padded;
                let window = match rest.first_chunk::<LOOK>() {
                    Some(window) => {
                        rest = &rest[BLOCK..];
                        window
                    }
                    None => {
                        padded = super::padded::<LOOK>(text, from + i * BLOCK, 0);
                        &padded
                    }
                };
                let seen = look(window, &mut least);
                *digits = seen.digits;
                // Room for one more than there are blocks.
                (numbers[numbers_len], marked[marked_len]) = (i as u32, i as u32);
                numbers_len += usize::from(before.has_four(seen.digits));
                marked_len += usize::from(seen.marked);
            }
            (blocks.numbers_len, blocks.marked_len) = (numbers_len, marked_len);
            has_zeros(least)
        }

        /// Whether there are zeros as UTF-16 has them.
        $(#[$attribute])*
        fn has_wide(text: &[u8], from: usize, to: usize) -> bool {
            use super::{BLOCK, LOOK};

            (from..to).step_by(BLOCK).fold(false, |any, place| {
                let padded;
                let zeros = zeros(match text.get(place..).and_then(<[u8]>::first_chunk::<LOOK>) {
                    Some(window) => window,
                    None => {
                        padded = super::padded::<LOOK>(text, place, 0);
                        &padded
                    }
                });
                any | (zeros & zeros >> 2 & zeros >> 4 != 0)
            })
        }

        /// Adds the candidates of blocks with four digits in a row.
        $(#[$attribute])*
        fn numbers(text: &[u8], from: usize, found: &mut super::Found) {
            use super::digits::{Rows, Window as Digits};
            use super::{BEFORE, BLOCK, Blocks, Kind, PARTED, WINDOW};

            let (blocks, mut out) = found.parts();
            let Blocks { numbers, digits, letters, .. } = blocks;
            for block in &numbers[..blocks.numbers_len] {
                let block = *block as usize;
                let place = from + block * BLOCK;
                let three = digits.get(block..block + 3).and_then(<[u64]>::first_chunk);
                let Some(&[before, these, after]) = three else { break };
                let digits = Digits::new(before, these, after);
                let padded;
                let window = match super::window(text, place) {
                    Some(window) => window,
                    None => {
                        padded = super::padded::<WINDOW>(text, place, BEFORE);
                        &padded
                    }
                };
                letters[block] = u8::from(has_letters(window));
                // Sizes of what lies before are those of `Digits`: 4 is before a group's fourth digit.
                let parted = digits.fourth() & one_of::<{ BEFORE - 4 }>(window, &PARTED);
                let bracket = equal::<{ BEFORE - 4 }>(window, b')') | equal::<{ BEFORE - 5 }>(window, b')');
                let base = (place - from) as u32;
                if parted & (digits.at(5) | bracket) != 0 {
                    groups(window, [before, these, after], base, &mut out);
                }
                let ninth = digits.ninth() & !word::<{ BEFORE - 9 }>(window);
                if ninth != 0 {
                    let rows = Rows { ninth, from_two: from_two::<{ BEFORE - 8 }>(window) };
                    out.add(Kind::Nine, base, rows.nine(&digits));
                    let ten = rows.ten(&digits);
                    // Timestamps have ten digits, too, and begin with a one: here a branch is foreseen well.
                    if ten != 0 {
                        out.add(Kind::Ten, base, ten);
                    }
                    out.add(Kind::Long, base, rows.long(&digits));
                }
            }
        }

        /// Adds the candidates of a block that has digits in groups. On its own, because it needs every register and
        /// most blocks do not need it.
        $(#[$attribute])*
        #[inline(never)]
        fn groups(
            window: &[u8; super::WINDOW],
            [before, these, after]: [u64; 3],
            base: u32,
            out: &mut super::found::Lists<'_>,
        ) {
            use super::digits::{Groups, Window as Digits};
            use super::{BEFORE, CLOSED, Kind, SEPARATORS};

            let digits = Digits::new(before, these, after);
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
            out.add(Kind::Card, base, groups.cards(&digits));
            out.add(Kind::Ssn, base, groups.ssns(&digits));
            out.add(Kind::Phone, base, groups.phones(&digits));
        }

        /// Adds the candidates that are no numbers.
        $(#[$attribute])*
        fn marks(text: &[u8], from: usize, found: &mut super::Found) {
            use super::{BEFORE, BLOCK, Kind, WINDOW};

            let (blocks, mut out) = found.parts();
            for block in &blocks.marked[..blocks.marked_len] {
                let place = from + *block as usize * BLOCK;
                let padded;
                let window = match super::window(text, place) {
                    Some(window) => window,
                    None => {
                        padded = super::padded::<WINDOW>(text, place, BEFORE);
                        &padded
                    }
                };
                let base = (place - from) as u32;
                let sign = equal::<BEFORE>(window, b'@') & visible::<{ BEFORE - 1 }>(window);
                out.add(Kind::At, base, sign & word::<{ BEFORE + 1 }>(window));
                let key = equal::<BEFORE>(window, b'A') & equal::<{ BEFORE + 3 }>(window, b'A');
                out.add(Kind::Key, base, key);
                let secret = letter::<BEFORE>(window, b's') & letter::<{ BEFORE + 2 }>(window, b'c');
                out.add(Kind::Secret, base, secret & letter::<{ BEFORE + 5 }>(window, b't'));
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
