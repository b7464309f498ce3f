//! Signatures as Standard Webhooks has them: HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::model::Timestamp;
use crate::{Error, ErrorKind, Result};

/// How far a timestamp may be from the receiver's clock, before or behind it, by the standard.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Fewest bytes of a secret, by the standard.
const SHORTEST: usize = 24;

/// A secret that sender and receiver share, written as `whsec_` and base64 of 24 bytes or more.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl FromStr for Secret {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // Nothing of the text goes into the message: it may be a secret all the same.
        let wrong = |why: &str| Error::new(ErrorKind::Config, format!("a webhook's secret {why}"));
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        let bytes = STANDARD.decode(encoded).map_err(|_| wrong("is written as whsec_ and base64"))?;
        if bytes.len() < SHORTEST {
            return Err(wrong("needs 24 bytes or more; make one with: echo whsec_$(openssl rand -base64 32)"));
        }
        Ok(Self(bytes))
    }
}

impl Secret {
    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        Some(mac)
    }
}

/// The three headers of a signed webhook.
#[derive(Debug, Clone, Copy)]
pub struct SignedHeaders<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`: seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`: one or more, with spaces between them.
    pub signature: &'a str,
}

/// The value of `webhook-signature`: one signature for each secret.
pub(super) fn sign(secrets: &[Secret], id: &str, timestamp: &str, body: &[u8]) -> String {
    let one = |secret: &Secret| {
        Some(format!("v1,{}", STANDARD.encode(secret.mac(id, timestamp, body)?.finalize().into_bytes())))
    };
    secrets.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

/// Checks a webhook that was received: that one of its signatures was made with one of the secrets over these bytes,
/// and that it is not from another time. Give the body as it came, before any parsing.
///
/// A sender that repeats a call sends the same id: remember the ids for as long as the tolerance, or longer, to act on
/// each once.
///
/// ```
/// use scan_pipeline::handler::webhook::{SignedHeaders, TOLERANCE, verify};
/// use scan_pipeline::model::Timestamp;
///
/// # fn main() -> scan_pipeline::Result<()> {
/// let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?];
/// let headers = SignedHeaders {
///     id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
///     timestamp: "1614265330",
///     signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
/// };
/// # let now = Timestamp(1_614_265_330_000); // in your code: Timestamp::now()
/// verify(headers, br#"{"test": 2432232314}"#, &secrets, now, TOLERANCE)?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`ErrorKind::Denied`] for a wrong signature or time, [`ErrorKind::InvalidInput`] for headers that are none.
pub fn verify(
    headers: SignedHeaders<'_>,
    body: &[u8],
    secrets: &[Secret],
    now: Timestamp,
    tolerance: Duration,
) -> Result<()> {
    let seconds: i64 = headers
        .timestamp
        .parse()
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "webhook-timestamp is no number of seconds"))?;
    let sent = Timestamp(seconds.saturating_mul(1000));
    if sent.since(now).max(now.since(sent)) > tolerance {
        return Err(Error::new(ErrorKind::Denied, "the webhook is from another time than now"));
    }
    let made_by = |signature: &[u8], secret: &Secret| {
        let mac = secret.mac(headers.id, headers.timestamp, body);
        mac.is_some_and(|mac| mac.verify_slice(signature).is_ok())
    };
    let right = headers
        .signature
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|signature| secrets.iter().any(|secret| made_by(&signature, secret)));
    match right {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Denied, "no signature of the webhook is made with one of the secrets")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const THEN: Timestamp = Timestamp(1_614_265_330_000);

    fn secret(text: &str) -> Secret {
        text.parse().expect("a secret")
    }

    fn headers(signature: &str) -> SignedHeaders<'_> {
        SignedHeaders { id: ID, timestamp: "1614265330", signature }
    }

    #[test]
    fn the_vector_of_the_standard() {
        assert_eq!(sign(&[secret(SECRET)], ID, "1614265330", BODY), SIGNATURE);
    }

    #[test]
    fn any_of_several_signatures_by_any_of_several_secrets() {
        let other = secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
        let both = sign(&[other.clone(), secret(SECRET)], ID, "1614265330", BODY);
        assert_eq!(both.split(' ').count(), 2);
        for secrets in [vec![other.clone()], vec![secret(SECRET)], vec![other.clone(), secret(SECRET)]] {
            assert!(verify(headers(&both), BODY, &secrets, THEN, TOLERANCE).is_ok());
        }
        assert!(
            verify(headers(&format!("v1a,x v1,no!base64 {SIGNATURE}")), BODY, &[secret(SECRET)], THEN, TOLERANCE)
                .is_ok()
        );
        assert!(verify(headers(SIGNATURE), BODY, &[other], THEN, TOLERANCE).is_err());
    }

    #[test]
    fn what_was_changed_is_refused() {
        let secrets = [secret(SECRET)];
        let right = headers(SIGNATURE);
        for (headers, body) in [
            (right, &b"{}"[..]),
            (SignedHeaders { id: "another", ..right }, BODY),
            (SignedHeaders { timestamp: "1614265331", ..right }, BODY),
            (SignedHeaders { signature: "", ..right }, BODY),
            (SignedHeaders { signature: "v1,", ..right }, BODY),
            (SignedHeaders { signature: &SIGNATURE[3..], ..right }, BODY),
        ] {
            let error = verify(headers, body, &secrets, THEN, TOLERANCE).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Denied, "{headers:?}");
        }
        assert!(verify(right, BODY, &[], THEN, TOLERANCE).is_err());
    }

    #[test]
    fn other_times_are_refused() {
        for (offset, right) in [(0, true), (300_000, true), (-300_000, true), (300_001, false), (-300_001, false)] {
            let now = Timestamp(THEN.0 + offset);
            assert_eq!(verify(headers(SIGNATURE), BODY, &[secret(SECRET)], now, TOLERANCE).is_ok(), right, "{offset}");
        }
        for timestamp in ["", "soon", "99999999999999999999"] {
            let headers = SignedHeaders { timestamp, ..headers(SIGNATURE) };
            assert!(verify(headers, BODY, &[secret(SECRET)], THEN, TOLERANCE).is_err());
        }
    }

    #[test]
    fn secrets_are_checked_and_hidden() {
        for text in ["", "whsec_", "whsec_short", "whsec_AAAA", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!"] {
            let error = text.parse::<Secret>().expect_err("refused");
            assert!(text.is_empty() || !error.to_string().contains(text) || text == "whsec_", "{error}");
        }
        assert_eq!(format!("{:?}", secret(SECRET)), "Secret(hidden)");
    }
}
