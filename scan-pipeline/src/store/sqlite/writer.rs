//! What the writer does with the calls of a store. A call that is refused has written nothing.

use std::collections::HashMap;

use sqlx::sqlite::SqliteConnection;

use super::{jobs, rows, write};
use crate::Result;
use crate::model::TaskId;
use crate::sql::sqlite::Calls;
use crate::store::AuditHead;
use crate::store::sql::{Answer, Call, TaskRow};

/// The calls of a store.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) cache_entries: u32,
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
        for call in calls {
            results.push(run(connection, call, self.cache_entries, &mut head, &mut tasks).await?);
        }
        write::end(connection, (head != before).then_some(head)).await?;
        Ok(results)
    }

    fn undo(answer: Answer) -> Option<Call> {
        answer.undo()
    }
}

/// The inner result is the answer; with the outer one the transaction has failed. `head` is the end of the audit log, and
/// `tasks` are those that commits are about, both as the transaction has them.
async fn run(
    connection: &mut SqliteConnection,
    call: &Call,
    cache_entries: u32,
    head: &mut AuditHead,
    tasks: &mut HashMap<TaskId, TaskRow>,
) -> Result<Result<Answer>> {
    Ok(match call {
        Call::Claim(request) => write::claim(connection, request, tasks).await?.map(Answer::Claim),
        Call::Reopen(request) => write::reopen(connection, request, head, tasks).await?.map(Answer::Claim),
        Call::Commit(lease, prepared) => {
            write::commit(connection, lease, prepared, cache_entries, head, tasks).await?.map(Answer::Committed)
        }
        Call::Job(call) => jobs::run(connection, call).await?.map(Answer::Job),
        Call::SetTags(object, tags) => write::set_tags(connection, object, tags).await?.map(|()| Answer::Done),
    })
}
