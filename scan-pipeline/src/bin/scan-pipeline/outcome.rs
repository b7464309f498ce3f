//! What became of one file, and what follows from all of them for the exit code.

use std::path::Path;

use scan_pipeline::clamav::{Error, ErrorKind, Report, Verdict};
use scan_pipeline::engine::clamav;
use scan_pipeline::json::{ErrorJson, ReportJson};
use scan_pipeline::model::ContentDigest;
use serde_json::Error as JsonError;

use crate::{EXIT_CLEAN, EXIT_ERROR, EXIT_INFECTED};

/// What became of one file.
#[derive(Debug)]
pub(crate) enum Outcome {
    Scanned {
        report: Box<Report>,
        sha256: Option<ContentDigest>,
        /// The whole was read; false for standard input beyond the limit.
        size_known: bool,
    },
    Failed {
        kind: &'static str,
        message: String,
    },
    Skipped {
        kind: &'static str,
        message: &'static str,
    },
}

impl Outcome {
    /// An engine's error in the words of this program: the path is said elsewhere.
    pub(crate) fn failed(error: &Error) -> Self {
        let io = || std::error::Error::source(error)?.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let kind = match (error.kind(), io()) {
            (ErrorKind::Io, Some(std::io::ErrorKind::NotFound)) => "not_found",
            (ErrorKind::Io, Some(std::io::ErrorKind::PermissionDenied)) => "permission_denied",
            (kind, _) => kind.as_str(),
        };
        let whole = error.to_string();
        let message = error
            .context()
            .and_then(|context| whole.strip_prefix(context)?.strip_prefix(": "))
            .map_or_else(|| whole.clone(), str::to_owned);
        Self::Failed { kind, message }
    }

    /// One line of JSON, without its end.
    pub(crate) fn to_json(&self, path: &Path) -> Result<String, JsonError> {
        match self {
            Self::Scanned { report, sha256, size_known } => {
                let mut report = clamav::report(report, *sha256, String::new());
                report.size = report.size.filter(|_| *size_known);
                serde_json::to_string(&ReportJson::new(path, &report))
            }
            Self::Failed { kind, message } => serde_json::to_string(&ErrorJson::new(path, kind, message)),
            Self::Skipped { kind, message } => serde_json::to_string(&ErrorJson::new(path, kind, message).skipped()),
        }
    }
}

/// How many of what.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) clean: u64,
    pub(crate) infected: u64,
    pub(crate) unscannable: u64,
    pub(crate) errors: u64,
    pub(crate) links: u64,
    pub(crate) specials: u64,
    pub(crate) bytes: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Scanned { report, .. } => {
                if report.coverage.started || report.coverage.trivial {
                    self.bytes += report.size;
                }
                match report.verdict {
                    Verdict::Clean => self.clean += 1,
                    Verdict::Infected { .. } => self.infected += 1,
                    Verdict::Unscannable { .. } => self.unscannable += 1,
                }
            }
            Outcome::Failed { .. } => self.errors += 1,
            Outcome::Skipped { kind: "link", .. } => self.links += 1,
            Outcome::Skipped { .. } => self.specials += 1,
        }
    }

    /// Files for which there is a verdict.
    pub(crate) fn scanned(&self) -> u64 {
        self.clean + self.infected + self.unscannable
    }

    pub(crate) fn exit_code(&self, allow_unscannable: bool) -> u8 {
        match self {
            Self { infected: 1.., .. } => EXIT_INFECTED,
            Self { errors: 1.., .. } => EXIT_ERROR,
            Self { unscannable: 1.., .. } if !allow_unscannable => EXIT_ERROR,
            _ => EXIT_CLEAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides() {
        let counts =
            |infected, unscannable, errors| Counts { clean: 1, infected, unscannable, errors, ..Counts::default() };
        for (counts, strict, allowing) in [
            (counts(0, 0, 0), 0, 0),
            (counts(0, 1, 0), 2, 0),
            (counts(0, 0, 1), 2, 2),
            (counts(0, 1, 1), 2, 2),
            (counts(1, 1, 1), 1, 1),
            (Counts { links: 3, specials: 2, ..Counts::default() }, 0, 0),
        ] {
            assert_eq!(counts.exit_code(false), strict, "{counts:?}");
            assert_eq!(counts.exit_code(true), allowing, "{counts:?}");
        }
    }
}
