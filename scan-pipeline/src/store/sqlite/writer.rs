//! What the writer does with the calls of a store. A call that is refused has written nothing.

use sqlx::sqlite::SqliteConnection;

use super::atwork::AtWork;
use super::pending::Pending;
use super::{jobs, rows, write};
use crate::Result;
use crate::model::Timestamp;
use crate::sql::sqlite::Calls;
use crate::store::sql::{Answer, Call};

/// The calls of a store.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) cache_entries: u32,
    pub(super) at_work: AtWork,
}

impl Calls for Tasks {
    type Call = Call;
    type Answer = Answer;

    async fn transaction(&mut self, connection: &mut SqliteConnection, calls: &[&Call]) -> Result<Vec<Result<Answer>>> {
        // With the lock from the start: a transaction that reads first and then finds the file changed could only fail.
        // The head is read each time, as other processes may write to the same file.
        let before = rows::begin(connection).await?;
        let mut head = before;
        let committed = calls.iter().filter_map(|call| match call {
            Call::Commit(lease, _) => Some(lease.task),
            _ => None,
        });
        let mut tasks = rows::task_rows(connection, committed).await?;
        let mut results = Vec::with_capacity(calls.len());
        let mut pending = Pending::default();
        for call in calls {
            results.push(match *call {
                Call::Commit(lease, prepared) => {
                    pending.add(lease, prepared, &mut head, &mut tasks).map(Answer::Committed)
                }
                Call::Claim(request) => {
                    // It reads what was written before it.
                    if pending.is_about(request.id) {
                        pending.write(connection, self.cache_entries).await?;
                    }
                    write::claim(connection, request, &mut tasks).await?.map(Answer::Claim)
                }
                Call::Reopen(request) => {
                    if pending.is_about(request.id) {
                        pending.write(connection, self.cache_entries).await?;
                    }
                    write::reopen(connection, request, &mut head, &mut tasks).await?.map(Answer::Claim)
                }
                Call::Job(call) => jobs::run(connection, call).await?.map(Answer::Job),
                Call::SetTags(object, tags) => write::set_tags(connection, object, tags).await?.map(|()| Answer::Done),
            });
        }
        pending.write(connection, self.cache_entries).await?;
        write::end(connection, (head != before).then_some(head)).await?;
        self.at_work.note(calls, &results, Timestamp::now());
        Ok(results)
    }

    fn worth_waiting_for(&self) -> usize {
        self.at_work.worth_waiting_for()
    }

    fn undo(answer: Answer) -> Option<Call> {
        answer.undo()
    }
}
