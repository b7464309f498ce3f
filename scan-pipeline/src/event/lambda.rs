//! What a Lambda function that SQS triggers is given, and what it answers.
//!
//! Pure shapes: whoever runs the function reads a [`Batch`], handles each [`Message`]'s body
//! ([`decode`](super::decode)), and answers with [`Batch::answer`].
//!
//! # How Lambda reads the answer
//!
//! With `ReportBatchItemFailures` set on the trigger, messages that are not in `batchItemFailures` are deleted from the
//! queue, and those in it come back when their visibility timeout is over. An empty list is success. A list with an
//! identifier that is empty, `null` or not of this batch counts as a failure of the **whole** batch, which repeats what
//! was done. So an answer is made of the batch's own identifiers and never of text from elsewhere.
//!
//! On a FIFO queue Lambda wants the function to stop at the first failure and to return it with all that was not
//! worked on, whichever message group they are of. So there [`Batch::answer`] fails everything behind the first
//! failure. A message behind it that was done all the same comes again, which its task's id makes harmless; a message
//! that overtakes one of its group would not be.
//!
//! Without `ReportBatchItemFailures` Lambda ignores the answer and takes any for success: set it.
//!
//! ```
//! use scan_pipeline::event::lambda::Batch;
//! let batch = Batch::parse(br#"{"Records": [
//!     {"messageId": "059f36b4", "receiptHandle": "AQEB...", "body": "{}", "eventSource": "aws:sqs",
//!      "attributes": {"ApproximateReceiveCount": "1"}, "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:scans"},
//!     {"messageId": "2e1424d4", "receiptHandle": "AQEB...", "body": "{}", "eventSource": "aws:sqs",
//!      "attributes": {"ApproximateReceiveCount": "3"}, "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:scans"}]}"#)?;
//! assert_eq!(batch.messages()[1].receive_count, 3);
//! let answer = batch.answer(&[true, false]);
//! assert_eq!(answer.to_json(), r#"{"batchItemFailures":[{"itemIdentifier":"2e1424d4"}]}"#);
//! # Ok::<(), scan_pipeline::Error>(())
//! ```

use std::collections::BTreeSet;

use serde::Serialize;

use super::json::{Node, Object, excerpt, unreadable};
use crate::Result;

/// Most bytes of a batch. A function is called with 6 MB at most.
const LARGEST: usize = 8 << 20;
/// Most messages of a batch, which is also Lambda's limit.
const MOST_MESSAGES: usize = 10_000;

/// The messages that a function is called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    messages: Vec<Message>,
}

/// One message of SQS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// SQS's identifier, which the answer names it by.
    pub id: String,
    /// What a request to delete it or to extend its time would name. A secret of this delivery.
    pub receipt_handle: String,
    /// What was sent.
    pub body: String,
    /// How often it was delivered, this time included. SQS calls it approximate; 1 where it does not say.
    pub receive_count: u32,
    /// The queue, as Amazon names it; empty where it is not said.
    pub queue: String,
    /// The message group. Standard queues have groups as well, for fairness, so it says nothing of order.
    pub group: Option<String>,
    ordered: bool,
}

impl Batch {
    /// Reads what a function was called with.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it is not a batch of SQS, or when a message has no
    /// identifier or the same as another, since nobody could answer for it. The function then has to fail, upon which
    /// the whole batch comes back.
    pub fn parse(event: &[u8]) -> Result<Self> {
        if event.len() > LARGEST {
            return Err(unreadable(format!("the batch has {} bytes, and {LARGEST} are the most", event.len())));
        }
        let event = Node::parse(event)?;
        let records = match &event {
            Node::Object(event) => match event.get("Records") {
                Some(Node::List(records)) => records,
                _ => return Err(unreadable(format!("is no batch of SQS: it has {}", event.names()))),
            },
            other => return Err(unreadable(format!("is no batch of SQS, but {}", other.kind()))),
        };
        if records.len() > MOST_MESSAGES {
            let why = format!("the batch has {} messages, and {MOST_MESSAGES} are the most", records.len());
            return Err(unreadable(why));
        }
        let mut ids = BTreeSet::new();
        let mut messages = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            let message = match record {
                Node::Object(record) => message(record),
                other => Err(unreadable(format!("is {}, and no object", other.kind()))),
            };
            let about = || format!("message {} of {}", at + 1, records.len());
            let message = message.map_err(|why| why.about(about()))?;
            if !ids.insert(message.id.clone()) {
                let why = format!("has the identifier {} of another one", excerpt(&message.id));
                return Err(unreadable(why).about(about()));
            }
            messages.push(message);
        }
        Ok(Self { messages })
    }

    /// The messages, in the order in which they are to be handled.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Whether they come from a FIFO queue, where handling stops at the first failure.
    pub fn is_fifo(&self) -> bool {
        self.messages.iter().any(|message| message.ordered)
    }

    /// The answer. `done` says of each message, in their order, whether it needs not come again; one that it says
    /// nothing of is not done.
    pub fn answer(&self, done: &[bool]) -> BatchItemFailures {
        let is_done = |at: usize| done.get(at).copied().unwrap_or(false);
        let first = (0..self.messages.len()).find(|at| !is_done(*at)).unwrap_or(self.messages.len());
        let fifo = self.is_fifo();
        let failed = self.messages.iter().enumerate().filter(|(at, _)| !is_done(*at) || fifo && *at >= first);
        BatchItemFailures {
            batch_item_failures: failed
                .map(|(_, message)| ItemFailure { item_identifier: message.id.clone() })
                .collect(),
        }
    }
}

/// The answer of a function: which messages are to come again. [`Batch::answer`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailures {
    batch_item_failures: Vec<ItemFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    item_identifier: String,
}

impl BatchItemFailures {
    /// Identifiers of the messages that are to come again, in the order of the batch.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str())
    }

    /// The answer as JSON.
    pub fn to_json(&self) -> String {
        // Text only: there is nothing in it that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn message(record: &Object) -> Result<Message> {
    if let Some(source) = record.text("eventSource")?
        && source != "aws:sqs"
    {
        return Err(unreadable(format!("comes from {}, and not from SQS", excerpt(source))));
    }
    let id = record.required("messageId")?;
    if id.is_empty() {
        return Err(unreadable("has an empty `messageId`"));
    }
    let nothing = Object::default();
    let attributes = if record.get("attributes").is_some() { record.object("attributes")? } else { &nothing };
    let received = attributes.whole("ApproximateReceiveCount")?.unwrap_or(1);
    let queue = record.text("eventSourceARN")?.unwrap_or_default();
    Ok(Message {
        id: id.to_owned(),
        receipt_handle: record.text("receiptHandle")?.unwrap_or_default().to_owned(),
        body: record.required("body")?.to_owned(),
        receive_count: u32::try_from(received).unwrap_or(u32::MAX),
        queue: queue.to_owned(),
        group: attributes.text("MessageGroupId")?.map(str::to_owned),
        // Only FIFO queues number their messages, and their names have to end like this.
        ordered: queue.ends_with(".fifo") || attributes.get("SequenceNumber").is_some(),
    })
}
