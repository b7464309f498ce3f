//! Random sequences of calls, on a queue and on a model of it in memory: what both answer has to be the same.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;

use crate::queue::{Delivery, Depth, Held, Lane, NewMessage, Queue, Receipt, Settle, SqliteQueue, TestClock, Which};

/// Times are whole minutes of the queue's clock, and a sequence of calls takes less than one.
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
enum Op {
    Enqueue(Vec<New>),
    Lease {
        most: usize,
        ttl: u32,
    },
    /// The first number chooses one of the receipts that were given out.
    Extend(Vec<(usize, u32)>),
    Settle(Vec<(usize, End)>),
    Pass(u32),
    /// The clock is set back.
    Back(u32),
    Redrive(Choice, usize),
    Purge(Choice, usize),
}

#[derive(Debug, Clone)]
struct New {
    tenant: u8,
    lane: Lane,
    delay: u32,
    key: Option<u8>,
}

#[derive(Debug, Clone)]
enum End {
    Done,
    Retry(u32),
    Dead(u8),
}

#[derive(Debug, Clone)]
enum Choice {
    All,
    /// One of those that there are, or the id of none.
    One(usize),
    Reason(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let minutes = || prop_oneof![2 => Just(0_u32), 3 => 1..4_u32];
    let lane = prop_oneof![Just(Lane::Interactive), Just(Lane::Normal), Just(Lane::Bulk)];
    let new = (0..3_u8, lane, minutes(), proptest::option::weighted(0.2, 0..3_u8))
        .prop_map(|(tenant, lane, delay, key)| New { tenant, lane, delay, key });
    let end =
        prop_oneof![3 => Just(End::Done), 2 => minutes().prop_map(End::Retry), 2 => (0..3_u8).prop_map(End::Dead)];
    let choice =
        || prop_oneof![Just(Choice::All), (0..6_usize).prop_map(Choice::One), (0..3_u8).prop_map(Choice::Reason)];
    // Late receipts are the interesting ones.
    let receipt = || 0..8_usize;
    prop_oneof![
        4 => proptest::collection::vec(new, 1..6).prop_map(Op::Enqueue),
        6 => (0..6_usize, minutes()).prop_map(|(most, ttl)| Op::Lease { most, ttl }),
        2 => proptest::collection::vec((receipt(), minutes()), 1..4).prop_map(Op::Extend),
        5 => proptest::collection::vec((receipt(), end), 1..5).prop_map(Op::Settle),
        3 => prop_oneof![5 => 1..5_u32, 1 => Just(24 * 60)].prop_map(Op::Pass),
        1 => (1..4_u32).prop_map(Op::Back),
        1 => (choice(), 0..4_usize).prop_map(|(choice, most)| Op::Redrive(choice, most)),
        1 => (choice(), 0..4_usize).prop_map(|(choice, most)| Op::Purge(choice, most)),
    ]
}

/// A message of the model. Its name is its body, which is unique.
#[derive(Debug, Clone)]
struct Message {
    tenant: String,
    lane: Lane,
    attempt: u32,
    /// Not to be had before. What was to be had once is so until it is leased, wherever the clock goes.
    due: i64,
    /// The receipt that settles it.
    receipt: Option<Receipt>,
}

const READY: i64 = i64::MIN;

#[derive(Debug, Clone, PartialEq)]
struct Dead {
    body: String,
    tenant: String,
    lane: Lane,
    attempts: u32,
    reason: String,
}

#[derive(Debug, Default)]
struct Model {
    now: i64,
    made: u32,
    messages: BTreeMap<String, Message>,
    dead: Vec<Dead>,
    /// Until when a key is known.
    keys: BTreeMap<u8, i64>,
    /// Every receipt that was given out, and what it was for.
    receipts: Vec<(Receipt, String)>,
}

impl Model {
    fn depth(&self) -> Depth {
        let mut depth = Depth { dead: self.dead.len() as u64, ..Depth::default() };
        for message in self.messages.values() {
            *match (message.due <= self.now, &message.receipt) {
                (true, _) => &mut depth.ready,
                (false, None) => &mut depth.delayed,
                (false, Some(_)) => &mut depth.leased,
            } += 1;
        }
        depth
    }

    /// One of the last receipts.
    fn receipt(&self, choice: usize) -> (Receipt, String) {
        let nobodys = || (Receipt(format!("{choice}")), String::new());
        self.receipts.iter().rev().nth(choice).cloned().unwrap_or_else(nobodys)
    }

    fn holds(&self, (receipt, body): &(Receipt, String)) -> bool {
        self.messages.get(body).is_some_and(|message| message.receipt.as_ref() == Some(receipt))
    }

    fn settle(&mut self, which: &(Receipt, String), end: &End) -> Held {
        if !self.holds(which) {
            return Held::Lost;
        }
        let mut message = self.messages.remove(&which.1).expect("it is held");
        match end {
            End::Done => {}
            End::Retry(after) => {
                (message.receipt, message.due) = (None, self.now + i64::from(*after));
                self.messages.insert(which.1.clone(), message);
            }
            End::Dead(reason) => self.dead.push(Dead {
                body: which.1.clone(),
                tenant: message.tenant,
                lane: message.lane,
                attempts: message.attempt,
                reason: format!("reason {reason}"),
            }),
        }
        Held::Held
    }

    fn leased(&mut self, delivery: &Delivery, ttl: u32) -> Result<(), TestCaseError> {
        let body = String::from_utf8(delivery.body.to_vec()).expect("text");
        let Some(message) = self.messages.get_mut(&body) else { return Err(fail("an unknown message", &delivery)) };
        if message.due > self.now {
            return Err(fail("it is not to be had", &(delivery, message)));
        }
        message.attempt += 1;
        message.due = self.now + i64::from(ttl);
        message.receipt = Some(delivery.receipt.clone());
        same(
            "a delivery",
            &(delivery.attempt, &delivery.tenant, delivery.lane),
            &(message.attempt, &message.tenant, message.lane),
        )?;
        self.receipts.push((delivery.receipt.clone(), body));
        Ok(())
    }

    /// The dead letters that are meant, the oldest first, at most so many.
    fn chosen(&self, choice: &Choice, most: usize) -> Vec<Dead> {
        let meant = |(place, dead): &(usize, &Dead)| match choice {
            Choice::All => true,
            Choice::One(one) => place == one,
            Choice::Reason(reason) => dead.reason == format!("reason {reason}"),
        };
        self.dead.iter().enumerate().filter(meant).map(|(_, dead)| dead.clone()).take(most).collect()
    }
}

fn fail(what: &str, why: &dyn Debug) -> TestCaseError {
    TestCaseError::fail(format!("{what}: {why:?}"))
}

fn same<T: PartialEq + Debug>(what: &str, queue: &T, model: &T) -> Result<(), TestCaseError> {
    if queue == model { Ok(()) } else { Err(fail(what, &format_args!("the queue {queue:?}, the model {model:?}"))) }
}

/// Does all of it, and holds each answer against the model's.
async fn follow(queue: &dyn Queue, clock: &TestClock, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for op in ops {
        step(queue, clock, &mut model, op).await?;
        same("the depth", &queue.depth().await.expect("answers"), &model.depth())?;
        let listed = queue.dead_letters().list(None, 1000).await.expect("answers");
        let dead = listed.into_iter().map(|one| Dead {
            body: String::from_utf8(one.body.to_vec()).expect("text"),
            tenant: one.tenant,
            lane: one.lane,
            attempts: one.attempts,
            reason: one.reason,
        });
        same("the dead letters", &dead.collect(), &model.dead)?;
    }
    // Whatever has happened, what is left comes.
    clock.advance(MINUTE * 60);
    model.now += 60;
    for delivery in queue.lease(1000, MINUTE, Duration::ZERO).await.expect("answers") {
        model.leased(&delivery, 1)?;
    }
    let left = model.messages.values().filter(|message| message.due <= model.now).count();
    same("messages that never came", &left, &0)
}

async fn step(queue: &dyn Queue, clock: &TestClock, model: &mut Model, op: &Op) -> Result<(), TestCaseError> {
    match op {
        Op::Enqueue(new) => {
            let mut messages = Vec::new();
            for one in new {
                model.made += 1;
                let (body, tenant) = (format!("message {}", model.made), format!("tenant {}", one.tenant));
                let mut message =
                    NewMessage::new(body.clone()).tenant(tenant.clone()).lane(one.lane).delay(MINUTE * one.delay);
                message.dedupe = one.key.map(|key| format!("key {key}"));
                messages.push(message);
                if one.key.is_some_and(|key| model.keys.get(&key).is_some_and(|until| *until > model.now)) {
                    continue;
                }
                if let Some(key) = one.key {
                    model.keys.insert(key, model.now + 24 * 60);
                }
                let due = if one.delay == 0 { READY } else { model.now + i64::from(one.delay) };
                let message = Message { tenant, lane: one.lane, attempt: 0, due, receipt: None };
                model.messages.insert(body, message);
            }
            let answers = queue.enqueue(&messages).await.expect("answers");
            same("the acknowledgements", &answers.iter().filter(|one| one.is_ok()).count(), &messages.len())
        }
        Op::Lease { most, ttl } => {
            let there = model.depth().ready as usize;
            // Looking for what is due makes it ready.
            for message in model.messages.values_mut().filter(|message| *most > 0 && message.due <= model.now) {
                message.due = READY;
            }
            let leased = queue.lease(*most, MINUTE * *ttl, Duration::ZERO).await.expect("answers");
            same("how many were leased", &leased.len(), &there.min(*most))?;
            leased.iter().try_for_each(|delivery| model.leased(delivery, *ttl))
        }
        Op::Extend(leases) => {
            let chosen: Vec<_> = leases.iter().map(|(choice, ttl)| (model.receipt(*choice), *ttl)).collect();
            let mut expected = Vec::new();
            let mut asked = BTreeMap::new();
            for (which, ttl) in &chosen {
                // What one receipt is extended by twice at a time is nobody's business.
                asked.entry(which.0.0.clone()).or_insert(*ttl);
            }
            for (which, _) in &chosen {
                let holds = model.holds(which);
                if holds && let Some(message) = model.messages.get_mut(&which.1) {
                    message.due = model.now + i64::from(asked[&which.0.0]);
                }
                expected.push(if holds { Held::Held } else { Held::Lost });
            }
            let ask: Vec<_> = chosen.iter().map(|(which, _)| (which.0.clone(), MINUTE * asked[&which.0.0])).collect();
            same("what was extended", &queue.extend(&ask).await.expect("answers"), &expected)
        }
        Op::Settle(ends) => {
            let chosen: Vec<_> = ends.iter().map(|(choice, end)| (model.receipt(*choice), end)).collect();
            let ask: Vec<_> = chosen
                .iter()
                .map(|(which, end)| {
                    let settle = match end {
                        End::Done => Settle::Done,
                        End::Retry(after) => Settle::Retry { after: MINUTE * *after },
                        End::Dead(reason) => Settle::Dead { reason: format!("reason {reason}") },
                    };
                    (which.0.clone(), settle)
                })
                .collect();
            let expected: Vec<_> = chosen.iter().map(|(which, end)| model.settle(which, end)).collect();
            same("what was settled", &queue.settle(&ask).await.expect("answers"), &expected)
        }
        Op::Pass(minutes) => {
            clock.advance(MINUTE * *minutes);
            model.now += i64::from(*minutes);
            Ok(())
        }
        Op::Back(minutes) => {
            // Whether a key that was to be forgotten is known again depends on who has tidied up meanwhile.
            let back = model.now - i64::from(*minutes);
            if model.keys.values().any(|until| (back + 1..=model.now).contains(until)) {
                return Ok(());
            }
            clock.set_back(MINUTE * *minutes);
            model.now = back;
            Ok(())
        }
        Op::Redrive(choice, most) => {
            let (which, chosen) = meant(queue, model, choice, *most).await;
            let moved = queue.dead_letters().redrive(&which, *most).await.expect("answers");
            same("how many were put back", &moved, &(chosen.len() as u64))?;
            for dead in chosen {
                model.dead.retain(|one| *one != dead);
                let message = Message { tenant: dead.tenant, lane: dead.lane, attempt: 0, due: READY, receipt: None };
                model.messages.insert(dead.body, message);
            }
            Ok(())
        }
        Op::Purge(choice, most) => {
            let (which, chosen) = meant(queue, model, choice, *most).await;
            let gone = queue.dead_letters().purge(&which, *most).await.expect("answers");
            same("how many were removed", &gone, &(chosen.len() as u64))?;
            model.dead.retain(|one| !chosen.contains(one));
            Ok(())
        }
    }
}

/// A choice as the queue is told it, and those that the model means by it.
async fn meant(queue: &dyn Queue, model: &Model, choice: &Choice, most: usize) -> (Which, Vec<Dead>) {
    let which = match choice {
        Choice::All => Which::all(),
        Choice::Reason(reason) => Which { reason: Some(format!("reason {reason}")), ..Which::default() },
        Choice::One(place) => {
            let listed = queue.dead_letters().list(None, 1000).await.expect("answers");
            Which::one(listed.get(*place).map_or_else(|| String::from("none"), |letter| letter.id.clone()))
        }
    };
    (which, model.chosen(choice, most))
}

/// Runs sequences of calls, each on a queue of its own.
pub(super) fn run<Q: Queue>(cases: u32, open: impl AsyncFn(TestClock) -> Q) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let followed = runner.run(&proptest::collection::vec(op(), 1..60), |ops| {
        runtime.block_on(async {
            let clock = TestClock::default();
            follow(&open(clock.clone()).await, &clock, &ops).await
        })
    });
    if let Err(why) = followed {
        panic!("{why}");
    }
}

#[test]
fn sqlite_is_as_the_model() {
    run(300, async |clock| SqliteQueue::memory().clock(clock).open().await.expect("a queue"));
}
