//! What a failed request says, whichever service it was for.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::{Error, ErrorKind};

/// An answer that is a failure.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) code: Option<String>,
    /// How long the server asked to be left alone.
    pub(crate) after: Option<Duration>,
    message: Option<String>,
    request: Option<String>,
}

impl Said {
    /// The code, or nothing.
    pub(crate) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    /// The error that the service makes of it, with what was said as its source.
    pub(crate) fn cause(self, error: Error) -> Error {
        let after = self.after;
        let error = error.with_source(self);
        match after {
            Some(after) if error.is_retryable() => error.after(after),
            _ => error,
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        for part in [&self.code, &self.message].into_iter().flatten() {
            write!(f, " {part}")?;
        }
        match &self.request {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl StdError for Said {}

/// What the server said; or, when no answer came, the error that follows from that. `whom` is a name such as
/// `the bucket`.
pub(crate) fn read<E>(why: &SdkError<E, HttpResponse>, whom: &str) -> Result<Said, Error>
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    if let Some(answer) = why.raw_response() {
        let header = |name: &str| answer.headers().get(name).map(str::to_owned);
        let meta = why.as_service_error().map(ProvideErrorMetadata::meta);
        return Ok(Said {
            status: answer.status().as_u16(),
            code: meta.and_then(|meta| meta.code()).map(str::to_owned),
            after: header("retry-after").and_then(|wait| wait.trim().parse().ok()).map(Duration::from_secs),
            message: meta.and_then(|meta| meta.message()).map(str::to_owned),
            request: header("x-amz-request-id").or_else(|| header("x-amzn-requestid")),
        });
    }
    let chain = chain(why);
    let (kind, what) = match why {
        SdkError::TimeoutError(_) => (ErrorKind::Timeout, format!("{whom} did not answer in time")),
        // The words are all there is to tell it by: the types are those of private crates.
        _ if chain.contains("provider was not enabled") || chain.contains("provider was not properly configured") => {
            let what = format!("there are no credentials for {whom}: give them to its builder or the environment");
            (ErrorKind::Denied, what)
        }
        // Who gives them out may be back in a moment.
        _ if chain.contains("credentials") => {
            (ErrorKind::Unavailable, format!("the credentials for {whom} could not be loaded"))
        }
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (ErrorKind::Timeout, format!("{whom} did not answer in time"))
        }
        SdkError::DispatchFailure(_) => (ErrorKind::Unavailable, format!("{whom} could not be reached")),
        _ => (ErrorKind::InvalidInput, String::from("the request cannot be made")),
    };
    Err(Error::new(kind, what).with_source(chain))
}

/// The error of a failed request, where the status and the code of an answer say it all.
#[cfg(any(feature = "dynamodb", feature = "sqs"))]
pub(crate) fn failure<E>(why: &SdkError<E, HttpResponse>, whom: &str, error: fn(u16, &str) -> Error) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    match read(why, whom) {
        Ok(said) => {
            let error = error(said.status, said.code());
            said.cause(error)
        }
        Err(error) => error,
    }
}

/// A cause and its own causes in one line: the outer ones say little more than "dispatch failure".
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let cause = error.to_string();
        next = error.source();
        if said.last().is_none_or(|last| !last.contains(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}
