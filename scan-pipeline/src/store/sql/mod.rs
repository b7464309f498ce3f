//! What the stores on SQL have in common: a task's row, and what claims and commits make of it.

pub(super) mod jobs;

use std::fmt::Write as _;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::jobs::JobCall;
use super::{
    AuditEntry, AuditHead, Changes, Claim, ClaimRequest, JobState, Lease, LeaseChange, NewAudit, StepRecord, StepState,
    TaskFilter, TaskRecord, TaskState,
};
use crate::handler::Place;
use crate::model::{ContentDigest, Finding, ObjectRef, Report, Tags, TaskId, Timestamp};
use crate::sql::{Columns, damaged, digest, word};
use crate::{Error, ErrorKind, Result};

/// One row of tasks.
#[derive(Debug, Clone)]
pub(super) struct TaskRow {
    pub(super) id: TaskId,
    pub(super) object: String,
    pub(super) state: TaskState,
    pub(super) attempts: u32,
    pub(super) workflow: Option<String>,
    pub(super) place: String,
    pub(super) next_at: Option<i64>,
    pub(super) error: Option<String>,
    pub(super) created: i64,
    pub(super) updated: i64,
    pub(super) fence: i64,
    pub(super) lease_owner: Option<String>,
    pub(super) lease_until: Option<i64>,
}

/// The columns of a [`TaskRow`], in the order of its fields.
macro_rules! task_columns {
    () => {
        "id, object, state, attempts, workflow, place, next_at, error, created, updated, fence, lease_owner, lease_until"
    };
}
pub(super) use task_columns;
/// How many they are.
#[cfg(feature = "postgres")]
pub(super) const TASK_COLUMNS: usize = 13;

/// What became of a claim, before anybody has read the rest of the task.
#[derive(Debug)]
pub(super) enum Taken {
    Mine,
    Busy { owner: String, until: Timestamp },
    NotYet { until: Timestamp },
    Finished,
}

impl TaskRow {
    /// A task that nobody knew, claimed.
    pub(super) fn new(request: &ClaimRequest, now: Timestamp) -> Result<Self> {
        Ok(Self {
            id: request.id,
            object: to_json(&request.object)?,
            state: TaskState::Scanning,
            attempts: 1,
            workflow: None,
            place: to_json(&Place::Here)?,
            next_at: None,
            error: None,
            created: now.0,
            updated: now.0,
            fence: 1,
            lease_owner: Some(request.owner.clone()),
            lease_until: Some(now.plus(request.ttl).0),
        })
    }

    pub(super) fn read(row: &impl Columns) -> Result<Self> {
        Ok(Self {
            id: TaskId(digest(row, 0)?),
            object: row.text(1)?,
            state: word(row, 2, &TaskState::ALL, TaskState::as_str)?,
            attempts: count(row, 3)?,
            workflow: row.any_text_or_null(4)?,
            place: row.text(5)?,
            next_at: row.number_or_null(6)?,
            error: row.any_text_or_null(7)?,
            created: row.number(8)?,
            updated: row.number(9)?,
            fence: row.number(10)?,
            lease_owner: row.any_text_or_null(11)?,
            lease_until: row.number_or_null(12)?,
        })
    }

    /// Takes the lease, or says why not, and then changes nothing.
    pub(super) fn claim(&mut self, request: &ClaimRequest, now: Timestamp) -> Taken {
        if self.state.is_terminal() {
            return Taken::Finished;
        }
        if let (Some(owner), Some(until)) = (&self.lease_owner, self.lease_until)
            && until > now.0
        {
            return Taken::Busy { owner: owner.clone(), until: Timestamp(until) };
        }
        if let Some(until) = self.next_at.filter(|at| *at > now.0).map(Timestamp) {
            return Taken::NotYet { until };
        }
        self.fence += 1;
        if self.state != TaskState::Handling {
            self.attempts = self.attempts.saturating_add(1);
            self.state = TaskState::Scanning;
        }
        self.updated = now.0;
        self.lease_owner = Some(request.owner.clone());
        self.lease_until = Some(now.plus(request.ttl).0);
        Taken::Mine
    }

    /// As [`claim`](Self::claim), and takes a dead task where it stopped. Gives the entry that says so, if it was one.
    pub(super) fn reopen(&mut self, request: &ClaimRequest, now: Timestamp) -> (Taken, Option<NewAudit>) {
        let retried = (self.state == TaskState::Dead).then(|| {
            if self.workflow.is_some() {
                self.state = TaskState::Handling;
            } else {
                (self.state, self.attempts) = (TaskState::Pending, 0);
            }
            self.next_at = None;
            NewAudit::retried(&request.owner, self.error.take().as_deref())
        });
        (self.claim(request, now), retried)
    }

    /// The answer to a claim, once the rest of the task was read.
    pub(super) fn answer(&self, taken: Taken, record: TaskRecord) -> Claim {
        let record = Box::new(record);
        match taken {
            Taken::Mine => Claim::Mine(Lease { task: self.id, fence: self.fence.cast_unsigned() }, record),
            Taken::Busy { owner, until } => Claim::Busy { owner, until },
            Taken::NotYet { until } => Claim::NotYet { until, record },
            Taken::Finished => Claim::Finished(record),
        }
    }

    /// The row after a commit, if the lease holds.
    pub(super) fn commit(row: Option<&Self>, lease: &Lease, prepared: &Prepared, now: Timestamp) -> Result<Self> {
        let fenced = |why: &str| Err(Error::new(ErrorKind::Fenced, format!("nothing was recorded: {why}")));
        let Some(row) = row else { return fenced("the task is not known") };
        if row.fence.cast_unsigned() != lease.fence {
            return fenced("another worker has claimed the task since");
        }
        if row.state.is_terminal() {
            return fenced("the task has come to its end");
        }
        if row.lease_owner.is_none() {
            return fenced("the lease was given back");
        }
        Ok(row.clone().changed(prepared, now))
    }

    fn changed(mut self, prepared: &Prepared, now: Timestamp) -> Self {
        let changes = &prepared.changes;
        self.updated = now.0;
        if let Some(state) = changes.state {
            self.state = state;
        }
        if let Some(workflow) = &changes.workflow {
            self.workflow = Some(workflow.clone());
        }
        if let Some(place) = &prepared.place {
            self.place.clone_from(place);
        }
        if let Some(next_at) = changes.next_at {
            self.next_at = next_at.map(|at| at.0);
        }
        if let Some(error) = &changes.error {
            self.error.clone_from(error);
        }
        match changes.lease {
            _ if self.state.is_terminal() => (self.lease_owner, self.lease_until) = (None, None),
            LeaseChange::Keep => {}
            LeaseChange::Extend(ttl) => self.lease_until = Some(now.plus(ttl).0),
            LeaseChange::Release => (self.lease_owner, self.lease_until) = (None, None),
            LeaseChange::Return => {
                (self.lease_owner, self.lease_until) = (None, None);
                if self.state == TaskState::Scanning {
                    self.attempts = self.attempts.saturating_sub(1);
                    self.state = TaskState::Pending;
                }
            }
        }
        self
    }

    /// The task without what the other tables hold of it.
    pub(super) fn alone(self) -> Result<TaskRecord> {
        Ok(TaskRecord {
            id: self.id,
            object: json(&self.object)?,
            state: self.state,
            attempts: self.attempts,
            report: None,
            workflow: self.workflow,
            place: json(&self.place)?,
            next_at: self.next_at.map(Timestamp),
            error: self.error,
            created: Timestamp(self.created),
            updated: Timestamp(self.updated),
            steps: Vec::new(),
        })
    }
}

/// Changes with everything made into text that can be, which is the caller's work and not the writer's.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) changes: Changes,
    /// Without its findings.
    pub(super) report: Option<String>,
    pub(super) cached: Option<String>,
    /// The outputs of the steps.
    pub(super) outputs: Vec<Option<String>>,
    /// The bodies of the audit entries.
    bodies: Vec<String>,
    place: Option<String>,
}

impl Prepared {
    pub(super) fn new(changes: Changes) -> Result<Self> {
        changes.check()?;
        if let Some(report) = &changes.report
            && report.findings.iter().any(|finding| !finding.confidence.is_finite())
        {
            return Err(Error::new(ErrorKind::InvalidInput, "a finding's confidence is not a number"));
        }
        let without_findings = |report: &Report| Report { findings: Vec::new(), ..report.clone() };
        let output = |step: &StepRecord| step.output.as_ref().map(to_json).transpose();
        Ok(Self {
            report: changes.report.as_ref().map(|report| to_json(&without_findings(report))).transpose()?,
            cached: changes.cache.as_ref().map(|(_, cached)| to_json(cached)).transpose()?,
            outputs: changes.steps.iter().map(output).collect::<Result<_>>()?,
            place: changes.place.as_ref().map(to_json).transpose()?,
            bodies: changes.audit.iter().map(|entry| entry.body.to_string()).collect(),
            changes,
        })
    }

    /// What is to be logged: kinds and bodies.
    pub(super) fn log(&self) -> impl Iterator<Item = (&str, &str)> {
        self.changes.audit.iter().map(|entry| entry.kind.as_str()).zip(self.bodies.iter().map(String::as_str))
    }
}

/// An entry on its way into the log.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) at: Timestamp,
    pub(super) task: TaskId,
    pub(super) kind: &'a str,
    pub(super) body: &'a str,
    pub(super) previous: ContentDigest,
    /// The end of the log with it.
    pub(super) head: AuditHead,
}

impl<'a> Entry<'a> {
    /// The one that comes behind this end of the log, which it moves on.
    pub(super) fn behind(head: &mut AuditHead, at: Timestamp, task: TaskId, (kind, body): (&'a str, &'a str)) -> Self {
        let previous = head.hash;
        *head = head.after(at, task, kind, body);
        Self { at, task, kind, body, previous, head: *head }
    }
}

/// What a store asks of its writer.
#[derive(Debug)]
pub(super) enum Call {
    Claim(ClaimRequest),
    Reopen(ClaimRequest),
    Commit(Lease, Box<Prepared>),
    SetTags(ObjectRef, Tags),
    Job(JobCall),
}

#[derive(Debug)]
pub(super) enum Answer {
    Claim(Claim),
    Committed(Timestamp),
    /// What the job is now; `None` where nothing was changed.
    Job(Option<JobState>),
    Done,
}

impl Answer {
    /// Gives back what was claimed; otherwise nobody would have the task until the lease runs out.
    pub(super) fn undo(self) -> Option<Call> {
        let Self::Claim(Claim::Mine(lease, _)) = self else { return None };
        let changes = Changes { lease: LeaseChange::Release, ..Changes::default() };
        Some(Call::Commit(lease, Box::new(Prepared::new(changes).ok()?)))
    }
}

/// The statement for a listing, with its first two parameters: the id after which it begins, and most rows. The third is
/// the time up to which tasks are due, or NULL. Nothing for what cannot give any.
pub(super) fn listing(filter: &TaskFilter) -> Option<(String, Vec<u8>, i64)> {
    let most = if filter.most == 0 { 100 } else { i64::try_from(filter.most).unwrap_or(i64::MAX) };
    let mut states = filter.states.clone();
    if states.is_empty() {
        states.extend(TaskState::ALL);
    }
    if filter.due {
        states.retain(|state| !state.is_terminal());
    }
    states.sort();
    states.dedup();
    // Each state by itself comes in the order of an index, so that a page costs what it holds, and one statement sees
    // one moment.
    let mut parts = String::new();
    for state in &states {
        let union = if parts.is_empty() { "" } else { " UNION ALL " };
        // Writing to a string cannot fail.
        let _ = write!(
            parts,
            "{union}SELECT * FROM (SELECT * FROM tasks WHERE state = '{state}' AND id > $1 AND ($3 IS NULL OR \
             (coalesce(lease_until, 0) <= $3 AND coalesce(next_at, 0) <= $3)) ORDER BY id LIMIT $2) AS {state}"
        );
    }
    let sql = format!("SELECT {} FROM ({parts}) AS page ORDER BY id LIMIT $2", task_columns!());
    let after = filter.after.map_or_else(Vec::new, |id| id.0.0.to_vec());
    (!states.is_empty()).then_some((sql, after, most))
}

/// The columns of a finding, as [`finding`] reads them.
macro_rules! finding_columns {
    () => {
        "detector, masked_match, context, layer_path, byte_offset, confidence, raw_offset, tags, fingerprint"
    };
}
pub(super) use finding_columns;

/// The statement for the steps of a task that is opened again, with its id or ids put in: [`StepRecord::begin_anew`].
macro_rules! begin_anew {
    ($of:literal) => {
        concat!("UPDATE steps SET state = 'waiting', attempt = 0, next_at = NULL WHERE state <> 'done' AND task ", $of)
    };
}
pub(super) use begin_anew;

/// From [`finding_columns`] at this column.
pub(super) fn finding(row: &impl Columns, first: usize) -> Result<Finding> {
    Ok(Finding {
        detector: row.any_text(first)?,
        masked_match: row.any_text(first + 1)?,
        context: row.any_text(first + 2)?,
        layer_path: row.any_text(first + 3)?,
        byte_offset: row.number(first + 4)?.cast_unsigned(),
        confidence: row.real(first + 5)?,
        raw_offset: row.number_or_null(first + 6)?.map(i64::cast_unsigned),
        tags: json(&row.text(first + 7)?)?,
        fingerprint: row.any_text(first + 8)?,
    })
}

/// From `workflow, step, state, attempt, output, error, next_at, updated` at this column.
pub(super) fn step(row: &impl Columns, first: usize) -> Result<StepRecord> {
    const STATES: [StepState; 4] = [StepState::Running, StepState::Waiting, StepState::Done, StepState::Failed];
    Ok(StepRecord {
        workflow: row.any_text(first)?,
        step: row.any_text(first + 1)?,
        state: word(row, first + 2, &STATES, StepState::as_str)?,
        attempt: count(row, first + 3)?,
        output: row.text_or_null(first + 4)?.as_deref().map(json).transpose()?,
        error: row.any_text_or_null(first + 5)?,
        next_at: row.number_or_null(first + 6)?.map(Timestamp),
        updated: Timestamp(row.number(first + 7)?),
    })
}

/// The statement for entries above a number, at most so many.
pub(super) const AUDIT: &str =
    "SELECT seq, at, task, kind, body, previous, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2";

/// From a row of [`AUDIT`].
pub(super) fn entry(row: &impl Columns) -> Result<AuditEntry> {
    Ok(AuditEntry {
        seq: row.number(0)?.cast_unsigned(),
        at: Timestamp(row.number(1)?),
        task: TaskId(digest(row, 2)?),
        kind: row.any_text(3)?,
        body: row.text(4)?,
        previous: digest(row, 5)?,
        hash: digest(row, 6)?,
    })
}

/// The statement for the end of the log.
macro_rules! select_head {
    () => {
        "SELECT seq, hash FROM audit_head WHERE one = 1"
    };
}
pub(super) use select_head;

/// From its row.
pub(super) fn head(row: Option<&impl Columns>) -> Result<AuditHead> {
    let row = row.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the head of the audit log is missing"))?;
    Ok(AuditHead { seq: row.number(0)?.cast_unsigned(), hash: digest(row, 1)? })
}

fn count(row: &impl Columns, column: usize) -> Result<u32> {
    u32::try_from(row.number(column)?).map_err(|_| damaged("a counter is out of range"))
}

/// Which state of an object tags belong to.
pub(super) fn pin(object: &ObjectRef) -> String {
    match (&object.version, &object.etag) {
        (Some(version), _) => format!("v:{version}"),
        (None, Some(etag)) => format!("e:{etag}"),
        (None, None) => String::new(),
    }
}

pub(super) fn json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| damaged("JSON that is none").with_source(error))
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, "cannot be written as JSON").with_source(error))
}
