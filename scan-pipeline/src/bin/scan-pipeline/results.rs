//! What became of objects, for people and for programs: labels, words, counts.

use std::collections::BTreeMap;

use scan_pipeline::Pipeline;
use scan_pipeline::handler::Place;
use scan_pipeline::model::{ObjectRef, Report, Verdict};
use scan_pipeline::store::{TaskRecord, TaskState};
use serde::Serialize;

use crate::table::{Label, Table, explain, inside};

/// Short names of buckets, by their addresses.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    pub(crate) fn of(pipeline: &Pipeline) -> Self {
        let name = |(name, bucket): (&str, &std::sync::Arc<dyn scan_pipeline::objects::ObjectOps>)| {
            (bucket.url().to_string(), name.to_owned())
        };
        Self(pipeline.buckets().iter().map(name).collect())
    }

    /// An object with its bucket's short name, or its address where there is none.
    pub(crate) fn show(&self, object: &ObjectRef) -> String {
        match self.0.get(object.bucket.as_str()) {
            Some(name) => format!("{name}/{}", object.key),
            None => object.to_string(),
        }
    }
}

/// One word for a task.
pub(crate) fn label(record: &TaskRecord) -> Label {
    match (record.state, &record.report) {
        (TaskState::Dead, _) => Label::Error,
        (TaskState::Superseded | TaskState::Gone, _) => Label::Skipped,
        (TaskState::Done, Some(report)) => match report.verdict {
            Verdict::Clean if report.finding_count() > 0 => Label::Sensitive,
            Verdict::Clean => Label::Clean,
            Verdict::Infected { .. } => Label::Infected,
            Verdict::Unscannable { .. } => Label::Unscannable,
        },
        _ => Label::Waiting,
    }
}

/// What a report says, beside its verdict: threats, reasons, and sensitive data.
pub(crate) fn particulars(report: &Report, root: &str, table: &Table) -> Vec<String> {
    let mut said = Vec::new();
    if let Verdict::Infected { threats } = &report.verdict {
        said.extend(table.first(threats.len(), threats.iter(), |threat| match inside(&threat.layer_path, root) {
            Some(inner) => format!("{} in {inner}", threat.signature),
            None => threat.signature.clone(),
        }));
    }
    if let Verdict::Unscannable { reasons } = &report.verdict {
        let count = report.coverage.gap_count.max(reasons.len() as u64) as usize;
        said.extend(table.first(count, reasons.iter(), |reason| {
            explain(reason.kind.as_str(), &reason.layer_path, reason.detail.as_deref(), root)
        }));
    }
    said.extend(table.findings(&report.findings, report.findings_omitted, root));
    said
}

/// The line about a task: what was found, and what became of the object.
pub(crate) fn details(record: &TaskRecord, names: &Names, table: &Table) -> Vec<String> {
    let root = record.object.file_name();
    let mut said = record.report.as_ref().map(|report| particulars(report, root, table)).unwrap_or_default();
    said.push(match (record.state, &record.place) {
        (TaskState::Done, Place::Moved { object }) => format!("now {}", names.show(object)),
        (TaskState::Done, Place::Deleted) => String::from("deleted"),
        (TaskState::Done, Place::Here) => String::from("left where it is"),
        (TaskState::Superseded, _) => String::from("another state took its place"),
        (TaskState::Gone, _) => String::from("it was not there any more"),
        (TaskState::Dead, _) => format!("failed for good: {}", error(record)),
        _ => format!("will be tried again: {}", error(record)),
    });
    // One line is read more easily than three, and these are short.
    vec![said.join("; ")]
}

/// The last error of a task, or of the step that it waits for.
pub(crate) fn error(record: &TaskRecord) -> &str {
    let step = || record.steps.iter().rev().find_map(|step| step.error.as_deref());
    record.error.as_deref().or_else(step).unwrap_or("the reason is not on record")
}

/// How many of what, in one round or in all.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) clean: u64,
    pub(crate) infected: u64,
    pub(crate) unscannable: u64,
    /// Of all of these, those with sensitive data.
    pub(crate) sensitive: u64,
    /// Findings of it.
    pub(crate) findings: u64,
    /// Replaced or gone before they were scanned.
    pub(crate) superseded: u64,
    /// Will be tried again.
    pub(crate) waiting: u64,
    /// Failed for good, or could not be begun.
    pub(crate) failed: u64,
    /// Were through before, and are still there.
    pub(crate) unchanged: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, record: &TaskRecord) {
        match label(record) {
            // What is nobody's verdict comes from no pipeline.
            Label::Clean | Label::Sensitive | Label::NothingFound | Label::NotUnpacked => self.clean += 1,
            Label::Infected => self.infected += 1,
            Label::Unscannable => self.unscannable += 1,
            Label::Skipped => self.superseded += 1,
            Label::Waiting => self.waiting += 1,
            Label::Error => self.failed += 1,
        }
        let findings = record.report.as_ref().map_or(0, scan_pipeline::model::Report::finding_count);
        self.sensitive += u64::from(findings > 0);
        self.findings += findings;
        self.bytes += record.report.as_ref().and_then(|report| report.size).unwrap_or_default();
    }

    pub(crate) fn objects(&self) -> u64 {
        self.clean + self.infected + self.unscannable + self.superseded + self.waiting + self.failed
    }

    /// Something is left to look at.
    pub(crate) fn needs_a_look(&self) -> bool {
        self.waiting + self.failed > 0
    }

    /// The counts that are not zero, in words.
    pub(crate) fn words(&self) -> String {
        let counts = [
            (self.clean, "clean"),
            (self.infected, "infected"),
            (self.unscannable, "unscannable"),
            (self.sensitive, "with sensitive data"),
            (self.superseded, "replaced or gone"),
            (self.waiting, "waiting"),
            (self.failed, "failed"),
            (self.unchanged, "unchanged since an earlier run"),
        ];
        let words: Vec<_> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", crate::text::number(count)))
            .collect();
        if words.is_empty() { String::from("nothing to do") } else { words.join(", ") }
    }
}
