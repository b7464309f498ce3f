//! Messages as NATS has them: a subject, headers, and any bytes.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::message::StreamMessage;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::model::{ContentDigest, Timestamp};
use crate::queue::{DeadLetter, Lane, NewMessage};
use crate::{Error, ErrorKind, Result};

/// Headers that we put beside a message. Others may stand there as well.
const ID: &str = "Scan-Pipeline-Id";
const TENANT: &str = "Scan-Pipeline-Tenant";
const REASON: &str = "Scan-Pipeline-Reason";
const ATTEMPTS: &str = "Scan-Pipeline-Attempts";
/// Of the server: these are about one publishing, not about the message.
const SERVERS: &str = "nats-";
const MESSAGE_ID: &str = "Nats-Msg-Id";
const SCHEDULE: &str = "Nats-Schedule";
const TARGET: &str = "Nats-Schedule-Target";
/// Where messages wait whose time has not come.
pub(super) const DELAYED: &str = "delayed";
/// The most bytes of a tenant that are part of a subject.
const LONGEST_TOKEN: usize = 128;
/// Most bytes of a reason.
const LONGEST_REASON: usize = 1024;
/// Most bytes of a tenant: headers come on top of a body.
pub(super) const LONGEST_TENANT: usize = 4096;

/// What a header and a token of a subject can hold; the rest goes as `%20`.
const PLAIN: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'.').add(b'*').add(b'>');

/// A message to publish.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) id: String,
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A new message.
pub(super) fn outgoing(message: &NewMessage, prefix: &str, most: usize, schedules: bool) -> Result<Outgoing> {
    if message.body.len() > most {
        let why = format!("the message has {} bytes, and the server takes {most}", message.body.len());
        return Err(Error::new(ErrorKind::TooLarge, why));
    }
    let tenant = message.whose();
    if tenant.len() > LONGEST_TENANT {
        let why = format!("the name of the tenant has {} bytes; {LONGEST_TENANT} is the most", tenant.len());
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    let id = format!("{:032x}", fastrand::u128(..));
    let subject = subject(prefix, message.lane, &tenant);
    let mut headers = HeaderMap::new();
    headers.insert(ID, id.as_str());
    // Its own id where it has no key, so that sending it again makes no second one.
    headers.insert(MESSAGE_ID, message.dedupe.as_ref().map_or_else(|| id.clone(), |key| digest(key)).as_str());
    if !tenant.is_empty() {
        headers.insert(TENANT, encoded(&tenant).as_str());
    }
    let body = message.body.clone();
    if message.delay == Duration::ZERO || !schedules {
        return Ok(Outgoing { id, subject, headers, body });
    }
    headers.insert(SCHEDULE, format!("@at {}", Timestamp::now().plus(message.delay)).as_str());
    headers.insert(TARGET, subject.as_str());
    // A schedule is one with every other under its subject.
    Ok(Outgoing { subject: format!("{prefix}.{DELAYED}.{id}"), id, headers, body })
}

fn subject(prefix: &str, lane: Lane, tenant: &str) -> String {
    let token = match tenant {
        "" => String::from("-"),
        _ if tenant.len() <= LONGEST_TOKEN => encoded(tenant),
        _ => digest(tenant),
    };
    format!("{prefix}.{lane}.{token}")
}

fn encoded(text: &str) -> String {
    // All that is not ASCII is encoded as well.
    utf8_percent_encode(text, PLAIN).to_string()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn digest(text: &str) -> String {
    ContentDigest(Sha256::digest(text.as_bytes()).into()).to_string()
}

fn said<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.as_str())
}

/// Lane and tenant by a subject of ours: `<prefix>.<lane>.<tenant>`.
fn of_subject(subject: &str) -> (Lane, String) {
    let mut tokens = subject.rsplit('.');
    let tenant = tokens.next().filter(|token| *token != "-").map(decoded).unwrap_or_default();
    let lane = tokens.next().unwrap_or_default();
    (Lane::ALL.into_iter().find(|one| one.as_str() == lane).unwrap_or_default(), tenant)
}

/// A message that was delivered.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) id: String,
    /// Its place in the stream.
    pub(super) sequence: u64,
    /// Where what became of it is told.
    pub(super) reply: String,
    pub(super) attempt: u32,
    pub(super) lane: Lane,
    pub(super) tenant: String,
    pub(super) enqueued: Option<Timestamp>,
    pub(super) body: Bytes,
    headers: HeaderMap,
}

impl Received {
    /// `None` for what is no message of a stream.
    pub(super) fn new(message: jetstream::Message) -> Option<Self> {
        let (sequence, delivered, published) = {
            let info = message.info().ok()?;
            (info.stream_sequence, info.delivered, millis(info.published.unix_timestamp_nanos()))
        };
        let message = message.message;
        let headers = message.headers.unwrap_or_default();
        let (lane, tenant) = of_subject(&message.subject);
        Some(Self {
            id: said(&headers, ID).map_or_else(|| sequence.to_string(), str::to_owned),
            sequence,
            reply: message.reply?.to_string(),
            attempt: u32::try_from(delivered).unwrap_or(u32::MAX).max(1),
            lane,
            tenant: said(&headers, TENANT).map_or(tenant, decoded),
            enqueued: Some(published),
            body: message.payload,
            headers,
        })
    }

    /// The same message for the dead letters. `key` is the same for every attempt to bury it.
    pub(super) fn dead(&self, reason: &str, prefix: &str, key: &str) -> Outgoing {
        let mut headers = own(&self.headers, &[]);
        let reason = &reason[..reason.floor_char_boundary(LONGEST_REASON)];
        headers.insert(REASON, encoded(reason).as_str());
        headers.insert(ATTEMPTS, self.attempt.to_string().as_str());
        headers.insert(ID, self.id.as_str());
        headers.insert(MESSAGE_ID, key);
        if !self.tenant.is_empty() {
            headers.insert(TENANT, encoded(&self.tenant).as_str());
        }
        let subject = subject(prefix, self.lane, &self.tenant);
        Outgoing { id: self.id.clone(), subject, headers, body: self.body.clone() }
    }
}

/// Headers without these and those of the server.
fn own(headers: &HeaderMap, without: &[&str]) -> HeaderMap {
    let mut own = HeaderMap::new();
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        if !name.to_ascii_lowercase().starts_with(SERVERS) && !without.contains(&name) {
            values.iter().for_each(|value| own.append(name, value.clone()));
        }
    }
    own
}

/// A dead letter as it is kept. `None` for what somebody else put there is not: it is a letter without a reason.
pub(super) fn letter(message: &StreamMessage) -> DeadLetter {
    let (lane, tenant) = of_subject(&message.subject);
    let headers = &message.headers;
    DeadLetter {
        id: message.sequence.to_string(),
        body: message.payload.clone(),
        tenant: said(headers, TENANT).map_or(tenant, decoded),
        lane,
        attempts: said(headers, ATTEMPTS).and_then(|count| count.parse().ok()).unwrap_or(0),
        reason: said(headers, REASON).map_or_else(|| String::from("(nobody said why)"), decoded),
        died: Some(millis(message.time.unix_timestamp_nanos())),
    }
}

/// A dead letter as a new message, which is one with every other copy of that letter.
pub(super) fn redriven(message: &StreamMessage, prefix: &str, dead: &str) -> Outgoing {
    let letter = letter(message);
    let mut headers = own(&message.headers, &[REASON, ATTEMPTS]);
    headers.insert(MESSAGE_ID, format!("redrive-{dead}-{}", message.sequence).as_str());
    let id = said(&headers, ID).unwrap_or_default().to_owned();
    Outgoing { id, subject: subject(prefix, letter.lane, &letter.tenant), headers, body: letter.body }
}

fn millis(nanos: i128) -> Timestamp {
    Timestamp(i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_say_lane_and_tenant() {
        for tenant in ["", "t", "s3://uploads", "a.b*c>d e%", "ü日", "\r\n\0", "%2E"] {
            let subject = subject("p", Lane::Bulk, tenant);
            assert_eq!(subject.split('.').count(), 3, "{subject}");
            assert!(subject.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>".contains(&byte)), "{subject}");
            assert_eq!(of_subject(&subject), (Lane::Bulk, tenant.to_owned()));
        }
        // Longer ones are told by the header alone.
        assert!(subject("p", Lane::Normal, &"t".repeat(4000)).len() < 100);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let message = NewMessage::new("12345");
        assert_eq!(outgoing(&message, "p", 4, true).expect_err("refused").kind(), ErrorKind::TooLarge);
        let message = message.tenant("t".repeat(LONGEST_TENANT + 1));
        assert_eq!(outgoing(&message, "p", 5, true).expect_err("refused").kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_delay_is_a_schedule_where_there_are_any() {
        let message = NewMessage::new("x").tenant("t").delay(Duration::from_secs(60)).dedupe("k");
        let sent = outgoing(&message, "p", 10, true).expect("taken");
        assert!(sent.subject.starts_with("p.delayed.") && sent.subject.ends_with(&sent.id));
        assert_eq!(said(&sent.headers, TARGET), Some("p.normal.t"));
        assert!(said(&sent.headers, SCHEDULE).is_some_and(|at| at.starts_with("@at 2") && at.ends_with('Z')));
        let sent = outgoing(&message, "p", 10, false).expect("taken");
        assert_eq!((sent.subject.as_str(), said(&sent.headers, SCHEDULE)), ("p.normal.t", None));
    }
}
