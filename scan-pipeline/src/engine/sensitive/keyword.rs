//! Words that say what a number beside them is.

use super::look::{at, worked};

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
                Word("soc sec", true, false),
                Word("social security", false, false),
                Word("social_security", false, false),
                Word("social-security", false, false),
                Word("socialsecurity", false, false),
                Word("social sec", true, false),
                Word("taxpayer id", false, false),
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

    /// The lower-case letters that its words begin with, a bit each.
    const fn initials(self) -> u32 {
        let (words, mut set, mut i) = (self.words(), 0, 0);
        while i < words.len() {
            set |= 1 << (words[i].0.as_bytes()[0] - b'a');
            i += 1;
        }
        set
    }

    /// Whether one of the words stands entirely within [`NEAR`] bytes before or behind a match.
    pub(super) fn is_near(self, text: &[u8], start: usize, end: usize) -> bool {
        let end = end.min(text.len());
        self.is_within(text, start.saturating_sub(NEAR), start) || self.is_within(text, end, text.len().min(end + NEAR))
    }

    /// Whether one of the words stands between two places.
    pub(super) fn is_within(self, text: &[u8], from: usize, to: usize) -> bool {
        const INITIALS: [u32; 3] = [Topic::Ssn.initials(), Topic::Card.initials(), Topic::Phone.initials()];
        let initials = INITIALS[self as usize];
        let part = &text[from..to];
        worked(part.len());
        // Digits, blanks and most marks have no bit 6; tables of numbers have nothing but those.
        if !part.iter().fold(false, |any, byte| any | (byte & 0x40 != 0)) {
            return false;
        }
        let can_begin = |byte: u8| byte.is_ascii_alphabetic() && initials >> ((byte | 0x20) - b'a') & 1 == 1;
        (from..to)
            .filter(|place| can_begin(text[*place]))
            .any(|place| self.words().iter().any(|word| stands(text, place, to, word)))
    }
}

/// Whether a word begins at a place and ends by `to`. Names in camel case are several words, and a plural is its
/// singular.
fn stands(text: &[u8], place: usize, to: usize, word: &Word) -> bool {
    let Word(word, left, right) = *word;
    let end = place + word.len();
    if end > to || !text[place..end].eq_ignore_ascii_case(word.as_bytes()) {
        return false;
    }
    let (outside, next) = (at(text, place.wrapping_sub(1)), at(text, end));
    let begins = !outside.is_ascii_alphabetic() || outside.is_ascii_lowercase() && text[place].is_ascii_uppercase();
    let plural = next | 0x20 == b's' && !at(text, end + 1).is_ascii_alphabetic();
    let ends = !next.is_ascii_alphabetic() || plural || next.is_ascii_uppercase() && text[end - 1].is_ascii_lowercase();
    (!left || begins) && (!right || ends)
}
