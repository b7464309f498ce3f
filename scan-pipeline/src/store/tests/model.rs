//! Random sequences of calls, on a store and on a model of it in memory: what both answer has to be the same, and so has
//! what can be read afterwards. Some calls come at the same time, and share a transaction.
//!
//! A store's clock is not to be moved. So a lease has run out from the start or holds for longer than a test lasts, and a
//! task waits for a time that has long passed or that will not come.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use serde_json::json;

use crate::handler::{Place, StepOutput};
use crate::model::{ContentDigest, EngineInfo, Finding, ObjectRef, Report, TaskId, Threat, Timestamp, Verdict};
use crate::store::{
    CacheKey, CachedReport, Changes, Claim, ClaimRequest, Lease, LeaseChange, NewAudit, SqliteStore, StepRecord,
    StepState, Store, TaskFilter, TaskRecord, TaskState, audit,
};
use crate::{ErrorKind, Result};

const LONG: Duration = Duration::from_secs(3600);
const TASKS: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    Claim {
        task: usize,
        holds: bool,
    },
    /// The number chooses one of the leases that were given out, the latest first.
    Commit {
        lease: usize,
        what: What,
        then: LeaseChange,
    },
}

#[derive(Debug, Clone)]
enum What {
    Nothing,
    /// A report with so many findings, which may be remembered.
    Scanned {
        findings: u64,
        cached: bool,
    },
    Step {
        name: u8,
        done: bool,
    },
    Moved,
    /// There is nothing to do before a time, which may have passed.
    Waits {
        passed: bool,
    },
    Failed(Option<u8>),
    End {
        state: TaskState,
        logged: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let terminal = TaskState::ALL.into_iter().filter(|state| state.is_terminal()).collect::<Vec<_>>();
    let what = prop_oneof![
        2 => Just(What::Nothing),
        4 => (0..4_u64, any::<bool>()).prop_map(|(findings, cached)| What::Scanned { findings, cached }),
        5 => (0..3_u8, any::<bool>()).prop_map(|(name, done)| What::Step { name, done }),
        1 => Just(What::Moved),
        2 => any::<bool>().prop_map(|passed| What::Waits { passed }),
        1 => proptest::option::of(0..3_u8).prop_map(What::Failed),
        2 => (proptest::sample::select(terminal), proptest::bool::weighted(0.8))
            .prop_map(|(state, logged)| What::End { state, logged }),
    ];
    let then = prop_oneof![
        6 => Just(LeaseChange::Keep),
        1 => Just(LeaseChange::Extend(LONG)),
        1 => Just(LeaseChange::Extend(Duration::ZERO)),
        2 => Just(LeaseChange::Release),
        1 => Just(LeaseChange::Return),
    ];
    // Late leases are the interesting ones.
    prop_oneof![
        2 => (0..TASKS, any::<bool>()).prop_map(|(task, holds)| Op::Claim { task, holds }),
        5 => (0..6_usize, what, then).prop_map(|(lease, what, then)| Op::Commit { lease, what, then }),
    ]
}

fn request(task: usize, holds: bool) -> ClaimRequest {
    let object = ObjectRef::new("memory://model".parse().expect("an address"), format!("task {task}")).with_etag("1");
    let ttl = if holds { LONG } else { Duration::ZERO };
    ClaimRequest { id: TaskId::of(&object, 0), object, owner: String::from("model"), ttl }
}

/// The report of a scan, of which no two are the same.
fn report(number: usize, findings: u64) -> Report {
    let verdict = match number % 2 {
        0 => Verdict::Clean,
        _ => Verdict::Infected { threats: vec![Threat { signature: format!("{number}"), layer_path: String::new() }] },
    };
    let mut report = Report::new(verdict, EngineInfo::new("model", "1", "7"));
    let finding = |offset| Finding {
        detector: String::from("card"),
        masked_match: format!("{number} *** \0 \\"),
        byte_offset: offset,
        confidence: 0.5,
        ..Finding::default()
    };
    report.findings = (0..findings).map(finding).collect();
    report.sha256 = Some(ContentDigest::of(number.to_string().as_bytes()));
    report
}

/// A step, done where it has an output.
fn record(step: &str, number: usize, output: Option<StepOutput>) -> StepRecord {
    StepRecord {
        workflow: String::from("flow"),
        step: step.to_owned(),
        state: if output.is_some() { StepState::Done } else { StepState::Waiting },
        attempt: u32::try_from(number).unwrap_or(u32::MAX),
        output,
        error: None,
        next_at: None,
        updated: Timestamp(1),
    }
}

fn cache_key(number: usize) -> CacheKey {
    let generation = format!("{}", number % 3);
    CacheKey { sha256: ContentDigest::of(b"model"), generation, settings: String::from("s") }
}

/// A task of the model: what is to be read of it, and its lease.
#[derive(Debug, Clone)]
struct Task {
    record: TaskRecord,
    fence: u64,
    /// Whether the lease holds; nobody has it otherwise.
    lease: Option<bool>,
    /// Kinds and bodies.
    log: Vec<(String, String)>,
}

/// An answer, as far as it is the model's business.
#[derive(Debug, PartialEq)]
enum Answer {
    Mine { fence: u64, attempts: u32, state: TaskState },
    Busy,
    NotYet(Timestamp),
    Finished(TaskState),
    Committed,
    Refused(ErrorKind),
}

#[derive(Debug)]
struct Model {
    tasks: BTreeMap<usize, Task>,
    /// Every lease that was given out, and for which task.
    leases: Vec<(usize, Lease)>,
    cache: BTreeMap<String, CachedReport>,
    /// Numbers what is made, so that everything is different.
    made: usize,
    /// It will not come.
    later: Timestamp,
}

impl Model {
    fn claim(&mut self, task: usize, holds: bool) -> Answer {
        let later = self.later;
        let request = request(task, holds);
        let new = || Task {
            record: TaskRecord {
                id: request.id,
                object: request.object.clone(),
                state: TaskState::Scanning,
                attempts: 0,
                report: None,
                workflow: None,
                place: Place::Here,
                next_at: None,
                error: None,
                created: Timestamp::default(),
                updated: Timestamp::default(),
                steps: Vec::new(),
            },
            fence: 0,
            lease: None,
            log: Vec::new(),
        };
        let task = self.tasks.entry(task).or_insert_with(new);
        if task.record.state.is_terminal() {
            return Answer::Finished(task.record.state);
        }
        if task.lease == Some(true) {
            return Answer::Busy;
        }
        if task.record.next_at == Some(later) {
            return Answer::NotYet(later);
        }
        if task.record.state != TaskState::Handling {
            task.record.state = TaskState::Scanning;
            task.record.attempts += 1;
        }
        task.fence += 1;
        task.lease = Some(holds);
        Answer::Mine { fence: task.fence, attempts: task.record.attempts, state: task.record.state }
    }

    /// What a commit would write.
    fn changes(&mut self, task: usize, what: &What, then: LeaseChange) -> Changes {
        self.made += 1;
        let number = self.made;
        let changes = Changes { lease: then, ..Changes::default() };
        match what {
            What::Nothing => changes,
            What::Scanned { findings, cached } => {
                let (report, workflow) = (report(number, *findings), format!("flow {}", number % 2));
                let cached = cached.then(|| {
                    let report = CachedReport { name: format!("name {number}"), report: report.clone() };
                    (cache_key(number), report)
                });
                Changes {
                    state: Some(TaskState::Handling),
                    audit: vec![NewAudit::scanned(&report, Some(&workflow), &request(task, true).object)],
                    report: Some(report),
                    workflow: Some(workflow),
                    cache: cached,
                    ..changes
                }
            }
            What::Step { name, done } => {
                let (workflow, step) = (String::from("flow"), format!("step {name}"));
                // What is done stays so.
                let known =
                    self.tasks.get(&task).and_then(|task| task.record.steps.iter().find(|one| one.step == step));
                let done = *done || known.is_some_and(|one| one.state == StepState::Done);
                let output = done.then(|| StepOutput::new(json!({ "number": number, "text": "\0\\" })));
                let audit = match &output {
                    Some(output) => NewAudit::step_done(&workflow, &step, 1, output),
                    None => NewAudit::step_failed(&workflow, &step, 1, "not yet", None),
                };
                Changes { steps: vec![record(&step, number, output)], audit: vec![audit], ..changes }
            }
            What::Moved => {
                let object = ObjectRef::new("memory://moved".parse().expect("an address"), format!("{number}"));
                let place = Place::Moved { object };
                let output = StepOutput::none().with_place(place.clone());
                let audit = vec![NewAudit::step_done("flow", "move", 1, &output)];
                Changes { steps: vec![record("move", number, Some(output))], place: Some(place), audit, ..changes }
            }
            What::Waits { passed } => {
                let at = if *passed { Timestamp(1) } else { self.later };
                Changes { next_at: Some(Some(at)), ..changes }
            }
            What::Failed(why) => Changes { error: Some(why.map(|why| format!("why \0 {why}"))), ..changes },
            What::End { state, logged } => {
                let audit = logged.then(|| NewAudit::task(*state, json!({ "number": number })));
                Changes { state: Some(*state), audit: audit.into_iter().collect(), ..changes }
            }
        }
    }

    fn commit(&mut self, task: usize, lease: &Lease, changes: &Changes) -> Answer {
        if changes.check().is_err() {
            return Answer::Refused(ErrorKind::InvalidInput);
        }
        let Some(task) = self.tasks.get_mut(&task) else { return Answer::Refused(ErrorKind::Fenced) };
        if task.fence != lease.fence || task.record.state.is_terminal() || task.lease.is_none() {
            return Answer::Refused(ErrorKind::Fenced);
        }
        let record = &mut task.record;
        record.state = changes.state.unwrap_or(record.state);
        if changes.report.is_some() {
            record.report.clone_from(&changes.report);
            record.workflow.clone_from(&changes.workflow);
        }
        for step in &changes.steps {
            match record.steps.iter_mut().find(|one| one.step == step.step) {
                Some(one) => one.clone_from(step),
                None => record.steps.push(step.clone()),
            }
        }
        if let Some(place) = &changes.place {
            record.place = place.clone();
        }
        record.next_at = changes.next_at.unwrap_or(record.next_at);
        if let Some(error) = &changes.error {
            record.error.clone_from(error);
        }
        match changes.lease {
            _ if record.state.is_terminal() => task.lease = None,
            LeaseChange::Keep => {}
            LeaseChange::Extend(ttl) => task.lease = Some(!ttl.is_zero()),
            LeaseChange::Release => task.lease = None,
            LeaseChange::Return => {
                task.lease = None;
                if record.state == TaskState::Scanning {
                    record.state = TaskState::Pending;
                    record.attempts -= 1;
                }
            }
        }
        task.log.extend(changes.audit.iter().map(|entry| (entry.kind.clone(), entry.body.to_string())));
        if let Some((key, cached)) = &changes.cache {
            self.cache.insert(key.generation.clone(), cached.clone());
        }
        Answer::Committed
    }
}

fn answered(claim: Claim) -> (Answer, Option<Lease>) {
    match claim {
        Claim::Mine(lease, record) => {
            let (attempts, state) = (record.attempts, record.state);
            (Answer::Mine { fence: lease.fence, attempts, state }, Some(lease))
        }
        Claim::Busy { .. } => (Answer::Busy, None),
        Claim::NotYet { until, .. } => (Answer::NotYet(until), None),
        Claim::Finished(record) => (Answer::Finished(record.state), None),
    }
}

/// A call with everything that it needs.
enum Call {
    Claim(usize, ClaimRequest),
    Commit(Lease, Box<Changes>),
}

async fn call(store: &dyn Store, call: Call) -> (Answer, Option<(usize, Lease)>) {
    let refused = |why: crate::Error| Answer::Refused(why.kind());
    match call {
        Call::Claim(task, request) => {
            let (answer, lease) = answered(store.claim(&request).await.expect("answers"));
            (answer, lease.map(|lease| (task, lease)))
        }
        Call::Commit(lease, changes) => {
            let committed: Result<Timestamp> = store.commit(&lease, *changes).await;
            (committed.map_or_else(refused, |_| Answer::Committed), None)
        }
    }
}

fn same<T: PartialEq + Debug>(what: &str, store: &T, model: &T) -> std::result::Result<(), TestCaseError> {
    if store == model {
        return Ok(());
    }
    Err(TestCaseError::fail(format!("{what}: the store {store:?}, the model {model:?}")))
}

/// Does all of it, and holds each answer and all that can be read against the model's.
async fn follow(store: &dyn Store, turns: &[Vec<Op>]) -> std::result::Result<(), TestCaseError> {
    let later = Timestamp::now().plus(24 * LONG);
    let (tasks, leases, cache) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    let mut model = Model { tasks, leases, cache, made: 0, later };
    for turn in turns {
        let (mut calls, mut expected) = (Vec::new(), Vec::new());
        for op in turn {
            match op {
                Op::Claim { task, holds } => {
                    calls.push(Call::Claim(*task, request(*task, *holds)));
                    expected.push(model.claim(*task, *holds));
                }
                Op::Commit { lease, what, then } => {
                    let Some((task, lease)) = model.leases.iter().rev().nth(*lease).cloned() else { continue };
                    let changes = model.changes(task, what, *then);
                    expected.push(model.commit(task, &lease, &changes));
                    calls.push(Call::Commit(lease, Box::new(changes)));
                }
            }
        }
        // They are taken in this order, however many of them share a transaction.
        let answers = join_all(calls.into_iter().map(|one| call(store, one))).await;
        let (answers, leases): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        same("what was answered", &answers, &expected)?;
        model.leases.extend(leases.into_iter().flatten());
        for task in model.tasks.values() {
            let read = store.task(task.record.id).await.expect("reads").expect("it is known");
            // When something happened is the store's business.
            let (created, updated) = (read.created, read.updated);
            same("a task", &read, &TaskRecord { created, updated, ..task.record.clone() })?;
        }
    }
    whole(store, &model).await
}

/// The log, the verdicts that are remembered, and the listings.
async fn whole(store: &dyn Store, model: &Model) -> std::result::Result<(), TestCaseError> {
    let mut log: BTreeMap<TaskId, Vec<(String, String)>> = BTreeMap::new();
    for entry in store.audit(0, usize::MAX).await.expect("the log") {
        log.entry(entry.task).or_default().push((entry.kind, entry.body));
    }
    for task in model.tasks.values() {
        same("the log", &log.remove(&task.record.id).unwrap_or_default(), &task.log)?;
    }
    same("tasks that nobody made", &log.len(), &0)?;
    let verified = audit::verify(store).await.expect("the log is read");
    same("the log's proof", &verified.problems, &Vec::new())?;
    for number in 0..3 {
        let key = cache_key(number);
        same("a verdict", &store.cached(&key).await.expect("reads"), &model.cache.get(&key.generation).cloned())?;
    }
    for state in TaskState::ALL {
        let filter = TaskFilter { states: vec![state], ..TaskFilter::default() };
        let listed: Vec<_> = store.tasks(&filter).await.expect("lists").iter().map(|task| task.id).collect();
        let all = model.tasks.values().map(|task| &task.record);
        let mut expected: Vec<_> = all.filter(|task| task.state == state).map(|task| task.id).collect();
        expected.sort();
        same("a listing", &listed, &expected)?;
    }
    let due = TaskFilter { due: true, ..TaskFilter::default() };
    let due: Vec<_> = store.tasks(&due).await.expect("lists").iter().map(|task| task.id).collect();
    let is_due = |task: &&Task| {
        !task.record.state.is_terminal() && task.lease != Some(true) && task.record.next_at != Some(model.later)
    };
    let mut expected: Vec<_> = model.tasks.values().filter(is_due).map(|task| task.record.id).collect();
    expected.sort();
    same("what is due", &due, &expected)
}

/// Runs sequences of calls, each on a store of its own.
pub(super) fn run(cases: u32, open: impl AsyncFn() -> Arc<dyn Store>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let turns = proptest::collection::vec(proptest::collection::vec(op(), 1..6), 1..25);
    let followed = runner.run(&turns, |turns| runtime.block_on(async { follow(&*open().await, &turns).await }));
    if let Err(why) = followed {
        panic!("{why}");
    }
}

#[test]
fn sqlite_is_as_the_model() {
    run(200, async || Arc::new(SqliteStore::in_memory().await.expect("a store")) as Arc<dyn Store>);
}
