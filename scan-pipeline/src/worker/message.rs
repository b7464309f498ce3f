//! What becomes of one message.

use std::fmt;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::{UNIT, Worker};
use crate::event::{self, Event};
use crate::health::is_outage;
use crate::job::{self, JobMessage};
use crate::model::{ObjectRef, Timestamp};
use crate::pipeline::{Again, Attended};
use crate::{Error, ErrorKind};

/// Most objects of one message that are at work at a time.
const AT_A_TIME: usize = 16;
/// Most characters of the reason with which a message is dead.
const LONGEST_REASON: usize = 1000;

/// What has become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is done.
    Done,
    /// The store knows what is left to do, and [`Pipeline::resume`](crate::Pipeline::resume) does it when its time has
    /// come. Where nobody calls that, the message has to come again.
    Later {
        /// Not before this time, where somebody said so.
        after: Option<Duration>,
        /// What it waits for.
        why: String,
    },
    /// It has to come again.
    Retry {
        /// Not before this time, where somebody said so.
        after: Option<Duration>,
        /// Something does not answer anybody, so it is no fault of the message.
        outage: bool,
        /// Why.
        why: String,
    },
    /// It fails for good.
    Dead {
        /// Why.
        why: String,
    },
}

impl Outcome {
    pub(crate) fn dead(why: impl fmt::Display) -> Self {
        Self::Dead { why: short(&why) }
    }

    pub(crate) fn retry(error: &Error) -> Self {
        Self::Retry { after: error.retry_after(), outage: is_outage(error), why: short(error) }
    }

    /// What an error means for the message that led to it.
    pub(crate) fn of(error: &Error) -> Self {
        if error.is_retryable() { Self::retry(error) } else { Self::dead(error) }
    }

    /// That of two parts of one message: as long as something may still succeed it comes again.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Done, other) | (other, Self::Done) => other,
            (Self::Later { after: first, why }, Self::Later { after: second, .. }) => {
                Self::Later { after: first.max(second), why }
            }
            (Self::Later { .. }, other) | (other, Self::Later { .. }) => other,
            (
                Self::Retry { after: first, outage: one, why },
                Self::Retry { after: second, outage: another, why: also },
            ) => {
                Self::Retry { after: first.max(second), outage: one && another, why: short(&format!("{why}; {also}")) }
            }
            (retry @ Self::Retry { .. }, Self::Dead { .. }) | (Self::Dead { .. }, retry @ Self::Retry { .. }) => retry,
            (Self::Dead { why }, Self::Dead { why: also }) => Self::dead(format!("{why}; {also}")),
        }
    }
}

fn short(text: &impl fmt::Display) -> String {
    let text = text.to_string();
    match text.char_indices().nth(LONGEST_REASON) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

impl Worker {
    /// Does what follows from one message, whoever delivered it, and says what is to become of it. A message that is
    /// handled again does nothing twice.
    ///
    /// Dropping the future ends scans; workflows that have begun go on.
    pub async fn handle(&self, body: &[u8]) -> Outcome {
        match JobMessage::peek(body) {
            Some(Ok(message)) => self.job(message).await,
            Some(Err(why)) => Outcome::dead(why),
            None => {
                let events = stream::iter(event::decode(body));
                let outcomes = events.map(|event| self.event(event)).buffer_unordered(AT_A_TIME);
                outcomes.fold(Outcome::Done, |all, one| async { all.and(one) }).await
            }
        }
    }

    async fn event(&self, event: Event) -> Outcome {
        let pipeline = self.pipeline();
        let attended = match event {
            Event::Created(created) => match created.locate(pipeline.buckets()) {
                Ok(object) => self.object(object).await,
                Err(why) => Err(why),
            },
            Event::ScannedElsewhere(scanned) => match pipeline.buckets().locate(scanned.object) {
                Ok(object) => pipeline.adopt(object, scanned.verdict, scanned.scanner).await,
                Err(why) => Err(why),
            },
            Event::Ignored(why) => {
                tracing::debug!(%why, "an event was ignored");
                return Outcome::Done;
            }
            Event::Unreadable(why) => return Outcome::dead(why),
        };
        match attended {
            Ok(Attended::Done(done)) if done.record.state.is_terminal() => Outcome::Done,
            Ok(Attended::Done(done)) => {
                let after = done.record.next_at.map(|at| at.since(Timestamp::now()));
                Outcome::Later { after, why: format!("{}: its workflow waits", done.record.object) }
            }
            Ok(Attended::Known(known)) => {
                let why = Error::from(known);
                tracing::debug!(%why, "the store has the task already");
                Outcome::Later { after: why.retry_after(), why: short(&why) }
            }
            Err(why) if why.kind() == ErrorKind::Gone => {
                tracing::info!(%why, "an event's object is not there any more");
                Outcome::Done
            }
            Err(why) => Outcome::of(&why),
        }
    }

    /// One object, within the limit on bytes.
    async fn object(&self, object: ObjectRef) -> crate::Result<Attended> {
        let _bytes = self.bytes(object.size).await?;
        self.pipeline().attend(object, &Again::Never).await
    }

    /// Room for this many bytes, or for all that there is.
    async fn bytes(&self, size: Option<u64>) -> crate::Result<tokio::sync::SemaphorePermit<'_>> {
        let units = u32::try_from(size.unwrap_or(UNIT).div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.shared.units);
        let closed = |_| Error::new(ErrorKind::Cancelled, "the worker is shut down");
        self.shared.bytes.acquire_many(units).await.map_err(closed)
    }

    async fn job(&self, message: JobMessage) -> Outcome {
        let Some(jobs) = &self.shared.jobs else {
            return Outcome::dead("is a part of a bulk job, and this worker has no store of jobs");
        };
        let around = job::Around {
            pipeline: self.pipeline(),
            jobs: &**jobs,
            queue: &*self.shared.queue,
            share: &self.shared.share,
        };
        around.handle(message).await
    }
}
