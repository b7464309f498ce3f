//! The worker as a function that somebody else calls with a batch of messages: AWS Lambda behind SQS.
//!
//! There is no loop here, and nobody who resumes: what waits for its next attempt fails, so that its message comes back.
//! Set `ReportBatchItemFailures` on the trigger, the queue's visibility timeout to several times the function's, and a
//! dead-letter queue on the queue, with a `maxReceiveCount` of two more than the worker's attempts: a part of a bulk job
//! that came that often is counted as failed before the queue moves it away. The repository's `examples/lambda` is a whole function.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::{Outcome, Worker};
use crate::Result;
use crate::event::lambda::{Batch, BatchItemFailures};

/// Messages of one batch at work at a time.
const AT_A_TIME: usize = 16;

/// Handles a batch and says which of its messages have to come back. `time` is how long it may take; what has not come
/// to its end by then is given up and comes back.
///
/// Messages of a FIFO queue are handled one after the other, and none behind the first that fails.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when this is no batch of messages. The function has to
/// fail then, upon which the whole batch comes back.
pub async fn handle(worker: &Worker, event: &[u8], time: Duration) -> Result<BatchItemFailures> {
    let batch = Batch::parse(event)?;
    let end = Instant::now() + time;
    let mut done = vec![false; batch.messages().len()];
    let at_a_time = if batch.is_fifo() { 1 } else { AT_A_TIME };
    let later = turn(worker, &batch, (0..done.len()).collect(), at_a_time, end, &mut done).await;
    if !later.is_empty() && !batch.is_fifo() {
        // Some may be about an object that another message of the batch was at work on, which is through by now. One
        // after the other, as they may be about the same one.
        turn(worker, &batch, later, 1, end, &mut done).await;
    }
    // A function may be frozen as soon as it has answered: workflows that have begun get the rest of the time.
    if tokio::time::timeout_at(end, worker.pipeline().drain()).await.is_err() {
        tracing::warn!("workflows are still at work at the end of the time; their messages come back");
    }
    Ok(batch.answer(&done))
}

/// Handles some messages of a batch, notes which of them are done, and says which the store has a task of that was not
/// to be worked on now.
async fn turn(
    worker: &Worker,
    batch: &Batch,
    which: Vec<usize>,
    at_a_time: usize,
    end: Instant,
    done: &mut [bool],
) -> Vec<usize> {
    let mut ends = stream::iter(which)
        .map(|at| async move {
            let message = &batch.messages()[at];
            let handled = async {
                match worker.gave_up(message.body.as_bytes(), message.receive_count).await {
                    Some(dead) => dead,
                    None => worker.handle(message.body.as_bytes()).await,
                }
            };
            let outcome = tokio::time::timeout_at(end, handled).await;
            match &outcome {
                Ok(Outcome::Done) => {}
                Ok(outcome) => tracing::info!(message = message.id, ?outcome, "a message comes back"),
                Err(_) => tracing::warn!(message = message.id, "a message was given up for lack of time"),
            }
            (at, outcome.ok())
        })
        .buffered(at_a_time);
    let mut later = Vec::new();
    while let Some((at, outcome)) = ends.next().await {
        done[at] = outcome == Some(Outcome::Done);
        if matches!(outcome, Some(Outcome::Later { .. })) {
            later.push(at);
        }
        if !done[at] && batch.is_fifo() {
            break;
        }
    }
    later
}
