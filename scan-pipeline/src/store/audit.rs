//! The audit log: what happened, in an order that cannot be changed afterwards without being seen.
//!
//! Each entry's hash is taken over the hash of the entry before and over everything that the entry says, so a change, a
//! removal or an insertion breaks the chain from there on. The store keeps the head (number and hash of the last entry)
//! beside the log, so that a tail that was cut off is seen as well. Whoever can write to the whole database can make a
//! new chain: note the head somewhere else from time to time, and compare.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Store, TaskFilter};
use crate::model::{ContentDigest, TaskId, Timestamp};
use crate::{Error, ErrorKind, Result};

/// Something to log.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAudit {
    /// What happened, such as `scanned`, `step.done`, `task.done`.
    pub kind: String,
    /// More about it. Never a raw match or a secret.
    pub body: serde_json::Value,
}

impl NewAudit {
    /// Something of a kind, with more about it.
    pub fn new(kind: impl Into<String>, body: serde_json::Value) -> Self {
        Self { kind: kind.into(), body }
    }
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number: 1, 2, 3, without gaps.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The task it is about.
    pub task: TaskId,
    /// What happened.
    pub kind: String,
    /// More about it, as the very text that was hashed.
    pub body: String,
    /// The hash of the entry before; zeros for the first.
    pub previous: ContentDigest,
    /// The hash of this one.
    pub hash: ContentDigest,
}

/// The end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The number of the last entry, 0 for an empty log.
    pub seq: u64,
    /// Its hash, zeros for an empty log.
    pub hash: ContentDigest,
}

impl AuditHead {
    /// The head of an empty log.
    pub const EMPTY: Self = Self { seq: 0, hash: ContentDigest([0; 32]) };

    /// The entry that follows this head.
    pub fn next(&self, at: Timestamp, task: TaskId, new: &NewAudit) -> AuditEntry {
        let mut entry = AuditEntry {
            seq: self.seq + 1,
            at,
            task,
            kind: new.kind.clone(),
            body: new.body.to_string(),
            previous: self.hash,
            hash: ContentDigest([0; 32]),
        };
        entry.hash = entry.expected_hash();
        entry
    }
}

impl AuditEntry {
    /// The hash that an entry of this content has.
    pub fn expected_hash(&self) -> ContentDigest {
        let mut hash = Sha256::new();
        hash.update(b"scan-pipeline.audit/1");
        hash.update(self.previous.0);
        hash.update(self.seq.to_be_bytes());
        hash.update(self.at.0.to_be_bytes());
        hash.update(self.task.0.0);
        // With their lengths before them, so that no two entries give the same bytes.
        for text in [&self.kind, &self.body] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        ContentDigest(hash.finalize().into())
    }

    /// The head of a log that ends with this entry.
    pub fn head(&self) -> AuditHead {
        AuditHead { seq: self.seq, hash: self.hash }
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The end of the log.
    pub head: AuditHead,
    /// Everything that is wrong, in the order of the log; empty when it is whole.
    pub problems: Vec<String>,
}

/// Most problems that are listed: behind the first, others follow from it.
const MOST_PROBLEMS: usize = 20;
const PAGE: usize = 1000;

/// Reads the whole log and holds it against its hashes, its head, and the state of the tasks.
///
/// # Errors
///
/// The store could not be read.
pub async fn verify(store: &dyn Store) -> Result<Verified> {
    let mut problems = Vec::new();
    let mut head = AuditHead::EMPTY;
    // The last word of the log about each task that has one on its end.
    let mut ended = std::collections::HashMap::new();
    loop {
        let page = store.audit(head.seq, PAGE).await?;
        let Some(last) = page.last() else { break };
        let end = last.head();
        for entry in &page {
            check(entry, head, &mut problems);
            head = entry.head();
            if let Some(state) = entry.kind.strip_prefix("task.") {
                ended.insert(entry.task, state.to_owned());
            }
        }
        if end.seq <= head.seq && page.len() < PAGE {
            break;
        }
    }
    let announced = store.audit_head().await?;
    if announced.seq > head.seq || (announced.seq == head.seq && announced.hash != head.hash) {
        let (seq, last) = (announced.seq, head.seq);
        problems.push(format!("the log should end with entry {seq} ({}), and ends with {last}", announced.hash));
    }
    tasks(store, &ended, &mut problems).await?;
    problems.truncate(MOST_PROBLEMS);
    Ok(Verified { head, problems })
}

fn check(entry: &AuditEntry, head: AuditHead, problems: &mut Vec<String>) {
    if problems.len() >= MOST_PROBLEMS {
        return;
    }
    let seq = entry.seq;
    if seq != head.seq + 1 {
        problems.push(format!("entry {seq} follows entry {}: what was between them is missing", head.seq));
    }
    if entry.previous != head.hash {
        problems.push(format!("entry {seq} does not follow from the entry before it: one of them was changed"));
    }
    if entry.hash != entry.expected_hash() {
        problems.push(format!("entry {seq} was changed: its hash is {}, not {}", entry.expected_hash(), entry.hash));
    }
}

/// No task may be at its end without the log saying so.
async fn tasks(
    store: &dyn Store,
    ended: &std::collections::HashMap<TaskId, String>,
    problems: &mut Vec<String>,
) -> Result<()> {
    let states = super::TaskState::ALL.into_iter().filter(|state| state.is_terminal()).collect();
    let mut filter = TaskFilter { states, most: PAGE, ..TaskFilter::default() };
    loop {
        let page = store.tasks(&filter).await?;
        let Some(last) = page.last() else { return Ok(()) };
        filter.after = Some(last.id);
        for task in &page {
            let logged = ended.get(&task.id).map(String::as_str);
            if logged != Some(task.state.as_str()) && problems.len() < MOST_PROBLEMS {
                let logged = logged.unwrap_or("unfinished");
                problems.push(format!("task {} is {}, and the log has it as {logged}", task.id, task.state));
            }
        }
    }
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
