//! Holding a log against its hashes, its head, and what the store has about the tasks.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::Value;

use super::{AuditEntry, AuditHead, RETRIED, SCANNED, STEP_DONE, output_digest, report_digest};
use crate::handler::Place;
use crate::model::TaskId;
use crate::store::{StepState, Store, TaskFilter, TaskRecord, TaskState};
use crate::{Error, ErrorKind, Result};

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The end of the log.
    pub head: AuditHead,
    /// What is wrong, in the order in which it was found, at most 20 of it: others follow from the first. Empty when
    /// the log is whole.
    pub problems: Vec<String>,
}

const MOST_PROBLEMS: usize = 20;
const PAGE: usize = 1000;
/// Tasks that are read at once: each comes with its report, which may list a thousand findings.
const TASKS: usize = 100;
/// Ids that one search through the log looks for.
const SEARCH: usize = 50_000;

/// Reads the whole log and holds it against its hashes, its head, and what the store has about every task at its end:
/// its state, report, workflow, step outputs and place. The store may be in use meanwhile; what is written while this
/// reads is held against the hashes only.
///
/// Memory is needed for the tasks that are under way in the log or dead, as a dead one may be opened again; not for those
/// that came to another end.
///
/// # Errors
///
/// The store could not be read. What is damaged is a problem and no error.
pub async fn verify(store: &dyn Store) -> Result<Verified> {
    let mut check = Check::new(store);
    // Before the log is read, which may grow meanwhile: this much of it has to be there.
    if let Some(head) = check.readable(store.audit_head().await)? {
        check.announced = head;
    }
    check.meet_announced();
    check.read_log(check.announced.seq).await?;
    let (announced, head) = (check.announced, check.head);
    if announced.seq > head.seq {
        check.problem(|| format!("the log should end with entry {} and ends with {}", announced.seq, head.seq));
    }
    check.compare_dead().await?;
    check.read_tasks().await?;
    check.read_surplus().await?;
    Ok(Verified { head: check.head, problems: check.problems })
}

/// Fails when a log is not whole; for callers who want no list.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] with the first problem.
pub fn require(verified: &Verified) -> Result<()> {
    match verified.problems.first() {
        None => Ok(()),
        Some(first) => Err(Error::new(ErrorKind::Corrupt, format!("the audit log is not whole: {first}"))),
    }
}

/// The state that a task has come to its end in, where an entry of this kind says so.
fn end_of(kind: &str) -> Option<TaskState> {
    let word = kind.strip_prefix("task.")?;
    TaskState::ALL.into_iter().find(|state| state.is_terminal() && state.as_str() == word)
}

struct Check<'a> {
    store: &'a dyn Store,
    /// The head as it was before the log was read.
    announced: AuditHead,
    head: AuditHead,
    under_way: HashMap<TaskId, Said>,
    /// Tasks that are dead in the log, which may say later that they were opened again.
    dead: HashMap<TaskId, Said>,
    /// Tasks that came to another end in the log.
    ended: u64,
    /// Those that came to an end or were opened again after the log was read first, once it was.
    since: Option<HashSet<TaskId>>,
    problems: Vec<String>,
}

/// What the log says about a task.
#[derive(Default)]
struct Said {
    scanned: BTreeMap<&'static str, Value>,
    /// Digests of the outputs by workflow and step.
    steps: BTreeMap<(String, String), String>,
}

/// What is held against the task of what the log says about its scan.
const OF_SCAN: [&str; 4] = ["verdict", "sha256", "report", "workflow"];

impl<'a> Check<'a> {
    fn new(store: &'a dyn Store) -> Self {
        Self {
            store,
            announced: AuditHead::EMPTY,
            head: AuditHead::EMPTY,
            under_way: HashMap::new(),
            dead: HashMap::new(),
            ended: 0,
            since: None,
            problems: Vec::new(),
        }
    }

    fn problem(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem());
        }
    }

    /// Damage is what a verification is there to tell, and no reason to stop.
    fn readable<T>(&mut self, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.problem(|| error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// From where it was read to, to this entry. No further: a store in use may write faster than this reads.
    async fn read_log(&mut self, until: u64) -> Result<()> {
        while self.head.seq < until {
            let most = usize::try_from(until - self.head.seq).map_or(PAGE, |most| most.min(PAGE));
            let page = self.store.audit(self.head.seq, most).await;
            let Some(page) = self.readable(page)? else { return Ok(()) };
            if page.is_empty() {
                return Ok(());
            }
            for entry in &page {
                self.chain(entry);
                self.meet_announced();
                match &mut self.since {
                    None => self.follow(entry).await?,
                    Some(since) if end_of(&entry.kind).is_some() || entry.kind == RETRIED => {
                        since.insert(entry.task);
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// What was written since.
    async fn catch_up(&mut self) -> Result<()> {
        match self.readable(self.store.audit_head().await)? {
            Some(head) => self.read_log(head.seq).await,
            None => Ok(()),
        }
    }

    /// Entries that no head has announced.
    async fn read_surplus(&mut self) -> Result<()> {
        let next = self.store.audit(self.head.seq, 1).await;
        let Some(next) = self.readable(next)?.and_then(|page| page.into_iter().next()) else { return Ok(()) };
        if let Some(head) = self.readable(self.store.audit_head().await)?
            && head.seq < next.seq
        {
            self.problem(|| {
                format!("the log has entry {}, and its head says that it ends with {}", next.seq, head.seq)
            });
        }
        Ok(())
    }

    fn chain(&mut self, entry: &AuditEntry) {
        let (seq, head) = (entry.seq, self.head);
        if seq != head.seq + 1 {
            self.problem(|| format!("entry {seq} follows entry {}: what was between them is missing", head.seq));
        }
        if entry.previous != head.hash {
            self.problem(|| format!("entry {seq} does not follow from the entry before it: one of them was changed"));
        }
        let expected = entry.expected_hash();
        if entry.hash != expected {
            self.problem(|| format!("entry {seq} was changed: its hash is {expected}, not {}", entry.hash));
        }
        self.head = entry.head();
    }

    fn meet_announced(&mut self) {
        let (announced, head) = (self.announced, self.head);
        if head.seq == announced.seq && head.hash != announced.hash {
            self.problem(|| format!("entry {} has the hash {}, and the head {}", head.seq, head.hash, announced.hash));
        }
    }

    /// Gathers what the log says about a task, and compares when the task has come to its end. Nothing about it is
    /// written after that, so what was gathered can be let go; but for a dead one, which may go on.
    async fn follow(&mut self, entry: &AuditEntry) -> Result<()> {
        let body = || serde_json::from_str::<Value>(&entry.body).unwrap_or_default();
        match (entry.kind.as_str(), end_of(&entry.kind)) {
            (SCANNED, _) => {
                let mut body = body();
                let scanned = OF_SCAN.map(|name| (name, body[name].take()));
                self.under_way.entry(entry.task).or_default().scanned = scanned.into();
            }
            (RETRIED, _) => match self.dead.remove(&entry.task) {
                Some(said) => drop(self.under_way.insert(entry.task, said)),
                None => self.problem(|| format!("task {} is retried in the log, and was not dead", entry.task)),
            },
            (STEP_DONE, _) => {
                let body = body();
                let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
                let steps = &mut self.under_way.entry(entry.task).or_default().steps;
                steps.insert((text("workflow"), text("step")), text("output"));
            }
            (_, Some(TaskState::Dead)) => {
                let said = self.under_way.remove(&entry.task).unwrap_or_default();
                self.dead.insert(entry.task, said);
            }
            (_, Some(state)) => {
                self.ended += 1;
                let said = self.under_way.remove(&entry.task).unwrap_or_default();
                if let Some(task) = self.look_up(entry.task, state).await? {
                    self.compare(state, &said, &task);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The task as the store has it; that it is not there although the log knows its end is a problem.
    async fn look_up(&mut self, id: TaskId, state: TaskState) -> Result<Option<TaskRecord>> {
        let task = self.store.task(id).await.map_err(|error| error.about(format!("task {id}")));
        match self.readable(task)? {
            Some(Some(task)) => return Ok(Some(task)),
            Some(None) => self.problem(|| format!("task {id} is {state} in the log, and missing")),
            None => {}
        }
        Ok(None)
    }

    /// Compares those that the log leaves dead.
    async fn compare_dead(&mut self) -> Result<()> {
        self.since = Some(HashSet::new());
        let mut ids: Vec<_> = self.dead.keys().copied().collect();
        ids.sort();
        for some in ids.chunks(TASKS) {
            let mut tasks = Vec::with_capacity(some.len());
            for id in some {
                tasks.extend(self.look_up(*id, TaskState::Dead).await?);
            }
            // Who was opened again meanwhile is in the log by now, as both were one transaction.
            self.catch_up().await?;
            for task in tasks {
                if !self.has_moved(&task.id) {
                    let said = self.dead.get_mut(&task.id).map(std::mem::take).unwrap_or_default();
                    self.compare(TaskState::Dead, &said, &task);
                }
            }
        }
        Ok(())
    }

    /// Whether the log knows more about a task than when it was read first.
    fn has_moved(&self, id: &TaskId) -> bool {
        self.since.as_ref().is_some_and(|since| since.contains(id))
    }

    fn compare(&mut self, state: TaskState, said: &Said, task: &TaskRecord) {
        let id = task.id;
        if task.state != state {
            self.problem(|| format!("task {id} is {}, and the log has it as {state}", task.state));
        }
        let nothing = Value::Null;
        let (verdict, sha256, digest) = match &task.report {
            Some(report) => (
                Value::from(report.verdict.status()),
                report.sha256.map_or(Value::Null, |sha256| sha256.to_string().into()),
                report_digest(report).to_string().into(),
            ),
            None => (Value::Null, Value::Null, Value::Null),
        };
        let workflow = task.workflow.as_deref().map_or(Value::Null, Value::from);
        for (name, stored) in [("verdict", verdict), ("sha256", sha256), ("report", digest), ("workflow", workflow)] {
            let logged = said.scanned.get(name).unwrap_or(&nothing);
            if *logged != stored {
                self.problem(|| format!("task {id} has {name} {stored}, and the log has {logged}"));
            }
        }
        self.compare_steps(said, task);
    }

    fn compare_steps(&mut self, said: &Said, task: &TaskRecord) {
        let id = task.id;
        let done = task.steps.iter().filter(|step| step.state == StepState::Done);
        let mut stored: BTreeMap<_, _> = done
            .map(|step| {
                let digest = output_digest(&step.output.clone().unwrap_or_default()).to_string();
                ((step.workflow.clone(), step.step.clone()), digest)
            })
            .collect();
        for (key, logged) in &said.steps {
            match stored.remove(key) {
                Some(digest) if digest == *logged => {}
                Some(_) => self.problem(|| format!("the output of step {} of task {id} was changed", key.1)),
                None => {
                    self.problem(|| format!("step {} of task {id} is done in the log, and not in the store", key.1))
                }
            }
        }
        for (_, step) in stored.into_keys() {
            self.problem(|| format!("step {step} of task {id} is done, and the log does not know of it"));
        }
        let mut places = task.steps.iter().filter_map(|step| step.output.as_ref()?.place.as_ref()).peekable();
        let known = match &task.place {
            Place::Here => places.peek().is_none(),
            place => places.any(|one| one == place),
        };
        if !known {
            self.problem(|| format!("the object of task {id} is not where its steps have put it"));
        }
    }

    /// No task may be at its end without the log saying so. The log's ends were looked up one by one, so when there are
    /// as many tasks as ends, they are the same.
    async fn read_tasks(&mut self) -> Result<()> {
        let mut found = 0;
        // The dead by name, as one that was found may be opened again before the last is.
        let mut dead = HashSet::new();
        let mut after = None;
        while let Some(page) = self.page_of_ended(after, TASKS).await? {
            after = page.last().map(|(id, _)| *id);
            // Who came to the end meanwhile is in the log by now, as both were one commit.
            self.catch_up().await?;
            for (id, state) in page {
                if state == TaskState::Dead {
                    dead.insert(id);
                } else if !self.has_moved(&id) {
                    found += 1;
                }
            }
        }
        self.catch_up().await?;
        found += dead.iter().filter(|id| !self.has_moved(id)).count() as u64;
        let expected = self.ended + self.dead.keys().filter(|id| !self.has_moved(id)).count() as u64;
        if found != expected {
            let before = self.problems.len();
            self.name_unknown().await?;
            if self.problems.len() == before {
                self.problem(|| format!("{found} tasks are at their end, and the log has {expected} ends"));
            }
        }
        Ok(())
    }

    async fn page_of_ended(&mut self, after: Option<TaskId>, most: usize) -> Result<Option<Vec<(TaskId, TaskState)>>> {
        let states = TaskState::ALL.into_iter().filter(|state| state.is_terminal()).collect();
        let page = self.store.tasks(&TaskFilter { states, after, most, ..TaskFilter::default() }).await;
        let page = self.readable(page)?.unwrap_or_default();
        Ok((!page.is_empty()).then(|| page.iter().map(|task| (task.id, task.state)).collect()))
    }

    /// Names tasks whose ends the log does not have: once through the log for each batch of tasks.
    async fn name_unknown(&mut self) -> Result<()> {
        let mut after = None;
        let mut last = false;
        while !last && self.problems.len() < MOST_PROBLEMS {
            // With whether the log has their end.
            let mut batch = HashMap::new();
            while batch.len() < SEARCH && !last {
                match self.page_of_ended(after, TASKS).await? {
                    Some(page) => {
                        after = page.last().map(|(id, _)| *id);
                        batch.extend(page.into_iter().map(|(id, _)| (id, false)));
                    }
                    None => last = true,
                }
            }
            let mut seq = 0;
            loop {
                let page = self.store.audit(seq, PAGE).await;
                let Some(page) = self.readable(page)? else { return Ok(()) };
                for entry in &page {
                    if let Some(ended) = batch.get_mut(&entry.task) {
                        *ended = entry.kind != RETRIED && (*ended || end_of(&entry.kind).is_some());
                    }
                }
                match page.last() {
                    Some(entry) => seq = entry.seq,
                    None => break,
                }
            }
            for (id, _) in batch.into_iter().filter(|(_, ended)| !ended) {
                self.problem(|| format!("task {id} is at its end, and the log has it as unfinished"));
            }
        }
        Ok(())
    }
}
