//! What happens to leases: extended, and settled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{self, Delete, Hide, Outcome};
use super::message::{Outgoing, Received, seconds};
use super::{Inner, LONGEST_LEASE, lease_seconds};
use crate::Result;
use crate::queue::held::{self, Standing, Unanswered};
use crate::queue::{Held, Receipt, Settle};

/// A lease that ends as soon as this may be over when the request arrives: it is made sure of first.
const MARGIN: Duration = Duration::from_secs(2);
/// For how long a message stays hidden that is being settled.
const WHILE_SETTLING: i32 = 60;

/// What SQS still allows of a lease. It counts from when it sent the message, whole seconds, and we from when it came.
fn left(since: Instant) -> Duration {
    LONGEST_LEASE.saturating_sub(MARGIN).saturating_sub(since.elapsed())
}

/// A message to settle, on its way.
struct Case {
    /// Its place among those that the caller gave.
    at: usize,
    id: String,
    handle: String,
    what: What,
}

enum What {
    Done,
    Retry(i32),
    Dead { message: Arc<Received>, reason: String },
}

impl Inner {
    /// Makes leases last longer.
    pub(super) async fn extend(&self, leases: &[(Receipt, Duration)]) -> Result<Vec<Held>> {
        let mut answers = vec![Held::Lost; leases.len()];
        let mut asked = Vec::new();
        for (at, (receipt, ttl)) in leases.iter().enumerate() {
            let Some((id, handle)) = held::parts(receipt) else { continue };
            let ttl = match self.leases.standing(id, handle) {
                Standing::Over => continue,
                Standing::Unknown => *ttl,
                Standing::Held(term) => (*ttl).min(left(term.since)),
            };
            // What is left of the twelve hours is no lease any more.
            if ttl >= Duration::from_secs(1) || leases[at].1 < Duration::from_secs(1) {
                asked.push((at, id, handle, lease_seconds(ttl)));
            }
        }
        let entries: Vec<_> = asked.iter().map(|(_, _, handle, ttl)| Hide(handle, *ttl)).collect();
        let now = Instant::now();
        let outcomes = batch::all(&self.client, &self.url, &entries, false).await;
        let mut failed = Unanswered::default();
        for ((at, id, handle, ttl), outcome) in asked.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => {
                    self.leases.extend(id, handle, now + Duration::from_secs(u64::try_from(ttl).unwrap_or(0)));
                    answers[at] = Held::Held;
                }
                Err(trouble) if trouble.refused => self.leases.lost(id, handle),
                Err(trouble) => failed.note(&self.name, trouble.error),
            }
        }
        failed.or(answers)
    }

    /// Settles messages, each as it is asked.
    pub(super) async fn settle(&self, messages: &[(Receipt, Settle)]) -> Result<Vec<Held>> {
        let mut answers = vec![Held::Lost; messages.len()];
        let (mut sure, mut unsure) = (Vec::new(), Vec::new());
        for (at, (receipt, settle)) in messages.iter().enumerate() {
            let Some((id, handle)) = held::parts(receipt) else { continue };
            let standing = self.leases.take(id, handle);
            let (term, is_sure) = match standing {
                Standing::Over => continue,
                Standing::Unknown => (None, false),
                Standing::Held(term) => {
                    let is_sure = term.until.saturating_duration_since(Instant::now()) > MARGIN;
                    (Some(term), is_sure)
                }
            };
            let what = match (settle, term) {
                (Settle::Done, _) => What::Done,
                (Settle::Retry { after }, term) => {
                    let most = term.map_or(LONGEST_LEASE, |term| left(term.since));
                    What::Retry(seconds(*after, most))
                }
                (Settle::Dead { reason }, Some(term)) => What::Dead { message: term.what, reason: reason.clone() },
                (Settle::Dead { .. }, None) => {
                    tracing::warn!(queue = %self.name, id, "cannot be settled as dead by who did not lease it; it comes again");
                    continue;
                }
            };
            let case = Case { at, id: id.to_owned(), handle: handle.to_owned(), what };
            match &case.what {
                What::Done if is_sure => sure.push(case),
                // A retry is its own question. A dead message is sent before it is deleted, so it has to be ours.
                What::Retry(_) => sure.push(case),
                _ => unsure.push(case),
            }
        }
        let mut failed = Unanswered::default();
        sure.extend(self.make_sure(unsure, &mut failed).await);
        let sure = self.bury(sure, &mut failed).await;
        let (back, gone): (Vec<_>, Vec<_>) = sure.into_iter().partition(|case| matches!(case.what, What::Retry(_)));
        let hide = |case: &Case| match case.what {
            What::Retry(after) => after,
            _ => 0,
        };
        let entries: Vec<_> = back.iter().map(|case| Hide(&case.handle, hide(case))).collect();
        let outcomes = batch::all(&self.client, &self.url, &entries, false).await;
        for (case, _) in self.judge(back, outcomes, &mut failed) {
            self.leases.given_back(&case.id, &case.handle);
            answers[case.at] = Held::Held;
        }
        let entries: Vec<_> = gone.iter().map(|case| Delete(&case.handle)).collect();
        let outcomes = batch::all(&self.client, &self.url, &entries, false).await;
        for (case, _) in self.judge(gone, outcomes, &mut failed) {
            self.leases.gone(&case.id, &case.handle);
            answers[case.at] = Held::Held;
        }
        failed.or(answers)
    }

    /// Those whose leases hold, by the broker's word, and for long enough.
    async fn make_sure(&self, cases: Vec<Case>, failed: &mut Unanswered) -> Vec<Case> {
        let entries: Vec<_> = cases.iter().map(|case| Hide(&case.handle, WHILE_SETTLING)).collect();
        let outcomes = batch::all(&self.client, &self.url, &entries, false).await;
        self.judge(cases, outcomes, failed).map(|(case, _)| case).collect()
    }

    /// Sends the dead among them to the dead letters. Whatever is given back is to be settled in the queue.
    async fn bury(&self, cases: Vec<Case>, failed: &mut Unanswered) -> Vec<Case> {
        let (dead, mut others): (Vec<_>, Vec<_>) =
            cases.into_iter().partition(|case| matches!(case.what, What::Dead { .. }));
        let letter = |case: &Case| match &case.what {
            What::Dead { message, reason } => message.dead(reason, self.form),
            _ => Outgoing::default(),
        };
        let entries: Vec<_> = dead.iter().map(letter).collect();
        let outcomes = batch::all(&self.client, &self.dead_url, &entries, false).await;
        for (case, outcome) in dead.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => others.push(case),
                // Also where the dead letters refuse it: it must not be lost for that.
                Err(trouble) => {
                    self.leases.restore(&case.id, &case.handle);
                    failed.note(&self.name, trouble.error);
                }
            }
        }
        others
    }

    /// Keeps those that the broker has done, and the others' leases as they were or lost.
    fn judge<'a>(
        &'a self,
        cases: Vec<Case>,
        outcomes: Vec<Outcome>,
        failed: &'a mut Unanswered,
    ) -> impl Iterator<Item = (Case, String)> + 'a {
        cases.into_iter().zip(outcomes).filter_map(|(case, outcome)| {
            match outcome {
                Ok(said) => return Some((case, said)),
                Err(trouble) if trouble.refused => self.leases.gone(&case.id, &case.handle),
                Err(trouble) => {
                    self.leases.restore(&case.id, &case.handle);
                    failed.note(&self.name, trouble.error);
                }
            }
            None
        })
    }
}
