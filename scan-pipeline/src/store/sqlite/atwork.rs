//! How many tasks the callers of a store are at work on, and what that says about the next transaction.

use std::collections::HashMap;

use crate::model::{TaskId, Timestamp};
use crate::store::sql::{Answer, Call};
use crate::store::{Claim, LeaseChange};
use crate::{ErrorKind, Result};

/// A transaction waits for one call of so many tasks.
///
/// A task that takes the time T makes at least two calls, its claim and its end. So from L tasks at work, L / 8 calls come
/// within T / 16: what a task waits in all, whatever the machine, is an eighth of what it takes anyway, at most, and nothing
/// where commits come so fast that they find each other already. In return commits, and all that wakes up with their
/// answers, interrupt the scans less often.
const TASKS_A_CALL: usize = 8;

/// Tasks whose leases this store has given out, with the end of the lease. Those that other processes have do not count.
#[derive(Debug, Default)]
pub(super) struct AtWork(HashMap<TaskId, Timestamp>);

impl AtWork {
    /// Takes note of what was written.
    pub(super) fn note(&mut self, calls: &[&Call], answers: &[Result<Answer>], now: Timestamp) {
        for (call, answer) in calls.iter().zip(answers) {
            match (call, answer) {
                (Call::Claim(request) | Call::Reopen(request), Ok(Answer::Claim(Claim::Mine(lease, _)))) => {
                    self.0.insert(lease.task, now.plus(request.ttl));
                }
                (Call::Commit(lease, prepared), Ok(_)) => {
                    let changes = &prepared.changes;
                    match changes.lease {
                        _ if changes.state.is_some_and(|state| state.is_terminal()) => drop(self.0.remove(&lease.task)),
                        LeaseChange::Release | LeaseChange::Return => drop(self.0.remove(&lease.task)),
                        LeaseChange::Extend(ttl) => drop(self.0.insert(lease.task, now.plus(ttl))),
                        LeaseChange::Keep => {}
                    }
                }
                (Call::Commit(lease, _), Err(why)) if why.kind() == ErrorKind::Fenced => {
                    self.0.remove(&lease.task);
                }
                _ => {}
            }
        }
        // Who was killed gives nothing back.
        self.0.retain(|_, until| *until > now);
    }

    pub(super) fn worth_waiting_for(&self) -> usize {
        self.0.len() / TASKS_A_CALL
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Error;
    use crate::model::ObjectRef;
    use crate::store::sql::{Prepared, Taken, TaskRow};
    use crate::store::{Changes, ClaimRequest, Lease, NewAudit, TaskState};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn request(number: usize) -> ClaimRequest {
        let object = ObjectRef::new("s3://uploads".parse().expect("an address"), format!("{number}"));
        let ttl = Duration::from_secs(60);
        ClaimRequest { id: TaskId::of(&object, 0), object, owner: String::from("worker"), ttl }
    }

    fn claimed(at_work: &mut AtWork, number: usize) -> Lease {
        let request = request(number);
        let row = TaskRow::new(&request, NOW).expect("a row");
        let claim = row.answer(Taken::Mine, row.clone().alone().expect("a task"));
        let Claim::Mine(lease, _) = &claim else { panic!("it was taken") };
        let lease = lease.clone();
        at_work.note(&[&Call::Claim(request)], &[Ok(Answer::Claim(claim))], NOW);
        lease
    }

    fn commit(at_work: &mut AtWork, lease: &Lease, changes: Changes, answer: Result<Answer>) {
        let prepared = Prepared::new(changes).expect("changes");
        at_work.note(&[&Call::Commit(lease.clone(), Box::new(prepared))], &[answer], NOW);
    }

    #[test]
    fn leases_count_until_they_are_given_back_or_lost() {
        let mut at_work = AtWork::default();
        let leases: Vec<_> = (0..32).map(|number| claimed(&mut at_work, number)).collect();
        assert_eq!(at_work.worth_waiting_for(), 4);
        let committed = || Ok(Answer::Committed(NOW));
        commit(&mut at_work, &leases[0], Changes::default(), committed());
        assert_eq!(at_work.0.len(), 32);
        let audit = vec![NewAudit::task(TaskState::Done, serde_json::json!({}))];
        let done = Changes { state: Some(TaskState::Done), audit, ..Changes::default() };
        commit(&mut at_work, &leases[0], done, committed());
        let release = Changes { lease: LeaseChange::Release, ..Changes::default() };
        commit(&mut at_work, &leases[1], release, committed());
        let back = Changes { lease: LeaseChange::Return, ..Changes::default() };
        commit(&mut at_work, &leases[2], back, committed());
        let busy = || Err(Error::new(ErrorKind::Busy, "locked"));
        commit(&mut at_work, &leases[3], Changes::default(), busy());
        assert_eq!(at_work.0.len(), 29);
        let fenced = Err(Error::new(ErrorKind::Fenced, "another worker has it"));
        commit(&mut at_work, &leases[3], Changes::default(), fenced);
        assert_eq!((at_work.0.len(), at_work.worth_waiting_for()), (28, 3));
    }

    #[test]
    fn leases_that_run_out_do_not_count() {
        let mut at_work = AtWork::default();
        let leases: Vec<_> = (0..8).map(|number| claimed(&mut at_work, number)).collect();
        let extend = Changes { lease: LeaseChange::Extend(Duration::from_secs(90)), ..Changes::default() };
        commit(&mut at_work, &leases[0], extend, Ok(Answer::Committed(NOW)));
        at_work.note(&[], &[], NOW.plus(Duration::from_secs(70)));
        assert_eq!(at_work.0.len(), 1);
        at_work.note(&[], &[], NOW.plus(Duration::from_secs(91)));
        assert_eq!(at_work.0.len(), 0);
    }

    #[test]
    fn a_claim_that_others_have_counts_for_nothing() {
        let mut at_work = AtWork::default();
        let busy = Claim::Busy { owner: String::from("other"), until: NOW };
        at_work.note(&[&Call::Claim(request(1))], &[Ok(Answer::Claim(busy))], NOW);
        assert_eq!(at_work.0.len(), 0);
    }
}
