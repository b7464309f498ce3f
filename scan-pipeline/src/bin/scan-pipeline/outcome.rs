//! What became of one file, and what follows from all of them for the exit code.

use std::path::Path;

use scan_pipeline::clamav::{Error, ErrorKind, Report, Verdict};
use scan_pipeline::engine::{Findings, clamav};
use scan_pipeline::json::{ErrorJson, ReportJson};
use scan_pipeline::model::{self, ContentDigest, ReasonKind};
use serde_json::Error as JsonError;

use crate::{EXIT_CLEAN, EXIT_ERROR, EXIT_INFECTED, EXIT_SENSITIVE};

/// What became of one file.
#[derive(Debug)]
pub(crate) enum Outcome {
    Scanned {
        report: Box<Report>,
        sha256: Option<ContentDigest>,
        /// The whole was read; false for standard input beyond the limit.
        size_known: bool,
        /// Sensitive data, where it was looked for.
        found: Findings,
    },
    /// Looked into for sensitive data, and not for malware.
    Searched {
        report: Box<model::Report>,
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
            Self::Scanned { report, sha256, size_known, found } => {
                let mut report = clamav::report(report, *sha256, String::new());
                report.size = report.size.filter(|_| *size_known);
                (report.findings, report.findings_omitted) = (found.list.clone(), found.omitted);
                serde_json::to_string(&ReportJson::new(path, &report))
            }
            Self::Searched { report } => serde_json::to_string(&ReportJson::new(path, report)),
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
    /// Looked into for sensitive data alone, and read to their end.
    pub(crate) searched: u64,
    /// The same, but what is in them is packed.
    pub(crate) packed: u64,
    /// Of all of these, those with sensitive data, and how much.
    pub(crate) sensitive: u64,
    pub(crate) findings: u64,
    pub(crate) errors: u64,
    pub(crate) links: u64,
    pub(crate) specials: u64,
    pub(crate) bytes: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Searched { report } => {
                self.bytes += report.size.unwrap_or_default();
                match whole(report) {
                    true => self.searched += 1,
                    false => self.packed += 1,
                }
                self.add_findings(report.finding_count());
            }
            Outcome::Scanned { report, found, .. } => {
                self.add_findings(found.omitted + found.list.len() as u64);
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

    fn add_findings(&mut self, count: u64) {
        self.sensitive += u64::from(count > 0);
        self.findings += count;
    }

    /// Files for which there is a verdict, or that were looked into.
    pub(crate) fn scanned(&self) -> u64 {
        self.clean + self.infected + self.unscannable + self.searched + self.packed
    }

    pub(crate) fn exit_code(&self, allow_unscannable: bool) -> u8 {
        match self {
            Self { infected: 1.., .. } => EXIT_INFECTED,
            Self { errors: 1.., .. } => EXIT_ERROR,
            Self { unscannable: 1.., .. } | Self { packed: 1.., .. } if !allow_unscannable => EXIT_ERROR,
            Self { sensitive: 1.., .. } => EXIT_SENSITIVE,
            _ => EXIT_CLEAN,
        }
    }
}

/// Whether a search for sensitive data saw all that is there: what is packed, or came too late, it did not.
pub(crate) fn whole(report: &model::Report) -> bool {
    let only = |reasons: &[model::Reason]| reasons.iter().all(|reason| reason.kind == ReasonKind::NoMalwareScan);
    report.file_type.is_none() && only(&report.coverage.gaps)
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
            (Counts { sensitive: 1, findings: 7, ..counts(0, 0, 0) }, 3, 3),
            (Counts { sensitive: 1, ..counts(0, 1, 0) }, 2, 3),
            (Counts { sensitive: 1, ..counts(0, 0, 1) }, 2, 2),
            (Counts { sensitive: 1, ..counts(1, 0, 0) }, 1, 1),
            (Counts { searched: 3, ..Counts::default() }, 0, 0),
            (Counts { searched: 3, packed: 1, sensitive: 1, ..Counts::default() }, 2, 3),
        ] {
            assert_eq!(counts.exit_code(false), strict, "{counts:?}");
            assert_eq!(counts.exit_code(true), allowing, "{counts:?}");
        }
    }
}
