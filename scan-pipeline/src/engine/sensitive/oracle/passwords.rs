//! Passwords and secrets that are assigned to a name.

use super::super::kinds::Detector;
use super::super::look::entropy;
use super::{Match, at, ends, found};

/// Parts of names: where none of them stands, no name is read.
const PARTS: &str = "ssw|SSW|ssph|SSPH|pwd|PWD|Pwd|sec|Sec|SEC|tok|Tok|TOK|pik|piK|pi_k|PI_K";

/// How names end, once only their letters and digits are left, in lower case.
const NAMES: &str = "password|passwd|passphrase|pwd|secret|token|apikey|passwort|secretkey|secretaccesskey";

/// What is no password wherever it stands in a value.
const PLACEHOLDERS: &str = concat!(
    r"password|passwd|changeme|change_me|example|sample|placeholder|your|dummy|redacted|xxxx|\*{4}|\.{4}|",
    "null|none|undefined|true|false|todo|foobar|insert|secret|://"
);

/// The value of the name that ends at a place.
pub(super) fn password(text: &[u8], name_end: usize) -> Option<Match> {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name_end == 0 || !in_name(text[name_end - 1]) || in_name(*text.get(name_end).unwrap_or(&b'\n')) {
        return None;
    }
    let begin = (0..name_end).rev().find(|place| !in_name(text[*place])).map_or(0, |place| place + 1);
    let is_named = (begin.max(name_end.saturating_sub(48))..name_end).any(|place| {
        let name: Vec<u8> = text[begin.max(place.saturating_sub(48))..name_end]
            .iter()
            .filter(|byte| byte.is_ascii_alphanumeric())
            .map(u8::to_ascii_lowercase)
            .collect();
        at(PARTS, text, place).is_some_and(|end| end <= name_end) && ends(NAMES, &name, name.len())
    });
    if !is_named {
        return None;
    }
    let assigned = at(r#"["']?[ \t]{0,4}(:=|=>|:|=)"#, text, name_end)?;
    if text[assigned - 1] == b'=' && text[assigned - 2] != b':' && at("=", text, assigned).is_some() {
        return None;
    }
    let start = at(r"[ \t]{0,4}", text, assigned)?;
    let quoted = at("[\"'`]", text, start).is_some();
    let start = start + usize::from(quoted);
    // The rest of what could be a value, to the end.
    let end = if quoted {
        let quote = text[start - 1];
        (start..text.len()).find(|place| text[*place] == quote || !text[*place].is_ascii_graphic())?
    } else {
        at("[!-~&&[^\"'`,;&<>]]+", text, start)?
    };
    let value = &text[start..end];
    if !(6..=128).contains(&value.len()) || quoted && text[end] != text[start - 1] {
        return None;
    }
    let lower = value.to_ascii_lowercase();
    let has = |pattern: &str| (0..lower.len()).any(|place| at(pattern, &lower, place).is_some());
    let code = has(r"[()\[\]{}]") || has(r"\.") && at(r"[a-z0-9_.]+\z", &lower, 0).is_some();
    let refers = at(r"[$%<{\[(/]", &lower, 0).is_some() || !quoted && code;
    let (digit, letter) = (has("[0-9]"), has("[a-z]"));
    let weak = !quoted && (!digit || !letter);
    if refers || weak || has(PLACEHOLDERS) || entropy(value) < 2.25 {
        return None;
    }
    found(start, end, Detector::Password, if quoted && digit { 0.8 } else { 0.6 }, &[])
}
