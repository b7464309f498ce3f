//! What a PDF is written in (ISO 32000-1, 7.2 and 7.3): numbers, names, strings, dictionaries; and what libclamav makes
//! of a dictionary.

use std::ops::Range;

use super::*;

/// The number that ends before `end`, white space in between, and where it starts.
pub(super) fn number_before(bytes: &[u8], end: usize) -> Option<(u64, usize)> {
    let before = bytes.get(..end)?;
    let last = before.iter().rposition(|byte| !is_space(*byte))?;
    let before = before.get(..=last)?;
    let start = before.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
    Some((number(before.get(start..)?)?, start))
}

pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, 0 | 9 | 10 | 12 | 13 | 32)
}

pub(super) fn is_regular(byte: u8) -> bool {
    !is_space(byte) && !matches!(byte, b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%')
}

/// Past white space and comments.
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let rest = bytes.get(at..).unwrap_or_default();
            at += memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        } else if is_space(*byte) {
            at += 1;
        } else {
            break;
        }
    }
    at
}

pub(super) fn regular_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !is_regular(*byte)).unwrap_or(rest.len())
}

/// The value that starts at or behind `at`: `None` when it does not end.
pub(super) fn value(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let start = skip_space(bytes, at);
    let mut at = start;
    let mut depth = 0_usize;
    loop {
        at = skip_space(bytes, at);
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (b'<', Some(b'<')) => (depth, at) = (depth + 1, at + 2),
            (b'[', _) => (depth, at) = (depth + 1, at + 1),
            (b'>', Some(b'>')) => (depth, at) = (depth.checked_sub(1)?, at + 2),
            (b']', _) => (depth, at) = (depth.checked_sub(1)?, at + 1),
            (b'<', _) => at += memchr::memchr(b'>', bytes.get(at..)?)? + 1,
            (b'(', _) => at = string_end(bytes, at)?,
            (b'/', _) => at = regular_end(bytes, at + 1),
            (byte, _) if is_regular(byte) => at = regular_end(bytes, at),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(start..at);
        }
    }
}

pub(super) fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// As [`value`], with `4 0 R` for one value; and how far that was looked at.
pub(super) fn operand(bytes: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let first = value(bytes, at)?;
    if bytes.get(first.clone()).and_then(number).is_none() {
        return Some((first.clone(), first.end));
    }
    let start = skip_space(bytes, first.end);
    let end = regular_end(bytes, start);
    if bytes.get(start..end).and_then(number).is_none() {
        return Some((first, end));
    }
    let start = skip_space(bytes, end);
    let is_reference = bytes.get(start) == Some(&b'R') && bytes.get(start + 1).is_none_or(|byte| !is_regular(*byte));
    Some((if is_reference { first.start..start + 1 } else { first }, start + 1))
}

/// A name without its slash, escapes undone.
pub(super) fn name(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes.strip_prefix(b"/")?;
    let mut name = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        let escaped = if let [b'#', high, low, ..] = rest { hex(*high).zip(hex(*low)) } else { None };
        if let Some((high, low)) = escaped {
            name.push(high << 4 | low);
            rest = rest.get(3..).unwrap_or_default();
        } else {
            name.push(*first);
            rest = tail;
        }
    }
    Some(name)
}

pub(super) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// The entries of a dictionary that matter here, in their order.
#[derive(Debug, Default)]
pub(super) struct Dictionary<'a> {
    pub(super) entries: Vec<(Vec<u8>, &'a [u8])>,
    pub(super) overfull: bool,
}

impl<'a> Dictionary<'a> {
    /// `bytes` is all of the dictionary, with its brackets.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        const KEYS: &[&[u8]] = &[
            b"Filter",
            b"F",
            b"DecodeParms",
            b"DP",
            b"Type",
            b"Subtype",
            b"Length",
            b"Width",
            b"W",
            b"Height",
            b"H",
            b"Encrypt",
            b"Name",
            b"Predictor",
            b"Colors",
            b"BitsPerComponent",
            b"Columns",
            b"EarlyChange",
        ];
        let mut at = bytes.strip_prefix(b"<<").map(|_| 2)?;
        let mut dictionary = Self::default();
        loop {
            at = skip_space(bytes, at);
            if bytes.get(at..)?.starts_with(b">>") {
                return Some(dictionary);
            }
            let key = value(bytes, at)?;
            at = key.end;
            let Some(key) = bytes.get(key).and_then(name) else { continue };
            if bytes.get(skip_space(bytes, at)..).is_some_and(|rest| rest.starts_with(b">>")) {
                return Some(dictionary);
            }
            let (operand, _) = operand(bytes, at)?;
            at = operand.end;
            if KEYS.contains(&key.as_slice()) {
                dictionary.overfull |= dictionary.entries.len() >= MOST_ALIKE;
                if !dictionary.overfull {
                    dictionary.entries.push((key, bytes.get(operand)?));
                }
            }
        }
    }

    pub(super) fn all(&self, key: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.entries.iter().filter(move |(name, _)| name == key).map(|(_, value)| *value)
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&'a [u8]> {
        self.all(key).next()
    }

    pub(super) fn has_name(&self, key: &[u8], expected: &[u8]) -> bool {
        self.all(key).any(|value| name(value).as_deref() == Some(expected))
    }

    /// The one value of a key or of its short form; where there are two that differ, readers disagree.
    pub(super) fn only(&self, key: &[u8], short: &[u8]) -> Result<Option<&'a [u8]>, Trouble> {
        if self.overfull {
            return Err(Trouble::Ambiguous);
        }
        let mut values = self.all(key);
        let Some(first) = values.next() else { return Ok(self.get(short)) };
        if values.any(|other| other != first) { Err(Trouble::Ambiguous) } else { Ok(Some(first)) }
    }
}

/// What libclamav makes of a dictionary.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) filters: Vec<Filter>,
    pub(super) image: bool,
}

/// Follows libclamav through the bytes behind `obj`: it counts brackets, strings or not, and goes from name to name.
pub(super) fn as_seen(bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let Some(start) = memchr::memmem::find(bytes, b"<<") else { return seen };
    let Some(end) = naive_end(bytes, start) else { return seen };
    let mut rest = bytes.get(start + 2..end).unwrap_or_default();
    let mut in_filter = false;
    while let Some(slash) = memchr::memchr(b'/', rest) {
        rest = rest.get(slash + 1..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>' | b'[' | b']' | b'<' | b'(');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let given = name([b"/", rest.get(..length.min(256)).unwrap_or_default()].concat().as_slice());
        match given.as_deref().unwrap_or_default() {
            b"Filter" => in_filter = true,
            b"Sig" | b"V" | b"R" | b"JavaScript" | b"OpenAction" | b"Launch" | b"Length" => in_filter = false,
            b"Image" => seen.image = true,
            other if in_filter => match Filter::of(other) {
                Filter::Unknown => {}
                filter => {
                    if seen.filters.len() < MOST_ALIKE {
                        seen.filters.push(filter);
                    }
                    in_filter = filter != Filter::Crypt;
                }
            },
            _ => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    seen
}

pub(super) fn naive_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        at += memchr::memchr2(b'<', b'>', bytes.get(at..)?)?;
        match bytes.get(at..at + 2)? {
            b"<<" => depth += 1,
            b">>" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
        at += 2;
    }
}
