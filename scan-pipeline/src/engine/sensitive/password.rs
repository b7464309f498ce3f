//! `password = "..."` and its kin.
//!
//! The rules follow what detect-secrets (`KeywordDetector`) and gitleaks (`generic-api-key`) have found to matter: the
//! name is one of a few, the value is assigned to it, and it is no placeholder, no reference and no piece of code.

use super::kinds::Detector;
use super::look::{Raw, at, before, entropy, is_word};

/// Ends of the names that hold secrets, without what joins their parts.
const NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "secretkey",
    "secretaccesskey",
    "authtoken",
    "apitoken",
    "passwort",
];

/// What stands where a secret should.
const PLACEHOLDERS: [&str; 22] = [
    "password",
    "passwd",
    "changeme",
    "change_me",
    "example",
    "sample",
    "placeholder",
    "your",
    "dummy",
    "redacted",
    "xxxx",
    "****",
    "....",
    "null",
    "none",
    "undefined",
    "true",
    "false",
    "todo",
    "foobar",
    "insert",
    "secret",
];

/// Longest name, and longest value.
const NAME: usize = 48;
const VALUE: usize = 128;

/// The value that is assigned to the name around a place.
pub(super) fn find(text: &[u8], place: usize) -> Option<Raw> {
    let is_name = |byte: u8| is_word(byte) || byte == b'-' || byte == b'.';
    let left = (1..=NAME).take_while(|by| is_name(before(text, place, *by))).count();
    let right = (0..NAME).take_while(|i| is_name(at(text, place + i))).count();
    let mut end = place + right;
    let name: Vec<u8> = text[place - left..end]
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(u8::to_ascii_lowercase)
        .collect();
    if !NAMES.iter().any(|one| name.ends_with(one.as_bytes())) {
        return None;
    }
    // "password": "...", password => '...', PASSWORD=...
    if matches!(at(text, end), b'"' | b'\'') {
        end += 1;
    }
    end = blanks(text, end);
    end += match (at(text, end), at(text, end + 1)) {
        (b':', b'=') | (b'=', b'>') => 2,
        (b'=', b'=') => return None,
        (b':' | b'=', _) => 1,
        _ => return None,
    };
    end = blanks(text, end);
    let quote = at(text, end);
    let quoted = matches!(quote, b'"' | b'\'' | b'`');
    let start = end + usize::from(quoted);
    let is_value = |byte: u8| {
        if quoted {
            byte != quote && byte.is_ascii_graphic()
        } else {
            byte.is_ascii_graphic() && !b"\"'`,;&<>".contains(&byte)
        }
    };
    let size = (0..=VALUE).take_while(|i| is_value(at(text, start + i))).count();
    if !(6..=VALUE).contains(&size) || quoted && at(text, start + size) != quote {
        return None;
    }
    let value = &text[start..start + size];
    let lower = value.to_ascii_lowercase();
    let has = |part: &str| lower.windows(part.len()).any(|window| window == part.as_bytes());
    let digit = value.iter().any(u8::is_ascii_digit);
    let letter = value.iter().any(u8::is_ascii_alphabetic);
    let reference = matches!(value[0], b'$' | b'%' | b'<' | b'{' | b'[' | b'(' | b'/')
        || has("://")
        || !quoted && value.iter().any(|byte| matches!(byte, b'(' | b')' | b'[' | b']' | b'{' | b'}'))
        // A path through objects, such as `self.config.password1`, is code.
        || !quoted && value.iter().all(|byte| is_word(*byte) || *byte == b'.') && value.contains(&b'.');
    let fits = !reference
        && !PLACEHOLDERS.iter().any(|one| has(one))
        && entropy(value) >= 2.25
        // Without quotes, a word without digits is a name of something as likely as not.
        && (quoted || digit && letter);
    fits.then(|| Raw::new(start, start + size, Detector::Password, if quoted && digit { 0.8 } else { 0.6 }))
}

/// Behind the blanks at a place, four at most.
fn blanks(text: &[u8], place: usize) -> usize {
    place + (0..4).take_while(|i| matches!(at(text, place + i), b' ' | b'\t')).count()
}
