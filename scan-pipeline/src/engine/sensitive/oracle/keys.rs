//! Keys of AWS.

use super::super::kinds::Detector;
use super::super::look::entropy;
use super::around::{byte, column, word};
use super::{Match, at, found};

pub(super) fn key_id(text: &[u8], start: usize) -> Option<Match> {
    let end = at("(AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", text, start)?;
    let body = &text[start + 4..end];
    if word(byte(text, start as isize - 1)) || word(byte(text, end as isize)) || body.ends_with(b"EXAMPLE") {
        return None;
    }
    if entropy(body) < 3.0 {
        return None;
    }
    let base32 = at("[A-Z2-7]{16}", body, 0).is_some();
    // All sixteen characters as 80 bits, of which the account is 40, from the second on.
    let bits = body.iter().fold(0_u128, |bits, byte| {
        let value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(char::from(*byte)).unwrap_or(0);
        bits << 5 | value as u128
    });
    let account = (bits >> 39) & ((1 << 40) - 1);
    let tag = format!("account:{account:012}");
    let told = base32 && account < 1_000_000_000_000 && bits >> 79 == 1;
    found(start, end, Detector::AwsAccessKey, if base32 { 0.95 } else { 0.3 }, &[if told { &tag } else { "" }])
}

pub(super) fn secret(text: &[u8], start: usize) -> Option<Match> {
    let end = at("[A-Za-z0-9/+]{40}", text, start)?;
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'+';
    if part(byte(text, start as isize - 1)) || part(byte(text, end as isize)) || byte(text, end as isize) == b'=' {
        return None;
    }
    let key = &text[start..end];
    let example = String::from_utf8_lossy(key).contains("EXAMPLE");
    if at("[0-9A-Fa-f]{40}", key, 0).is_some() || example || entropy(key) < 4.25 {
        return None;
    }
    let named = (start.saturating_sub(56)..start).any(|i| i + 6 <= start && at("(?i)secret", text, i).is_some());
    let named = named || (end..=text.len().min(end + 50)).any(|i| at("(?i)secret", text, i).is_some());
    let beside = |id: usize| {
        key_id(text, id).is_some() && (start <= id && start + 140 >= id || start >= id + 20 && start <= id + 120)
    };
    let near = (start.saturating_sub(120)..text.len().min(start + 141)).any(beside);
    let titled = || column("secret aws_key aws-key awskey", text, start);
    (named || near || titled()).then(|| found(start, end, Detector::AwsSecretKey, 0.85, &[]))?
}
