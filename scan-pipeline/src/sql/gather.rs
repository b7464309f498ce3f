//! What writes: it takes what waits, has all of it written together, and answers when that is on the disk.
//!
//! A commit to the disk costs milliseconds whether it holds one change or a hundred; so callers who come at the same
//! time share one. A call that fails in the middle undoes the transaction; then each of its calls gets one of its own,
//! and no other is disturbed.
//!
//! Where many callers are known to be at work, a transaction may also wait for a few of them
//! ([`Writes::worth_waiting_for`]), as PostgreSQL does with `commit_delay` and `commit_siblings`.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::sql::again;
use crate::{ErrorKind, Result};

/// Most calls in one transaction: what comes later must not wait for too many.
const BATCH: usize = 256;
/// Calls that may wait; others wait before they get in.
const WAITING: usize = 1024;
/// Longest time that a call waits for others before its transaction begins.
const PATIENCE: Duration = Duration::from_millis(40);

/// What writes, and what can be asked of it.
pub(crate) trait Writes: Send + 'static {
    /// One call, with everything that it needs.
    type Call: Send + Sync + fmt::Debug + 'static;
    /// What comes of it.
    type Answer: Send + fmt::Debug + 'static;

    /// Does these calls in one transaction, to its commit. The outer error is that of the transaction, and nothing of it
    /// was written as far as anybody knows. An inner one is an answer: that call has written nothing.
    fn write(&mut self, calls: &[&Self::Call]) -> impl Future<Output = Result<Vec<Result<Self::Answer>>>> + Send;

    /// How many calls a transaction should have, if they come within [`PATIENCE`]. Below two none is waited for.
    fn worth_waiting_for(&self) -> usize {
        0
    }

    /// The call that undoes what this answer gave, for a caller who has gone away.
    fn undo(answer: Self::Answer) -> Option<Self::Call>;

    /// What it writes to, for the log.
    fn name(&self) -> String;

    /// Ends, when everything is written.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A call, and where its answer goes.
enum Job<W: Writes> {
    Call(W::Call, Reply<W>),
    Undo(W::Call),
    Close(oneshot::Sender<()>),
}

type Reply<W> = oneshot::Sender<Result<Handed<W>>>;

/// An answer on its way. If nobody takes it, it is undone; otherwise nobody would have what was leased until that runs
/// out.
struct Handed<W: Writes>(Option<(W::Answer, mpsc::WeakSender<Job<W>>)>);

impl<W: Writes> Handed<W> {
    fn take(mut self) -> W::Answer {
        // Nobody else takes it out, and this takes the whole.
        self.0.take().expect("it is there until it is taken").0
    }
}

impl<W: Writes> Drop for Handed<W> {
    fn drop(&mut self) {
        // With a full channel the lease runs out by itself.
        if let Some((answer, jobs)) = self.0.take()
            && let Some(call) = W::undo(answer)
            && let Some(jobs) = jobs.upgrade()
        {
            let _ = jobs.try_send(Job::Undo(call));
        }
    }
}

/// The callers' end.
pub(crate) struct Callers<W: Writes>(mpsc::Sender<Job<W>>);

/// The writer's end, to be run until every caller is gone and everything that was accepted is written.
pub(crate) struct Gather<W: Writes> {
    accepted: Mutex<Accepted<W>>,
    handle: mpsc::WeakSender<Job<W>>,
}

struct Accepted<W: Writes> {
    jobs: mpsc::Receiver<Job<W>>,
    closing: Vec<oneshot::Sender<()>>,
}

impl<W: Writes> Accepted<W> {
    /// Adds what comes, until there is as much as is wanted or it takes too long. Nobody waits for others to close.
    async fn wait_for_others(&mut self, batch: &mut Vec<Job<W>>, wanted: usize) {
        let end = Instant::now() + PATIENCE;
        while batch.len() < wanted.min(BATCH) && !batch.iter().any(|job| matches!(job, Job::Close(_))) {
            let room = BATCH - batch.len();
            if !matches!(timeout_at(end, self.jobs.recv_many(batch, room)).await, Ok(1..)) {
                return;
            }
        }
    }
}

/// The two ends.
pub(crate) fn channel<W: Writes>() -> (Callers<W>, Gather<W>) {
    let (sender, jobs) = mpsc::channel(WAITING);
    let handle = sender.downgrade();
    (Callers(sender), Gather { accepted: Mutex::new(Accepted { jobs, closing: Vec::new() }), handle })
}

impl<W: Writes> Callers<W> {
    /// Has the writer do it, and answers when that is on the disk. `None` when it is closed.
    pub(crate) async fn call(&self, call: W::Call) -> Option<Result<W::Answer>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Job::Call(call, answer)).await.ok()?;
        Some(answered.await.ok()?.map(Handed::take))
    }

    /// Takes no more calls and waits for those that were accepted. It may be called again.
    pub(crate) async fn close(&self) {
        let (done, is_done) = oneshot::channel();
        // Where another handle has closed it, the end of the channel says when that is done.
        if self.0.send(Job::Close(done)).await.is_err() || is_done.await.is_err() {
            self.0.closed().await;
        }
    }
}

impl<W: Writes> Gather<W> {
    pub(crate) async fn run(self, writer: W) {
        self.run_side_by_side(vec![writer]).await;
    }

    /// With several writers, as where each has a connection of its own to a server. A second one begins only when a
    /// transaction is full and there are calls behind it: until then two would only share out what one commit can carry.
    pub(crate) async fn run_side_by_side(self, writers: Vec<W>) {
        join_all(writers.into_iter().map(|writer| self.write(writer))).await;
        for done in self.accepted.into_inner().closing {
            let _ = done.send(());
        }
    }

    async fn write(&self, mut writer: W) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            // Kept while a transaction that is not full is written: what comes meanwhile is the next one.
            let mut accepted = self.accepted.lock().await;
            if accepted.jobs.recv_many(&mut batch, BATCH).await == 0 {
                break;
            }
            accepted.wait_for_others(&mut batch, writer.worth_waiting_for()).await;
            let full = batch.len() == BATCH;
            let mut jobs = Vec::with_capacity(batch.len());
            for job in batch.drain(..) {
                match job {
                    Job::Close(done) => {
                        // No more gets in, and what is in comes out.
                        accepted.jobs.close();
                        accepted.closing.push(done);
                    }
                    // Who does not wait any more gets nothing written; a claim would be nobody's.
                    Job::Call(call, answer) if !answer.is_closed() => jobs.push((call, Some(answer))),
                    Job::Call(..) => {}
                    Job::Undo(call) => jobs.push((call, None)),
                }
            }
            let kept = (!full).then_some(accepted);
            if !jobs.is_empty() {
                self.serve(&mut writer, jobs).await;
            }
            drop(kept);
        }
        writer.close().await;
    }

    async fn serve(&self, writer: &mut W, jobs: Vec<(W::Call, Option<Reply<W>>)>) {
        let calls: Vec<_> = jobs.iter().map(|(call, _)| call).collect();
        let mut results = writer.write(&calls).await;
        if let (Err(error), 2..) = (&results, jobs.len())
            && !matches!(error.kind(), ErrorKind::Busy | ErrorKind::Timeout | ErrorKind::Unavailable)
        {
            // One of them may have been what the disk had no room for, which undoes the whole transaction.
            let mut singly = Vec::with_capacity(jobs.len());
            for call in &calls {
                singly.push(writer.write(&[*call]).await.map_or_else(Err, |mut one| one.remove(0)));
            }
            results = Ok(singly);
        }
        let results = match results {
            Ok(results) => results,
            Err(error) if jobs.len() == 1 => vec![Err(error)],
            Err(error) => jobs.iter().map(|_| Err(again(&error))).collect(),
        };
        for ((_, answer), result) in jobs.into_iter().zip(results) {
            match (answer, result) {
                // Who has gone away meanwhile drops it, and that undoes it.
                (Some(answer), result) => {
                    let _ = answer.send(result.map(|given| Handed(Some((given, self.handle.clone())))));
                }
                (None, Err(error)) => {
                    tracing::warn!(database = writer.name(), %error, "leases of callers who have gone run out by themselves");
                }
                (None, Ok(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::UnboundedSender;

    use super::*;

    /// Says how many calls each transaction has.
    struct Counts(usize, UnboundedSender<usize>);

    impl Writes for Counts {
        type Call = ();
        type Answer = ();

        async fn write(&mut self, calls: &[&()]) -> Result<Vec<Result<()>>> {
            self.1.send(calls.len()).expect("the test listens");
            Ok(calls.iter().map(|_| Ok(())).collect())
        }

        fn worth_waiting_for(&self) -> usize {
            self.0
        }

        fn undo((): ()) -> Option<()> {
            None
        }

        fn name(&self) -> String {
            String::from("nothing")
        }

        async fn close(self) {}
    }

    /// Calls that come a few milliseconds after each other; gives how many each transaction had, and how long it took.
    async fn transactions(wanted: usize, calls: usize) -> (Vec<usize>, Duration) {
        let (callers, gather) = channel();
        let (counts, mut counted) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let writer = tokio::spawn(gather.run(Counts(wanted, counts)));
        let calls = (0_u32..).take(calls).map(|number| {
            let callers = &callers;
            async move {
                tokio::time::sleep(Duration::from_millis(5) * number).await;
                callers.call(()).await.expect("it is open").expect("it is written");
            }
        });
        join_all(calls).await;
        let took = begun.elapsed();
        callers.close().await;
        writer.await.expect("no panic");
        let mut all = Vec::new();
        counted.recv_many(&mut all, 100).await;
        (all, took)
    }

    #[tokio::test(start_paused = true)]
    async fn a_transaction_waits_for_as_many_calls_as_are_wanted_and_no_longer() {
        assert_eq!(transactions(0, 6).await.0, [1; 6]);
        assert_eq!(transactions(1, 6).await.0, [1; 6]);
        let (counts, took) = transactions(3, 6).await;
        assert_eq!(counts, [3, 3]);
        assert_eq!(took.as_millis(), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_stay_away_are_not_waited_for_long() {
        let (counts, took) = transactions(3, 2).await;
        assert_eq!(counts, [2]);
        assert!((PATIENCE..PATIENCE + Duration::from_millis(2)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_closes_waits_for_nobody() {
        let (callers, gather) = channel();
        let (counts, mut counted) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let writer = tokio::spawn(gather.run(Counts(3, counts)));
        let (answer, ()) = tokio::join!(callers.call(()), callers.close());
        answer.expect("it was open").expect("it is written");
        writer.await.expect("no panic");
        assert_eq!((counted.recv().await, begun.elapsed()), (Some(1), Duration::ZERO));
    }
}
