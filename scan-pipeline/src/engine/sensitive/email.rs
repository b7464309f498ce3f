//! E-mail addresses.
//!
//! Local parts are the dot-atoms of RFC 5322, 3.2.3, to 64 bytes, and domains those of RFC 1035, 2.3.4, to 255, of
//! which the last part is in the [public suffix list](https://publicsuffix.org) or an internationalised name. The list
//! is that of the crate `psl`.
//!
//! A dot at the edge, and what stands before two dots, is no part of an address, which begins behind them: `.anna@` and
//! `x..anna@` are `anna@`. Dots and hyphens behind a domain are the end of a sentence. Masking takes them all the same.

use super::kinds::Detector;
use super::look::{Raw, at, before};

/// What a local part is made of, dots included.
pub(super) fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-.".contains(&byte)
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.'
}

/// The address around the `@` at a place.
pub(super) fn find(text: &[u8], sign: usize) -> Option<Raw> {
    let end = domain(text, sign)?;
    let start = local(text, sign)?;
    // a@b@c is no address in any reading.
    if before(text, start, 1) == b'@' || at(text, end) == b'@' {
        return None;
    }
    let user = is_user_of_url(text, start);
    let confidence = if user || (&text[start..sign] == b"git" && at(text, end) == b':') { 0.3 } else { 0.9 };
    let example = is_example(&text[sign + 1..end]);
    Some(
        Raw::new(start, end, Detector::Email, confidence)
            .tagged(example.then_some("example"))
            .tagged(user.then_some("url")),
    )
}

/// Where the local part begins.
fn local(text: &[u8], sign: usize) -> Option<usize> {
    let length = (1..=65).take_while(|by| is_local(before(text, sign, *by)) && sign >= *by).count();
    let run = &text[sign - length..sign];
    if run.last().is_none_or(|last| *last == b'.') {
        return None;
    }
    // Behind two dots, and behind what joins an address to something else in queries, paths and assignments.
    let after_dots = (1..run.len()).rev().find(|i| run[*i] == b'.' && run[*i - 1] == b'.').map_or(0, |i| i + 1);
    let after_mark = (0..run.len()).rev().filter(|i| b"/=?&|{".contains(&run[*i])).map(|i| i + 1).find(|i| {
        let rest = &run[*i..];
        rest[rest.iter().take_while(|byte| is_quote(**byte)).count()..]
            .first()
            .is_some_and(|first| first.is_ascii_alphanumeric() || *first == b'_')
    });
    let mut from = after_dots.max(after_mark.unwrap_or(0));
    // What is left may still be too long; it is never cut in the middle.
    if length > 64 && from == 0 {
        return None;
    }
    let quotes = run[from..].iter().take_while(|byte| is_quote(**byte) || **byte == b'.').count();
    if run[from + quotes..].first().is_some_and(u8::is_ascii_alphanumeric) {
        from += quotes;
    }
    from += run[from..].iter().take_while(|byte| **byte == b'.').count();
    (from < run.len()).then_some(sign - length + from)
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'\'' | b'`')
}

/// Where the domain ends.
fn domain(text: &[u8], sign: usize) -> Option<usize> {
    let from = sign + 1;
    let run = (0..=256).take_while(|i| is_domain(at(text, from + i))).count();
    let run = &text[from..from + run];
    let dots = (1..run.len()).find(|i| run[*i] == b'.' && run[*i - 1] == b'.').map_or(run.len(), |i| i - 1);
    if dots > 256 {
        // Longer than this look, so longer than any domain.
        return None;
    }
    let mut name = &run[..dots];
    while let Some((b'.' | b'-', rest)) = name.split_last() {
        name = rest;
    }
    if name.len() > 255 {
        return None;
    }
    let mut lower = [0; 255];
    let lower = &mut lower[..name.len()];
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let mut labels = 0;
    for label in lower.split(|byte| *byte == b'.') {
        labels += 1;
        if label.is_empty() || label.len() > 63 || label.first() == Some(&b'-') || label.last() == Some(&b'-') {
            return None;
        }
    }
    let last = lower.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let known = last.starts_with(b"xn--") || psl::suffix(lower).is_some_and(|suffix| suffix.is_known());
    (labels > 1 && known).then_some(from + name.len())
}

/// Whether what precedes is the beginning of a URL: `scheme://`, or `scheme://user:` before a password.
fn is_user_of_url(text: &[u8], start: usize) -> bool {
    let slashes = |end: usize| before(text, end, 1) == b'/' && before(text, end, 2) == b'/';
    if slashes(start) {
        return true;
    }
    if before(text, start, 1) != b':' {
        return false;
    }
    let user = (2..66).take_while(|by| {
        let byte = before(text, start, *by);
        byte.is_ascii_graphic() && byte != b'/' && byte != b'@'
    });
    let user = user.count();
    user > 0 && slashes(start.wrapping_sub(1 + user))
}

/// The domains that RFC 2606 keeps for documentation.
fn is_example(domain: &[u8]) -> bool {
    [&b"example.com"[..], b"example.net", b"example.org"].iter().any(|name| {
        domain.len() >= name.len() && {
            let (rest, last) = domain.split_at(domain.len() - name.len());
            last.eq_ignore_ascii_case(name) && rest.last().is_none_or(|byte| *byte == b'.')
        }
    })
}
