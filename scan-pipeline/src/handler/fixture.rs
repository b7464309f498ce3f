//! What the tests of handlers have in common.

use std::sync::Arc;

use super::{Place, Scanned, StepContext};
use crate::model::{ContentDigest, EngineInfo, ObjectRef, Reason, ReasonKind, Report, TaskId, Threat, Verdict};
use crate::objects::Buckets;

pub(crate) fn report(verdict: Verdict) -> Report {
    let mut report = Report::new(verdict, EngineInfo::new("test", "1", "g1"));
    report.coverage.proven = true;
    report
}

pub(crate) fn clean() -> Report {
    report(Verdict::Clean)
}

pub(crate) fn infected() -> Report {
    let threat = Threat { signature: String::from("{HEX}Test"), layer_path: String::from("a.zip/b") };
    report(Verdict::Infected { threats: vec![threat] })
}

pub(crate) fn unscannable() -> Report {
    let reason = Reason { kind: ReasonKind::Encrypted, layer_path: String::from("a.zip/b"), detail: None };
    report(Verdict::Unscannable { reasons: vec![reason] })
}

/// A scan of an object that is nowhere.
pub(crate) fn scanned(report: Report) -> Scanned {
    let object =
        ObjectRef::new("memory://nowhere".parse().expect("an address"), "dir/a.zip").with_etag("e1").with_size(3);
    scan_of(object, report)
}

/// A scan of an object with `abc` in it.
pub(crate) fn scan_of(object: ObjectRef, mut report: Report) -> Scanned {
    report.sha256 = Some(ContentDigest::of(b"abc"));
    report.size = Some(3);
    Scanned { task: TaskId::of(&object, 0), object, report: Arc::new(report) }
}

/// The circumstances of an attempt of a step named `step`.
pub(crate) fn step(scanned: &Scanned, buckets: &Buckets, attempt: u32) -> StepContext {
    StepContext {
        workflow: String::from("w"),
        step: String::from("step"),
        attempt,
        idempotency_key: StepContext::key(scanned.task, "w", "step"),
        outputs: Arc::default(),
        place: Place::Here,
        buckets: Arc::new(buckets.clone()),
    }
}
