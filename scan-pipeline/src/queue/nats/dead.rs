//! Dead letters, in a stream of their own, by their places in it.

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind};
use async_trait::async_trait;

use super::error::request;
use super::message::{letter, redriven};
use super::{Inner, NatsQueue};
use crate::queue::{DeadLetter, DeadLetters, Which};
use crate::{Error, ErrorKind, Result};

#[async_trait]
impl DeadLetters for NatsQueue {
    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<DeadLetter>> {
        let inner = &self.0;
        let mut next = match after {
            None => 1,
            Some(id) => place(id).ok_or_else(|| inner.no_letter(id))?.saturating_add(1),
        };
        let mut found = Vec::new();
        while found.len() < most {
            let Some(message) = inner.next_letter(next).await? else { break };
            next = message.sequence.saturating_add(1);
            found.push(letter(&message));
        }
        Ok(found)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>> {
        let Some(place) = place(id) else { return Ok(None) };
        Ok(self.0.letter_at(place).await?.as_ref().map(letter))
    }

    async fn redrive(&self, which: &Which, most: usize) -> Result<u64> {
        self.0.remove(which, most, true).await
    }

    async fn purge(&self, which: &Which, most: usize) -> Result<u64> {
        self.0.remove(which, most, false).await
    }
}

/// The place that an id is; only one text means it.
fn place(id: &str) -> Option<u64> {
    id.parse::<u64>().ok().filter(|place| *place > 0 && place.to_string() == id)
}

impl Inner {
    fn no_letter(&self, id: &str) -> Error {
        let why = format!("there is no dead letter {id:?}");
        Error::new(ErrorKind::InvalidInput, why).about(self.name.as_str())
    }

    async fn letter_at(&self, place: u64) -> Result<Option<StreamMessage>> {
        match self.dead.get_raw_message(place).await {
            Ok(message) => Ok(Some(message)),
            Err(why) if is_none(why.kind()) => Ok(None),
            Err(why) => Err(request("look at the dead letters", why).about(self.name.as_str())),
        }
    }

    /// The first one from there on.
    async fn next_letter(&self, from: u64) -> Result<Option<StreamMessage>> {
        let asked = self.dead.raw_message_builder().sequence(from).next_by_subject(">").send();
        match asked.await {
            Ok(message) => Ok(Some(message)),
            Err(why) if is_none(why.kind()) => Ok(None),
            Err(why) => Err(request("look at the dead letters", why).about(self.name.as_str())),
        }
    }

    /// Takes letters out of the dead letters, into the queue or away, the oldest first.
    async fn remove(&self, which: &Which, most: usize, redrive: bool) -> Result<u64> {
        let mut places: Vec<u64> = which.ids.iter().filter_map(|id| place(id)).collect();
        places.sort_unstable();
        places.dedup();
        let mut places = places.into_iter();
        let (mut count, mut next) = (0, 1);
        while usize::try_from(count).unwrap_or(usize::MAX) < most {
            let message = if which.ids.is_empty() {
                let Some(message) = self.next_letter(next).await? else { break };
                next = message.sequence.saturating_add(1);
                message
            } else {
                let Some(place) = places.next() else { break };
                let Some(message) = self.letter_at(place).await? else { continue };
                message
            };
            let found = letter(&message);
            if !which.has(&found.id, &found.reason) {
                continue;
            }
            if redrive {
                self.publish(&redriven(&message, &self.name, &self.dead_name)).await?;
            }
            match self.dead.delete_message(message.sequence).await {
                Ok(_) => count += 1,
                // Somebody else was faster.
                Err(_) if self.letter_at(message.sequence).await?.is_none() => {}
                Err(why) => return Err(request("remove a dead letter", why).about(self.name.as_str())),
            }
        }
        self.ring.notify_waiters();
        Ok(count)
    }
}

fn is_none(why: RawMessageErrorKind) -> bool {
    matches!(why, LastRawMessageErrorKind::NoMessageFound)
}
