//! Secrets whose form says whose they are, and passwords that are assigned to a name.
//!
//! | Token | Form by |
//! |---|---|
//! | GitHub | docs.github.com, "About authentication to GitHub", token formats; github.blog, 2021-04-05 |
//! | Slack | docs.slack.dev, "Tokens" |
//! | Stripe | docs.stripe.com/keys |
//! | Google | cloud.google.com/docs/authentication/api-keys; the length is that of keys as they are issued |
//! | npm | github.blog, 2021-09-23, "Announcing npm's new access token format" |
//! | PyPI | pypi.org/help/#apitoken; the rest is a macaroon that begins with `pypi.org` |
//! | private keys | RFC 7468, 10 and 11, and the older forms of OpenSSL, OpenSSH and PGP |
//! | JWT | RFC 7519, 3.1, in the compact form of RFC 7515, 7.1 |

use super::kernel::{Instructions, List, Triples};
use super::kinds::{Detector, Set};
use super::look::{Raw, at, before, entropy, is_word};
use super::password;

/// What begins a token, for masking: a word with one of these in it is never shown.
pub(super) const PREFIXES: [&str; 20] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "xox",
    "xapp-",
    "sk_live_",
    "rk_live_",
    "sk_test_",
    "rk_test_",
    "AIza",
    "npm_",
    "pypi-",
    "eyJ",
    "AKIA",
    "ASIA",
    "ABIA",
    "ACCA",
];

/// What the search looks for: beginnings of tokens, and parts of the names that passwords have. None of them overlaps
/// another one, or the result would depend on where a search begins.
pub(super) const NEEDLES: [(&str, Detector); 39] = [
    ("ghp_", Detector::GithubToken),
    ("gho_", Detector::GithubToken),
    ("ghu_", Detector::GithubToken),
    ("ghs_", Detector::GithubToken),
    ("ghr_", Detector::GithubToken),
    ("github_pat_", Detector::GithubToken),
    ("xoxb-", Detector::SlackToken),
    ("xoxp-", Detector::SlackToken),
    ("xoxa-", Detector::SlackToken),
    ("xoxr-", Detector::SlackToken),
    ("xoxs-", Detector::SlackToken),
    ("xoxe-", Detector::SlackToken),
    ("xapp-", Detector::SlackToken),
    ("sk_live_", Detector::StripeKey),
    ("rk_live_", Detector::StripeKey),
    ("sk_test_", Detector::StripeKey),
    ("rk_test_", Detector::StripeKey),
    ("AIza", Detector::GoogleApiKey),
    ("npm_", Detector::NpmToken),
    ("pypi-AgEI", Detector::PypiToken),
    ("BEGIN ", Detector::PrivateKey),
    ("eyJ", Detector::Jwt),
    ("ssw", Detector::Password),
    ("SSW", Detector::Password),
    ("ssph", Detector::Password),
    ("SSPH", Detector::Password),
    ("pwd", Detector::Password),
    ("PWD", Detector::Password),
    ("Pwd", Detector::Password),
    ("sec", Detector::Password),
    ("Sec", Detector::Password),
    ("SEC", Detector::Password),
    ("tok", Detector::Password),
    ("Tok", Detector::Password),
    ("TOK", Detector::Password),
    ("pik", Detector::Password),
    ("piK", Detector::Password),
    ("pi_k", Detector::Password),
    ("PI_K", Detector::Password),
];

/// The search for the tokens that are wanted.
pub(super) struct Pack {
    /// How the needles begin.
    beginnings: Triples,
    needles: Vec<(&'static str, Detector)>,
}

impl Pack {
    /// The search for these detectors; `None` where none of them is one of tokens.
    pub(super) fn new(set: Set) -> Option<Self> {
        let needles: Vec<_> = NEEDLES.iter().filter(|(_, detector)| set.has(*detector)).copied().collect();
        let beginnings =
            needles.iter().fold(Triples::NONE, |all, (needle, _)| all.with(group(needle), needle.as_bytes(), false));
        (!needles.is_empty()).then_some(Self { beginnings, needles })
    }

    /// Adds the tokens whose needles stand between two places.
    pub(super) fn find(
        &self,
        by: Instructions,
        text: &[u8],
        from: usize,
        to: usize,
        places: &mut List,
        out: &mut Vec<Raw>,
    ) {
        self.beginnings.find(by, text, from, to, places);
        for place in places.places().iter().map(|place| from + *place as usize) {
            let needle = self.needles.iter().find(|(needle, _)| text[place..].starts_with(needle.as_bytes()));
            out.extend(needle.and_then(|(_, detector)| token(text, place, *detector)));
        }
    }
}

/// The group in which the beginning of a needle is looked for: those together of which a place seldom has one byte from
/// one and the others from another.
fn group(needle: &str) -> usize {
    match &needle.as_bytes()[..2] {
        b"gh" | b"gi" => 0,
        b"xo" | b"xa" => 1,
        b"sk" | b"rk" => 2,
        b"AI" | b"BE" => 3,
        b"np" | b"py" | b"ey" => 4,
        b"ss" | b"SS" | b"se" | b"Se" | b"SE" => 5,
        b"to" | b"To" | b"TO" => 6,
        _ => 7,
    }
}

/// The token of a kind whose needle stands at a place.
fn token(text: &[u8], place: usize, detector: Detector) -> Option<Raw> {
    let found = |end, confidence| Some(Raw::new(place, end, detector, confidence));
    let starts = || !is_word(before(text, place, 1)) && before(text, place, 1) != b'-';
    match detector {
        Detector::Password => password::find(text, place),
        Detector::PrivateKey => private_key(text, place),
        _ if !starts() => None,
        Detector::GithubToken if text[place..].starts_with(b"github_pat_") => {
            let end = exactly(text, place + 11, 22, is_letter)?;
            (at(text, end) == b'_').then_some(())?;
            found(exactly(text, end + 1, 59, is_letter)?, 0.95)
        }
        Detector::GithubToken => {
            let size = run(text, place + 4, 256, is_letter);
            let end = place + 4 + size;
            ((36..=255).contains(&size) && entropy(&text[place + 4..end]) >= 3.0).then_some(())?;
            found(end, 0.95)
        }
        Detector::SlackToken => {
            let size = run(text, place + 5, 256, |byte| is_letter(byte) || byte == b'-');
            let body = &text[place + 5..place + 5 + size];
            let fits = (20..=250).contains(&size) && body.iter().any(u8::is_ascii_digit) && entropy(body) >= 3.0;
            fits.then_some(())?;
            found(place + 5 + size, 0.9)
        }
        Detector::StripeKey => {
            let size = run(text, place + 8, 256, is_letter);
            let end = place + 8 + size;
            ((16..=247).contains(&size) && entropy(&text[place + 8..end]) >= 3.0).then_some(())?;
            let test = text[place + 3] == b't';
            found(end, if test { 0.6 } else { 0.95 }).map(|raw| raw.tagged(test.then_some("test")))
        }
        Detector::GoogleApiKey => {
            let end = exactly(text, place + 4, 35, is_url_safe)?;
            (entropy(&text[place + 4..end]) >= 3.0).then_some(())?;
            found(end, 0.9)
        }
        Detector::NpmToken => {
            let end = exactly(text, place + 4, 36, is_letter)?;
            (entropy(&text[place + 4..end]) >= 3.0).then_some(())?;
            found(end, 0.95)
        }
        Detector::PypiToken => {
            let fits = text[place..].starts_with(b"pypi-AgEIcHlwaS5vcmc");
            let size = run(text, place + 20, 1024, is_url_safe);
            (fits && (50..1024).contains(&size)).then_some(())?;
            found(place + 20 + size, 0.95)
        }
        Detector::Jwt => jwt(text, place),
        _ => None,
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_url_safe(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

/// How many bytes of a kind begin at a place, counted up to `most`.
fn run(text: &[u8], place: usize, most: usize, is: impl Fn(u8) -> bool) -> usize {
    (0..most).take_while(|i| is(at(text, place + i))).count()
}

/// The end of exactly so many bytes of a kind.
fn exactly(text: &[u8], place: usize, size: usize, is: impl Fn(u8) -> bool) -> Option<usize> {
    (run(text, place, size + 1, is) == size).then_some(place + size)
}

/// `-----BEGIN ... PRIVATE KEY-----`, and `PRIVATE KEY BLOCK` of PGP. The match is the line; the key follows.
fn private_key(text: &[u8], place: usize) -> Option<Raw> {
    let start = place.checked_sub(5).filter(|start| &text[*start..place] == b"-----")?;
    // "BEGIN ENCRYPTED PRIVATE KEY" and names of kinds: RSA, DSA, EC, OPENSSH, PGP.
    let label = run(text, place + 6, 48, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
    let end = place + 6 + label;
    let label = &text[place + 6..end];
    let fits = label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK");
    (fits && text[end..].starts_with(b"-----")).then(|| {
        let encrypted = label.starts_with(b"ENCRYPTED");
        Raw::new(start, end + 5, Detector::PrivateKey, 0.95).tagged(encrypted.then_some("encrypted"))
    })
}

/// Three parts of base64, of which the first two are objects of JSON.
fn jwt(text: &[u8], start: usize) -> Option<Raw> {
    let part = |from| Some(run(text, from, 2048, is_url_safe)).filter(|size| (10..2048).contains(size));
    let header = part(start)?;
    let claims = start + header + 1;
    let joined = at(text, claims - 1) == b'.' && text[claims..].starts_with(b"eyJ");
    let signature = claims + part(claims).filter(|_| joined)? + 1;
    let size = part(signature).filter(|_| at(text, signature - 1) == b'.')?;
    Some(Raw::new(start, signature + size, Detector::Jwt, 0.9))
}
