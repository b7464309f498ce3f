//! The audit log: what happened, in an order that cannot be changed afterwards without being seen.
//!
//! Each entry's hash is taken over the hash of the entry before and over everything that the entry says, so a change, a
//! removal or an insertion breaks the chain from there on. The store keeps the head (number and hash of the last entry)
//! beside the log, so that a tail that was cut off is seen as well. The entries about a task's scan, its steps and its
//! end carry digests of what the store has about them, so [`verify`] sees a change there, too. Whoever can write to the
//! whole database can make a new chain: note the head somewhere else from time to time, and compare.

mod verify;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::TaskState;
use crate::handler::StepOutput;
use crate::model::{ContentDigest, Finding, ObjectRef, Reason, Report, TaskId, Threat, Timestamp, Verdict};

pub use verify::{Verified, require, verify};

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

    /// A scan came to its end: `scanned`. It goes into the commit that writes the report and the workflow's name, and
    /// [`verify`] holds both against it:
    ///
    /// ```json
    /// {"object": {"bucket": "s3://in", "key": "a.zip", "version": "3sL4"}, "verdict": "infected",
    ///  "threats": ["Eicar-Signature"], "threat_count": 1, "reasons": ["encrypted"], "findings": 0,
    ///  "sha256": "275a02...", "size": 68, "workflow": "quarantine",
    ///  "engine": {"name": "clamav", "version": "1.4.6", "generation": "27500", "settings": "9f"},
    ///  "report": "8d1f..."}
    /// ```
    ///
    /// `threats` has the first 20 signatures, `reasons` every kind once, `findings` is how many there were, listed or
    /// not, and `report` is the digest of verdict, findings, engine, SHA-256 and size in full ([`report_digest`]).
    pub fn scanned(report: &Report, workflow: Option<&str>, object: &ObjectRef) -> Self {
        let (threats, reasons): (&[Threat], &[Reason]) = match &report.verdict {
            Verdict::Clean => (&[], &[]),
            Verdict::Infected { threats } => (threats, &report.coverage.gaps),
            Verdict::Unscannable { reasons } => (&[], reasons),
        };
        let signatures: Vec<_> = threats.iter().take(MOST_THREATS).map(|threat| &threat.signature).collect();
        let reasons: BTreeSet<_> = reasons.iter().map(|reason| reason.kind.as_str()).collect();
        let engine = &report.engine;
        Self::new(
            SCANNED,
            json!({
                "object": object,
                "verdict": report.verdict.status(),
                "threats": signatures,
                "threat_count": threats.len(),
                "reasons": reasons,
                "findings": unique_findings(report).count() as u64 + report.findings_omitted,
                "sha256": report.sha256,
                "size": report.size,
                "workflow": workflow,
                "engine": {
                    "name": engine.name,
                    "version": engine.library,
                    "generation": engine.generation,
                    "settings": engine.settings,
                },
                "report": report_digest(report),
            }),
        )
    }

    /// A step is done: `step.done`. It goes into the commit that writes the step, and [`verify`] holds the step's
    /// output against `output`, its digest ([`output_digest`]):
    ///
    /// ```json
    /// {"workflow": "quarantine", "step": "move", "attempt": 1, "output": "52c0..."}
    /// ```
    pub fn step_done(workflow: &str, step: &str, attempt: u32, output: &StepOutput) -> Self {
        let output = output_digest(output);
        Self::new(STEP_DONE, json!({ "workflow": workflow, "step": step, "attempt": attempt, "output": output }))
    }

    /// A step failed: `step.failed`. `next_at`, in milliseconds since 1970, is absent when it failed for good:
    ///
    /// ```json
    /// {"workflow": "quarantine", "step": "move", "attempt": 1, "error": "503 slow down", "next_at": 1767225600000}
    /// ```
    pub fn step_failed(workflow: &str, step: &str, attempt: u32, error: &str, next_at: Option<Timestamp>) -> Self {
        let mut body = json!({ "workflow": workflow, "step": step, "attempt": attempt, "error": error });
        if let Some(at) = next_at {
            body["next_at"] = at.0.into();
        }
        Self::new("step.failed", body)
    }

    /// A task that was dead is opened again where it stopped: `task.retried`. It has another end in the log afterwards.
    ///
    /// ```json
    /// {"owner": "host/17/5f0c", "error": "relocate: 503 slow down"}
    /// ```
    pub fn retried(owner: &str, error: Option<&str>) -> Self {
        Self::new(RETRIED, json!({ "owner": owner, "error": error }))
    }

    /// The task came to a state: `task.done` and the like, with whatever else is to be said as its body. A commit with
    /// a terminal state needs one ([`Changes::check`](super::Changes::check)).
    pub fn task(state: TaskState, detail: serde_json::Value) -> Self {
        Self::new(task_kind(state), detail)
    }
}

const SCANNED: &str = "scanned";
const STEP_DONE: &str = "step.done";
const RETRIED: &str = "task.retried";
/// Most signatures that an entry names: a file can match thousands.
const MOST_THREATS: usize = 20;

/// The kind of the entry about a task's state.
pub(super) fn task_kind(state: TaskState) -> String {
    format!("task.{state}")
}

/// The digest of what a report concludes and what it rests on: verdict with threats and reasons, findings, engine,
/// SHA-256 and size. Times and counters are not part of it. Findings that a store takes for the same one (layer,
/// detector and offset) count once.
pub fn report_digest(report: &Report) -> ContentDigest {
    let pair = |kind: &str, path: &str, detail: Option<&str>| json!([kind, path, detail]);
    let threats: Vec<_> = match &report.verdict {
        Verdict::Infected { threats } => {
            threats.iter().map(|threat| pair(&threat.signature, &threat.layer_path, None)).collect()
        }
        Verdict::Clean | Verdict::Unscannable { .. } => Vec::new(),
    };
    let reasons: &[Reason] = match &report.verdict {
        Verdict::Clean => &[],
        Verdict::Infected { .. } => &report.coverage.gaps,
        Verdict::Unscannable { reasons } => reasons,
    };
    let reasons: Vec<_> =
        reasons.iter().map(|reason| pair(reason.kind.as_str(), &reason.layer_path, reason.detail.as_deref())).collect();
    let findings: Vec<_> = unique_findings(report).map(digestible).collect();
    let engine = &report.engine;
    // Named one by one and not by the report's JSON form: a field that the form gains later changes no old digest.
    let mut all = json!([
        report.verdict.status(),
        threats,
        reasons,
        findings,
        [engine.name, engine.library, engine.generation, engine.settings],
        report.sha256,
        report.size,
    ]);
    if let (Value::Array(all), 1..) = (&mut all, report.findings_omitted) {
        all.push(json!({ "findings_omitted": report.findings_omitted }));
    }
    digest(&all)
}

/// What a digest says of a finding. What findings gained later is said only where there is any, so that the digests of
/// older ones stay what they are.
fn digestible(finding: &Finding) -> Value {
    let f = finding;
    let mut all = json!([f.detector, f.layer_path, f.byte_offset, f.masked_match, f.context, f.confidence]);
    let later = f.raw_offset.is_some() || !f.tags.is_empty() || !f.fingerprint.is_empty();
    if let (Value::Array(all), true) = (&mut all, later) {
        all.extend([json!(f.raw_offset), json!(f.tags), json!(f.fingerprint)]);
    }
    all
}

/// The digest of a step's output.
pub fn output_digest(output: &StepOutput) -> ContentDigest {
    digest(&json!([output.value, output.place]))
}

/// A report's findings as stores keep them: the first of each layer, detector and offset.
pub fn unique_findings(report: &Report) -> impl Iterator<Item = &Finding> {
    let mut seen = HashSet::new();
    report.findings.iter().filter(move |finding| {
        seen.insert((finding.layer_path.as_str(), finding.detector.as_str(), finding.byte_offset))
    })
}

/// Digests JSON such that the order of names does not matter: it depends on how `serde_json` was built.
fn digest(value: &Value) -> ContentDigest {
    let mut hash = Sha256::new();
    add(value, &mut hash);
    ContentDigest(hash.finalize().into())
}

/// Each value with its type and, where it has one, its length before it, so that no two values give the same bytes.
fn add(value: &Value, hash: &mut Sha256) {
    let mut text = |tag: u8, text: &str| {
        hash.update([tag]);
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    match value {
        Value::Null => text(b'0', ""),
        Value::Bool(value) => text(b'b', if *value { "1" } else { "0" }),
        Value::Number(number) => text(b'n', &number.to_string()),
        Value::String(string) => text(b's', string),
        Value::Array(values) => {
            text(b'a', &values.len().to_string());
            values.iter().for_each(|value| add(value, hash));
        }
        Value::Object(values) => {
            text(b'o', &values.len().to_string());
            for (name, value) in values.iter().collect::<BTreeMap<_, _>>() {
                add(&Value::from(name.as_str()), hash);
                add(value, hash);
            }
        }
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
        let (kind, body) = (new.kind.clone(), new.body.to_string());
        let Self { seq, hash } = self.after(at, task, &kind, &body);
        AuditEntry { seq, at, task, kind, body, previous: self.hash, hash }
    }

    /// The head behind an entry that follows this one.
    pub(super) fn after(&self, at: Timestamp, task: TaskId, kind: &str, body: &str) -> Self {
        let seq = self.seq + 1;
        Self { seq, hash: link(self.hash, seq, at, task, [kind, body]) }
    }
}

/// The hash of an entry, over that of the one before.
fn link(previous: ContentDigest, seq: u64, at: Timestamp, task: TaskId, texts: [&str; 2]) -> ContentDigest {
    let mut hash = Sha256::new();
    hash.update(b"scan-pipeline.audit/1");
    hash.update(previous.0);
    hash.update(seq.to_be_bytes());
    hash.update(at.0.to_be_bytes());
    hash.update(task.0.0);
    // With their lengths before them, so that no two entries give the same bytes.
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    ContentDigest(hash.finalize().into())
}

impl AuditEntry {
    /// The hash that an entry of this content has.
    pub fn expected_hash(&self) -> ContentDigest {
        link(self.previous, self.seq, self.at, self.task, [&self.kind, &self.body])
    }

    /// The head of a log that ends with this entry.
    pub fn head(&self) -> AuditHead {
        AuditHead { seq: self.seq, hash: self.hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EngineInfo;

    #[test]
    fn digests_do_not_depend_on_the_order_of_names_and_tell_values_apart() {
        let of = |text: &str| digest(&serde_json::from_str(text).expect("JSON"));
        assert_eq!(of(r#"{"a": 1, "b": [2, null]}"#), of(r#"{"b": [2, null], "a": 1}"#));
        let texts = ["1", "1.0", "\"1\"", "[1]", "[[1]]", "{}", "[]", "null", "\"\"", "[\"a\",\"b\"]", "[\"ab\"]"];
        for (i, a) in texts.iter().enumerate() {
            assert!(texts[..i].iter().all(|b| of(a) != of(b)), "{a}");
        }
    }

    /// As this program's predecessor wrote it: what is on record stays true.
    #[test]
    fn the_digest_of_a_report_of_before_is_the_same() {
        let mut report = Report::new(Verdict::Clean, EngineInfo::new("test", "1", "2"));
        let finding = Finding { detector: String::from("card"), confidence: 0.5, ..Finding::default() };
        report.findings = vec![finding];
        let before =
            digest(&json!(["clean", [], [], [["card", "", 0, "", "", 0.5]], ["test", "1", "2", ""], null, null]));
        assert_eq!(report_digest(&report), before);
    }

    #[test]
    fn digests_survive_the_forms_in_which_things_are_stored() {
        let mut report = Report::new(Verdict::Clean, EngineInfo::new("test", "1", "2"));
        let finding = |confidence| Finding {
            detector: String::from("card"),
            masked_match: String::from("4***"),
            layer_path: String::from("a\u{0}\n"),
            byte_offset: u64::MAX,
            confidence,
            ..Finding::default()
        };
        report.findings = vec![finding(0.1 + 0.2), finding(0.5)];
        let back: Report = serde_json::from_str(&serde_json::to_string(&report).expect("form")).expect("report");
        assert_eq!(report_digest(&back), report_digest(&report));
        report.findings.pop();
        assert_eq!(report_digest(&back), report_digest(&report), "the second was at the same place");
        report.findings[0].confidence = 0.3;
        assert_ne!(report_digest(&back), report_digest(&report));
        for change in [
            |report: &mut Report| report.findings[0].raw_offset = Some(0),
            |report: &mut Report| report.findings[0].tags.push(String::from("test")),
            |report: &mut Report| report.findings[0].fingerprint.push('a'),
            |report: &mut Report| report.findings_omitted = 1,
        ] {
            let mut other = report.clone();
            change(&mut other);
            assert_ne!(report_digest(&other), report_digest(&report), "{other:?}");
        }

        let output = StepOutput::new(json!({ "ratio": 0.1 + 0.7, "id": u64::MAX, "text": "\u{0}ü" }));
        let back: StepOutput = serde_json::from_str(&serde_json::to_string(&output).expect("form")).expect("output");
        assert_eq!(output_digest(&back), output_digest(&output));
    }
}
