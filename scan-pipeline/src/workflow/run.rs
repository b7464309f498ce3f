//! Running a workflow: each step is journalled before it begins and when it ends, so that what is done is never done
//! again, and what was under way when the process died is called again with the same key.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use super::{Branch, Node, Step, Workflow};
use crate::Error;
use crate::handler::{HandlerError, HandlerErrorKind, Place, Scanned, StepContext, StepOutput};
use crate::health::{Breaker, Health};
use crate::model::Timestamp;
use crate::objects::Buckets;
use crate::store::{Changes, Lease, NewAudit, StepRecord, StepState, Store};

/// How soon a handler that could not be called is asked again, at the soonest: it uses up no attempt.
const UNTRIED: Duration = Duration::from_millis(100);

/// One run of one workflow for one task.
pub(crate) struct Runner<'a> {
    pub(crate) workflow: &'a Workflow,
    pub(crate) scanned: &'a Scanned,
    pub(crate) store: &'a dyn Store,
    pub(crate) lease: &'a Lease,
    pub(crate) buckets: &'a Arc<Buckets>,
    pub(crate) health: &'a Health,
    /// A back-off up to this long is waited for here; a longer one ends the run until then.
    pub(crate) patience: Duration,
    /// Where the object is now, where the order of the steps does not tell.
    moved: Option<Place>,
    /// What is known of the steps, by name.
    journal: Mutex<BTreeMap<String, StepRecord>>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Every step is done.
    Done(Place),
    /// A step waits longer than we do.
    Waiting(Timestamp),
    /// A step failed for good; the messages name the steps.
    Failed(String),
    /// Another state of the object is there.
    Superseded(String),
    /// The object is not there any more.
    Gone(String),
}

/// What the steps before have given.
#[derive(Clone, Default)]
struct Seen {
    outputs: BTreeMap<String, StepOutput>,
    place: Place,
}

/// Why a branch did not come to its end. Branches at each other's side fill it together.
#[derive(Default)]
struct Stop {
    /// The journal could not be written, so nothing more may be done.
    store: Option<Error>,
    waiting: Option<Timestamp>,
    failed: Vec<String>,
    superseded: Option<String>,
    gone: Option<String>,
}

impl Stop {
    fn join(mut self, other: Self) -> Self {
        self.store = self.store.or(other.store);
        self.waiting = match (self.waiting, other.waiting) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.failed.extend(other.failed);
        self.superseded = self.superseded.or(other.superseded);
        self.gone = self.gone.or(other.gone);
        self
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self { store: Some(error), ..Self::default() }
    }
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        workflow: &'a Workflow,
        scanned: &'a Scanned,
        (store, lease): (&'a dyn Store, &'a Lease),
        (buckets, health): (&'a Arc<Buckets>, &'a Health),
        patience: Duration,
        steps: &[StepRecord],
    ) -> Self {
        let ours = steps.iter().filter(|record| record.workflow == workflow.name());
        let journal = Mutex::new(ours.map(|record| (record.step.clone(), record.clone())).collect());
        Self { workflow, scanned, store, lease, buckets, health, patience, moved: None, journal }
    }

    /// Says where the object is now. Steps that are called act on it there, whatever those before them have done with it
    /// once.
    pub(crate) fn with_object_at(mut self, place: Place) -> Self {
        self.moved = Some(place);
        self
    }

    /// Does what is left to do.
    ///
    /// # Errors
    ///
    /// The journal could not be written: the lease is lost, or the store is in trouble.
    pub(crate) async fn run(&self, place: Place) -> Result<Ended, Error> {
        let seen = Seen { outputs: BTreeMap::new(), place: self.moved.clone().unwrap_or(place) };
        let stop = match self.branch(self.workflow.root(), seen).await {
            Ok(seen) => return Ok(Ended::Done(seen.place)),
            Err(stop) => stop,
        };
        if let Some(error) = stop.store {
            return Err(error);
        }
        // As long as a branch waits, the others' failures wait with it: every branch runs to its end.
        Ok(if let Some(next_at) = stop.waiting {
            Ended::Waiting(next_at)
        } else if !stop.failed.is_empty() {
            Ended::Failed(stop.failed.join("; "))
        } else if let Some(why) = stop.superseded {
            Ended::Superseded(why)
        } else {
            Ended::Gone(stop.gone.unwrap_or_default())
        })
    }

    /// Where the steps that are done have put the object.
    pub(crate) fn place(&self) -> Place {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        last_place(journal.values())
    }

    fn branch<'b>(&'b self, branch: &'b Branch, mut seen: Seen) -> BoxFuture<'b, Result<Seen, Stop>> {
        async move {
            for node in &branch.0 {
                match node {
                    Node::Step(step) => {
                        let was_done = self.known(step).state == StepState::Done;
                        let output = self.step(step, &seen).await?;
                        if !(was_done && self.moved.is_some()) {
                            seen.place = output.place.clone().unwrap_or(seen.place);
                        }
                        seen.outputs.insert(step.name.clone(), output);
                    }
                    Node::Parallel(branches) => {
                        let before = seen.place.clone();
                        let ends = join_all(branches.iter().map(|branch| self.branch(branch, seen.clone()))).await;
                        let mut stops = Vec::new();
                        for end in ends {
                            match end {
                                Ok(end) => {
                                    seen.outputs.extend(end.outputs);
                                    // The last branch that moved it says where it is.
                                    if end.place != before {
                                        seen.place = end.place;
                                    }
                                }
                                Err(stop) => stops.push(stop),
                            }
                        }
                        if let Some(stop) = stops.into_iter().reduce(Stop::join) {
                            return Err(stop);
                        }
                    }
                }
            }
            Ok(seen)
        }
        .boxed()
    }

    async fn step(&self, step: &Step, seen: &Seen) -> Result<StepOutput, Stop> {
        loop {
            let mut record = self.known(step);
            match record.state {
                StepState::Done => return Ok(record.output.unwrap_or_default()),
                StepState::Failed => return Err(failed(step, record.error.as_deref())),
                StepState::Waiting => {
                    if let Some(next_at) = record.next_at {
                        self.wait(next_at.since(Timestamp::now())).await?;
                    }
                }
                StepState::Running => {}
            }
            if record.attempt >= step.retry.max_attempts {
                // Only a step that was begun and never ended comes here: it took the process with it each time.
                let why = format!("was begun {} times and never came to an end", record.attempt);
                return Err(self.give_up(step, record, why, None).await?);
            }
            // While its host does not answer anybody, nothing is begun, and no attempt is used up.
            let breaker = step.handler.depends_on().map(|host| self.health.breaker(host));
            let pass = match breaker.as_deref().map(Breaker::enter) {
                Some(Err(why)) => {
                    self.wait(why.retry_after().unwrap_or(self.patience)).await?;
                    continue;
                }
                Some(Ok(pass)) => Some(pass),
                None => None,
            };
            // A step whose task was opened again begins anew, and what it tried before may have had its effect.
            let reopened = record.state == StepState::Waiting
                && (record.attempt, record.next_at) == (0, None)
                && record.error.is_some();
            record.attempt += 1;
            record.state = StepState::Running;
            record.next_at = None;
            self.write(&mut record, Vec::new()).await?;
            let attempt = if reopened { record.attempt.max(2) } else { record.attempt };
            let called = self.call(step, attempt, seen).await;
            match (pass, called.as_ref().map_err(HandlerError::kind)) {
                // Nobody asked the host.
                (Some(pass), Err(_)) if called.as_ref().is_err_and(HandlerError::is_untried) => drop(pass),
                (Some(pass), Err(HandlerErrorKind::Retryable { .. })) => {
                    pass.failed(called.as_ref().map_or_else(ToString::to_string, |_| String::new()));
                }
                (Some(pass), _) => pass.answered(),
                (None, _) => {}
            }
            match called {
                Ok(output) => {
                    record.state = StepState::Done;
                    record.error = None;
                    let audit = NewAudit::step_done(self.workflow.name(), &step.name, record.attempt, &output);
                    record.output = Some(output.clone());
                    self.write(&mut record, vec![audit]).await?;
                    return Ok(output);
                }
                Err(why) => {
                    let asked = match why.kind() {
                        HandlerErrorKind::Retryable { after } if why.is_untried() => {
                            record.attempt -= 1;
                            Some(after.unwrap_or(self.patience).max(UNTRIED))
                        }
                        HandlerErrorKind::Retryable { after } => step.retry.wait(record.attempt, after),
                        _ => None,
                    };
                    let message = why.to_string();
                    let Some(wait) = asked else {
                        return Err(self.give_up(step, record, message, Some(why.kind())).await?);
                    };
                    tracing::debug!(task = %self.scanned.task, step = step.name, attempt = record.attempt, error = message,
                        "a step failed and will be tried again");
                    record.state = StepState::Waiting;
                    record.next_at = Some(Timestamp::now().plus(wait));
                    record.error = Some(message);
                    self.write(&mut record, Vec::new()).await?;
                }
            }
        }
    }

    /// Waits for this long, or stops the run when that is longer than we have patience for.
    async fn wait(&self, wait: Duration) -> Result<(), Stop> {
        if wait > self.patience {
            return Err(Stop { waiting: Some(Timestamp::now().plus(wait)), ..Stop::default() });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Calls the handler, within its time, and keeps its panics from us.
    async fn call(&self, step: &Step, attempt: u32, seen: &Seen) -> Result<StepOutput, HandlerError> {
        let context = StepContext {
            workflow: self.workflow.name().to_owned(),
            step: step.name.clone(),
            attempt,
            idempotency_key: StepContext::key(self.scanned.task, self.workflow.name(), &step.name),
            outputs: Arc::new(seen.outputs.clone()),
            place: seen.place.clone(),
            buckets: Arc::clone(self.buckets),
        };
        let call = AssertUnwindSafe(step.handler.handle(self.scanned, &context)).catch_unwind();
        match tokio::time::timeout(step.timeout, call).await {
            Ok(Ok(result)) => result.and_then(keepable),
            Ok(Err(_)) => Err(HandlerError::fatal("the handler panicked")),
            Err(_) => Err(HandlerError::retryable(format!("the handler took longer than {:?}", step.timeout))),
        }
    }

    async fn give_up(
        &self,
        step: &Step,
        mut record: StepRecord,
        why: String,
        kind: Option<HandlerErrorKind>,
    ) -> Result<Stop, Stop> {
        // These two end the task and not the step; should the process die before that is written, the step is called
        // again and says the same.
        match kind {
            Some(HandlerErrorKind::Superseded) => return Ok(Stop { superseded: Some(why), ..Stop::default() }),
            Some(HandlerErrorKind::Gone) => return Ok(Stop { gone: Some(why), ..Stop::default() }),
            _ => {}
        }
        record.state = StepState::Failed;
        record.error = Some(why.clone());
        let audit = NewAudit::step_failed(self.workflow.name(), &step.name, record.attempt, &why, None);
        self.write(&mut record, vec![audit]).await?;
        Ok(failed(step, Some(&why)))
    }

    fn known(&self, step: &Step) -> StepRecord {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.get(&step.name).cloned().unwrap_or_else(|| StepRecord {
            workflow: self.workflow.name().to_owned(),
            step: step.name.clone(),
            state: StepState::Running,
            attempt: 0,
            output: None,
            error: None,
            next_at: None,
            updated: Timestamp::now(),
        })
    }

    async fn write(&self, record: &mut StepRecord, audit: Vec<NewAudit>) -> Result<(), Error> {
        record.updated = Timestamp::now();
        let place = match record.state {
            StepState::Done => record.output.as_ref().and_then(|output| output.place.clone()),
            _ => None,
        };
        let changes = Changes { steps: vec![record.clone()], place, audit, ..Changes::default() };
        self.store.commit(self.lease, changes).await?;
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.insert(record.step.clone(), record.clone());
        Ok(())
    }
}

/// Whether steps of a workflow have moved or deleted the object.
pub(crate) fn has_moved(workflow: &Workflow, steps: &[StepRecord]) -> bool {
    let moves = |step: &StepRecord| step.output.as_ref().is_some_and(|output| output.place.is_some());
    steps.iter().any(|step| step.workflow == workflow.name() && moves(step))
}

/// Where steps that are no part of the workflow have put the object: those of another one that was set up before, or
/// that it had itself before it was changed.
pub(crate) fn place_before(workflow: &Workflow, steps: &[StepRecord]) -> Place {
    let has = |workflow: &Workflow, record: &StepRecord| {
        record.workflow == workflow.name() && workflow.root().steps().iter().any(|step| step.name == record.step)
    };
    let known =
        |record: &StepRecord| has(workflow, record) || workflow.fatal().is_some_and(|workflow| has(workflow, record));
    last_place(steps.iter().filter(|record| !known(record)))
}

fn last_place<'a>(records: impl Iterator<Item = &'a StepRecord>) -> Place {
    let moved = records.filter_map(|record| Some((record.updated, record.output.as_ref()?.place.clone()?)));
    moved.max_by_key(|(at, _)| *at).map_or(Place::Here, |(_, place)| place)
}

/// Refuses an output that the journal could not give back: JSON that is nested deeper than a parser goes. In the store
/// it would hide the task, and every other on its page.
fn keepable(output: StepOutput) -> Result<StepOutput, HandlerError> {
    let back = serde_json::to_string(&output).and_then(|text| serde_json::from_str::<StepOutput>(&text));
    match back {
        Ok(_) => Ok(output),
        Err(why) => Err(HandlerError::fatal("the handler's output cannot be kept").with_source(why)),
    }
}

fn failed(step: &Step, why: Option<&str>) -> Stop {
    Stop { failed: vec![format!("{}: {}", step.name, why.unwrap_or("failed"))], ..Stop::default() }
}
