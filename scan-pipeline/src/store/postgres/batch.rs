//! The calls of a batch, each checked by itself, one after the other, against the rows that the transaction has locked.
//! What they come to is written afterwards, set by set.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::Result;
use crate::model::{ObjectRef, Report, Tags, TaskId, Timestamp};
use crate::store::sql::jobs::JobCall;
use crate::store::sql::{Call, Prepared, Taken, TaskRow, to_json};
use crate::store::{ClaimRequest, Lease, StepRecord};

/// What a batch comes to.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    now: Timestamp,
    /// By id, which is the order in which everybody locks.
    tasks: BTreeMap<TaskId, Held>,
    pub(super) reports: BTreeMap<TaskId, (&'a Report, &'a str)>,
    /// In the order of their beginning.
    pub(super) steps: Vec<(TaskId, &'a StepRecord, Option<&'a str>)>,
    step_places: HashMap<(TaskId, &'a str, &'a str), usize>,
    /// In the order in which they were learned.
    pub(super) cache: Vec<(Vec<u8>, &'a str)>,
    pub(super) tags: Vec<(&'a ObjectRef, &'a Tags, String)>,
    pub(super) jobs: Vec<&'a JobCall>,
    /// Kinds and bodies.
    pub(super) log: Vec<(TaskId, Cow<'a, str>, Cow<'a, str>)>,
    /// Dead tasks that are opened again, whose steps have their attempts anew.
    pub(super) reopened: Vec<TaskId>,
}

#[derive(Debug)]
struct Held {
    row: TaskRow,
    new: bool,
    changed: bool,
}

/// What a call will be answered, once all is written.
#[derive(Debug)]
pub(super) enum Outcome {
    /// With the task as the claim left it, and whether anything else can be known of it.
    Claim {
        taken: Taken,
        row: Box<TaskRow>,
        known: bool,
    },
    Committed,
    /// The call of this place among those about jobs.
    Job(usize),
    Done,
}

impl<'a> Batch<'a> {
    /// Begins with the tasks as the transaction has them, at this time.
    pub(super) fn new(rows: Vec<TaskRow>, now: Timestamp) -> Self {
        let held = |row: TaskRow| (row.id, Held { row, new: false, changed: false });
        Self { now, tasks: rows.into_iter().map(held).collect(), ..Self::default() }
    }

    /// Does a call. One that fails has changed nothing.
    pub(super) fn take(&mut self, call: &'a Call) -> Result<Outcome> {
        match call {
            Call::Claim(request) => self.claim(request, false),
            Call::Reopen(request) => self.claim(request, true),
            Call::Commit(lease, prepared) => self.commit(lease, prepared),
            Call::SetTags(object, tags) => {
                self.tags.push((object, tags, to_json(tags)?));
                Ok(Outcome::Done)
            }
            Call::Job(call) => {
                self.jobs.push(call);
                Ok(Outcome::Job(self.jobs.len() - 1))
            }
        }
    }

    fn claim(&mut self, request: &ClaimRequest, reopen: bool) -> Result<Outcome> {
        let (taken, held) = match self.tasks.get_mut(&request.id) {
            Some(held) => {
                let (taken, retried) = match reopen {
                    true => held.row.reopen(request, self.now),
                    false => (held.row.claim(request, self.now), None),
                };
                if let Some(retried) = retried {
                    self.log.push((request.id, Cow::Owned(retried.kind), Cow::Owned(retried.body.to_string())));
                    self.reopened.push(request.id);
                }
                held.changed |= matches!(taken, Taken::Mine);
                (taken, held)
            }
            None => {
                let new = Held { row: TaskRow::new(request, self.now)?, new: true, changed: false };
                (Taken::Mine, self.tasks.entry(request.id).or_insert(new))
            }
        };
        Ok(Outcome::Claim { taken, row: Box::new(held.row.clone()), known: !held.new })
    }

    fn commit(&mut self, lease: &Lease, prepared: &'a Prepared) -> Result<Outcome> {
        let id = lease.task;
        let held = self.tasks.get_mut(&id);
        let row = TaskRow::commit(held.as_ref().map(|held| &held.row), lease, prepared, self.now)?;
        if let Some(held) = held {
            held.row = row;
            held.changed = true;
        }
        let changes = &prepared.changes;
        if let (Some(report), Some(text)) = (&changes.report, &prepared.report) {
            self.reports.insert(id, (report, text));
        }
        for (step, output) in changes.steps.iter().zip(&prepared.outputs) {
            let last = (id, step, output.as_deref());
            let place = *self.step_places.entry((id, &step.workflow, &step.step)).or_insert(self.steps.len());
            match self.steps.get_mut(place) {
                Some(earlier) => *earlier = last,
                None => self.steps.push(last),
            }
        }
        if let (Some((key, _)), Some(text)) = (&changes.cache, &prepared.cached) {
            let key = super::read::cache_key(key);
            self.cache.retain(|(other, _)| *other != key);
            self.cache.push((key, text));
        }
        let borrowed = |(kind, body)| (id, Cow::Borrowed(kind), Cow::Borrowed(body));
        self.log.extend(prepared.log().map(borrowed));
        Ok(Outcome::Committed)
    }

    /// When all of it happens.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// The tasks that nobody knew, in the order of their ids.
    pub(super) fn new_tasks(&self) -> Vec<&TaskRow> {
        self.tasks.values().filter(|held| held.new).map(|held| &held.row).collect()
    }

    /// The others that were changed.
    pub(super) fn changed_tasks(&self) -> Vec<&TaskRow> {
        self.tasks.values().filter(|held| held.changed && !held.new).map(|held| &held.row).collect()
    }
}
