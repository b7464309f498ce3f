//! Messages as SQS has them: text, with a few attributes beside it.

use std::collections::HashMap;

use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::model::{ContentDigest, Timestamp};
use crate::queue::{Lane, NewMessage};
use crate::{Error, ErrorKind, Result};

/// Attributes that we put beside a message. Others may stand there as well.
const TENANT: &str = "scan-pipeline.tenant";
const LANE: &str = "scan-pipeline.lane";
const REASON: &str = "scan-pipeline.reason";
const ATTEMPTS: &str = "scan-pipeline.attempts";
/// How the body is written, where it is not the text itself.
const ENCODING: &str = "scan-pipeline.encoding";
const BASE64: &str = "base64";
/// Before the encoded body, so that an empty one has a character.
const ENCODED: &str = "base64:";
/// What tenant and lane take beside a body, for most names.
const ROOM: usize = 1024;
/// Most attributes of a message.
const MOST_ATTRIBUTES: usize = 10;
/// Most characters of a group or a deduplication id.
const LONGEST_ID: usize = 128;
/// Most bytes of a reason.
const LONGEST_REASON: usize = 1024;

/// A message to send.
#[derive(Debug, Clone, Default)]
pub(super) struct Outgoing {
    pub(super) body: String,
    pub(super) attributes: HashMap<String, MessageAttributeValue>,
    pub(super) group: Option<String>,
    pub(super) dedupe: Option<String>,
    pub(super) delay: Option<i32>,
}

impl Outgoing {
    /// Bytes as SQS counts them: body, and of each attribute its name, type and value.
    pub(super) fn size(&self) -> usize {
        let of = |(name, value): (&String, &MessageAttributeValue)| {
            let text = value.string_value().map_or(0, str::len);
            name.len() + value.data_type().len() + text + value.binary_value().map_or(0, |blob| blob.as_ref().len())
        };
        self.body.len() + self.attributes.iter().map(of).sum::<usize>()
    }

    /// Makes it fit: attributes go where there is no room for them, ours last, the body never.
    fn fit(mut self, most: usize) -> Self {
        for keep in [&[ENCODING, TENANT, LANE, ATTEMPTS, REASON][..], &[ENCODING, TENANT, LANE, ATTEMPTS], &[ENCODING]]
        {
            if self.size() <= most {
                break;
            }
            self.attributes.retain(|name, _| keep.contains(&name.as_str()));
        }
        self
    }
}

/// How the queue wants its messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) fifo: bool,
    /// Standard queues get groups, too.
    pub(super) groups: bool,
    /// Most bytes of a message.
    pub(super) most: usize,
}

impl Form {
    /// Most bytes of a body of ours: tenant and lane come on top of it.
    pub(super) fn largest_body(self) -> usize {
        self.most.saturating_sub(ROOM)
    }
}

/// A message that was received, with what it takes to send it on.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) id: String,
    pub(super) handle: String,
    /// The body as SQS has it.
    text: String,
    attributes: HashMap<String, MessageAttributeValue>,
    group: Option<String>,
    pub(super) received: u32,
    pub(super) sent: Option<Timestamp>,
}

impl Received {
    /// `None` for one without what every message has.
    pub(super) fn new(message: Message) -> Option<Self> {
        let system = |name| message.attributes().and_then(|all| all.get(&name)).map(String::as_str);
        let sent = system(MessageSystemAttributeName::SentTimestamp).and_then(|at| at.parse().ok()).map(Timestamp);
        let received = system(MessageSystemAttributeName::ApproximateReceiveCount).and_then(|count| count.parse().ok());
        let group = system(MessageSystemAttributeName::MessageGroupId).map(str::to_owned);
        Some(Self {
            sent,
            received: received.unwrap_or(1),
            group,
            id: message.message_id?,
            handle: message.receipt_handle?,
            text: message.body.unwrap_or_default(),
            attributes: message.message_attributes.unwrap_or_default(),
        })
    }

    /// What was enqueued.
    pub(super) fn body(&self) -> Bytes {
        let encoded = self.said(ENCODING).filter(|encoding| *encoding == BASE64).and(self.text.strip_prefix(ENCODED));
        match encoded.and_then(|text| STANDARD.decode(text).ok()) {
            Some(bytes) => Bytes::from(bytes),
            None => Bytes::copy_from_slice(self.text.as_bytes()),
        }
    }

    fn said(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(MessageAttributeValue::string_value)
    }

    /// Whose it is; a producer that is not ours says it by the group.
    pub(super) fn tenant(&self) -> String {
        let said = self.said(TENANT).or(self.group.as_deref().filter(|group| *group != NOBODY));
        said.unwrap_or_default().to_owned()
    }

    pub(super) fn lane(&self) -> Lane {
        let said = self.said(LANE).unwrap_or_default();
        Lane::ALL.into_iter().find(|lane| lane.as_str() == said).unwrap_or_default()
    }

    /// Why it is dead, and after how many deliveries, if one of us said so.
    pub(super) fn death(&self) -> Option<(String, u32)> {
        let attempts = self.said(ATTEMPTS)?.parse().ok()?;
        Some((self.said(REASON).unwrap_or("(the reason had no room beside the message)").to_owned(), attempts))
    }

    /// The same message for the dead letters.
    pub(super) fn dead(&self, reason: &str, form: Form) -> Outgoing {
        let mut message = self.again(form, "dead");
        let reason: String =
            reason.chars().map(|c| if is_allowed(c) { c } else { char::REPLACEMENT_CHARACTER }).collect();
        let reason = match reason.trim() {
            "" => "(no reason was given)",
            reason => &reason[..reason.floor_char_boundary(LONGEST_REASON)],
        };
        let foreign = MOST_ATTRIBUTES.saturating_sub(5);
        let ours = [TENANT, LANE, ENCODING];
        let extra: Vec<_> = message.attributes.keys().filter(|name| !ours.contains(&name.as_str())).cloned().collect();
        for name in extra.iter().skip(foreign) {
            message.attributes.remove(name);
        }
        message.attributes.insert(REASON.to_owned(), attribute(reason));
        message.attributes.insert(ATTEMPTS.to_owned(), attribute(&self.received.to_string()));
        message.fit(form.most)
    }

    /// The same message for the queue that it came from.
    pub(super) fn redriven(&self, form: Form) -> Outgoing {
        let mut message = self.again(form, "redrive");
        message.attributes.retain(|name, _| name != REASON && name != ATTEMPTS);
        message.fit(form.most)
    }

    /// Its copy, which is one with every other copy of it where the queue deduplicates.
    fn again(&self, form: Form, why: &str) -> Outgoing {
        let group = self.group.clone().unwrap_or_else(|| id_of(&self.tenant()));
        Outgoing {
            body: self.text.clone(),
            attributes: self.attributes.clone(),
            group: (form.fifo || form.groups).then_some(group),
            dedupe: form.fifo.then(|| format!("{why}-{}", self.id)),
            delay: None,
        }
    }
}

/// The group of messages that are nobody's: a group needs a name.
const NOBODY: &str = "-";

/// A new message, in the queue's form.
pub(super) fn outgoing(message: &NewMessage, form: Form) -> Result<Outgoing> {
    if message.body.len() > form.largest_body() {
        let why = format!("the body has {} bytes, and {} is the most", message.body.len(), form.largest_body());
        return Err(Error::new(ErrorKind::TooLarge, why));
    }
    if let Some(c) = message.tenant.chars().find(|c| !is_allowed(*c)) {
        let name = if c == '\0' { " (NUL)" } else { "" };
        let why = format!("SQS does not take the character U+{:04X}{name}, which is in the tenant", u32::from(c));
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    let mut attributes = HashMap::new();
    let plain = std::str::from_utf8(&message.body).ok().filter(|text| !text.is_empty() && text.chars().all(is_allowed));
    let body = plain.map_or_else(
        || {
            attributes.insert(ENCODING.to_owned(), attribute(BASE64));
            format!("{ENCODED}{}", STANDARD.encode(&message.body))
        },
        str::to_owned,
    );
    if !message.tenant.is_empty() {
        attributes.insert(TENANT.to_owned(), attribute(&message.tenant));
    }
    if message.lane != Lane::default() {
        attributes.insert(LANE.to_owned(), attribute(message.lane.as_str()));
    }
    // Whole seconds; a message never comes early by our rounding.
    let delay = (!form.fifo).then(|| seconds(message.delay, super::LONGEST_DELAY)).filter(|delay| *delay > 0);
    let outgoing = Outgoing {
        body,
        attributes,
        group: (form.fifo || form.groups).then(|| id_of(&message.whose())),
        dedupe: form.fifo.then(|| message.dedupe.as_deref().map_or_else(random_id, id_of)),
        delay,
    };
    if outgoing.size() > form.most {
        let why =
            format!("the message has {} bytes with its attributes, and the queue takes {}", outgoing.size(), form.most);
        return Err(Error::new(ErrorKind::TooLarge, why));
    }
    Ok(outgoing)
}

/// Whole seconds, rounded up, of at most so much.
pub(super) fn seconds(time: std::time::Duration, most: std::time::Duration) -> i32 {
    let whole = time.min(most);
    let seconds = whole.as_secs() + u64::from(whole.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

fn attribute(text: &str) -> MessageAttributeValue {
    // Never fails: the type is there.
    MessageAttributeValue::builder().data_type("String").string_value(text).build().unwrap_or_else(|_| unreachable!())
}

/// What XML 1.0 can hold, which is what SQS takes.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// A name as a group or for deduplication: itself where SQS takes it, else its digest.
fn id_of(name: &str) -> String {
    match name {
        "" => NOBODY.to_owned(),
        _ if name.len() <= LONGEST_ID && name.bytes().all(|byte| byte.is_ascii_graphic()) => name.to_owned(),
        _ => ContentDigest(Sha256::digest(name.as_bytes()).into()).to_string(),
    }
}

pub(super) fn random_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const FORM: Form = Form { fifo: false, groups: false, most: 1 << 20 };
    const FIFO: Form = Form { fifo: true, ..FORM };

    fn received(body: &str, attributes: &[(&str, &str)]) -> Received {
        Received {
            id: String::from("m"),
            handle: String::from("h"),
            text: body.to_owned(),
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), attribute(value))).collect(),
            group: None,
            received: 3,
            sent: None,
        }
    }

    #[test]
    fn what_sqs_does_not_take_is_encoded() {
        for body in ["", "a\u{1}b", "\u{FFFE}", "\u{0}"].map(str::as_bytes).into_iter().chain([&b"\xff"[..]]) {
            let sent = outgoing(&NewMessage::new(body.to_vec()), FORM).expect("taken");
            assert!(!sent.body.is_empty() && sent.body.chars().all(is_allowed));
            let message = Received { attributes: sent.attributes, ..received(&sent.body, &[]) };
            assert_eq!(message.body(), body);
            let dead = message.dead("why", Form { most: message.text.len() + 40, ..FORM });
            let message = Received { attributes: dead.attributes, ..received(&dead.body, &[]) };
            assert_eq!(message.body(), body, "also from the dead letters, without room for more");
        }
        let text = "base64:\t\r\n \u{D7FF}\u{E000}\u{10FFFF}";
        let sent = outgoing(&NewMessage::new(text), FORM).expect("taken");
        assert_eq!((sent.body.as_str(), sent.attributes.len()), (text, 0));
        assert_eq!(received(text, &[]).body(), text, "nobody said that it is encoded");
        let error = outgoing(&NewMessage::new("x").tenant("a\u{0}"), FORM).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("U+0000 (NUL), which is in the tenant"), "{error}");
    }

    #[test]
    fn attributes_count() {
        let form = Form { most: ROOM + 20, ..FORM };
        assert!(outgoing(&NewMessage::new("x".repeat(20)).tenant("t".repeat(500)), form).is_ok());
        let error = outgoing(&NewMessage::new("x".repeat(21)), form).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let error = outgoing(&NewMessage::new("x".repeat(20)).tenant("t".repeat(ROOM)), form).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn groups_and_keys_are_what_sqs_takes() {
        let message = NewMessage::new("x").tenant("s3://uploads").dedupe("k");
        let plain = outgoing(&message, FORM).expect("taken");
        assert_eq!((plain.group, plain.dedupe), (None, None));
        let fifo = outgoing(&message, FIFO).expect("taken");
        assert_eq!((fifo.group.as_deref(), fifo.dedupe.as_deref()), (Some("s3://uploads"), Some("k")));
        let odd = outgoing(&NewMessage::new("x").tenant("a b").dedupe("é".repeat(100)), FIFO).expect("taken");
        assert_eq!((odd.group.map(|id| id.len()), odd.dedupe.map(|id| id.len())), (Some(64), Some(64)));
        let nobody = outgoing(&NewMessage::new("x"), FIFO).expect("taken");
        assert_eq!(nobody.group.as_deref(), Some(NOBODY));
        assert_ne!(nobody.dedupe, outgoing(&NewMessage::new("x"), FIFO).expect("taken").dedupe);
    }

    #[test]
    fn a_dead_message_keeps_its_body_whatever_room_there_is() {
        let foreign: Vec<String> = (0..10).map(|at| format!("f{at}")).collect();
        let foreign: Vec<(&str, &str)> = foreign.iter().map(|name| (name.as_str(), "v")).collect();
        let dead = received("body", &foreign).dead("broken\u{1}", FORM);
        assert_eq!((dead.attributes.len(), dead.body.as_str()), (7, "body"));
        assert_eq!(dead.attributes[REASON].string_value(), Some("broken\u{FFFD}"));
        let full = "x".repeat(100);
        for (most, left) in [(100, 0), (140, 1), (1 << 20, 2)] {
            let dead = received(&full, &[]).dead("why", Form { most, ..FIFO });
            assert_eq!((dead.attributes.len(), dead.body.len()), (left, 100), "{most}");
            assert_eq!(dead.dedupe.as_deref(), Some("dead-m"));
        }
        let long = received("body", &[]).dead(&"é".repeat(4000), FORM);
        assert_eq!(long.attributes[REASON].string_value().map(str::len), Some(1024));
    }

    #[test]
    fn a_redriven_message_has_no_past() {
        let message = received("body", &[(TENANT, "t"), (LANE, "bulk"), (REASON, "why"), (ATTEMPTS, "4"), ("f", "v")]);
        assert_eq!(message.death(), Some((String::from("why"), 4)));
        let again = message.redriven(FIFO);
        let mut names: Vec<_> = again.attributes.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["f", LANE, TENANT]);
        assert_eq!((again.group.as_deref(), again.dedupe.as_deref()), (Some("t"), Some("redrive-m")));
        assert_eq!(message.lane(), Lane::Bulk);
    }

    #[test]
    fn seconds_are_rounded_up_and_bounded() {
        for (time, whole) in [(0, 0), (1, 1), (1000, 1), (1001, 2), (5000, 3)] {
            assert_eq!(seconds(Duration::from_millis(time), Duration::from_secs(3)), whole, "{time}");
        }
    }
}
