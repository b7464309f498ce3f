//! Errors on their way to JavaScript.

use std::fmt;

use scan_pipeline::{Error, ErrorKind};
use serde::Serialize;

/// An error as the JSON that the JavaScript side makes a `ScanPipelineError` of.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    code: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    message: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Something that the caller did and that cannot work.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, message).into()
    }

    /// What was closed is used.
    pub(crate) fn closed(what: &str) -> Self {
        let message = format!("the {what} is closed; open another one, or close it later");
        Self { code: "closed", retryable: false, retry_after_ms: None, object: None, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: error.kind().as_str(),
            retryable: error.is_retryable(),
            retry_after_ms: error.retry_after().map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            object: error.context().map(str::to_owned),
            message: error.to_string(),
        }
    }
}

impl From<Failure> for napi::Error {
    fn from(failure: Failure) -> Self {
        // A struct of texts and numbers serialises.
        Self::from_reason(serde_json::to_string(&failure).unwrap_or(failure.message))
    }
}
