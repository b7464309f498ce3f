//! Dead letters, in a queue of their own, which cannot be looked at without receiving from it.

use std::collections::HashSet;

use async_trait::async_trait;

use super::batch::{self, Delete, Hide};
use super::message::Received;
use super::{Inner, SqsQueue};
use crate::queue::{DeadLetter, DeadLetters, Which};
use crate::{Error, Result};

/// For how long a dead letter is hidden while somebody looks.
const WHILE_LOOKING: i32 = 60;
/// How long we wait for one to come. Not 0, with which SQS asks some of its servers only.
const WAIT: i32 = 1;
/// Most dead letters that are looked at to find one.
const MOST_SEEN: usize = 10_000;

#[async_trait]
impl DeadLetters for SqsQueue {
    async fn list(&self, _after: Option<&str>, most: usize) -> Result<Vec<DeadLetter>> {
        let inner = &self.0;
        let mut look = Look::new(inner);
        let mut found = Vec::new();
        while found.len() < most {
            let Some(messages) = look.next(most - found.len()).await? else { break };
            for message in messages {
                found.push(inner.letter(&message));
                look.keep(message);
            }
        }
        look.end().await;
        // What they died of last is behind the rest, where the broker tells.
        found.sort_by_key(|letter| letter.died);
        Ok(found)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>> {
        let mut look = Look::new(&self.0);
        let mut found = None;
        while found.is_none() {
            let Some(messages) = look.next(batch::MOST).await? else { break };
            for message in messages {
                if message.id == id {
                    found = Some(self.0.letter(&message));
                }
                look.keep(message);
            }
        }
        look.end().await;
        Ok(found)
    }

    async fn redrive(&self, which: &Which, most: usize) -> Result<u64> {
        self.0.remove(which, most, true).await
    }

    async fn purge(&self, which: &Which, most: usize) -> Result<u64> {
        self.0.remove(which, most, false).await
    }
}

/// One look through the dead letters. What was seen stays hidden until the end, so that what is behind it comes.
struct Look<'a> {
    inner: &'a Inner,
    seen: HashSet<String>,
    kept: Vec<String>,
}

impl<'a> Look<'a> {
    fn new(inner: &'a Inner) -> Self {
        Self { inner, seen: HashSet::new(), kept: Vec::new() }
    }

    /// Others than came before; `None` when there are none.
    async fn next(&mut self, most: usize) -> Result<Option<Vec<Received>>> {
        let most = most.min(batch::MOST).min(MOST_SEEN.saturating_sub(self.seen.len()));
        if most == 0 {
            return Ok(None);
        }
        let got = match self.inner.take(&self.inner.dead_url, most, WHILE_LOOKING, WAIT).await {
            Ok(got) => got,
            Err(why) => {
                self.put_back().await;
                return Err(why.about(self.inner.name.as_str()));
            }
        };
        let (new, old): (Vec<_>, Vec<_>) = got.into_iter().partition(|message| self.seen.insert(message.id.clone()));
        old.into_iter().for_each(|message| self.keep(message));
        Ok((!new.is_empty()).then_some(new))
    }

    /// It is put back at the end.
    fn keep(&mut self, message: Received) {
        self.kept.push(message.handle);
    }

    async fn end(mut self) {
        self.put_back().await;
    }

    async fn put_back(&mut self) {
        let handles = std::mem::take(&mut self.kept);
        let entries: Vec<_> = handles.iter().map(|handle| Hide(handle, 0)).collect();
        for outcome in batch::all(&self.inner.client, &self.inner.dead_url, &entries, false).await {
            if let Err(trouble) = outcome {
                tracing::debug!(queue = %self.inner.name, why = %trouble.error, "a dead letter is hidden for a minute");
            }
        }
    }
}

impl Inner {
    fn letter(&self, message: &Received) -> DeadLetter {
        let (reason, attempts, died) = match message.death() {
            Some((reason, attempts)) => (reason, attempts, message.sent),
            None => {
                // Counted by the broker on and on, with every look.
                let attempts = self.max_receive.unwrap_or_else(|| message.received.saturating_sub(1));
                let reason = format!("the broker moved it here after {attempts} receives, and no worker said why");
                (reason, attempts, None)
            }
        };
        DeadLetter {
            id: message.id.clone(),
            body: message.body(),
            tenant: message.tenant(),
            lane: message.lane(),
            attempts,
            reason,
            died,
        }
    }

    /// Takes letters out of the dead letters, into the queue or away.
    async fn remove(&self, which: &Which, most: usize, redrive: bool) -> Result<u64> {
        let (mut look, mut count) = (Look::new(self), 0);
        let mut failed = None;
        while count < most && failed.is_none() {
            // Not more than may be removed, lest a letter be hidden that nobody meant.
            let Some(messages) = look.next(most - count).await? else { break };
            let (meant, others): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| {
                let letter = self.letter(message);
                which.has(&letter.id, &letter.reason)
            });
            others.into_iter().for_each(|message| look.keep(message));
            let mut gone = Vec::new();
            if redrive {
                let again: Vec<_> = meant.iter().map(|message| message.redriven(self.form)).collect();
                let outcomes = batch::all(&self.client, &self.url, &again, self.form.fifo).await;
                for (message, outcome) in meant.into_iter().zip(outcomes) {
                    match outcome {
                        Ok(_) => gone.push(message),
                        Err(trouble) => {
                            failed.get_or_insert(trouble.error);
                            look.keep(message);
                        }
                    }
                }
            } else {
                gone = meant;
            }
            let entries: Vec<_> = gone.iter().map(|message| Delete(&message.handle)).collect();
            let outcomes = batch::all(&self.client, &self.dead_url, &entries, false).await;
            for (message, outcome) in gone.into_iter().zip(outcomes) {
                match outcome {
                    Ok(_) => count += 1,
                    Err(trouble) => {
                        failed.get_or_insert(trouble.error);
                        look.keep(message);
                    }
                }
            }
        }
        look.end().await;
        match failed {
            Some(error) if count == 0 => Err(Error::about(error, self.name.as_str())),
            Some(why) => {
                tracing::warn!(queue = %self.name, %why, "some dead letters stay where they are");
                Ok(u64::try_from(count).unwrap_or(u64::MAX))
            }
            None => Ok(u64::try_from(count).unwrap_or(u64::MAX)),
        }
    }
}
