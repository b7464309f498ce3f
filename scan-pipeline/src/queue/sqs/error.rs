//! What a failed request to a queue means.

use std::error::Error as StdError;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::BatchResultErrorEntry;

use crate::aws::error;
use crate::{Error, ErrorKind};

/// One entry of a batch that was not done.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The broker would say the same again: the message or the receipt is at fault.
    pub(super) refused: bool,
    pub(super) error: Error,
}

/// The error of a whole request.
pub(super) fn failure<E>(why: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    error::failure(why, "the queue", from_code)
}

/// Whether the broker says that something with a receipt cannot be done, of a request that has one alone.
pub(super) fn trouble(entry: &BatchResultErrorEntry) -> Trouble {
    let status = if entry.sender_fault() { 400 } else { 500 };
    let error = from_code(status, entry.code());
    let said = match entry.message() {
        Some(message) => format!("{}: {message}", entry.code()),
        None => entry.code().to_owned(),
    };
    // Throttling and permissions are reported as the sender's fault, and are not the message's.
    let refused = entry.sender_fault() && error.kind() == ErrorKind::InvalidInput;
    Trouble { refused, error: error.with_source(said) }
}

fn from_code(status: u16, code: &str) -> Error {
    use ErrorKind as Kind;
    // Servers name the same code with several things before it.
    let code = code.rsplit(['#', '.']).next().unwrap_or_default();
    match (status, code) {
        (_, "QueueDoesNotExist" | "NonExistentQueue" | "QueueDeletedRecently") => {
            Error::new(Kind::Config, "there is no queue of this name")
        }
        (_, "RequestThrottled" | "ThrottlingException" | "Throttling" | "OverLimit" | "KmsThrottled") => {
            Error::new(Kind::Busy, "the queue takes no more requests just now")
        }
        (_, "ExpiredToken" | "ExpiredTokenException" | "InvalidClientTokenId" | "RequestExpired") => {
            Error::new(Kind::Denied, "the credentials are not good, or not any more")
        }
        (_, code) if code.starts_with("Kms") => {
            Error::new(Kind::Denied, "the key that the queue is encrypted with cannot be used")
        }
        (401 | 403, _) | (_, "AccessDenied" | "AccessDeniedException" | "InvalidSecurity") => {
            Error::new(Kind::Denied, "the queue does not allow it")
        }
        (_, "InvalidMessageContents") => {
            Error::new(Kind::InvalidInput, "the message holds a character that SQS does not take")
        }
        (_, "BatchRequestTooLong" | "MessageTooLong") => {
            Error::new(Kind::TooLarge, "the message is larger than the queue takes")
        }
        (_, "UnsupportedOperation") => Error::new(Kind::Unsupported, "the queue cannot do this"),
        (408, _) => Error::new(Kind::Timeout, "the queue waited too long for the request"),
        (429 | 500..=599, _) => Error::new(Kind::Unavailable, "the queue failed"),
        (400..=499, _) => Error::new(Kind::InvalidInput, "the queue refuses the request"),
        _ => Error::new(Kind::Unavailable, "the answer of the queue could not be understood"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_kinds() {
        for (status, code, kind, retryable) in [
            (400, "AWS.SimpleQueueService.NonExistentQueue", ErrorKind::Config, false),
            (400, "com.amazonaws.sqs#QueueDoesNotExist", ErrorKind::Config, false),
            (403, "AccessDenied", ErrorKind::Denied, false),
            (400, "KmsAccessDenied", ErrorKind::Denied, false),
            (400, "RequestThrottled", ErrorKind::Busy, true),
            (400, "KmsThrottled", ErrorKind::Busy, true),
            (400, "ReceiptHandleIsInvalid", ErrorKind::InvalidInput, false),
            (500, "InternalFailure", ErrorKind::Unavailable, true),
            (503, "", ErrorKind::Unavailable, true),
        ] {
            let error = from_code(status, code);
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{status} {code}");
        }
    }

    #[test]
    fn a_receipt_that_is_no_good_is_told_from_a_queue_that_is_busy() {
        let entry = |code: &str, fault| {
            BatchResultErrorEntry::builder().id("0").code(code).sender_fault(fault).build().expect("complete")
        };
        for (code, fault, refused) in [
            ("ReceiptHandleIsInvalid", true, true),
            ("InvalidParameterValue", true, true),
            ("AWS.SimpleQueueService.MessageNotInflight", true, true),
            ("RequestThrottled", true, false),
            ("AccessDenied", true, false),
            ("InternalError", false, false),
        ] {
            assert_eq!(trouble(&entry(code, fault)).refused, refused, "{code}");
        }
    }
}
