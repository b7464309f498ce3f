//! From a claimed task to a report.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::content::Content;
use crate::engine::{ScanContext, VerdictCache};
use crate::model::{Finding, ObjectRef, Reason, ReasonKind, Report, Timestamp, Verdict};
use crate::store::audit::unique_findings;
use crate::store::{CacheKey, CachedReport, Changes, LeaseChange, TaskRecord, TaskState};
use crate::{Error, ErrorKind, Result};

use super::lease::Held;
use super::{Pipeline, UPLOAD_SCHEME};

/// Findings that are kept of one scan, whatever the engine lists: somebody else's may know no bound.
const MOST_FINDINGS: usize = 100_000;

/// How the scan of a task ended.
pub(super) enum Scan {
    /// With a report, which is not on record yet.
    Found(Box<Found>),
    /// Without one, and there will be none.
    Ended(TaskState, String),
}

/// A report, and what the store should remember of it.
pub(super) type Found = (Report, Option<(CacheKey, CachedReport)>);

impl Pipeline {
    /// Reads and scans.
    pub(super) async fn scan(&self, held: &mut Held, record: &TaskRecord) -> Result<Scan> {
        let retry = &self.shared.options.scan_retry;
        // Looked at before the scan: a content that kills the process never reaches an error.
        if record.attempts > retry.max_attempts {
            let last = record.error.as_deref().unwrap_or("the process ended in the middle of it");
            return Ok(Scan::Ended(TaskState::Dead, format!("gave up after {} attempts: {last}", retry.max_attempts)));
        }
        let read = held.keep(self.read_and_scan(&record.object)).await.and_then(|read| read);
        match read {
            Ok(found) => Ok(Scan::Found(Box::new(found))),
            Err(why) => self.scan_failed(held, record, why).await,
        }
    }

    async fn read_and_scan(&self, object: &ObjectRef) -> Result<Found> {
        if object.bucket.scheme() == UPLOAD_SCHEME {
            let why = "the upload's bytes are gone with the process that took them; upload it again";
            return Err(Error::new(ErrorKind::Gone, why).about(object.to_string()));
        }
        let about = |error: Error| error.about(object.to_string());
        let most = self.shared.spool.options().max_size;
        let too_large = |size| (self.too_large(object.file_name(), size, most), None);
        if let Some(size) = object.size.filter(|size| *size > most) {
            return Ok(too_large(size));
        }
        let read = self.shared.buckets.of(object)?.read(object).await.map_err(about)?;
        // Its bucket keeps versions since it was opened or listed: under its version it is the same task to everybody.
        if object.version.is_none() && read.info.object.version.is_some() {
            return Err(Error::new(ErrorKind::Superseded, "has a version now").about(object.to_string()));
        }
        match read.info.object.size {
            Some(size) if size > most => Ok(too_large(size)),
            size => {
                let content = self.shared.spool.stream(read.stream, size).await.map_err(about)?;
                self.scan_content(&content, object.file_name()).await.map_err(about)
            }
        }
    }

    /// Asks the cache, then the engine.
    pub(super) async fn scan_content(&self, content: &Content, name: &str) -> Result<Found> {
        let shared = &self.shared;
        if let Some(key) = VerdictCache::key(content, &shared.engine.info(), name) {
            if let Some(report) = shared.cache.get(&key, content, name) {
                return Ok((report, None));
            }
            if shared.options.durable_cache
                && let Some(stored) = self.remembered(&key).await?
                && let Some(report) = shared.cache.admit(&key, content, name, stored)
            {
                return Ok((report, None));
            }
        }
        let deadline = std::time::Instant::now().checked_add(shared.options.scan_timeout);
        let budget = Some(shared.spool.budget().clone());
        let context = ScanContext { name: name.to_owned(), deadline, budget, keeps: None };
        let report = honest(self.guarded(content, &context).await?, content)?;
        let durable = shared.cache.insert(content, name, &report).filter(|_| shared.options.durable_cache);
        Ok((report, durable))
    }

    /// A verdict that the store remembers. One that cannot be read any more is none: the scan gives it anew.
    async fn remembered(&self, key: &CacheKey) -> Result<Option<CachedReport>> {
        match self.shared.store.cached(key).await {
            Err(why) if why.kind() == ErrorKind::Corrupt => {
                tracing::warn!(sha256 = %key.sha256, error = %why, "a remembered verdict cannot be read; scanning anew");
                Ok(None)
            }
            stored => stored,
        }
    }

    /// The engine's scan, which neither panics nor goes on for ever: who wrote the engine may not have kept to that.
    async fn guarded(&self, content: &Content, context: &ScanContext) -> Result<Report> {
        let shared = &self.shared;
        let scan = AssertUnwindSafe(async { shared.engine.scan(content, context).await }).catch_unwind();
        // It has its deadline, and as much time again to say that it has passed.
        match tokio::time::timeout(shared.options.scan_timeout.saturating_mul(2), scan).await {
            Ok(Ok(report)) => report,
            Ok(Err(_)) => Err(Error::new(ErrorKind::Panicked, "the engine panicked")),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the engine did not stop when its deadline had passed")),
        }
    }

    /// Content beyond the spool's limit is not read; it is unscannable like any other that is too large.
    fn too_large(&self, name: &str, size: u64, most: u64) -> Report {
        let detail = Some(format!("{size} bytes, and the limit is {most}"));
        let reason = Reason { kind: ReasonKind::TooLarge, layer_path: name.to_owned(), detail };
        let verdict = Verdict::Unscannable { reasons: vec![reason] };
        let mut report = Report::new(verdict, self.shared.engine.info());
        report.size = Some(size);
        report
    }

    /// Decides whether there will be another attempt.
    async fn scan_failed(&self, held: &mut Held, record: &TaskRecord, why: Error) -> Result<Scan> {
        match why.kind() {
            ErrorKind::Gone => return Ok(Scan::Ended(TaskState::Gone, why.to_string())),
            ErrorKind::Superseded => return Ok(Scan::Ended(TaskState::Superseded, why.to_string())),
            ErrorKind::Fenced => return Err(why),
            _ => {}
        }
        if why.is_untried() {
            // Its bucket does not answer anybody at present, or the runtime goes down. That is no attempt.
            let wait = why.retry_after().unwrap_or_default();
            let next_at = Some(Some(Timestamp::now().plus(wait)));
            let error = Some(Some(why.to_string()));
            held.commit(Changes { error, next_at, lease: LeaseChange::Return, ..Changes::default() }).await?;
            return Err(why);
        }
        let wait = match why.is_retryable() {
            true => self.shared.options.scan_retry.wait(record.attempts, why.retry_after()),
            false => None,
        };
        let Some(wait) = wait else {
            return Ok(Scan::Ended(TaskState::Dead, why.to_string()));
        };
        let changes = Changes {
            state: Some(TaskState::Pending),
            error: Some(Some(why.to_string())),
            next_at: Some(Some(Timestamp::now().plus(wait))),
            lease: LeaseChange::Release,
            ..Changes::default()
        };
        held.commit(changes).await?;
        Err(why.after(wait))
    }
}

/// How many findings are at the place of another one and not the same.
fn others(all: &[Finding], unique: &[Finding]) -> u64 {
    let place = |finding: &Finding| (finding.layer_path.clone(), finding.detector.clone(), finding.byte_offset);
    let kept: HashMap<_, _> = unique.iter().map(|finding| (place(finding), finding)).collect();
    all.iter().filter(|&finding| kept.get(&place(finding)).is_none_or(|kept| *kept != finding)).count() as u64
}

/// Holds a report against what an engine owes: it is about these bytes, its "clean" is proven and without a gap, and its
/// reasons are those of its coverage. The engines of this crate keep to it; one that somebody else wrote may not.
fn honest(mut report: Report, content: &Content) -> Result<Report> {
    let (size, sha256) = (content.size(), content.sha256());
    if report.size.is_some_and(|seen| seen != size) || report.sha256.is_some_and(|seen| seen != sha256) {
        return Err(Error::new(ErrorKind::Engine, "the engine's report is about other bytes").retryable(false));
    }
    report.size = Some(size);
    report.sha256 = Some(sha256);
    // A confidence that is no number is none to rely on, and no store keeps it.
    for finding in report.findings.iter_mut().filter(|finding| !(0.0..=1.0).contains(&finding.confidence)) {
        finding.confidence = if finding.confidence < 0.0 { 0.0 } else { 1.0 };
    }
    // As stores keep them, so that nobody sees others before a restart than after it.
    let unique: Vec<Finding> = unique_findings(&report).cloned().collect();
    // Two members of one name share a layer path. What is not the same finding once more is counted.
    let others = if unique.len() < report.findings.len() { others(&report.findings, &unique) } else { 0 };
    report.findings = unique;
    report.findings_omitted = report.findings_omitted.saturating_add(others);
    report.limit_findings(MOST_FINDINGS);
    let coverage = &mut report.coverage;
    let mut gaps = std::mem::take(&mut coverage.gaps);
    let silent = match &report.verdict {
        Verdict::Unscannable { reasons } => {
            if *reasons != gaps {
                let listed = std::mem::replace(&mut gaps, reasons.clone());
                gaps.extend(listed.into_iter().filter(|gap| !reasons.contains(gap)));
            }
            true
        }
        _ => coverage.gap_count > 0,
    };
    let own = |kind, what: &str| {
        let detail = Some(format!("{} {what}", report.engine.name));
        Reason { kind, layer_path: String::new(), detail }
    };
    if gaps.is_empty() && silent {
        gaps.push(own(ReasonKind::EngineReported, "does not say what it left out"));
    } else if gaps.is_empty() && report.verdict == Verdict::Clean && !coverage.proven {
        gaps.push(own(ReasonKind::Unproven, "says clean and does not prove it"));
    }
    coverage.gap_count = coverage.gap_count.max(gaps.len() as u64);
    coverage.gaps.clone_from(&gaps);
    if !gaps.is_empty() && !matches!(report.verdict, Verdict::Infected { .. }) {
        report.verdict = Verdict::Unscannable { reasons: gaps };
    }
    Ok(report)
}
