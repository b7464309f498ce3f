//! What a worker asks of a pipeline: like [`Pipeline::process`], with more to say.

use super::lease::Permit;
use super::{Pipeline, Processed, Round};
use crate::handler::Place;
use crate::model::{ObjectRef, Timestamp};
use crate::store::{TaskRecord, TaskState};
use crate::{Error, ErrorKind, Result};

/// How often the current state is taken instead of one that was superseded, before the caller is told to come back.
const MOST_SUPERSEDED: u32 = 8;

/// Whether a state of an object that was handled is handled once more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Again {
    /// It is not.
    #[default]
    Never,
    /// When it was scanned with other definitions or settings than those in force, and is still where it was.
    Outdated,
    /// Once for this mark, such as the name of a job, if it is still where it was.
    Once(String),
}

/// What became of an object.
#[derive(Debug)]
pub enum Attended {
    /// Its task has come to an end, or its workflow waits for its next attempt.
    Done(Box<Processed>),
    /// The store has its task, so that it is not forgotten, and this is not the time to work on it.
    Known(Known),
}

/// Why a task cannot be worked on now. [`Pipeline::resume`] takes it up when its time has come.
#[derive(Debug)]
pub enum Known {
    /// Somebody else works on it.
    Busy {
        /// The object.
        object: ObjectRef,
        /// Who.
        owner: String,
        /// When their lease ends, if they do not extend it.
        until: Timestamp,
    },
    /// An attempt has failed, and the next one is later.
    Waits {
        /// When.
        until: Timestamp,
        /// The task.
        record: Box<TaskRecord>,
    },
}

impl From<Known> for Error {
    fn from(known: Known) -> Self {
        let (object, until, why) = match known {
            Known::Busy { object, owner, until } => {
                (object, until, format!("is being worked on by {owner}, whose lease ends at {until}"))
            }
            Known::Waits { until, record } => {
                let why = record.error.as_deref().unwrap_or("the last attempt failed");
                let why = format!("will be tried again at {until}: {why}");
                (record.object, until, why)
            }
        };
        Self::new(ErrorKind::Busy, why).about(object.to_string()).after(until.since(Timestamp::now()))
    }
}

impl Pipeline {
    /// As [`Pipeline::process`], for callers that have more than one chance: it tells apart what failed and what is only
    /// not to be done now, and can handle an object once more.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::process`], without those about somebody else's work.
    pub async fn attend(&self, object: ObjectRef, again: &Again) -> Result<Attended> {
        let permit = self.permit().await?;
        self.rounds(object, None, again, permit).await
    }

    /// The same with an object of a listing of just now. Where that says as much as a look at the object would, nobody
    /// looks: the read is pinned, and finds out what has changed since.
    pub(crate) async fn attend_listed(&self, object: ObjectRef, again: &Again) -> Result<Attended> {
        let permit = self.permit().await?;
        let bucket = self.shared.buckets.of(&object)?;
        let first = match bucket.lists_whole_references() && self.unsettled(&**bucket, &object).is_none() {
            true => self.round_of_listed(&object, again, &permit).await?,
            false => None,
        };
        self.rounds(object, first, again, permit).await
    }

    /// Rounds until one comes to an end.
    async fn rounds(
        &self,
        mut wanted: ObjectRef,
        mut first: Option<Round>,
        again: &Again,
        mut permit: Permit,
    ) -> Result<Attended> {
        let mut superseded = 0;
        loop {
            let round = match first.take() {
                Some(round) => round,
                None => self.round(&wanted, again, &permit).await?,
            };
            match round {
                Round::Ended(mut done) => {
                    done.superseded = superseded;
                    return Ok(Attended::Done(done));
                }
                Round::Known(known) => return Ok(Attended::Known(known)),
                Round::Alone => {
                    drop(permit);
                    permit = self.permit_alone().await?;
                }
                Round::Superseded if superseded < MOST_SUPERSEDED => {
                    superseded += 1;
                    wanted = wanted.unpinned();
                }
                Round::Superseded => {
                    let why = format!("was replaced {superseded} times while it was worked on; come back later");
                    return Err(Error::new(ErrorKind::Busy, why).about(wanted.to_string()));
                }
            }
        }
    }

    /// The mark under which a finished task is done once more, if it is to be.
    pub(super) fn mark(&self, record: &TaskRecord, again: &Again) -> Option<String> {
        let stayed = record.state == TaskState::Done && record.place == Place::Here;
        match again {
            Again::Once(mark) if stayed => Some(mark.clone()),
            Again::Outdated if stayed => {
                let now = self.shared.engine.info();
                let then = record.report.as_ref().map(|report| &report.engine);
                let same =
                    then.is_some_and(|then| (&then.generation, &then.settings) == (&now.generation, &now.settings));
                // Apart by a NUL, which is in neither.
                (!same).then(|| format!("{}\0{}", now.generation, now.settings))
            }
            _ => None,
        }
    }
}
