//! Tokens that say by their form whose they are.

use super::super::kinds::Detector;
use super::super::look::entropy;
use super::around::{byte, word};
use super::{Match, at, found};

/// What begins a token, what its body is made of, and how long that is.
const FORMS: [(Detector, &str, &str, usize, usize); 6] = [
    (Detector::GithubToken, "gh[pousr]_", "[A-Za-z0-9]", 36, 255),
    (Detector::SlackToken, "xox[bpares]-|xapp-", "[A-Za-z0-9-]", 20, 250),
    (Detector::StripeKey, "[sr]k_(live|test)_", "[A-Za-z0-9]", 16, 247),
    (Detector::GoogleApiKey, "AIza", "[A-Za-z0-9_-]", 35, 35),
    (Detector::NpmToken, "npm_", "[A-Za-z0-9]", 36, 36),
    (Detector::PypiToken, "pypi-AgEIcHlwaS5vcmc", "[A-Za-z0-9_-]", 50, 1023),
];

/// The token that begins at a place.
pub(super) fn token(text: &[u8], start: usize) -> Option<Match> {
    private_key(text, start).or_else(|| {
        let left = byte(text, start as isize - 1);
        if word(left) || left == b'-' {
            return None;
        }
        fine_grained(text, start).or_else(|| jwt(text, start)).or_else(|| plain(text, start))
    })
}

fn plain(text: &[u8], start: usize) -> Option<Match> {
    FORMS.into_iter().find_map(|(detector, prefix, class, least, most)| {
        let body = at(prefix, text, start)?;
        let end = at(&format!("{class}{{{least},{most}}}"), text, body)?;
        let longer = at(class, text, end).is_some();
        let bytes = &text[body..end];
        // The tail of a PyPI token is a macaroon, which is trusted as it is.
        let random = detector == Detector::PypiToken || entropy(bytes) >= 3.0;
        let number = detector != Detector::SlackToken || bytes.iter().any(u8::is_ascii_digit);
        if longer || !random || !number {
            return None;
        }
        let test = at("[sr]k_test_", text, start).is_some();
        let confidence = match detector {
            _ if test => 0.6,
            Detector::SlackToken | Detector::GoogleApiKey => 0.9,
            _ => 0.95,
        };
        found(start, end, detector, confidence, &[if test { "test" } else { "" }])
    })
}

/// The newer tokens of GitHub.
fn fine_grained(text: &[u8], start: usize) -> Option<Match> {
    let end = at("github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", text, start)?;
    let longer = byte(text, end as isize).is_ascii_alphanumeric();
    if longer { None } else { found(start, end, Detector::GithubToken, 0.95, &[]) }
}

/// Three parts, each of a length that is looked at.
fn jwt(text: &[u8], start: usize) -> Option<Match> {
    let class = "[A-Za-z0-9_-]";
    let part = |place| at(&format!("{class}{{10,2047}}"), text, place);
    at("eyJ", text, start)?;
    let claims = at(r"\.", text, part(start)?)?;
    at("eyJ", text, claims)?;
    let signature = at(r"\.", text, part(claims)?)?;
    let end = part(signature)?;
    if at(class, text, end).is_some() { None } else { found(start, end, Detector::Jwt, 0.9, &[]) }
}

/// The line that begins a private key.
fn private_key(text: &[u8], start: usize) -> Option<Match> {
    let label = at("-----BEGIN ", text, start)?;
    // Blanks, capitals and digits, 48 of them at most.
    let end = (label..=text.len().min(label + 48)).find(|end| at("-----", text, *end).is_some())?;
    let is_label = at(r"[A-Z0-9 ]*PRIVATE KEY( BLOCK)?\z", &text[..end], label).is_some();
    let encrypted = at("ENCRYPTED", text, label).is_some();
    let tag = if encrypted { "encrypted" } else { "" };
    if is_label { found(start, end + 5, Detector::PrivateKey, 0.95, &[tag]) } else { None }
}
