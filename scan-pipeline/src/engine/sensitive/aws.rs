//! Keys of AWS.
//!
//! What key ids begin with is in AWS's own documentation ("Understanding unique ID prefixes" in the IAM user guide):
//! AKIA and ASIA are access keys, ABIA bearer tokens, ACCA context-specific credentials, while AIDA, AROA, AGPA and
//! others are identifiers and no secret. The rest is base32, so 0, 1, 8 and 9 do not occur. That the account id is
//! within it was first shown by Aidan Steele and Tal Be'ery (2020, 2023).

use super::kinds::Detector;
use super::look::{Raw, at, before, entropy, is_word};

/// How far from a key id its secret may stand.
const PAIR: usize = 100;
/// How far behind the word `secret` a secret may begin.
const LABEL: usize = super::keyword::NEAR;

/// Whether a key id has its form at a place.
fn is_key_id(text: &[u8], start: usize) -> bool {
    let Some(id) = text.get(start..start + 20) else { return false };
    matches!(&id[..4], b"AKIA" | b"ASIA" | b"ABIA" | b"ACCA")
        && id[4..].iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        && !is_word(before(text, start, 1))
        && !is_word(at(text, start + 20))
        && !id.ends_with(b"EXAMPLE")
        && entropy(&id[4..]) >= 3.0
}

/// The key id whose first letter stands at `start`.
pub(super) fn find_key_id(text: &[u8], start: usize) -> Option<Raw> {
    if !is_key_id(text, start) {
        return None;
    }
    let body = &text[start + 4..start + 20];
    let base32 = !body.iter().any(|byte| matches!(byte, b'0' | b'1' | b'8' | b'9'));
    let account = if base32 { account(body) } else { None };
    Some(Raw::new(start, start + 20, Detector::AwsAccessKey, if base32 { 0.95 } else { 0.3 }).of_account(account))
}

/// The account that a key id belongs to: 40 bits of its base32, from the second on. Older ids hold none, and
/// have no first bit.
fn account(body: &[u8]) -> Option<u64> {
    let value = |byte: u8| u64::from(if byte.is_ascii_uppercase() { byte - b'A' } else { byte - b'2' + 26 });
    // Ten characters are 50 bits; the first 48 of them are six bytes.
    let bits = body[..10].iter().fold(0, |sum, byte| sum << 5 | value(*byte)) >> 2;
    let account = (bits & 0x7fff_ffff_ff80) >> 7;
    (value(body[0]) >= 16 && account < 1_000_000_000_000).then_some(account)
}

fn is_secret_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'+'
}

/// The secret that begins at `start`, by itself.
pub(super) fn secret(text: &[u8], start: usize) -> Option<Raw> {
    if is_secret_byte(before(text, start, 1)) {
        return None;
    }
    let key = text.get(start..start + 40)?;
    let fits = key.iter().all(|byte| is_secret_byte(*byte))
        && !is_secret_byte(at(text, start + 40))
        && at(text, start + 40) != b'='
        && !key.iter().all(u8::is_ascii_hexdigit)
        && !key.windows(7).any(|part| part == b"EXAMPLE")
        && entropy(key) >= 4.25;
    fits.then(|| Raw::new(start, start + 40, Detector::AwsSecretKey, 0.85))
}

/// The secrets that begin soon behind the word `secret` at a place, in upper or lower case, or end soon before it.
pub(super) fn find_labelled(text: &[u8], place: usize, out: &mut Vec<Raw>) {
    let Some(word) = text.get(place..place + 6) else { return };
    if word.eq_ignore_ascii_case(b"secret") {
        if place >= 40 {
            secrets(text, place.saturating_sub(40 + LABEL), place - 40, out);
        }
        secrets(text, place + 6, place + 6 + LABEL, out);
    }
}

/// The secrets near a key id at a place.
pub(super) fn find_beside(text: &[u8], start: usize, out: &mut Vec<Raw>) {
    if is_key_id(text, start) {
        secrets(text, start.saturating_sub(PAIR + 40), start, out);
        secrets(text, start + 20, start + 20 + PAIR, out);
    }
}

fn secrets(text: &[u8], from: usize, to: usize, out: &mut Vec<Raw>) {
    let mut place = from;
    while place <= to.min(text.len()) {
        if let Some(found) = secret(text, place) {
            out.push(found);
            place += 40;
        }
        place += 1;
    }
}
