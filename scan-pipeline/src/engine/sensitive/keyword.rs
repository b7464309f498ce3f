//! Words that say what a number beside them is.

use super::kernel::{Instructions, Triples};
use super::look::{at, before, clear_left, worked};

/// How far from a match a word may stand.
pub(super) const NEAR: usize = 50;

/// Words of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Ssn,
    Card,
    Phone,
}

/// A word, and whether it must begin and end where a word does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word(pub(super) &'static str, pub(super) bool, pub(super) bool);

impl Topic {
    pub(super) const ALL: [Self; 3] = [Self::Ssn, Self::Card, Self::Phone];

    /// The words, in lower case.
    pub(super) const fn words(self) -> &'static [Word] {
        match self {
            Self::Ssn => &[
                Word("ssn", true, true),
                Word("ss#", true, false),
                Word("ss no", true, true),
                Word("ss number", true, false),
                Word("soc sec", true, false),
                Word("social security", false, false),
                Word("social_security", false, false),
                Word("social-security", false, false),
                Word("socialsecurity", false, false),
                Word("social sec", true, false),
                Word("taxpayer id", false, false),
                Word("tax id", true, false),
                Word("tax_id", true, false),
                Word("tin", true, true),
            ],
            Self::Card => &[
                Word("card", true, true),
                Word("creditcard", false, true),
                Word("debitcard", false, true),
                Word("cardnum", false, false),
                Word("cardno", true, true),
                Word("credit", true, true),
                Word("debit", true, true),
                Word("visa", true, true),
                Word("mastercard", false, false),
                Word("master card", true, false),
                Word("amex", true, true),
                Word("american express", false, false),
                Word("discover", true, true),
                Word("diners", true, true),
                Word("jcb", true, true),
                Word("unionpay", false, false),
                Word("maestro", true, true),
                Word("payment", true, true),
                Word("pan", true, true),
                Word("cc", true, true),
                Word("ccn", true, true),
                Word("ccnum", true, false),
                Word("cvv", true, true),
                Word("cvc", true, true),
            ],
            Self::Phone => &[
                Word("phone", false, false),
                Word("ph", true, true),
                Word("tel", true, true),
                Word("mobile", true, true),
                Word("cell", true, true),
                Word("fax", true, true),
                Word("sms", true, true),
                Word("whatsapp", false, false),
                Word("call me", true, true),
                Word("call us", true, true),
                Word("can call", true, true),
                Word("please call", true, true),
                Word("dial", true, true),
                Word("reach you", true, true),
                Word("reach me", true, true),
                Word("reach us", true, true),
                Word("contact", true, true),
                Word("office", true, true),
                Word("desk", true, true),
            ],
        }
    }

    /// For each letter, which of the words begin with it, a bit each.
    const fn by_initial(self) -> [u32; 26] {
        let (words, mut all, mut i) = (self.words(), [0; 26], 0);
        while i < words.len() {
            all[(words[i].0.as_bytes()[0] - b'a') as usize] |= 1 << i;
            i += 1;
        }
        all
    }

    /// How the words begin, those with one letter in one group.
    const fn triples(self) -> Triples {
        let (words, mut all, mut i) = (self.words(), Triples::NONE, 0);
        let (mut groups, mut count) = ([usize::MAX; 26], 0);
        while i < words.len() {
            let word = words[i].0.as_bytes();
            let group = &mut groups[(word[0] - b'a') as usize];
            if *group == usize::MAX {
                *group = count;
                count += 1;
            }
            all = all.with(*group, word, true);
            // A blank may be another one.
            if word[2 % word.len()] == b' ' {
                let mut blank = 0;
                while blank < BLANKS.len() {
                    all = all.with(*group, &[word[0], word[1], BLANKS[blank]], true);
                    blank += 1;
                }
            }
            i += 1;
        }
        all
    }

    /// Whether one of the words stands between two places.
    pub(super) fn is_within(self, by: Instructions, text: &[u8], from: usize, to: usize) -> bool {
        const BY_INITIAL: [[u32; 26]; 3] =
            [Topic::Ssn.by_initial(), Topic::Card.by_initial(), Topic::Phone.by_initial()];
        const TRIPLES: [Triples; 3] = [Topic::Ssn.triples(), Topic::Card.triples(), Topic::Phone.triples()];
        let (words, by_initial) = (self.words(), &BY_INITIAL[self as usize]);
        worked(to - from);
        let mut place = from;
        while place < to {
            let mut begins = TRIPLES[self as usize].at(by, text, place);
            if to - place < 64 {
                begins &= (1 << (to - place)) - 1;
            }
            while begins != 0 {
                let here = place + begins.trailing_zeros() as usize;
                let letter = (text[here] | 0x20).wrapping_sub(b'a');
                let mut begin = by_initial.get(usize::from(letter)).copied().unwrap_or(0);
                while begin != 0 {
                    if stands(text, here, to, &words[begin.trailing_zeros() as usize]) {
                        return true;
                    }
                    begin &= begin - 1;
                }
                begins &= begins - 1;
            }
            place += 64;
        }
        false
    }
}

/// How long a word before a dot or a hyphen can be.
const BEFORE: usize = 24;

/// Whether a number of a topic can begin here: as other numbers, or behind a dot or a hyphen that follows a word for it, as
/// in `Tel.` and `SSN-`.
pub(super) fn clear_left_of(topic: Topic, text: &[u8], start: usize) -> bool {
    if clear_left(text, start) {
        return true;
    }
    if !matches!(before(text, start, 1), b'.' | b'-') {
        return false;
    }
    let mark = start - 1;
    let size = (1..=BEFORE).take_while(|by| before(text, mark, *by).is_ascii_alphabetic()).count();
    size > 0 && topic.is_within(Instructions::Portable, text, mark - size, mark)
}

/// The words near places of one text.
pub(super) struct Near<'t> {
    by: Instructions,
    text: &'t [u8],
    /// Where the blocks begin of which it is known whether they have letters.
    from: usize,
    letters: &'t [u8],
}

impl<'t> Near<'t> {
    const BLOCK: usize = 64;

    /// `letters` has a 0 for each block of 64 bytes from `from` on of which it is known that it has no letters, and a 1
    /// for each other; of what is beyond it nothing is known.
    pub(super) fn new(by: Instructions, text: &'t [u8], from: usize, letters: &'t [u8]) -> Self {
        Self { by, text, from, letters }
    }

    /// Whether a word of a topic stands entirely within [`NEAR`] bytes before or behind a match.
    pub(super) fn is_near(&self, topic: Topic, start: usize, end: usize) -> bool {
        let end = end.min(self.text.len());
        let (first, last) = (start.saturating_sub(NEAR), self.text.len().min(end + NEAR));
        self.has_letters(start, end)
            && (topic.is_within(self.by, self.text, first, start) || topic.is_within(self.by, self.text, end, last))
    }

    /// Whether there may be letters within [`NEAR`] bytes of a match. Tables of numbers hold few.
    #[inline]
    pub(super) fn has_letters(&self, start: usize, end: usize) -> bool {
        let Some(first) = start.checked_sub(NEAR + self.from) else { return true };
        let reach = end - start + 2 * NEAR;
        // However the match lies, all of it is in four blocks.
        let blocks = self.letters.get(first / Self::BLOCK..).and_then(<[u8]>::first_chunk::<4>);
        reach > 3 * Self::BLOCK || blocks.is_none_or(|blocks| u32::from_le_bytes(*blocks) != 0)
    }
}

/// Blanks that words of several parts may have between them, one or two.
const BLANKS: &[u8; 4] = b" \t\r\n";

/// Where a word ends that begins at a place, by `to` at the latest.
#[inline]
fn end_of(text: &[u8], place: usize, to: usize, word: &[u8]) -> Option<usize> {
    let is_blank = |place: usize| text[..to].get(place).is_some_and(|byte| BLANKS.contains(byte));
    let mut end = place;
    for byte in word {
        if *byte == b' ' {
            if !is_blank(end) {
                return None;
            }
            end += 1 + usize::from(is_blank(end + 1));
        } else if text[..to].get(end)?.eq_ignore_ascii_case(byte) {
            end += 1;
        } else {
            return None;
        }
    }
    Some(end)
}

/// Whether two letters are a byte of a hardware address: next to two hexadecimal digits, behind a colon or a hyphen.
fn is_in_address(text: &[u8], place: usize, end: usize) -> bool {
    let parts = |byte| matches!(byte, b':' | b'-');
    let before = |by| at(text, place.wrapping_sub(by));
    let right = parts(at(text, end)) && (1..3).all(|by| at(text, end + by).is_ascii_hexdigit());
    let left = parts(before(1)) && (2..4).all(|by| before(by).is_ascii_hexdigit());
    right && !at(text, end + 3).is_ascii_alphanumeric() || left && !before(4).is_ascii_alphanumeric()
}

/// Whether a word begins at a place and ends by `to`. Names in camel case are several words, and a plural is its
/// singular.
fn stands(text: &[u8], place: usize, to: usize, word: &Word) -> bool {
    let Word(word, left, right) = *word;
    let Some(end) = end_of(text, place, to, word.as_bytes()) else { return false };
    let (outside, next) = (at(text, place.wrapping_sub(1)), at(text, end));
    // `cc` is also two digits of a hexadecimal number, or a byte of a hardware address.
    if word == "cc" && (outside.is_ascii_digit() || next.is_ascii_digit() || is_in_address(text, place, end)) {
        return false;
    }
    let begins = !outside.is_ascii_alphabetic() || outside.is_ascii_lowercase() && text[place].is_ascii_uppercase();
    let plural = next | 0x20 == b's' && !at(text, end + 1).is_ascii_alphabetic();
    let ends = !next.is_ascii_alphabetic() || plural || next.is_ascii_uppercase() && text[end - 1].is_ascii_lowercase();
    (!left || begins) && (!right || ends)
}
