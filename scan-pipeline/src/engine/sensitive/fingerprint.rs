//! What identifies a match without telling it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::kinds::Detector;
use super::look::Source;

/// A key for fingerprints as it stands in settings: 64 hexadecimal digits, as `openssl rand -hex 32` gives.
///
/// ```
/// use scan_pipeline::engine::sensitive::parse_key;
/// assert_eq!(parse_key(&"0f".repeat(32)), Some([15; 32]));
/// assert_eq!(parse_key("secret"), None);
/// ```
pub fn parse_key(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(key)
}

/// A key for fingerprints, which is never shown.
#[derive(Clone)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// What tells the key from another without telling anything of it: findings that were kept belong to one key.
    pub(super) fn id(&self) -> String {
        let mut id = self.fingerprint(Source::Own(0), "key", b"");
        id.truncate(16);
        id
    }

    /// The HMAC-SHA256 of a match in its plainest form, so that the same number in two notations is the same.
    pub(super) fn fingerprint(&self, source: Source, name: &str, bytes: &[u8]) -> String {
        // A key of any length will do for HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(name.as_bytes());
        mac.update(&[0]);
        match source {
            Source::Ours(Detector::CreditCard | Detector::Ssn) => digits(bytes, usize::MAX, &mut mac),
            // Without the country code.
            Source::Ours(Detector::Phone) => digits(bytes, 10, &mut mac),
            Source::Ours(Detector::Email) => mac.update(&bytes.to_ascii_lowercase()),
            _ => mac.update(bytes),
        }
        mac.finalize().into_bytes().iter().fold(String::with_capacity(64), |mut text, byte| {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
            text
        })
    }
}

/// The last digits of a match.
fn digits(bytes: &[u8], most: usize, mac: &mut Hmac<Sha256>) {
    let digits: Vec<u8> = bytes.iter().copied().filter(u8::is_ascii_digit).collect();
    mac.update(&digits[digits.len().saturating_sub(most)..]);
}
