//! Verdicts that are known already.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{hash, label};
use crate::content::Content;
use crate::model::{EngineInfo, Finding, Report, Verdict};
use crate::store::{CacheKey, CachedReport};

/// What a report is taken to weigh at least, and the unit of the cache's capacity, in bytes.
const UNIT: usize = 1 << 10;

/// Remembers complete verdicts by content, definitions and settings, in memory. Clones share what they remember.
///
/// Only [complete](Report::is_complete) reports get in and out: clean or infected, proven, without a gap, about just the
/// bytes at hand, by an engine that knows its definitions. Everything else is scanned again. A report that is found
/// says what the earlier scan saw, findings included, with its layer paths under the new name; `elapsed` is that of the
/// earlier scan. An engine whose detectors are others has other settings, and none of these reports.
///
/// The pipeline asks the memory, then the [`Store`](crate::store::Store):
///
/// ```
/// use scan_pipeline::content::Content;
/// use scan_pipeline::engine::{Closure, Engine, ScanContext, VerdictCache};
/// use scan_pipeline::model::Verdict;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let (cache, engine) = (VerdictCache::new(1000), Closure::new("test", |_, _| Ok(Verdict::Clean)).with_generation("1"));
/// let content = Content::from_bytes("text");
/// let key = VerdictCache::key(&content, &engine.info(), "a.txt").expect("its definitions are known");
/// assert!(cache.get(&key, &content, "a.txt").is_none()); // then: store.cached(&key) and cache.admit(..)
/// let report = engine.scan(&content, &ScanContext::named("a.txt")).await?;
/// let _durable = cache.insert(&content, "a.txt", &report); // for `Changes::cache`
/// assert_eq!(cache.get(&key, &content, "b.txt"), Some(report));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct VerdictCache(Arc<Cache<CacheKey, Arc<CachedReport>, Weight>>);

impl VerdictCache {
    /// A cache for about that many verdicts; 0 keeps none. Reports with many threats or findings count as several.
    pub fn new(entries: usize) -> Self {
        Self(Arc::new(Cache::with_weighter(entries, entries as u64, Weight)))
    }

    /// What a verdict of that engine on the content would be kept under. `None` where it must not be kept: the engine
    /// does not know its definitions.
    pub fn key(content: &Content, engine: &EngineInfo, name: &str) -> Option<CacheKey> {
        if engine.generation.is_empty() {
            return None;
        }
        let level = engine.functionality_level.to_string();
        // One store may serve engines of several kinds, and signatures can look at the ending of a name.
        let settings = hash([&*engine.name, &engine.library, &level, &engine.settings, &ending(name)]);
        Some(CacheKey { sha256: content.sha256(), generation: engine.generation.clone(), settings })
    }

    /// A verdict that is remembered, for a content of this name.
    pub fn get(&self, key: &CacheKey, content: &Content, name: &str) -> Option<Report> {
        let known = self.0.get(key)?;
        belongs(content, &known.report).then(|| renamed(&known, label(name)))
    }

    /// Checks a verdict that the store remembered, keeps it in memory, and gives it for a content of this name. `None`
    /// where it is not one that could have been stored under this key: the content has to be scanned.
    pub fn admit(&self, key: &CacheKey, content: &Content, name: &str, stored: CachedReport) -> Option<Report> {
        if !holds(key, content, &stored) {
            return None;
        }
        let report = renamed(&stored, label(name));
        self.0.insert(key.clone(), Arc::new(stored));
        Some(report)
    }

    /// Remembers what a scan of the content under this name found, and gives what the store should remember
    /// ([`Changes::cache`](crate::store::Changes::cache)); `None` where nobody should. The key is made from the
    /// report's own engine, so definitions that were loaded meanwhile do not matter.
    pub fn insert(&self, content: &Content, name: &str, report: &Report) -> Option<(CacheKey, CachedReport)> {
        let key = Self::key(content, &report.engine, name)?;
        if !belongs(content, report) {
            return None;
        }
        let cached = CachedReport { name: label(name).to_owned(), report: report.clone() };
        self.0.insert(key.clone(), Arc::new(cached.clone()));
        Some((key, cached))
    }

    /// How many verdicts are in memory.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none in memory.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets everything that is in memory.
    pub fn clear(&self) {
        self.0.clear();
    }
}

impl fmt::Debug for VerdictCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerdictCache({} of about {})", self.len(), self.0.capacity())
    }
}

/// Whether a report may be kept for the content at all.
fn belongs(content: &Content, report: &Report) -> bool {
    report.is_complete() && report.sha256 == Some(content.sha256()) && report.size == Some(content.size())
}

/// Whether a kept report is what the key stands for. A store can hold what an older version or a stranger wrote.
fn holds(key: &CacheKey, content: &Content, kept: &CachedReport) -> bool {
    belongs(content, &kept.report)
        && VerdictCache::key(content, &kept.report.engine, &kept.name).is_some_and(|own| own == *key)
}

/// The ending of a file name in lower case, empty where it has none.
fn ending(name: &str) -> String {
    label(name).rsplit_once('.').map(|(_, ending)| ending.to_lowercase()).unwrap_or_default()
}

fn renamed(kept: &CachedReport, name: &str) -> Report {
    let mut report = kept.report.clone();
    if kept.name == name {
        return report;
    }
    if let Verdict::Infected { threats } = &mut report.verdict {
        threats.iter_mut().for_each(|threat| rename(&mut threat.layer_path, &kept.name, name));
    }
    report.findings.iter_mut().for_each(|finding| rename(&mut finding.layer_path, &kept.name, name));
    report
}

fn rename(path: &mut String, old: &str, new: &str) {
    if path.strip_prefix(old).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        path.replace_range(..old.len(), new);
    }
}

/// Roughly the memory of a report, so that a few with a great many threats do not take it all.
#[derive(Clone)]
struct Weight;

impl Weighter<CacheKey, Arc<CachedReport>> for Weight {
    fn weight(&self, _: &CacheKey, kept: &Arc<CachedReport>) -> u64 {
        let report = &kept.report;
        let threats = match &report.verdict {
            Verdict::Infected { threats } => threats.len(),
            _ => 0,
        };
        let finding = |finding: &Finding| 256 + finding.context.len() + finding.layer_path.len();
        let findings: usize = report.findings.iter().map(finding).sum();
        (1 + (threats * 256 + findings) / UNIT) as u64
    }
}

#[cfg(test)]
mod tests;
