//! Results as JSON: one object a file, each with a `schema` field that names its form.
//!
//! - [`REPORT_SCHEMA`]: the file was scanned, and this is what was found. `verdict.status` is `clean`, `infected` or
//!   `unscannable`; `reasons` says what was not proven to be scanned, which an infected file can have, too.
//! - [`ERROR_SCHEMA`]: nothing is known about the file. With `"skipped": true` it was passed over on purpose: a link,
//!   fifo, socket or device met in a directory tree.
//!
//! Fields may be added to a form; what is there keeps its meaning while the number in the schema stays.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::clamav::{Coverage, DatabaseInfo, EngineInfo, Limits, Reason, Report, Threat, Verdict};
use crate::digest::ContentDigest;

/// The `schema` of [`ReportJson`].
pub const REPORT_SCHEMA: &str = "scan-pipeline.report/1";
/// The `schema` of [`ErrorJson`].
pub const ERROR_SCHEMA: &str = "scan-pipeline.error/1";

/// What a scan found in one file.
#[derive(Debug, Clone, Serialize)]
pub struct ReportJson<'a> {
    schema: &'static str,
    #[serde(flatten)]
    path: PathJson,
    verdict: VerdictJson<'a>,
    /// Sensitive data; nothing looks for it yet.
    findings: [(); 0],
    coverage: CoverageJson<'a>,
    engine: EngineJson<'a>,
    sha256: Option<String>,
    size: Option<u64>,
    file_type: Option<&'a str>,
    elapsed_ms: f64,
}

impl<'a> ReportJson<'a> {
    /// The report about the file at `path`, with the digest of the bytes that were scanned, where there is one.
    pub fn new(path: &Path, report: &'a Report, sha256: Option<ContentDigest>) -> Self {
        let (threats, reasons) = match &report.verdict {
            Verdict::Infected { threats } => (threats.as_slice(), report.coverage.gaps.as_slice()),
            Verdict::Unscannable { reasons } => (&[][..], reasons.as_slice()),
            Verdict::Clean => (&[][..], &[][..]),
        };
        Self {
            schema: REPORT_SCHEMA,
            path: PathJson::new(path),
            verdict: VerdictJson {
                status: report.verdict.status(),
                threats: threats.iter().map(ThreatJson::new).collect(),
                reasons: reasons.iter().map(ReasonJson::new).collect(),
            },
            findings: [],
            coverage: CoverageJson::new(&report.coverage),
            engine: EngineJson::new(&report.engine),
            sha256: sha256.map(|digest| digest.to_string()),
            size: Some(report.size),
            file_type: report.file_type.as_deref(),
            elapsed_ms: (report.elapsed.as_secs_f64() * 1e6).round() / 1e3,
        }
    }

    /// The same without a size, for a stream that was not read to its end.
    pub fn of_unknown_size(mut self) -> Self {
        self.size = None;
        self
    }
}

/// Why nothing is known about a file.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorJson<'a> {
    schema: &'static str,
    #[serde(flatten)]
    path: PathJson,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    skipped: bool,
    error: ErrorBody<'a>,
}

#[derive(Debug, Clone, Serialize)]
struct ErrorBody<'a> {
    kind: &'a str,
    message: &'a str,
}

impl<'a> ErrorJson<'a> {
    /// The file at `path` could not be scanned.
    pub fn new(path: &Path, kind: &'a str, message: &'a str) -> Self {
        Self { schema: ERROR_SCHEMA, path: PathJson::new(path), skipped: false, error: ErrorBody { kind, message } }
    }

    /// The same for something that was passed over on purpose.
    pub fn skipped(mut self) -> Self {
        self.skipped = true;
        self
    }
}

/// A path as text, and its bytes where the text does not say them all.
#[derive(Debug, Clone, Serialize)]
struct PathJson {
    path: String,
    /// Lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl PathJson {
    fn new(path: &Path) -> Self {
        let path_bytes = path.to_str().is_none().then(|| {
            use std::os::unix::ffi::OsStrExt;
            path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        });
        Self { path: path.to_string_lossy().into_owned(), path_bytes }
    }
}

#[derive(Debug, Clone, Serialize)]
struct VerdictJson<'a> {
    status: &'static str,
    threats: Vec<ThreatJson<'a>>,
    reasons: Vec<ReasonJson<'a>>,
}

#[derive(Debug, Clone, Serialize)]
struct ThreatJson<'a> {
    signature: &'a str,
    layer_path: &'a str,
}

impl<'a> ThreatJson<'a> {
    fn new(threat: &'a Threat) -> Self {
        Self { signature: &threat.signature, layer_path: &threat.layer_path }
    }
}

#[derive(Debug, Clone, Serialize)]
struct ReasonJson<'a> {
    kind: &'static str,
    layer_path: &'a str,
    detail: Option<&'a str>,
}

impl<'a> ReasonJson<'a> {
    fn new(reason: &'a Reason) -> Self {
        Self { kind: reason.kind.as_str(), layer_path: &reason.layer_path, detail: reason.detail.as_deref() }
    }
}

#[derive(Debug, Clone, Serialize)]
struct CoverageJson<'a> {
    started: bool,
    layers: u64,
    bytes: u64,
    depth: u32,
    members: u64,
    trivial: bool,
    gap_count: u64,
    limits: LimitsJson<'a>,
}

impl<'a> CoverageJson<'a> {
    fn new(coverage: &'a Coverage) -> Self {
        Self {
            started: coverage.started,
            layers: coverage.layers,
            bytes: coverage.bytes,
            depth: coverage.depth,
            members: coverage.members,
            trivial: coverage.trivial,
            gap_count: coverage.gap_count,
            limits: LimitsJson(&coverage.limits),
        }
    }
}

#[derive(Debug, Clone)]
struct LimitsJson<'a>(&'a Limits);

impl Serialize for LimitsJson<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut limits = serializer.serialize_struct("Limits", 5)?;
        limits.serialize_field("max_file_size", &self.0.max_file_size)?;
        limits.serialize_field("max_scan_size", &self.0.max_scan_size)?;
        limits.serialize_field("max_recursion", &self.0.max_recursion)?;
        limits.serialize_field("max_files", &self.0.max_files)?;
        let millis = u64::try_from(self.0.max_scan_time.as_millis()).unwrap_or(u64::MAX);
        limits.serialize_field("max_scan_time_ms", &millis)?;
        limits.end()
    }
}

/// The engine that scanned: library, signatures, databases.
#[derive(Debug, Clone, Serialize)]
pub struct EngineJson<'a> {
    name: &'static str,
    library: &'a str,
    functionality_level: u32,
    signatures: u32,
    generation: &'a str,
    definitions_built: Option<String>,
    databases: Vec<DatabaseJson<'a>>,
}

impl<'a> EngineJson<'a> {
    /// What an engine says of itself.
    pub fn new(info: &'a EngineInfo) -> Self {
        Self {
            name: "clamav",
            library: &info.library,
            functionality_level: info.functionality_level,
            signatures: info.signatures,
            generation: &info.generation,
            definitions_built: info.definitions_built().map(rfc3339),
            databases: info.databases.iter().map(DatabaseJson::new).collect(),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
struct DatabaseJson<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    built: Option<String>,
}

impl<'a> DatabaseJson<'a> {
    fn new(database: &'a DatabaseInfo) -> Self {
        Self { name: &database.name, version: database.version, built: database.built.map(rfc3339) }
    }
}

/// A time in UTC as RFC 3339 has it, to the second: `2026-11-20T23:02:04Z`. Times before 1970 become its start.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// let time = UNIX_EPOCH + Duration::from_secs(951_782_399);
/// assert_eq!(scan_pipeline::json::rfc3339(time), "2000-02-28T23:59:59Z");
/// ```
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days since 1970: years start in March, so that the leap day ends them.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::time::Duration;

    #[test]
    fn dates_agree_with_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_767_225_600, "2026-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn errors_have_the_promised_form() {
        let error = ErrorJson::new(Path::new("a"), "io", "could not be opened");
        let text = serde_json::to_string(&error).expect("serialises");
        let form =
            r#"{"schema":"scan-pipeline.error/1","path":"a","error":{"kind":"io","message":"could not be opened"}}"#;
        assert_eq!(text, form);
        let text = serde_json::to_string(&error.skipped()).expect("serialises");
        assert!(text.contains(r#""skipped":true"#), "{text}");
    }

    #[test]
    fn a_path_that_is_not_text_keeps_its_bytes() {
        let path = Path::new(OsStr::from_bytes(b"caf\xe9"));
        let text = serde_json::to_string(&ErrorJson::new(path, "io", "")).expect("serialises");
        assert!(text.contains(r#""path":"caf�","path_bytes":"636166e9""#), "{text}");
    }
}
