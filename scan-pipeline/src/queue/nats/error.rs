//! What goes wrong with NATS.

use std::error::Error as StdError;

use async_nats::{ConnectError, ConnectErrorKind};

use crate::{Error, ErrorKind};

/// No connection came about.
pub(super) fn connecting(why: ConnectError) -> Error {
    let (kind, what) = match why.kind() {
        ConnectErrorKind::ServerParse => (ErrorKind::InvalidInput, "the address is none of a NATS server"),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            (ErrorKind::Denied, "the NATS server does not take the credentials")
        }
        ConnectErrorKind::TimedOut => (ErrorKind::Timeout, "the NATS server did not answer in time"),
        ConnectErrorKind::Tls => (ErrorKind::Unavailable, "no TLS with the NATS server"),
        _ => (ErrorKind::Unavailable, "the NATS server could not be reached"),
    };
    Error::new(kind, what).with_source(why)
}

/// A request failed. The words are what all of the client's many errors have in common.
pub(super) fn request(doing: &str, why: impl StdError + Send + Sync + 'static) -> Error {
    let said = chain(&why).to_lowercase();
    let kind = if said.contains("timed out") || said.contains("deadline") {
        ErrorKind::Timeout
    } else if said.contains("no responders") || said.contains("jetstream not enabled") {
        // Also while a cluster has no leader: it may be there in a moment.
        ErrorKind::Unavailable
    } else if said.contains("permissions violation") || said.contains("authorization") {
        ErrorKind::Denied
    } else if said.contains("maximum payload") || said.contains("max payload") || said.contains("message size exceeds")
    {
        ErrorKind::TooLarge
    } else if said.contains("insufficient") || said.contains("maximum bytes") || said.contains("maximum messages") {
        ErrorKind::Resources
    } else {
        ErrorKind::Unavailable
    };
    Error::new(kind, format!("NATS could not {doing}")).with_source(why)
}

fn chain(error: &dyn StdError) -> String {
    let (mut said, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        said.push_str(": ");
        said.push_str(&cause.to_string());
        next = cause.source();
    }
    said
}
