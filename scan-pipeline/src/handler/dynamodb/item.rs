//! What an item of the table holds, within the size that DynamoDB takes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use super::Attributes;
use crate::handler::{Scanned, StepContext};
use crate::model::{Finding, Timestamp, Verdict};

/// Most bytes of an item are 400 KiB; so much leaves room for how DynamoDB counts.
const MOST_BYTES: usize = 350 << 10;

/// What an item tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Column {
    /// The address of the bucket.
    Bucket,
    /// The object's key.
    Key,
    /// Its version, where there are any.
    Version,
    /// Its entity tag.
    Etag,
    /// Bytes of its content; a number.
    Size,
    /// The digest of its content, in hexadecimal digits.
    Sha256,
    /// What the engine takes the content for.
    FileType,
    /// `clean`, `infected` or `unscannable`.
    Verdict,
    /// What matched: a list of maps with `signature` and `layer`.
    Threats,
    /// What is not proven to be scanned: a list of maps with `kind`, `layer` and, where there is more, `detail`.
    Reasons,
    /// Sensitive data, masked: a list of maps with `detector`, `layer`, `offset`, `masked_match` and `confidence`; absent
    /// for none.
    Findings,
    /// How many threats, reasons and findings are not in the item because they have no room there; absent for none.
    Omitted,
    /// The engine that scanned.
    Engine,
    /// The version of its software.
    EngineVersion,
    /// The generation of its definitions.
    Definitions,
    /// When its newest definitions were built.
    DefinitionsBuilt,
    /// How long the scan took in milliseconds; a number.
    ElapsedMs,
    /// When the item was written, which is right after the scan, in RFC 3339.
    RecordedAt,
    /// The task.
    Task,
    /// The workflow.
    Workflow,
    /// Its step.
    Step,
    /// By which a repeated call knows its item.
    IdempotencyKey,
}

impl Column {
    /// Every column.
    pub const ALL: [Self; 22] = [
        Self::Bucket,
        Self::Key,
        Self::Version,
        Self::Etag,
        Self::Size,
        Self::Sha256,
        Self::FileType,
        Self::Verdict,
        Self::Threats,
        Self::Reasons,
        Self::Findings,
        Self::Omitted,
        Self::Engine,
        Self::EngineVersion,
        Self::Definitions,
        Self::DefinitionsBuilt,
        Self::ElapsedMs,
        Self::RecordedAt,
        Self::Task,
        Self::Workflow,
        Self::Step,
        Self::IdempotencyKey,
    ];

    /// The name that it has unless it is given another.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Key => "key",
            Self::Version => "version",
            Self::Etag => "etag",
            Self::Size => "size",
            Self::Sha256 => "sha256",
            Self::FileType => "file_type",
            Self::Verdict => "verdict",
            Self::Threats => "threats",
            Self::Reasons => "reasons",
            Self::Findings => "findings",
            Self::Omitted => "omitted",
            Self::Engine => "engine",
            Self::EngineVersion => "engine_version",
            Self::Definitions => "definitions",
            Self::DefinitionsBuilt => "definitions_built",
            Self::ElapsedMs => "elapsed_ms",
            Self::RecordedAt => "recorded_at",
            Self::Task => "task",
            Self::Workflow => "workflow",
            Self::Step => "step",
            Self::IdempotencyKey => "idempotency_key",
        }
    }
}

/// How a table wants its items.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub(super) partition: String,
    pub(super) sort: Option<String>,
    /// Columns with other names, or none.
    pub(super) columns: BTreeMap<Column, Option<String>>,
    pub(super) expires: Option<(Duration, String)>,
}

impl Default for Form {
    fn default() -> Self {
        Self { partition: String::from("pk"), sort: None, columns: BTreeMap::new(), expires: None }
    }
}

impl Form {
    pub(super) fn name(&self, column: Column) -> Option<&str> {
        self.columns.get(&column).map_or(Some(column.as_str()), |name| name.as_deref())
    }
}

/// An item to write.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) attributes: Attributes,
    /// Threats, reasons and findings that have no room.
    pub(super) omitted: usize,
    keys: Vec<String>,
}

impl Item {
    pub(super) fn new(scanned: &Scanned, step: &StepContext, form: &Form, now: Timestamp) -> Self {
        use Column as C;
        let (object, report) = (&scanned.object, &*scanned.report);
        let texts = [
            (C::Bucket, Some(object.bucket.to_string())),
            (C::Key, Some(object.key.clone())),
            (C::Version, object.version.clone()),
            (C::Etag, object.etag.clone()),
            (C::Sha256, report.sha256.map(|digest| digest.to_string())),
            (C::FileType, report.file_type.clone()),
            (C::Verdict, Some(report.verdict.status().to_owned())),
            (C::Engine, Some(report.engine.name.clone())),
            (C::EngineVersion, Some(report.engine.library.clone())),
            (C::Definitions, Some(report.engine.generation.clone())),
            (C::DefinitionsBuilt, report.engine.definitions_built.clone()),
            (C::RecordedAt, Some(now.to_string())),
            (C::Task, Some(scanned.task.to_string())),
            (C::Workflow, Some(step.workflow.clone())),
            (C::Step, Some(step.step.clone())),
            (C::IdempotencyKey, Some(step.idempotency_key.clone())),
        ];
        let mut attributes = Attributes::new();
        let mut put = |column: Column, value: AttributeValue| {
            if let Some(name) = form.name(column) {
                attributes.insert(name.to_owned(), value);
            }
        };
        for (column, text) in texts {
            if let Some(text) = text {
                put(column, AttributeValue::S(text));
            }
        }
        if let Some(size) = report.size.or(object.size) {
            put(C::Size, AttributeValue::N(size.to_string()));
        }
        put(C::ElapsedMs, AttributeValue::N(report.elapsed.as_millis().to_string()));
        let (threats, reasons) = lists(&report.verdict, &report.coverage.gaps);
        // Never fewer than are listed: the coverage may have counted more than it lists.
        let listed = usize::try_from(report.coverage.gap_count).unwrap_or(usize::MAX).max(reasons.len());
        let mut room = MOST_BYTES.saturating_sub(size_of(&attributes));
        let (all_threats, unlisted) = (threats.len(), listed - reasons.len());
        let (threats, reasons_all) = (fit(threats, &mut room), reasons.len());
        let reasons = fit(reasons, &mut room);
        let findings = fit(report.findings.iter().map(finding).collect(), &mut room);
        let findings_left = usize::try_from(report.finding_count()).unwrap_or(usize::MAX) - findings.len();
        let omitted = (all_threats - threats.len()) + (reasons_all - reasons.len()) + unlisted + findings_left;
        let mut put = |column: Column, value: AttributeValue| {
            if let Some(name) = form.name(column) {
                attributes.insert(name.to_owned(), value);
            }
        };
        put(C::Threats, AttributeValue::L(threats));
        put(C::Reasons, AttributeValue::L(reasons));
        if !findings.is_empty() {
            put(C::Findings, AttributeValue::L(findings));
        }
        if omitted > 0 {
            put(C::Omitted, AttributeValue::N(omitted.to_string()));
        }
        if let Some((time, name)) = &form.expires {
            let end = now.plus(*time).0 / 1000;
            attributes.insert(name.clone(), AttributeValue::N(end.to_string()));
        }
        // Last, since a column may have the same name.
        attributes.insert(form.partition.clone(), AttributeValue::S(scanned.task.to_string()));
        let mut keys = vec![form.partition.clone()];
        if let Some(name) = &form.sort {
            attributes.insert(name.clone(), AttributeValue::S(format!("{}/{}", step.workflow, step.step)));
            keys.push(name.clone());
        }
        Self { attributes, omitted, keys }
    }

    /// The attributes by which the table knows it.
    pub(super) fn key(&self) -> Attributes {
        let value = |name: &String| Some((name.clone(), self.attributes.get(name)?.clone()));
        self.keys.iter().filter_map(value).collect()
    }
}

/// A finding as a value. What stands around it stays with the store.
fn finding(finding: &Finding) -> AttributeValue {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let entries = [
        ("detector", text(&finding.detector)),
        ("layer", text(&finding.layer_path)),
        ("offset", AttributeValue::N(finding.byte_offset.to_string())),
        ("masked_match", text(&finding.masked_match)),
        ("confidence", AttributeValue::N(format!("{:.4}", finding.confidence))),
    ];
    AttributeValue::M(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Threats and reasons as values.
fn lists(verdict: &Verdict, gaps: &[crate::model::Reason]) -> (Vec<AttributeValue>, Vec<AttributeValue>) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let map = |entries: Vec<(&str, AttributeValue)>| {
        AttributeValue::M(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<HashMap<_, _>>())
    };
    let threats = match verdict {
        Verdict::Infected { threats } => threats
            .iter()
            .map(|threat| map(vec![("signature", text(&threat.signature)), ("layer", text(&threat.layer_path))]))
            .collect(),
        _ => Vec::new(),
    };
    let reasons = match verdict {
        Verdict::Unscannable { reasons } => reasons,
        _ => gaps,
    };
    let reasons = reasons.iter().map(|reason| {
        let mut entries = vec![("kind", text(reason.kind.as_str())), ("layer", text(&reason.layer_path))];
        if let Some(detail) = &reason.detail {
            entries.push(("detail", text(detail)));
        }
        map(entries)
    });
    (threats, reasons.collect())
}

/// The first of them that there is room for.
fn fit(values: Vec<AttributeValue>, room: &mut usize) -> Vec<AttributeValue> {
    let mut kept = Vec::new();
    for value in values {
        let size = size_of_value(&value);
        if size > *room {
            break;
        }
        *room -= size;
        kept.push(value);
    }
    kept
}

/// Bytes as DynamoDB counts them, rounded up.
pub(super) fn size_of(attributes: &Attributes) -> usize {
    attributes.iter().map(|(name, value)| name.len() + size_of_value(value)).sum()
}

fn size_of_value(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len() + 1,
        AttributeValue::N(number) => number.len() + 2,
        AttributeValue::L(values) => 3 + values.iter().map(|value| 1 + size_of_value(value)).sum::<usize>(),
        AttributeValue::M(entries) => 3 + entries.len() + size_of(entries),
        _ => 1,
    }
}
