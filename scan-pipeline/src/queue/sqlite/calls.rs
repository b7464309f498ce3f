//! What the writer does with the calls of a queue, in one transaction.

use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::Notify;

use super::{dead, write};
use crate::Result;
use crate::model::Timestamp;
use crate::queue::sql::{Clock, Ticket};
use crate::queue::{Delivery, Held, MessageId, NewMessage, Settle, Which};
use crate::sql::sqlite::{self, Calls};

#[derive(Debug)]
pub(super) enum Call {
    Enqueue(Vec<NewMessage>),
    /// At most so many, for so many milliseconds.
    Lease(usize, i64),
    /// For how many milliseconds more.
    Extend(Vec<(Ticket, i64)>),
    Settle(Vec<(Ticket, Settle)>),
    /// What was leased for somebody who did not wait for it: no delivery.
    GiveBack(Vec<Ticket>),
    Redrive(Which, usize),
    Purge(Which, usize),
}

#[derive(Debug)]
pub(super) enum Answer {
    Enqueued(Vec<MessageId>),
    Leased(Vec<(Ticket, Delivery)>),
    Held(Vec<Held>),
    Count(u64),
}

/// The calls of a queue.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) clock: Clock,
    /// Rings when there may be something to lease.
    pub(super) bell: Arc<Notify>,
}

impl Calls for Messages {
    type Call = Call;
    type Answer = Answer;

    async fn transaction(&mut self, connection: &mut SqliteConnection, calls: &[&Call]) -> Result<Vec<Result<Answer>>> {
        sqlite::begin(connection).await?;
        // With the lock: waiting for it takes time, which would be missing from the leases.
        let now = Timestamp::now().0.saturating_add(self.clock.offset());
        let mut answers = Vec::with_capacity(calls.len());
        let mut rings = false;
        for call in calls {
            answers.push(Ok(match call {
                Call::Enqueue(messages) => Answer::Enqueued(write::enqueue(connection, messages, now).await?),
                Call::Lease(most, ttl) => Answer::Leased(write::lease(connection, *most, *ttl, now).await?),
                Call::Extend(leases) => Answer::Held(write::extend(connection, leases, now).await?),
                Call::Settle(messages) => Answer::Held(write::settle(connection, messages, now).await?),
                Call::GiveBack(tickets) => Answer::Count(write::give_back(connection, tickets, now).await?),
                Call::Redrive(which, most) => Answer::Count(dead::redrive(connection, which, *most, now).await?),
                Call::Purge(which, most) => Answer::Count(dead::purge(connection, which, *most).await?),
            }));
            rings |= !matches!(call, Call::Lease(..) | Call::Purge(..));
        }
        sqlite::commit(connection).await?;
        if rings {
            self.bell.notify_waiters();
        }
        Ok(answers)
    }

    fn undo(answer: Answer) -> Option<Call> {
        let Answer::Leased(leased) = answer else { return None };
        (!leased.is_empty()).then(|| Call::GiveBack(leased.into_iter().map(|(ticket, _)| ticket).collect()))
    }
}
