//! Requests that carry up to ten messages, each with an answer of its own.

use std::future::Future;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    SendMessageBatchRequestEntry,
};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};

use super::error::{Trouble, failure, trouble};
use super::message::Outgoing;
use crate::{Error, ErrorKind};

/// Most entries of one request.
pub(super) const MOST: usize = 10;
/// Most bytes of the messages of one request together, as of August 2025.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// How often an entry is tried that the broker failed at.
const TRIES: u32 = 3;
/// Requests at the same time, where the order does not matter.
const AT_A_TIME: usize = 4;

/// What came of an entry: what the broker calls the message, for those that are sent.
pub(super) type Outcome = Result<String, Trouble>;

/// One of the messages of a request.
pub(super) trait Entry: Sized + Send + Sync {
    /// Bytes that count towards the request's limit.
    fn size(&self) -> usize {
        0
    }

    /// Makes the request. The entries are known by their places.
    fn ask(client: &Client, url: &str, entries: &[&Self]) -> impl Future<Output = Result<Answers, Error>> + Send;
}

/// What the broker said of a request.
#[derive(Debug)]
pub(super) struct Answers {
    done: Vec<(String, String)>,
    failed: Vec<BatchResultErrorEntry>,
}

/// Makes as many requests as it takes; the answers are in the order of the entries. `in_order` sends one request after
/// the other, and none of them twice, so that messages stay in order.
pub(super) async fn all<E: Entry>(client: &Client, url: &str, entries: &[E], in_order: bool) -> Vec<Outcome> {
    let (at_a_time, tries) = if in_order { (1, 1) } else { (AT_A_TIME, TRIES) };
    let mut requests: Vec<BoxFuture<'_, Vec<Outcome>>> = Vec::new();
    for chunk in chunks(entries) {
        requests.push(Box::pin(one(client, url, chunk, tries)));
    }
    let answers: Vec<Vec<Outcome>> = stream::iter(requests).buffered(at_a_time).collect().await;
    answers.into_iter().flatten().collect()
}

fn chunks<E: Entry>(entries: &[E]) -> Vec<&[E]> {
    let (mut chunks, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, entry) in entries.iter().enumerate() {
        if at > from && (at - from == MOST || bytes + entry.size() > MOST_BYTES) {
            chunks.push(&entries[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += entry.size();
    }
    if from < entries.len() {
        chunks.push(&entries[from..]);
    }
    chunks
}

/// One request, and others for those of its entries that the broker failed at.
async fn one<E: Entry>(client: &Client, url: &str, entries: &[E], tries: u32) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = entries.iter().map(|_| None).collect();
    for attempt in 1..=tries {
        let places: Vec<usize> = (0..entries.len()).filter(|at| open(outcomes[*at].as_ref())).collect();
        if places.is_empty() {
            break;
        }
        if attempt > 1 {
            let wait = 0.1 * f64::from(1 << attempt) * (0.5 + fastrand::f64());
            tokio::time::sleep(Duration::from_secs_f64(wait)).await;
        }
        let asked: Vec<&E> = places.iter().map(|at| &entries[*at]).collect();
        match E::ask(client, url, &asked).await {
            Ok(answers) => sort(&answers, &places, &mut outcomes),
            Err(error) => {
                // The client has tried it again already. The error is not for copying: the first entry gets it.
                let (kind, said, retryable) = (error.kind(), error.to_string(), error.is_retryable());
                for at in places {
                    let error = Error::new(kind, said.clone()).retryable(retryable);
                    outcomes[at] = Some(Err(Trouble { refused: false, error }));
                }
                break;
            }
        }
    }
    let silent = || Trouble {
        refused: false,
        error: Error::new(ErrorKind::Unavailable, "the queue did not say what became of the message"),
    };
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(silent()))).collect()
}

fn open(outcome: Option<&Outcome>) -> bool {
    match outcome {
        None => true,
        Some(Ok(_)) => false,
        Some(Err(trouble)) => !trouble.refused && trouble.error.is_retryable(),
    }
}

fn sort(answers: &Answers, places: &[usize], outcomes: &mut [Option<Outcome>]) {
    let place = |id: &str| id.parse::<usize>().ok().and_then(|at| places.get(at)).copied();
    for (id, message) in &answers.done {
        if let Some(at) = place(id) {
            outcomes[at] = Some(Ok(message.clone()));
        }
    }
    for entry in &answers.failed {
        if let Some(at) = place(entry.id()) {
            outcomes[at] = Some(Err(trouble(entry)));
        }
    }
}

/// Takes a message out of its queue.
#[derive(Debug)]
pub(super) struct Delete<'a>(pub(super) &'a str);

impl Entry for Delete<'_> {
    async fn ask(client: &Client, url: &str, entries: &[&Self]) -> Result<Answers, Error> {
        let entries = entries.iter().enumerate().map(|(at, entry)| {
            DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(entry.0).build()
        });
        let entries: Result<Vec<_>, _> = entries.collect();
        let request = client.delete_message_batch().queue_url(url).set_entries(Some(entries.map_err(incomplete)?));
        let answer = request.send().await.map_err(|why| failure(&why))?;
        let done = answer.successful.into_iter().map(|entry| (entry.id, String::new())).collect();
        Ok(Answers { done, failed: answer.failed })
    }
}

/// Hides a message for so many seconds from now.
#[derive(Debug)]
pub(super) struct Hide<'a>(pub(super) &'a str, pub(super) i32);

impl Entry for Hide<'_> {
    async fn ask(client: &Client, url: &str, entries: &[&Self]) -> Result<Answers, Error> {
        let entries = entries.iter().enumerate().map(|(at, entry)| {
            let builder = ChangeMessageVisibilityBatchRequestEntry::builder().id(at.to_string());
            builder.receipt_handle(entry.0).visibility_timeout(entry.1).build()
        });
        let entries: Result<Vec<_>, _> = entries.collect();
        let request = client.change_message_visibility_batch().queue_url(url);
        let request = request.set_entries(Some(entries.map_err(incomplete)?));
        let answer = request.send().await.map_err(|why| failure(&why))?;
        let done = answer.successful.into_iter().map(|entry| (entry.id, String::new())).collect();
        Ok(Answers { done, failed: answer.failed })
    }
}

impl Entry for Outgoing {
    fn size(&self) -> usize {
        Outgoing::size(self)
    }

    async fn ask(client: &Client, url: &str, entries: &[&Self]) -> Result<Answers, Error> {
        let entries = entries.iter().enumerate().map(|(at, message)| {
            SendMessageBatchRequestEntry::builder()
                .id(at.to_string())
                .message_body(&message.body)
                .set_message_attributes((!message.attributes.is_empty()).then(|| message.attributes.clone()))
                .set_delay_seconds(message.delay)
                .set_message_group_id(message.group.clone())
                .set_message_deduplication_id(message.dedupe.clone())
                .build()
        });
        let entries: Result<Vec<_>, _> = entries.collect();
        let request = client.send_message_batch().queue_url(url).set_entries(Some(entries.map_err(incomplete)?));
        let answer = request.send().await.map_err(|why| failure(&why))?;
        let done = answer.successful.into_iter().map(|entry| (entry.id, entry.message_id)).collect();
        Ok(Answers { done, failed: answer.failed })
    }
}

fn incomplete(why: aws_sdk_sqs::error::BuildError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the request cannot be made").with_source(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Of(usize);

    impl Entry for Of {
        fn size(&self) -> usize {
            self.0
        }

        async fn ask(_: &Client, _: &str, _: &[&Self]) -> Result<Answers, Error> {
            Err(Error::new(ErrorKind::Unsupported, "not asked"))
        }
    }

    #[test]
    fn requests_hold_ten_and_a_mebibyte() {
        let sizes = |sizes: &[usize]| {
            let entries: Vec<_> = sizes.iter().map(|size| Of(*size)).collect();
            chunks(&entries).iter().map(|chunk| chunk.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        assert_eq!(sizes(&[1; 10]), [10]);
        assert_eq!(sizes(&[1; 21]), [10, 10, 1]);
        assert_eq!(sizes(&[MOST_BYTES, 1, MOST_BYTES - 1, 1]), [1, 2, 1]);
        // One that is too large goes alone, and is refused alone.
        assert_eq!(sizes(&[1, MOST_BYTES + 1, 1]), [1, 1, 1]);
    }
}
