//! What follows from a report: the workflow that the policy names, and the end of the task.

use std::sync::Arc;

use serde_json::{Value, json};

use super::lease::Held;
use super::scan::Found;
use super::{Pipeline, Round, ended};
use crate::handler::Scanned;
use crate::model::{Report, Timestamp};
use crate::store::{Changes, LeaseChange, NewAudit, TaskRecord, TaskState};
use crate::workflow::{Ended, Runner, Workflow, has_moved, place_before};
use crate::{Error, ErrorKind, Result};

/// The note about a task that no workflow follows.
const LEFT: &str = "left where it is";

impl Pipeline {
    /// Puts a report on record, with the workflow that follows, and runs it. Where none follows, the same commit is the
    /// end of the task.
    pub(super) async fn follow(&self, mut held: Held, mut record: TaskRecord, found: Found) -> Result<Round> {
        let (report, cache) = found;
        let workflow = self.shared.policy.workflow(&report).cloned();
        let name = workflow.as_ref().map(|workflow| workflow.name().to_owned());
        let changes = Changes {
            state: Some(TaskState::Handling),
            audit: vec![NewAudit::scanned(&report, name.as_deref(), &record.object)],
            report: Some(report.clone()),
            workflow: name,
            error: Some(None),
            cache,
            ..Changes::default()
        };
        if let Some(workflow) = workflow {
            held.commit(changes).await?;
            return self.handle(held, record, report, workflow).await;
        }
        record.report = Some(report);
        self.end(held, record, changes, TaskState::Done, LEFT).await
    }

    /// Goes on behind a report that is on record.
    pub(super) async fn go_on(&self, held: Held, record: TaskRecord, report: Report) -> Result<Round> {
        let policy = &self.shared.policy;
        // A workflow that is not set up any more gives way to what the policy says now.
        let known = |name| policy.shared_workflow(name).or_else(|| policy.workflow(&report).cloned());
        match record.workflow.as_deref().and_then(known) {
            Some(workflow) => self.handle(held, record, report, workflow).await,
            None => self.end(held, record, Changes::default(), TaskState::Done, LEFT).await,
        }
    }

    /// Runs a workflow. It is not the caller's to cancel: an effect that has begun is seen to its end.
    async fn handle(
        &self,
        mut held: Held,
        record: TaskRecord,
        report: Report,
        workflow: Arc<Workflow>,
    ) -> Result<Round> {
        let this = self.clone();
        let work = async move {
            let scanned = Scanned { task: record.id, object: record.object.clone(), report: Arc::new(report) };
            let ended = held.keep(this.run(&held, &workflow, &scanned, &record)).await??;
            this.after_run(&mut held, &workflow, ended).await?;
            drop(held);
            this.look_up(&record).await
        };
        let task = self.shared.running.spawn(work);
        task.await.unwrap_or_else(|why| Err(Error::unfinished("the workflow did not come to its end", why)))
    }

    /// The workflow, and the one for its fatal errors when it comes to that.
    async fn run(&self, held: &Held, workflow: &Workflow, scanned: &Scanned, record: &TaskRecord) -> Result<Ended> {
        let shared = &self.shared;
        let runner = |workflow| {
            let store = (&*shared.store, held.lease());
            let around = (&shared.buckets, &shared.health);
            Runner::new(workflow, scanned, store, around, shared.options.patience, &record.steps)
        };
        // The workflow for fatal errors comes last in a task's life, but for one that was retried since.
        let astray = workflow.fatal().is_some_and(|fatal| has_moved(fatal, &record.steps));
        let mut first = runner(workflow);
        if astray {
            first = first.with_object_at(record.place.clone());
        }
        let before = first.place();
        match (first.run(place_before(workflow, &record.steps)).await?, workflow.fatal()) {
            (Ended::Failed(why), Some(fatal)) => {
                let after = first.place();
                let mut last = runner(fatal);
                if astray {
                    last = last.with_object_at(if after == before { record.place.clone() } else { after.clone() });
                }
                match last.run(after).await? {
                    Ended::Waiting(next_at) => Ok(Ended::Waiting(next_at)),
                    Ended::Done(_) => Ok(Ended::Failed(why)),
                    Ended::Failed(also) | Ended::Superseded(also) | Ended::Gone(also) => {
                        Ok(Ended::Failed(format!("{why}; and in {}: {also}", fatal.name())))
                    }
                }
            }
            (ended, _) => Ok(ended),
        }
    }

    /// Records how a run ended.
    async fn after_run(&self, held: &mut Held, workflow: &Workflow, ended: Ended) -> Result<()> {
        let name = workflow.name();
        let (state, error, detail) = match ended {
            Ended::Waiting(next_at) => {
                let changes =
                    Changes { next_at: Some(Some(next_at)), lease: LeaseChange::Release, ..Changes::default() };
                return held.commit(changes).await.map(drop);
            }
            Ended::Done(place) => (TaskState::Done, None, json!({ "workflow": name, "object": place })),
            Ended::Failed(why) => {
                let detail = json!({ "workflow": name, "error": why });
                tracing::warn!(task = %held.lease().task, error = %why, "a task failed for good; its object is left where it is");
                (TaskState::Dead, Some(why), detail)
            }
            Ended::Superseded(why) => (TaskState::Superseded, Some(why.clone()), json!({ "error": why })),
            Ended::Gone(why) => (TaskState::Gone, Some(why.clone()), json!({ "error": why })),
        };
        conclude(held, Changes::default(), state, error, detail).await.map(drop)
    }

    /// Ends a task without a workflow; `changes` are written with it. Nothing else has to be read for the answer.
    pub(super) async fn end(
        &self,
        mut held: Held,
        mut record: TaskRecord,
        changes: Changes,
        state: TaskState,
        why: &str,
    ) -> Result<Round> {
        let error = (state != TaskState::Done).then(|| why.to_owned());
        record.updated = conclude(&mut held, changes, state, error.clone(), json!({ "note": why })).await?;
        (record.state, record.error, record.next_at) = (state, error, None);
        Ok(round_of(record))
    }

    async fn look_up(&self, task: &TaskRecord) -> Result<Round> {
        let missing = || Error::new(ErrorKind::Corrupt, "the store lost the task").about(format!("task {}", task.id));
        self.shared.store.task(task.id).await?.ok_or_else(missing).map(round_of)
    }
}

/// Brings a task to its end, in one commit with whatever else there is to write. Gives the time of it.
async fn conclude(
    held: &mut Held,
    mut changes: Changes,
    state: TaskState,
    error: Option<String>,
    detail: Value,
) -> Result<Timestamp> {
    changes.audit.push(NewAudit::task(state, detail));
    held.commit(Changes { state: Some(state), error: Some(error), next_at: Some(None), ..changes }).await
}

fn round_of(record: TaskRecord) -> Round {
    if record.state == TaskState::Superseded { Round::Superseded } else { ended(record, false) }
}
