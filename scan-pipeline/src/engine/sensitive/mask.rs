//! What may be shown of a match and of what stands around it.
//!
//! Of cards and social security numbers the last four digits are shown, of phone numbers and e-mail addresses the form,
//! of secrets nothing, not even their length. The context fails closed: it shows words, and only those that cannot be
//! part of anything sensitive. A word that is cut by the edge of the context is judged as a whole, and one that touches
//! the match is masked, unless a mark stands between them that ends words: a rule may have taken a part of it only.
//! Whatever has a digit, an `@`, a mixture of cases or an unusual length is masked, whether or not a detector would have
//! found it, and whatever its confidence; and so is what follows a name of secrets, and what a pattern of the user's own
//! matches.

use super::kernel::Triples;
use super::kinds::Detector;
use super::look::{Source, worked};
use super::{Inner, tokens};

/// How many bytes of context there are at either side, words that are cut not counted.
const WIDTH: usize = 32;
/// How far from the edge of the context a word is followed, and a name of secrets looked for.
const FAR: usize = 128;
/// Stands for what is masked, however long it is.
const MASK: &str = "***";

/// The match as it may be shown.
pub(super) fn shown(source: Source, bytes: &[u8]) -> String {
    let keep = match source {
        Source::Ours(Detector::CreditCard | Detector::Ssn) => 4,
        Source::Ours(Detector::Phone) => 0,
        Source::Ours(Detector::Email) => {
            let mark = |byte: &u8| if matches!(byte, b'@' | b'.') { char::from(*byte) } else { '*' };
            return bytes.iter().map(mark).collect();
        }
        _ => return String::from("********"),
    };
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let mut seen = 0;
    bytes
        .iter()
        .map(|byte| {
            seen += usize::from(byte.is_ascii_digit());
            match byte {
                b'0'..=b'9' if seen + keep > digits => char::from(*byte),
                b' ' | b'-' | b'.' | b'(' | b')' | b'/' | b'+' => char::from(*byte),
                _ => '*',
            }
        })
        .collect()
}

/// What stands around a match, with the match as it may be shown.
pub(super) fn context(inner: &Inner, text: &[u8], start: usize, end: usize, shown: &str) -> String {
    let hidden = hidden(inner, text, start, end);
    let is_hidden = |from: usize, to: usize| hidden.iter().any(|(first, last)| *first < to && from < *last);
    let mut out = String::with_capacity(2 * WIDTH + shown.len());
    // Names of secrets further to the left count, too.
    let mut secret = Secret::default();
    let left = edge_before(text, start.saturating_sub(WIDTH));
    for (from, to) in words(text, left.saturating_sub(FAR), left) {
        secret.next(text, from, to);
    }
    let right = edge_behind(text, text.len().min(end + WIDTH));
    let mut place = left;
    for (from, to) in words(text, left, start).chain([(start, end)]).chain(words(text, end, right)) {
        if place < from {
            out.push(' ');
        }
        place = to;
        if (from, to) == (start, end) {
            out.push_str(shown);
            secret.last = to;
            continue;
        }
        let told = secret.next(text, from, to);
        let touches = to == start && goes_on_before(&text[from..to]) || from == end && goes_on_behind(&text[from..to]);
        match plain(&text[from..to]) {
            Some(word) if !told && !touches && !is_hidden(from, to) => out.push_str(word),
            _ if out.ends_with(MASK) => {}
            _ => out.push_str(MASK),
        }
    }
    out
}

/// What ends a word where it stands beside a match.
const MARKS: &[u8] = b"=:\"'(<,;";

/// Whether the bytes directly before a match may be a part of what it is of.
fn goes_on_before(part: &[u8]) -> bool {
    part.last().is_some_and(|last| !MARKS.contains(last)) && !part.iter().all(|byte| b"\"'([{<".contains(byte))
}

/// Whether the bytes directly behind a match may be a part of what it is of. The end of a sentence is none.
fn goes_on_behind(part: &[u8]) -> bool {
    part.first().is_some_and(|first| !MARKS.contains(first)) && !part.iter().all(|byte| b"\"')]}>,;:.!?".contains(byte))
}

/// Where the word begins that a place is in, or [`FAR`] before it.
fn edge_before(text: &[u8], place: usize) -> usize {
    let from = place.saturating_sub(FAR);
    text[from..place].iter().rposition(|byte| is_blank(*byte)).map_or(from, |i| from + i + 1)
}

fn edge_behind(text: &[u8], place: usize) -> usize {
    let to = text.len().min(place + FAR);
    text[place..to].iter().position(|byte| is_blank(*byte)).map_or(to, |i| place + i)
}

fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// The words between two places.
fn words(text: &[u8], from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut place = from;
    std::iter::from_fn(move || {
        let start = (place..to).find(|i| !is_blank(text[*i]))?;
        place = (start..to).find(|i| is_blank(text[*i])).unwrap_or(to);
        Some((start, place))
    })
}

/// Whether what is being read follows the name of a secret: to the end of its line, and three words at least.
#[derive(Default)]
struct Secret {
    words: usize,
    same_line: bool,
    last: usize,
}

impl Secret {
    const NAMES: [&'static str; 12] =
        ["pass", "pwd", "secret", "token", "key", "pin", "credential", "auth", "bearer", "login", "code", "private"];

    /// Takes the next word and says whether it is to be masked for those before it.
    fn next(&mut self, text: &[u8], from: usize, to: usize) -> bool {
        if text[self.last.min(from)..from].contains(&b'\n') {
            self.same_line = false;
        }
        self.last = to;
        let told = self.words > 0 || self.same_line;
        self.words = self.words.saturating_sub(1);
        let lower = text[from..to].to_ascii_lowercase();
        if Self::is_name(&lower) {
            (self.words, self.same_line) = (3, true);
        }
        told
    }

    /// Whether one of the names is in a word, which is in lower case.
    fn is_name(lower: &[u8]) -> bool {
        const BEGINNINGS: Triples = {
            let (mut all, mut i) = (Triples::NONE, 0);
            while i < Secret::NAMES.len() {
                all = all.with(i, Secret::NAMES[i].as_bytes(), false);
                i += 1;
            }
            all
        };
        let begins = |three: &[u8]| BEGINNINGS.may_begin([three[0], three[1], three[2]]);
        let mut places = lower.windows(3).enumerate().filter(|(_, three)| begins(three));
        places.any(|(place, _)| Self::NAMES.iter().any(|name| lower[place..].starts_with(name.as_bytes())))
    }
}

/// A word as it may be shown, if it may.
fn plain(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let marks = |c: char| "\"'()[]<>{}:;,.!?#*-|\\".contains(c);
    let core = text.trim_matches(marks);
    // What is assigned may lack, but two such marks are the end of a base64 text.
    let core = core.strip_suffix('=').unwrap_or(core);
    let is_part = |part: &str| {
        let count = part.chars().count();
        let lower = part.chars().skip(1).all(|c| !c.is_uppercase());
        let upper = count <= 11 && part.chars().all(|c| !c.is_lowercase());
        count <= 15 && part.chars().all(char::is_alphabetic) && (lower || upper)
    };
    let fits = core.len() <= 40
        && core.split(['-', '_', '\'']).all(is_part)
        && !tokens::PREFIXES.iter().any(|prefix| core.contains(prefix));
    fits.then_some(text)
}

/// What patterns of the user's own match around here, whatever else they ask for.
fn hidden(inner: &Inner, text: &[u8], start: usize, end: usize) -> Vec<(usize, usize)> {
    let (from, to) = (start.saturating_sub(WIDTH + FAR), text.len().min(end + WIDTH + FAR));
    worked(to - from);
    inner.custom.iter().flat_map(|pattern| pattern.cover(text, from, to)).collect()
}
