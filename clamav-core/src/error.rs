//! The crate's one error type.

use std::error::Error as StdError;
use std::fmt;

/// Alias for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, as something a program can match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting cannot be used: a limit of zero, a recursion over 100.
    Config,
    /// Signature databases are missing, empty, malformed, or changed while they were loaded.
    Definitions,
    /// The private directory that libclamav unpacks into is missing, not writable or full.
    TempDir,
    /// Disk space, inodes, file size or file descriptors run short, so that libclamav could leave something out.
    Resources,
    /// The file could not be opened or read.
    Io,
    /// What was given is no regular file: a directory, fifo, socket or device.
    NotAFile,
    /// The file changed while it was read, so no verdict would be about one content.
    Changed,
    /// The caller cancelled the scan.
    Cancelled,
    /// The deadline passed before the scan could start.
    Deadline,
    /// The queue of the scan threads is full.
    Busy,
    /// libclamav ran out of memory.
    Memory,
    /// libclamav failed; the message carries its words.
    Engine,
    /// Code inside a callback panicked; the panic was stopped before it reached C.
    Panicked,
    /// This process was forked while its parent was inside libclamav, whose locks it inherited.
    Forked,
}

impl ErrorKind {
    /// The kind as a stable word for logs and JSON, such as `temp_dir`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Definitions => "definitions",
            Self::TempDir => "temp_dir",
            Self::Resources => "resources",
            Self::Io => "io",
            Self::NotAFile => "not_a_file",
            Self::Changed => "changed",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::Busy => "busy",
            Self::Memory => "memory",
            Self::Engine => "engine",
            Self::Panicked => "panicked",
            Self::Forked => "forked",
        }
    }

    fn is_usually_retryable(self) -> bool {
        matches!(
            self,
            Self::TempDir | Self::Resources | Self::Changed | Self::Deadline | Self::Busy | Self::Memory | Self::Engine
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
/// An error is never a verdict: who gets one knows nothing about the file.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    retryable: bool,
    message: String,
    context: Option<String>,
    source: Option<Source>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            retryable: kind.is_usually_retryable(),
            message: message.into(),
            context: None,
            source: None,
        }))
    }

    /// Reading failed: `doing` says what was tried on which object.
    pub(crate) fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        let retryable = matches!(source.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::TimedOut);
        Self::new(ErrorKind::Io, doing).with_source(source).retryable(retryable)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Names the object that the error is about, if it has no name yet.
    pub(crate) fn about(mut self, object: impl Into<String>) -> Self {
        self.0.context.get_or_insert_with(|| object.into());
        self
    }

    /// What went wrong, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without a change by the caller.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The object that the error is about (a path or the name given with the scan), where it is known.
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
