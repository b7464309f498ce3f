//! What becomes of a message, or of a part of one.

use std::fmt;
use std::time::Duration;

use crate::health::is_outage;
use crate::{Error, ErrorKind};

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
        /// Something does not answer anybody, or somebody else is at work on it: it is no fault of the message.
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
        // Who lost a task to somebody else knows nothing of its end; the next delivery finds it, or the task left alone.
        let may_succeed = error.is_retryable() || error.kind() == ErrorKind::Fenced;
        if may_succeed { Self::retry(error) } else { Self::dead(error) }
    }

    /// That of two parts of one message: as long as something may still succeed it comes again.
    pub(crate) fn and(self, other: Self) -> Self {
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

pub(crate) fn short(text: &impl fmt::Display) -> String {
    let text = text.to_string();
    match text.char_indices().nth(LONGEST_REASON) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_somebody_else_has_taken_is_no_failure_of_its_message() {
        let of = |kind| Outcome::of(&Error::new(kind, "why"));
        assert!(matches!(of(ErrorKind::Fenced), Outcome::Retry { outage: false, .. }));
        assert!(matches!(of(ErrorKind::Timeout), Outcome::Retry { .. }));
        assert!(matches!(of(ErrorKind::Denied), Outcome::Dead { .. }));
    }
}
