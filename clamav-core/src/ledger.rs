//! What is not proven of one scan: gaps with a place, members that never came, alerts and errors without a place.

use std::collections::HashSet;

use crate::Limits;
use crate::report::Coverage;
use crate::verdict::{Reason, ReasonKind};
use crate::witness::{Identity, Member};

/// A member that never came; why is known at the end only, when the alerts are in.
struct Missing {
    path: String,
    size: u64,
    level: u32,
    obstacle: Option<(ReasonKind, String)>,
    sha256: Option<[u8; 32]>,
}

#[derive(Default)]
pub(crate) struct Ledger {
    gaps: Vec<Reason>,
    gap_count: u64,
    missing: Vec<Missing>,
    missing_count: u64,
    /// Kinds that libclamav raised without a place.
    alerts: Vec<(ReasonKind, String)>,
    errors: Vec<String>,
    /// SHA-256 of members that were delivered.
    delivered: HashSet<[u8; 32]>,
}

impl Ledger {
    /// Records something that is not proven to be scanned.
    pub(crate) fn gap(&mut self, kind: ReasonKind, layer_path: String, detail: Option<String>) {
        let known = |gap: &Reason| gap.kind == kind && gap.layer_path == layer_path;
        if self.gaps.iter().any(known) {
            return;
        }
        self.gap_count += 1;
        if self.gaps.len() < Coverage::MOST_GAPS {
            self.gaps.push(Reason { kind, layer_path, detail });
        }
    }

    /// Records a member that was announced and not delivered, with the cause where its container tells.
    pub(crate) fn miss(&mut self, path: String, level: u32, member: &Member) {
        self.missing_count += 1;
        if self.missing.len() < Coverage::MOST_GAPS {
            let sha256 = if let Identity::Sha256(sha256) = member.identity { Some(sha256) } else { None };
            self.missing.push(Missing { path, size: member.size, level, obstacle: member.obstacle.clone(), sha256 });
        }
    }

    /// Records that a member with this content was delivered, in whichever container.
    pub(crate) fn delivered(&mut self, sha256: [u8; 32]) {
        self.delivered.insert(sha256);
    }

    /// Records that libclamav said that it left something out.
    pub(crate) fn alert(&mut self, kind: ReasonKind, signature: &str) {
        if !self.alerts.iter().any(|(known, _)| *known == kind) {
            self.alerts.push((kind, signature.to_owned()));
        }
    }

    /// Records an error message of libclamav.
    pub(crate) fn error(&mut self, text: &str) {
        const MOST: usize = 8;
        if self.errors.len() < MOST {
            self.errors.push(text.to_owned());
        }
    }

    pub(crate) fn has_alerts(&self) -> bool {
        !self.alerts.is_empty()
    }

    pub(crate) fn last_error(&self) -> Option<&str> {
        self.errors.last().map(String::as_str)
    }

    /// An error message that tells of the temporary directory: the scan failed, and says nothing about the file.
    pub(crate) fn temp_dir_error(&self) -> Option<&str> {
        const SIGNS: &[&str] = &[
            "No space left",
            "write error",
            "Can't write",
            "temporary directory",
            "temporary file",
            "out of disc space",
        ];
        self.errors.iter().map(String::as_str).find(|error| SIGNS.iter().any(|sign| error.contains(sign)))
    }

    /// Turns what never came into gaps, now that all alerts are in, and gives all gaps and their number.
    pub(crate) fn settle(&mut self, root: &str, limits: &Limits, infected: bool) -> (Vec<Reason>, u64) {
        // libclamav's limits and our own: either way the rest was not unpacked.
        let alerted = |kind| {
            let ended = matches!(kind, ReasonKind::TimedOut | ReasonKind::ScanSize | ReasonKind::TooManyFiles);
            self.alerts.iter().any(|(alert, _)| *alert == kind) || ended && self.gaps.iter().any(|gap| gap.kind == kind)
        };
        let by_alert = [
            ReasonKind::TimedOut,
            ReasonKind::ScanSize,
            ReasonKind::TooManyFiles,
            ReasonKind::TooDeep,
            ReasonKind::TooLarge,
        ]
        .into_iter()
        .find(|kind| alerted(*kind));
        self.gap_count += self.missing_count - self.missing.len() as u64;
        for Missing { path, size, level, obstacle, sha256 } in std::mem::take(&mut self.missing) {
            if sha256.is_some_and(|sha256| self.delivered.contains(&sha256)) {
                continue; // The same bytes were scanned elsewhere: an image and its partition, say.
            }
            let (kind, detail) = if let Some((kind, detail)) = obstacle {
                (kind, detail)
            } else if size > limits.max_file_size {
                (ReasonKind::TooLarge, format!("{size} bytes"))
            } else if level + 1 >= limits.max_recursion {
                (ReasonKind::TooDeep, format!("level {}", level + 1))
            } else if let Some(kind) = by_alert {
                (kind, String::from("not unpacked"))
            } else if !self.alerts.is_empty() || infected {
                // After an alert it loses its place in large nested containers (over 8 MiB) and ends them early.
                (ReasonKind::EngineReported, String::from("libclamav ended the container early after an alert"))
            } else {
                let announced = format!("announced with {size} bytes, but not unpacked to that");
                (ReasonKind::TruncatedOrCorrupt, announced + ": damaged, or packed in an unknown way")
            };
            self.gap(kind, path, Some(detail));
        }
        for (kind, detail) in std::mem::take(&mut self.alerts) {
            // An alert has no place; it says nothing new where the place is known.
            if !self.gaps.iter().any(|gap| gap.kind == kind) {
                self.gap(kind, root.to_owned(), Some(detail));
            }
        }
        // An error message has neither place nor kind; it counts where nothing else explains it.
        if let Some(error) = std::mem::take(&mut self.errors).into_iter().next()
            && self.gaps.is_empty()
        {
            self.gap(ReasonKind::EngineReported, root.to_owned(), Some(error));
        }
        (std::mem::take(&mut self.gaps), self.gap_count)
    }
}
