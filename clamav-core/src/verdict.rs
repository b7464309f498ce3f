//! What a scan concluded.

use std::fmt;

/// The conclusion of a scan. There is no conversion to a boolean, on purpose: "not infected" is not "clean".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything in the file was unpacked and scanned, this is proven, and no signature matched.
    Clean,
    /// At least one signature matched.
    Infected {
        /// What matched, and in which layer; never empty.
        threats: Vec<Threat>,
    },
    /// No signature matched in what could be scanned, and something could not be.
    Unscannable {
        /// Why, and in which layer; never empty.
        reasons: Vec<Reason>,
    },
}

impl Verdict {
    /// The verdict as a word: `clean`, `infected` or `unscannable`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Infected { .. } => "infected",
            Self::Unscannable { .. } => "unscannable",
        }
    }
}

/// A signature that matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Threat {
    /// The signature's name, as libclamav gives it (`.UNOFFICIAL` is appended to names from unsigned databases).
    pub signature: String,
    /// The layer that matched, such as `outer.zip/inner.docx/word/document.xml`. Alerts that libclamav gives only
    /// at the end of a scan name the file itself.
    pub layer_path: String,
}

/// Why a layer is not proven to be scanned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason {
    /// What kept it from being scanned.
    pub kind: ReasonKind,
    /// The layer, such as `outer.zip/secret.txt`. It names the file itself where libclamav does not say more.
    pub layer_path: String,
    /// More for a reader: a method, a size, libclamav's words. Not stable.
    pub detail: Option<String>,
}

/// The kinds of [`Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ReasonKind {
    /// A password is needed to read it.
    Encrypted,
    /// It is larger than [`Limits::max_file_size`](crate::Limits::max_file_size).
    TooLarge,
    /// It is nested deeper than [`Limits::max_recursion`](crate::Limits::max_recursion).
    TooDeep,
    /// There are more layers than [`Limits::max_files`](crate::Limits::max_files).
    TooManyFiles,
    /// All layers together are larger than [`Limits::max_scan_size`](crate::Limits::max_scan_size).
    ScanSize,
    /// It took longer than [`Limits::max_scan_time`](crate::Limits::max_scan_time) or the scan's deadline.
    TimedOut,
    /// A format or compression method that libclamav does not unpack.
    Unsupported,
    /// The layer announces content that it does not hold, or holds damaged.
    TruncatedOrCorrupt,
    /// libclamav reported an error in the middle of the scan; the detail carries its words.
    EngineReported,
}

impl ReasonKind {
    /// The kind as a stable word, such as `too_large`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::TooManyFiles => "too_many_files",
            Self::ScanSize => "scan_size",
            Self::TimedOut => "timed_out",
            Self::Unsupported => "unsupported",
            Self::TruncatedOrCorrupt => "truncated_or_corrupt",
            Self::EngineReported => "engine_reported",
        }
    }
}

impl fmt::Display for ReasonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
