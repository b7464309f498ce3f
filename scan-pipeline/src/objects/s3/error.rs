//! What a failed request means.
//!
//! The answer to a HEAD has no body, so its status has to do; every other answer names a code. Both shapes give the
//! same kinds.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::{Error, ErrorKind};

/// A request that failed, with what the operation has to decide on, and the error that it is for everybody else.
#[derive(Debug)]
pub(super) struct Failure {
    /// The status of the answer, if one came.
    pub(super) status: Option<u16>,
    /// The code that the answer named.
    pub(super) code: Option<String>,
    /// The error for the caller.
    pub(super) error: Error,
}

impl Failure {
    /// A condition of ours did not hold.
    pub(super) fn is_precondition(&self) -> bool {
        self.status == Some(412)
    }

    /// There is nothing of this name.
    pub(super) fn is_gone(&self) -> bool {
        self.error.kind() == ErrorKind::Gone
    }

    /// The bucket is in another region than the client, or at another endpoint.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.error.kind() == ErrorKind::Config && !self.has_code("NoSuchBucket")
    }

    pub(super) fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: None, code: None, error }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    fn from(why: SdkError<E, HttpResponse>) -> Self {
        if let Some(answer) = why.raw_response() {
            let status = answer.status().as_u16();
            let header = |name: &str| answer.headers().get(name).map(str::to_owned);
            let meta = why.as_service_error().map(ProvideErrorMetadata::meta);
            let code = meta.and_then(|meta| meta.code()).map(str::to_owned);
            let said = Said {
                status,
                code: code.clone(),
                message: meta.and_then(|meta| meta.message()).map(str::to_owned),
                request: header("x-amz-request-id"),
            };
            let marker = header("x-amz-delete-marker").is_some_and(|marker| marker == "true");
            let after = header("retry-after").and_then(|wait| wait.trim().parse().ok()).map(Duration::from_secs);
            let error = from_answer(status, code.as_deref().unwrap_or_default(), marker).with_source(said);
            let error = match after {
                Some(after) if error.is_retryable() => error.after(after),
                _ => error,
            };
            return Self { status: Some(status), code, error };
        }
        let chain = chain(&why);
        let error = match &why {
            SdkError::TimeoutError(_) => Error::new(ErrorKind::Timeout, "the bucket did not answer in time"),
            // The words are all there is to tell it by: the types are those of private crates.
            _ if chain.contains("provider was not enabled")
                || chain.contains("provider was not properly configured") =>
            {
                Error::new(ErrorKind::Denied, "there are no credentials for the bucket; see S3BucketBuilder")
            }
            // Who gives them out may be back in a moment.
            _ if chain.contains("credentials") => {
                Error::new(ErrorKind::Unavailable, "the credentials for the bucket could not be loaded")
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                Error::new(ErrorKind::Timeout, "the bucket did not answer in time")
            }
            SdkError::DispatchFailure(_) => Error::new(ErrorKind::Unavailable, "the bucket could not be reached"),
            _ => Error::new(ErrorKind::InvalidInput, "the request cannot be made"),
        };
        Self { status: None, code: None, error: error.with_source(chain) }
    }
}

fn from_answer(status: u16, code: &str, delete_marker: bool) -> Error {
    use ErrorKind as Kind;
    let gone = || Error::new(Kind::Gone, "is not there, or not any more");
    let unavailable = || Error::new(Kind::Unavailable, "the bucket failed");
    match (status, code) {
        _ if delete_marker => gone(),
        // Of the configuration, not of one object: it must not make every object of the bucket "gone".
        (_, "NoSuchBucket") => Error::new(Kind::Config, "there is no bucket of this name"),
        (_, "NoSuchUpload") => unavailable(),
        (404, _) | (405, "MethodNotAllowed" | "") => gone(),
        (412, _) => Error::new(Kind::Superseded, "is not the object that was meant any more"),
        (_, "InvalidObjectState") => Error::new(Kind::Unsupported, "is in an archive, and has to be restored first"),
        (_, "RequestTimeout") => Error::new(Kind::Timeout, "the bucket waited too long for the request"),
        (_, "SlowDown" | "InternalError" | "ServiceUnavailable" | "IncompleteBody" | "BadDigest") => unavailable(),
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            Error::new(Kind::Denied, "the credentials have expired")
        }
        (301 | 307, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
            Error::new(Kind::Config, "the bucket is in another region, or at another endpoint")
        }
        (401 | 403, _) => Error::new(
            Kind::Denied,
            "the bucket does not allow it (S3 also says so of a key that is absent, where s3:ListBucket is not granted)",
        ),
        (409, "ConditionalRequestConflict" | "OperationAborted") => {
            Error::new(Kind::Busy, "something else writes to this key just now")
        }
        (501, _) | (_, "NotImplemented") => Error::new(Kind::Unsupported, "the server cannot do this"),
        (507, _) => Error::new(Kind::Resources, "the server has no room"),
        (416, _) => Error::new(Kind::Superseded, "is shorter than it was"),
        (408, _) => Error::new(Kind::Timeout, "the bucket waited too long for the request"),
        (429 | 500..=599, _) => unavailable(),
        (400..=499, _) => Error::new(Kind::InvalidInput, "the server refuses the request"),
        _ => Error::new(Kind::Unavailable, "the answer could not be understood"),
    }
}

/// What the server said.
#[derive(Debug)]
struct Said {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    request: Option<String>,
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

/// A cause and its own causes in one line: the outer ones say little more than "dispatch failure".
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_kinds() {
        for (status, code, kind, retryable) in [
            (404, "NoSuchKey", ErrorKind::Gone, false),
            (404, "NoSuchVersion", ErrorKind::Gone, false),
            (404, "", ErrorKind::Gone, false),
            (404, "NoSuchBucket", ErrorKind::Config, false),
            (404, "NoSuchUpload", ErrorKind::Unavailable, true),
            (405, "MethodNotAllowed", ErrorKind::Gone, false),
            (412, "PreconditionFailed", ErrorKind::Superseded, false),
            (412, "", ErrorKind::Superseded, false),
            (403, "AccessDenied", ErrorKind::Denied, false),
            (403, "", ErrorKind::Denied, false),
            (403, "InvalidObjectState", ErrorKind::Unsupported, false),
            (400, "ExpiredToken", ErrorKind::Denied, false),
            (400, "InvalidArgument", ErrorKind::InvalidInput, false),
            (400, "RequestTimeout", ErrorKind::Timeout, true),
            (409, "ConditionalRequestConflict", ErrorKind::Busy, true),
            (301, "PermanentRedirect", ErrorKind::Config, false),
            (200, "InternalError", ErrorKind::Unavailable, true),
            (429, "", ErrorKind::Unavailable, true),
            (500, "", ErrorKind::Unavailable, true),
            (503, "SlowDown", ErrorKind::Unavailable, true),
            (501, "NotImplemented", ErrorKind::Unsupported, false),
        ] {
            let error = from_answer(status, code, false);
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{status} {code}");
        }
        assert_eq!(from_answer(405, "MethodNotAllowed", true).kind(), ErrorKind::Gone);
    }
}
