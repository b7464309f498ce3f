//! Several engines on one content.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;

use super::{Engine, ScanContext, hash};
use crate::content::Content;
use crate::model::{Coverage, EngineInfo, Limits, Reason, ReasonKind, Report, Verdict};
use crate::{Error, ErrorKind, Result};

/// Engines that scan each content at the same time. The group's verdict is the worst of theirs: infected, then
/// unscannable, then clean.
///
/// - An engine that failed makes the scan of the group fail. It is never folded into a verdict.
/// - Threats and findings are those of all engines; a threat that two of them name alike is there once.
/// - Everything that any engine left out stays a reason, with one exception: that an engine cannot prove what it looked
///   at ([`ReasonKind::Unproven`]) no longer matters once another one says clean *with* proof. So a clamd beside
///   [`ClamAv`](super::ClamAv) adds what it finds, and takes nothing away.
/// - In the same way an engine that does not look for malware ([`ReasonKind::NoMalwareScan`]) adds its findings, and what
///   it does not do no longer matters once another one does.
/// - A verdict may be cached when every engine's part of it may, or when one engine's clean is the proof.
///
/// ```
/// use std::sync::Arc;
/// use scan_pipeline::content::Content;
/// use scan_pipeline::engine::{Closure, Engine, Group, ScanContext};
/// use scan_pipeline::model::{Threat, Verdict};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let lenient = Closure::new("lenient", |_, _| Ok(Verdict::Clean));
/// let strict = Closure::new("strict", |_, name| {
///     Ok(Verdict::Infected { threats: vec![Threat { signature: "Any".into(), layer_path: name.into() }] })
/// });
/// let group = Group::new(vec![Arc::new(lenient), Arc::new(strict)])?;
/// assert_eq!(group.info().name, "lenient+strict");
/// let report = group.scan(&Content::from_bytes("text"), &ScanContext::named("a.txt")).await?;
/// assert_eq!(report.verdict.status(), "infected");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Group {
    engines: Arc<[Arc<dyn Engine>]>,
}

impl Group {
    /// Joins engines. Their order is that of the threats and reasons in a report.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when there is none.
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Result<Self> {
        if engines.is_empty() {
            return Err(Error::new(ErrorKind::Config, "a group of engines needs at least one engine"));
        }
        Ok(Self { engines: engines.into() })
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.info().name)
    }
}

#[async_trait]
impl Engine for Group {
    fn info(&self) -> EngineInfo {
        let infos: Vec<EngineInfo> = self.engines.iter().map(|engine| engine.info()).collect();
        join_infos(&infos.iter().collect::<Vec<_>>())
    }

    async fn refresh_definitions(&self) -> Result<bool> {
        let mut any = false;
        for engine in self.engines.iter() {
            any |= engine.refresh_definitions().await?;
        }
        Ok(any)
    }

    async fn scan(&self, content: &Content, context: &ScanContext) -> Result<Report> {
        // The first failure drops the other scans, which stops them.
        let reports = try_join_all(self.engines.iter().map(|engine| engine.scan(content, context))).await?;
        for report in &reports {
            let other = report.sha256.is_some_and(|sha256| sha256 != content.sha256())
                || report.size.is_some_and(|size| size != content.size());
            if other {
                let why = format!("the engine {} scanned other bytes than it was given", report.engine.name);
                return Err(Error::new(ErrorKind::Engine, why).about(context.label()));
            }
        }
        Ok(combine(reports, context.label()))
    }
}

/// One report of several about the same bytes; never called without any.
fn combine(reports: Vec<Report>, name: &str) -> Report {
    let proof = reports.iter().any(|report| report.verdict == Verdict::Clean && report.is_complete());
    let engine = join_infos(&reports.iter().map(|report| &report.engine).collect::<Vec<_>>());
    let looked = reports.iter().any(looks_for_malware);
    // Who does not look for malware says nothing about how much of it could have been missed.
    let counting: Vec<&Report> = reports.iter().filter(|report| !looked || looks_for_malware(report)).collect();
    let coverage = join_coverages(&counting, proof);
    let mut joined = Report::new(Verdict::Clean, engine);
    joined.sha256 = reports.iter().map(|report| report.sha256).reduce(Option::and).flatten();
    joined.size = reports.iter().map(|report| report.size).reduce(Option::and).flatten();
    joined.file_type = reports.iter().find_map(|report| report.file_type.clone());
    joined.elapsed = reports.iter().map(|report| report.elapsed).max().unwrap_or_default();

    let (mut infected, mut unscannable) = (false, false);
    let (mut threats, mut seen) = (Vec::new(), HashSet::new());
    let (mut gaps, mut gap_count) = (Vec::new(), 0);
    for report in reports {
        let (rest, count) = gaps_of(&report, proof, looked, name);
        unscannable |= count > 0;
        gap_count += count;
        gaps.extend(rest);
        if let Verdict::Infected { threats: found } = report.verdict {
            infected = true;
            threats.extend(found.into_iter().filter(|threat| seen.insert(threat.clone())));
        }
        joined.findings.extend(report.findings);
        joined.findings_omitted = joined.findings_omitted.saturating_add(report.findings_omitted);
    }
    joined.verdict = match (infected, unscannable) {
        (true, _) => Verdict::Infected { threats },
        (false, true) => Verdict::Unscannable { reasons: gaps.clone() },
        (false, false) => Verdict::Clean,
    };
    joined.coverage = Coverage { gaps, gap_count, ..coverage };
    joined
}

/// Whether the report is that of an engine that looks for malware at all.
fn looks_for_malware(report: &Report) -> bool {
    let reasons: &[Reason] = match &report.verdict {
        Verdict::Unscannable { reasons } => reasons,
        Verdict::Clean | Verdict::Infected { .. } => &[],
    };
    !reasons.iter().any(|reason| reason.kind == ReasonKind::NoMalwareScan)
}

/// What a report leaves open, listed and in number, once the group's proof, and that somebody looked for malware, have
/// been taken into account. A number above 0 comes with a list that is not empty.
fn gaps_of(report: &Report, proof: bool, looked: bool, name: &str) -> (Vec<Reason>, u64) {
    let mut gaps = report.coverage.gaps.clone();
    if let Verdict::Unscannable { reasons } = &report.verdict {
        gaps.extend(reasons.iter().filter(|&reason| !report.coverage.gaps.contains(reason)).cloned());
    }
    let unlisted = report.coverage.gap_count.saturating_sub(gaps.len() as u64);
    // What breaks the contract of engines is taken for what it is: clean without proof, unscannable without a reason.
    if report.verdict == Verdict::Clean && !report.coverage.proven {
        gaps.push(own_reason(ReasonKind::Unproven, report, name, "found nothing and shows no proof"));
    }
    let silent = matches!(report.verdict, Verdict::Unscannable { .. }) && gaps.is_empty();
    if proof {
        gaps.retain(|reason| reason.kind != ReasonKind::Unproven);
    }
    if looked {
        gaps.retain(|reason| reason.kind != ReasonKind::NoMalwareScan);
    }
    let mut count = gaps.len() as u64 + unlisted;
    if gaps.is_empty() && (silent || unlisted > 0) {
        gaps.push(own_reason(ReasonKind::EngineReported, report, name, "does not say what it left out"));
        count = count.max(1);
    }
    (gaps, count)
}

fn own_reason(kind: ReasonKind, report: &Report, name: &str, what: &str) -> Reason {
    Reason { kind, layer_path: name.to_owned(), detail: Some(format!("{} {what}", report.engine.name)) }
}

/// The engines went over the same layers, so their numbers are not added up: the largest counts.
fn join_coverages(reports: &[&Report], proof: bool) -> Coverage {
    let all = || reports.iter().map(|report| &report.coverage);
    let proven = || all().filter(|coverage| coverage.proven);
    // An engine that cannot prove anything cannot vouch for its limits, either.
    let limits = proven().map(|coverage| coverage.limits).reduce(tightest);
    Coverage {
        proven: proof || all().all(|coverage| coverage.proven),
        started: all().all(|coverage| coverage.started),
        layers: all().map(|coverage| coverage.layers).max().unwrap_or_default(),
        bytes: all().map(|coverage| coverage.bytes).max().unwrap_or_default(),
        depth: all().map(|coverage| coverage.depth).max().unwrap_or_default(),
        members: all().map(|coverage| coverage.members).max().unwrap_or_default(),
        trivial: all().all(|coverage| coverage.trivial),
        gaps: Vec::new(),
        gap_count: 0,
        limits: limits.or_else(|| all().map(|coverage| coverage.limits).reduce(tightest)).unwrap_or_default(),
    }
}

fn tightest(one: Limits, other: Limits) -> Limits {
    Limits {
        max_file_size: one.max_file_size.min(other.max_file_size),
        max_scan_size: one.max_scan_size.min(other.max_scan_size),
        max_recursion: one.max_recursion.min(other.max_recursion),
        max_files: one.max_files.min(other.max_files),
        max_scan_time: one.max_scan_time.min(other.max_scan_time),
    }
}

/// One description of several engines. The generation changes with that of any, and is unknown when any is.
fn join_infos(infos: &[&EngineInfo]) -> EngineInfo {
    let words = |of: fn(&EngineInfo) -> &str| infos.iter().map(|info| of(info)).collect::<Vec<_>>().join("+");
    let known = infos.iter().all(|info| !info.generation.is_empty());
    let generations = infos.iter().flat_map(|info| [&*info.name, &*info.generation]);
    let settings = infos.iter().flat_map(|info| [&*info.name, &*info.library, &*info.settings]);
    EngineInfo {
        name: words(|info| &info.name),
        library: words(|info| &info.library),
        generation: if known { hash(generations) } else { String::new() },
        settings: hash(settings),
        functionality_level: infos.iter().map(|info| info.functionality_level).max().unwrap_or_default(),
        signatures: infos.iter().map(|info| info.signatures).sum(),
        // RFC 3339 in UTC sorts as text. The oldest one is what somebody should worry about.
        definitions_built: infos.iter().filter_map(|info| info.definitions_built.clone()).min(),
        databases: infos.iter().flat_map(|info| info.databases.iter().cloned()).collect(),
    }
}

#[cfg(test)]
mod tests;
