//! The crate's one error type.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// Alias for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Most characters of a stranger's text that a message repeats.
const EXCERPT: usize = 64;

/// A stranger's text for a message: in quotes, escaped and cut short.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(EXCERPT).flat_map(char::escape_debug).collect();
    if text.chars().nth(EXCERPT).is_some() {
        short.push_str("...");
    }
    format!("`{short}`")
}

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, as something a program can match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting cannot be used. Nothing was started.
    Config,
    /// A key, name or address that cannot be used as it is.
    InvalidInput,
    /// The object is not there, or not any more. Terminal, and never clean.
    Gone,
    /// The object is not the one that was asked for any more: its version, etag or content changed.
    Superseded,
    /// Something of that name is there already, and it is not ours.
    Exists,
    /// The content is larger than the limit, or longer than it was announced to be.
    TooLarge,
    /// The content ended before its announced size.
    Truncated,
    /// Nothing came, or nothing was finished, within the time allowed.
    Timeout,
    /// Somebody else works on it, or too much is going on.
    Busy,
    /// The lease on a task was lost to another worker. What was tried was not recorded.
    Fenced,
    /// The caller cancelled.
    Cancelled,
    /// Not allowed: credentials, permissions, a policy.
    Denied,
    /// The backend cannot do this, on principle.
    Unsupported,
    /// The other side answered with a failure of its own, or could not be reached.
    Unavailable,
    /// Disk space, memory or descriptors run short.
    Resources,
    /// The engine failed. Nothing is known about the content.
    Engine,
    /// The store holds something that it should not: damage, or a schema of another version.
    Corrupt,
    /// Reading or writing failed in another way.
    Io,
    /// Code of the caller panicked.
    Panicked,
}

impl ErrorKind {
    /// The kind as a stable word for logs and JSON, such as `too_large`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::InvalidInput => "invalid_input",
            Self::Gone => "gone",
            Self::Superseded => "superseded",
            Self::Exists => "exists",
            Self::TooLarge => "too_large",
            Self::Truncated => "truncated",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Fenced => "fenced",
            Self::Cancelled => "cancelled",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Resources => "resources",
            Self::Engine => "engine",
            Self::Corrupt => "corrupt",
            Self::Io => "io",
            Self::Panicked => "panicked",
        }
    }

    fn is_usually_retryable(self) -> bool {
        matches!(
            self,
            Self::Timeout | Self::Busy | Self::Unavailable | Self::Resources | Self::Engine | Self::Truncated
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with its kind, whether trying again may help, what it happened to, and what caused it.
///
/// ```
/// use scan_pipeline::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Gone, "the object is not there any more").about("s3://quarantine/a.zip");
/// assert_eq!(error.to_string(), "s3://quarantine/a.zip: the object is not there any more");
/// assert!(!error.is_retryable());
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    retryable: bool,
    after: Option<Duration>,
    /// The call was not made at all.
    untried: bool,
    message: String,
    context: Option<String>,
    source: Option<Source>,
}

impl Error {
    /// An error of a kind, with what happened and, where there is something, what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            retryable: kind.is_usually_retryable(),
            after: None,
            untried: false,
            message: message.into(),
            context: None,
            source: None,
        }))
    }

    /// Reading or writing failed: `doing` says what was tried on which object.
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, retryable) = match source.kind() {
            Io::NotFound => (ErrorKind::Gone, false),
            Io::PermissionDenied | Io::ReadOnlyFilesystem => (ErrorKind::Denied, false),
            Io::AlreadyExists => (ErrorKind::Exists, false),
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge | Io::OutOfMemory => (ErrorKind::Resources, true),
            Io::TimedOut => (ErrorKind::Timeout, true),
            Io::ConnectionRefused | Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe | Io::NotConnected => {
                (ErrorKind::Unavailable, true)
            }
            Io::UnexpectedEof => (ErrorKind::Truncated, true),
            Io::Interrupted | Io::ResourceBusy => (ErrorKind::Io, true),
            _ => (ErrorKind::Io, false),
        };
        Self::new(kind, doing).with_source(source).retryable(retryable)
    }

    /// The error of work on a task or thread of its own that did not come to its end: its code panicked, or the runtime
    /// went down. Then nobody has failed, nothing was found out, and whoever comes next may do it.
    pub(crate) fn unfinished(message: impl Into<String>, why: tokio::task::JoinError) -> Self {
        let error = match why.is_panic() {
            true => Self::new(ErrorKind::Panicked, message),
            false => Self::new(ErrorKind::Cancelled, message).retryable(true).untried(),
        };
        error.with_source(why)
    }

    /// Adds what caused it. Its words become part of the message.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says whether trying again may help, where the kind alone does not.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Makes it retryable, and not before this time has passed (`Retry-After`).
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.0.retryable = true;
        self.0.after = Some(wait);
        self
    }

    /// Names the object that the error is about, if it has no name yet.
    #[must_use]
    pub fn about(mut self, object: impl Into<String>) -> Self {
        self.0.context.get_or_insert_with(|| object.into());
        self
    }

    /// Says that the call was not made, because it would have failed.
    #[must_use]
    pub(crate) fn untried(mut self) -> Self {
        self.0.untried = true;
        self
    }

    /// Whether nothing was tried: no attempt was used up, and nothing is known of the object.
    pub fn is_untried(&self) -> bool {
        self.0.untried
    }

    /// What went wrong, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without a change by the caller.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// How long the other side asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.after
    }

    /// The object that the error is about, where it is known.
    pub fn context(&self) -> Option<&str> {
        self.0.context.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.0.context {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}
