//! The rules once more: slow, plain, and on their own.
//!
//! Every place of a text is asked whether a match begins there, by regular expressions and arithmetic on what they
//! matched. There is no kernel, no dispatch and no streaming; nothing here calls the rules' own code, but for entropy
//! and the public suffix list, which are arithmetic and data. The tests and the fuzzer hold the detectors to this.

mod around;
mod email;
mod keys;
mod numbers;
mod passwords;
mod tokens;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::kinds::Detector;

/// A match: where it begins and ends, what it is, confidence, tags.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) detector: Detector,
    pub(super) confidence: f64,
    pub(super) tags: Vec<String>,
}

/// Whether a pattern matches at exactly this place, and where the match ends.
fn at(pattern: &str, text: &[u8], place: usize) -> Option<usize> {
    use std::cell::RefCell;
    use std::collections::HashMap;
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with(|compiled| {
        let mut compiled = compiled.borrow_mut();
        let regex = compiled.entry(String::from(pattern)).or_insert_with(|| {
            let plain = syntax::Config::new().unicode(false).utf8(false);
            let config = Regex::config().utf8_empty(false);
            Regex::builder().syntax(plain).configure(config).build(pattern).expect("a pattern of ours compiles")
        });
        regex.find(Input::new(text).range(place..).anchored(Anchored::Yes)).map(|found| found.end())
    })
}

/// Whether what stands before a place ends like this.
fn ends(pattern: &str, text: &[u8], place: usize) -> bool {
    let part = &text[place.saturating_sub(80)..place];
    (0..=part.len()).any(|i| at(&format!("(?:{pattern})\\z"), part, i).is_some())
}

/// Everything in a text that a rule takes for something, whatever it overlaps.
pub(super) fn all(text: &[u8]) -> Vec<Match> {
    let mut all = Vec::new();
    for place in 0..text.len() {
        all.extend(numbers::card(text, place));
        all.extend(numbers::ssn(text, place));
        all.extend(numbers::phone(text, place));
        all.extend(email::address(text, place));
        all.extend(keys::key_id(text, place));
        all.extend(keys::secret(text, place));
        all.extend(tokens::token(text, place));
        all.extend(passwords::password(text, place));
    }
    // A password's name may be read in several ways.
    all.sort_by_key(|one| (one.start, one.detector, one.end));
    all.dedup();
    all
}

/// Those that are left where they overlap.
pub(super) fn settled(all: &[Match]) -> Vec<Match> {
    all.iter().filter(|one| !all.iter().any(|other| beats(other, one))).cloned().collect()
}

/// Whether of two that overlap the first one stays: of numbers a card before a social security number before a phone
/// number, any key before a password, and of two of a kind the one that begins first.
fn beats(one: &Match, other: &Match) -> bool {
    use Detector::{CreditCard, Email, Password, Phone, Ssn};
    let overlap = one.start < other.end && other.start < one.end;
    let is_key = |detector| !matches!(detector, CreditCard | Ssn | Phone | Email | Password);
    let stronger = match (one.detector, other.detector) {
        (same, again) if same == again => one.start < other.start,
        (CreditCard, Ssn | Phone) | (Ssn, Phone) => true,
        (key, Password) => is_key(key),
        _ => false,
    };
    overlap && stronger
}

/// A match, with the tags that are not empty.
fn found(start: usize, end: usize, detector: Detector, confidence: f64, tags: &[&str]) -> Option<Match> {
    let tags = tags.iter().filter(|tag| !tag.is_empty()).map(|tag| String::from(*tag)).collect();
    Some(Match { start, end, detector, confidence, tags })
}
