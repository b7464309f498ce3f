//! Errors on their way to Python, which makes exceptions of them.

use std::error::Error as _;
use std::fmt;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use scan_pipeline::clamav;
use scan_pipeline::{Error, ErrorKind};

/// What an exception is made of.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The name of a class of `scan_pipeline.errors`.
    class: &'static str,
    kind: &'static str,
    retryable: bool,
    message: String,
}

impl Failure {
    /// The engine, or what it runs on, failed.
    pub(crate) fn engine(kind: &'static str, message: impl Into<String>) -> Self {
        Self { class: "EngineError", kind, retryable: kind == "resources", message: message.into() }
    }

    /// As Python gets it: class, kind, whether to try again, message.
    pub(crate) fn into_tuple(self, py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        (self.class, self.kind, self.retryable, self.message).into_pyobject(py)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (class, kind) = match error.kind() {
            ErrorKind::Config if is_about_definitions(&error) => ("DefinitionsError", "definitions"),
            kind => (class(kind), kind.as_str()),
        };
        Self { class, kind, retryable: error.is_retryable(), message: error.to_string() }
    }
}

fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Config => "ConfigError",
        ErrorKind::TooLarge => "LimitError",
        ErrorKind::Timeout => "ScanTimeout",
        ErrorKind::Engine | ErrorKind::Panicked | ErrorKind::Resources => "EngineError",
        _ => "ScanPipelineError",
    }
}

/// Missing, empty and malformed definitions are a setting like others to the Rust crate; here they have a class.
fn is_about_definitions(error: &Error) -> bool {
    let core = error.source().and_then(|why| why.downcast_ref::<clamav::Error>());
    core.is_some_and(|why| why.kind() == clamav::ErrorKind::Definitions)
}
