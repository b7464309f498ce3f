//! What a scan tells, whichever engine made it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{ContentDigest, rfc3339};

/// The result of one scan. Its JSON form is that of [`json::ReportJson`](crate::json::ReportJson).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "form::ReportForm", into = "form::ReportForm")]
pub struct Report {
    /// The conclusion.
    pub verdict: Verdict,
    /// Sensitive data, where detectors looked for it; as many as are listed.
    pub findings: Vec<Finding>,
    /// Findings that there were beyond those, and that are not listed.
    pub findings_omitted: u64,
    /// How much of the content the conclusion rests on.
    pub coverage: Coverage,
    /// The engine that scanned.
    pub engine: EngineInfo,
    /// The digest of the scanned bytes, where the engine was given all of them.
    pub sha256: Option<ContentDigest>,
    /// Bytes of the content; `None` where it was not read to its end.
    pub size: Option<u64>,
    /// The engine's name of the content's type, such as `CL_TYPE_PDF`.
    pub file_type: Option<String>,
    /// Time from the start of the scan to its end, waiting not included.
    pub elapsed: Duration,
}

impl Report {
    /// A report of an engine with a verdict and nothing else known: what engines without layers and tests need.
    /// `Infected` keeps its gaps in the coverage; an unscannable verdict's reasons become them.
    pub fn new(verdict: Verdict, engine: EngineInfo) -> Self {
        let gaps = match &verdict {
            Verdict::Unscannable { reasons } => reasons.clone(),
            _ => Vec::new(),
        };
        Self {
            coverage: Coverage { gap_count: gaps.len() as u64, gaps, ..Coverage::default() },
            verdict,
            findings: Vec::new(),
            findings_omitted: 0,
            engine,
            sha256: None,
            size: None,
            file_type: None,
            elapsed: Duration::ZERO,
        }
    }

    /// How many findings there were, listed or not.
    pub fn finding_count(&self) -> u64 {
        self.findings_omitted.saturating_add(self.findings.len() as u64)
    }

    /// How many of the listed findings each detector made.
    pub fn findings_by_detector(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for finding in &self.findings {
            *counts.entry(finding.detector.as_str()).or_default() += 1;
        }
        counts
    }

    /// Lists no more findings than this, the first ones, and counts the others as omitted.
    pub fn limit_findings(&mut self, most: usize) {
        let over = self.findings.len().saturating_sub(most);
        self.findings.truncate(most);
        self.findings_omitted = self.findings_omitted.saturating_add(over as u64);
    }

    /// Whether another scan of the same bytes with the same engine would say the same: nothing was left out for a
    /// cause outside of the content, and nothing at all was left unproven.
    pub fn is_complete(&self) -> bool {
        !matches!(self.verdict, Verdict::Unscannable { .. })
            && self.coverage.proven
            && self.coverage.gap_count == 0
            && self.coverage.gaps.is_empty()
    }
}

/// The conclusion of a scan. There is no conversion to a boolean, on purpose: "not infected" is not "clean".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was unpacked and scanned, this is proven, and no signature matched.
    Clean,
    /// At least one signature matched.
    Infected {
        /// What matched, and in which layer; never empty.
        threats: Vec<Threat>,
    },
    /// No signature matched in what could be scanned, and something could not be, or nobody can prove that it was.
    Unscannable {
        /// Why, and in which layer; never empty.
        reasons: Vec<Reason>,
    },
}

impl Verdict {
    /// The verdict as a word: `clean`, `infected` or `unscannable`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Infected { .. } => "infected",
            Self::Unscannable { .. } => "unscannable",
        }
    }
}

/// A signature that matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Threat {
    /// The signature's name, as the engine gives it.
    pub signature: String,
    /// The layer that matched, such as `outer.zip/inner.docx/word/document.xml`.
    pub layer_path: String,
}

/// Why a layer is not proven to be scanned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// What kept it from being scanned.
    pub kind: ReasonKind,
    /// The layer, such as `outer.zip/secret.txt`.
    pub layer_path: String,
    /// More for a reader: a method, a size, the engine's words. Not stable.
    pub detail: Option<String>,
}

/// The kinds of [`Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReasonKind {
    /// A password is needed to read it.
    Encrypted,
    /// It is larger than the limit for a file.
    TooLarge,
    /// It is nested deeper than the limit.
    TooDeep,
    /// There are more layers than the limit.
    TooManyFiles,
    /// All layers together are larger than the limit.
    ScanSize,
    /// It took longer than the limit or the scan's deadline.
    TimedOut,
    /// A format or compression method that the engine does not unpack.
    Unsupported,
    /// The layer announces content that it does not hold, or holds damaged.
    TruncatedOrCorrupt,
    /// The engine reported an error in the middle of the scan; the detail carries its words.
    EngineReported,
    /// The engine found nothing and cannot show what it looked at (clamd).
    Unproven,
    /// Nobody looked for malware: the engine looks for other things. No setting lets this through as clean.
    NoMalwareScan,
}

impl ReasonKind {
    /// Every kind, for what has to offer a choice.
    pub const ALL: [Self; 11] = [
        Self::Encrypted,
        Self::TooLarge,
        Self::TooDeep,
        Self::TooManyFiles,
        Self::ScanSize,
        Self::TimedOut,
        Self::Unsupported,
        Self::TruncatedOrCorrupt,
        Self::EngineReported,
        Self::Unproven,
        Self::NoMalwareScan,
    ];

    /// The kind as a stable word, such as `too_large`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::TooManyFiles => "too_many_files",
            Self::ScanSize => "scan_size",
            Self::TimedOut => "timed_out",
            Self::Unsupported => "unsupported",
            Self::TruncatedOrCorrupt => "truncated_or_corrupt",
            Self::EngineReported => "engine_reported",
            Self::Unproven => "unproven",
            Self::NoMalwareScan => "no_malware_scan",
        }
    }
}

impl fmt::Display for ReasonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Sensitive data in a layer. It holds masked text only: what was matched can not be read from it.
///
/// A finding is one by its layer, detector and offset, within what was scanned.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Finding {
    /// What found it, such as `credit_card`.
    pub detector: String,
    /// The match, masked.
    pub masked_match: String,
    /// What stands around it, masked.
    pub context: String,
    /// The layer it is in, such as `outer.zip/inner.docx/word/document.xml`.
    pub layer_path: String,
    /// Where it begins within the decoded layer, in bytes.
    pub byte_offset: u64,
    /// Where it begins within the scanned bytes as they are, where that is known exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_offset: Option<u64>,
    /// How sure the detector is, from 0 to 1.
    pub confidence: f64,
    /// More about it in stable words, such as `test` for a number that was published for tests.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The same for the same match wherever it is found with the same key: a keyed HMAC, which nobody can reverse
    /// without the key. Empty where it was not taken.
    #[serde(default)]
    pub fingerprint: String,
}

/// How much of a content was looked at: the proof that a clean verdict needs, and what is missing from it otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// The engine accounts for everything that it looked at. Without it there is no clean verdict. Absent in a form that
    /// was made elsewhere means that nobody vouches.
    #[serde(default)]
    pub proven: bool,
    /// The engine looked at the file itself, in this scan.
    pub started: bool,
    /// Layers that were scanned, the file itself included.
    pub layers: u64,
    /// Bytes of these layers together.
    pub bytes: u64,
    /// Deepest level of nesting seen, 0 for a file without members.
    pub depth: u32,
    /// Members that containers announced and that were held against what was delivered.
    pub members: u64,
    /// The file was too small to hold anything (5 bytes or fewer).
    pub trivial: bool,
    /// Everything that is not proven to be scanned, as far as it is listed. In the JSON form of a report these are the
    /// verdict's reasons.
    #[serde(skip)]
    pub gaps: Vec<Reason>,
    /// How many there were, listed or not.
    pub gap_count: u64,
    /// The limits in force.
    pub limits: Limits,
}

/// How much one scan may cost. Content beyond a limit is never clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of one layer: the file itself and each file unpacked from it. Default 100 MiB.
    pub max_file_size: u64,
    /// Bytes of all layers of one scan together. Default 400 MiB.
    pub max_scan_size: u64,
    /// Levels of nesting, the file itself being the first. Default 17.
    pub max_recursion: u32,
    /// Layers in one scan. Default 10,000.
    pub max_files: u32,
    /// Time for one scan once it has started. Default 120 seconds.
    #[serde(rename = "max_scan_time_ms", with = "form::millis")]
    pub max_scan_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file_size: 100 << 20,
            max_scan_size: 400 << 20,
            max_recursion: 17,
            max_files: 10_000,
            max_scan_time: Duration::from_secs(120),
        }
    }
}

/// What an engine is: its software, its definitions, its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// What kind of engine: `clamav`, `clamd`, or the names of a group's members joined by `+`.
    pub name: String,
    /// The version of its software, such as `1.4.6`.
    pub library: String,
    /// Changes exactly when the definitions change.
    pub generation: String,
    /// A hash of every setting that a verdict may depend on: limits, options, what counts as a threat.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub settings: String,
    /// libclamav's functionality level, which databases name as their minimum; 0 for other engines.
    #[serde(default)]
    pub functionality_level: u32,
    /// Signatures in all databases together; 0 where the engine does not say.
    #[serde(default)]
    pub signatures: u32,
    /// The newest build time among the databases, from which their age is counted; RFC 3339.
    #[serde(default)]
    pub definitions_built: Option<String>,
    /// The databases that were loaded, by name.
    #[serde(default)]
    pub databases: Vec<DatabaseInfo>,
}

impl EngineInfo {
    /// An engine of which no more is known than its name, version and generation of definitions.
    pub fn new(name: impl Into<String>, library: impl Into<String>, generation: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            library: library.into(),
            generation: generation.into(),
            settings: String::new(),
            functionality_level: 0,
            signatures: 0,
            definitions_built: None,
            databases: Vec::new(),
        }
    }
}

/// One database file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseInfo {
    /// Its file name, such as `daily.cvd`.
    pub name: String,
    /// The version in its header; text databases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Build time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<String>,
}

impl DatabaseInfo {
    /// A database by name, version and build time.
    pub fn new(name: impl Into<String>, version: Option<u32>, built: Option<SystemTime>) -> Self {
        Self { name: name.into(), version, built: built.map(rfc3339) }
    }
}

/// The JSON forms, where they differ from the types.
mod form {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct ReportForm {
        verdict: VerdictForm,
        #[serde(default)]
        findings: Vec<Finding>,
        #[serde(default)]
        findings_omitted: u64,
        coverage: Coverage,
        engine: EngineInfo,
        sha256: Option<ContentDigest>,
        size: Option<u64>,
        file_type: Option<String>,
        elapsed_ms: f64,
    }

    #[derive(Serialize, Deserialize)]
    struct VerdictForm {
        status: Status,
        threats: Vec<Threat>,
        /// What was not proven to be scanned, which an infected content can have, too.
        reasons: Vec<Reason>,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Status {
        Clean,
        Infected,
        Unscannable,
    }

    impl From<Report> for ReportForm {
        fn from(report: Report) -> Self {
            let mut coverage = report.coverage;
            let gaps = std::mem::take(&mut coverage.gaps);
            let (status, threats, reasons) = match report.verdict {
                Verdict::Clean => (Status::Clean, Vec::new(), Vec::new()),
                Verdict::Infected { threats } => (Status::Infected, threats, gaps),
                Verdict::Unscannable { reasons } => (Status::Unscannable, Vec::new(), reasons),
            };
            Self {
                verdict: VerdictForm { status, threats, reasons },
                findings: report.findings,
                findings_omitted: report.findings_omitted,
                coverage,
                engine: report.engine,
                sha256: report.sha256,
                size: report.size,
                file_type: report.file_type,
                elapsed_ms: (report.elapsed.as_secs_f64() * 1e6).round() / 1e3,
            }
        }
    }

    impl From<ReportForm> for Report {
        fn from(form: ReportForm) -> Self {
            let gaps = form.verdict.reasons.clone();
            let verdict = match form.verdict.status {
                Status::Clean if gaps.is_empty() => Verdict::Clean,
                Status::Infected => Verdict::Infected { threats: form.verdict.threats },
                // A clean form with reasons contradicts itself; the reasons win.
                Status::Clean | Status::Unscannable => Verdict::Unscannable { reasons: form.verdict.reasons },
            };
            Self {
                verdict,
                findings: form.findings,
                findings_omitted: form.findings_omitted,
                coverage: Coverage { gaps, ..form.coverage },
                engine: form.engine,
                sha256: form.sha256,
                size: form.size,
                file_type: form.file_type,
                elapsed: Duration::try_from_secs_f64(form.elapsed_ms / 1e3).unwrap_or_default(),
            }
        }
    }

    pub(super) mod millis {
        use super::*;

        pub(in super::super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
            u64::deserialize(deserializer).map(Duration::from_millis)
        }
    }
}

#[cfg(test)]
mod tests;
