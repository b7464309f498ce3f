//! What becomes of one message.

use futures_util::stream::{self, StreamExt};

use super::{UNIT, Worker};
use crate::event::{self, Event};
use crate::job::{self, JobMessage, Outcome, short};
use crate::model::{ObjectRef, Timestamp};
use crate::pipeline::{Again, Attended};
use crate::{Error, ErrorKind};

/// Most objects of one message that are at work at a time.
const AT_A_TIME: usize = 16;
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
