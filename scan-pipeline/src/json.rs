//! Results as JSON: one object a file, each with a `schema` field that names its form.
//!
//! - [`REPORT_SCHEMA`]: the file was scanned, and this is what was found. `verdict.status` is `clean`, `infected` or
//!   `unscannable`; `reasons` says what was not proven to be scanned, which an infected file can have, too.
//!   `findings` lists sensitive data, where it was looked for, masked; `findings_omitted` counts what is not listed. Where
//!   nobody looked for malware, the file is `unscannable`, with the reason `no_malware_scan`.
//! - [`ERROR_SCHEMA`]: nothing is known about the file. With `"skipped": true` it was passed over on purpose: a link,
//!   fifo, socket or device met in a directory tree.
//!
//! Fields may be added to a form; what is there keeps its meaning while the number in the schema stays.

use std::path::Path;

use serde::Serialize;

use crate::model::Report;

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
    #[serde(flatten)]
    report: &'a Report,
}

impl<'a> ReportJson<'a> {
    /// The report about the file at `path`.
    pub fn new(path: &Path, report: &'a Report) -> Self {
        Self { schema: REPORT_SCHEMA, path: PathJson::new(path), report }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

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
