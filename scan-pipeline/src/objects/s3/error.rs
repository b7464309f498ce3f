//! What a failed request means.
//!
//! The answer to a HEAD has no body, so its status has to do; every other answer names a code. Both shapes give the
//! same kinds.

use std::error::Error as StdError;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::aws::error::read;
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
        let marker = why.raw_response().and_then(|answer| answer.headers().get("x-amz-delete-marker"));
        let marker = marker.is_some_and(|marker| marker == "true");
        match read(&why, "the bucket") {
            Ok(said) => {
                let error = from_answer(said.status, said.code(), marker);
                Self { status: Some(said.status), code: said.code.clone(), error: said.cause(error) }
            }
            Err(error) => Self { status: None, code: None, error },
        }
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
