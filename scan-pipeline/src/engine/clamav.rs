//! libclamav in process, by clamav-core.

mod definitions;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use self::definitions::Pulled;
use super::{Detectors, Engine, FindingTaker, MOST_FINDINGS, Permits, ScanContext, before};
use crate::clamav as core;
use crate::content::{Content, blocking};
use crate::model::{
    ContentDigest, Coverage, DatabaseInfo, EngineInfo, Limits, Reason, ReasonKind, Report, Threat, Verdict, rfc3339,
};
use crate::objects::ObjectOps;
use crate::{Error, ErrorKind, Result};

/// The engine that links libclamav: it proves every "clean". Clones share the loaded definitions.
///
/// ```no_run
/// use scan_pipeline::content::Content;
/// use scan_pipeline::engine::{ClamAv, Engine, ScanContext};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let engine = ClamAv::builder().definitions("/var/lib/clamav").build().await?;
/// let report = engine.scan(&Content::from_bytes("some text"), &ScanContext::named("a.txt")).await?;
/// println!("{}", report.verdict.status());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ClamAv {
    handle: Arc<core::EngineHandle>,
    settings: String,
    detectors: Option<Detectors>,
    max_findings: usize,
    /// As many scans as the engine's queue holds, each until its bytes are free again, so that there is always room.
    permits: Arc<Permits>,
    max_file_size: u64,
    /// Copies of definitions in buckets.
    pulled: Arc<Vec<Pulled>>,
}

/// Sets up a [`ClamAv`].
#[derive(Debug, Clone, Default)]
pub struct ClamAvBuilder {
    builder: core::EngineBuilder,
    limits: Limits,
    options: core::ScanOptions,
    threads: Option<usize>,
    detectors: Option<Detectors>,
    max_findings: Option<usize>,
    buckets: Vec<(Arc<dyn ObjectOps>, String)>,
    temp_dir: Option<PathBuf>,
}

impl ClamAvBuilder {
    /// Adds a folder of signature databases, or one of them. Without any, it is where freshclam puts them.
    #[must_use]
    pub fn definitions(mut self, path: impl Into<PathBuf>) -> Self {
        self.builder = self.builder.definitions(path);
        self
    }

    /// Adds the signature databases that lie directly under a prefix of a bucket, such as `clamav/`. They are copied to
    /// disk before they are loaded, and [`refresh_definitions`](Engine::refresh_definitions) copies what has changed
    /// since. libclamav checks the signature of official ones (`.cvd`); for others the bucket is trusted.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use scan_pipeline::engine::ClamAv;
    /// use scan_pipeline::objects::MemoryBucket;
    ///
    /// let bucket = MemoryBucket::new("definitions")?; // in real life an S3Bucket
    /// let builder = ClamAv::builder().definitions_in(Arc::new(bucket), "clamav/");
    /// # Ok::<(), scan_pipeline::Error>(())
    /// ```
    #[must_use]
    pub fn definitions_in(mut self, bucket: Arc<dyn ObjectOps>, prefix: impl Into<String>) -> Self {
        self.buckets.push((bucket, prefix.into()));
        self
    }

    /// As [`definitions`](Self::definitions) by URL, `file:///path/to/folder`, for settings that are all addresses. Those
    /// of a bucket are for [`definitions_in`](Self::definitions_in).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for any other URL.
    pub fn definitions_url(self, url: &str) -> Result<Self> {
        let wrong = |why: &str| Error::new(ErrorKind::Config, why).about(url);
        let parsed = url::Url::parse(url).map_err(|why| wrong("is no URL of definitions").with_source(why))?;
        if parsed.scheme() != "file" {
            return Err(wrong("is no folder: write file:///path, or put the databases into a bucket that is set up"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(wrong("a path with ? or # in it has to be written with %3F or %23"));
        }
        let path = parsed.to_file_path().map_err(|()| wrong("names another machine; write file:///path"))?;
        Ok(self.definitions(path))
    }

    /// Sets how much one scan may cost.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what is reported beyond signatures.
    #[must_use]
    pub fn options(mut self, options: core::ScanOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets how many scans run at once. Default: the number of cores.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Looks for sensitive data in every layer that libclamav unpacks, in the same pass. The findings are in the report;
    /// they change no verdict.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), scan_pipeline::Error> {
    /// use scan_pipeline::engine::{ClamAv, Detector, Detectors};
    /// let detectors = Detectors::builder().detect_all([Detector::Ssn, Detector::CreditCard]).build()?;
    /// let engine = ClamAv::builder().detectors(detectors).build().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn detectors(mut self, detectors: Detectors) -> Self {
        self.detectors = Some(detectors);
        self
    }

    /// Sets how many findings a report lists; those beyond are counted. Default 1,000.
    #[must_use]
    pub fn max_findings(mut self, most: usize) -> Self {
        self.max_findings = Some(most);
        self
    }

    /// Sets where libclamav unpacks to, and where definitions of buckets are copied to. Default: `TMPDIR`, else `/tmp`.
    #[must_use]
    pub fn temp_dir(mut self, parent: impl Into<PathBuf>) -> Self {
        let parent = parent.into();
        self.builder = self.builder.temp_dir(parent.clone());
        self.temp_dir = Some(parent);
        self
    }

    /// Loads the definitions, on a thread for blocking work. Takes seconds and, for the official ones, over a
    /// gigabyte of memory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for impossible settings and for definitions that are missing, empty or malformed; what a
    /// bucket answers when they cannot be had.
    pub async fn build(mut self) -> Result<ClamAv> {
        let mut pulled = Vec::new();
        for (bucket, prefix) in std::mem::take(&mut self.buckets) {
            let parent = self.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
            let copy = Pulled::new(bucket, prefix, parent).await?;
            self.builder = self.builder.definitions(copy.path());
            pulled.push(copy);
        }
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let builder = self
            .builder
            .limits(core_limits(&self.limits))
            .options(self.options.clone())
            .threads(threads)
            // One that a thread is about to take still lies in the queue.
            .queue(threads * 2);
        let max_findings = self.max_findings.unwrap_or(MOST_FINDINGS);
        let detectors = self.detectors.clone().map(|detectors| (detectors, max_findings));
        let settings = settings(&self.limits, &self.options, detectors.as_ref());
        let handle = blocking(move || {
            core::EngineHandle::new(builder, core::ReloadMode::Concurrent).map_err(|why| match why.kind() {
                core::ErrorKind::Definitions | core::ErrorKind::Config => {
                    Error::new(ErrorKind::Config, "the ClamAV engine could not be set up").with_source(why)
                }
                _ => error(why),
            })
        })
        .await?;
        let permits = Arc::new(Permits::new(threads * 2));
        let (handle, max_file_size) = (Arc::new(handle), self.limits.max_file_size);
        let pulled = Arc::new(pulled);
        Ok(ClamAv { handle, settings, detectors: self.detectors, max_findings, permits, max_file_size, pulled })
    }
}

impl ClamAv {
    /// The defaults: official definitions, default limits, a thread for each core.
    pub fn builder() -> ClamAvBuilder {
        ClamAvBuilder::default()
    }

    /// The engine underneath, for scans beside the pipeline that need not load the definitions once more: clamav-core's
    /// calls block, take paths and descriptors, and share the scan threads with this one.
    pub fn handle(&self) -> &Arc<core::EngineHandle> {
        &self.handle
    }

    /// Whether the definitions on disk are others than the loaded ones. Reads all of them.
    ///
    /// # Errors
    ///
    /// They could not be read.
    pub async fn is_outdated(&self) -> Result<bool> {
        let handle = Arc::clone(&self.handle);
        blocking(move || handle.is_outdated().map_err(error)).await
    }

    /// Loads the definitions anew, beside the old ones, and switches to them. Scans go on meanwhile.
    ///
    /// # Errors
    ///
    /// They could not be loaded or did not pass the canary; the old ones go on serving.
    pub async fn reload(&self) -> Result<EngineInfo> {
        let (handle, settings) = (Arc::clone(&self.handle), self.settings.clone());
        blocking(move || handle.reload().map(|info| engine_info(&info, settings)).map_err(error)).await
    }
}

#[async_trait]
impl Engine for ClamAv {
    fn info(&self) -> EngineInfo {
        match self.handle.info() {
            Ok(info) => engine_info(&info, self.settings.clone()),
            // No definitions are loaded, so there is no generation that a cached verdict could have.
            Err(_) => EngineInfo::new("clamav", core::library_version(), ""),
        }
    }

    async fn refresh_definitions(&self) -> Result<bool> {
        // Where a copy cannot be had, what is loaded stays: a part of it alone would find less.
        for copy in self.pulled.iter() {
            copy.pull().await?;
        }
        let outdated = self.is_outdated().await?;
        if outdated {
            self.reload().await?;
        }
        Ok(outdated)
    }

    async fn scan(&self, content: &Content, context: &ScanContext) -> Result<Report> {
        let name = context.label();
        let (input, wanted) = match content.memory() {
            Some(bytes) => (core::Input::Bytes(Arc::new(bytes.clone())), 0),
            None => {
                let file = content.file().ok_or_else(|| Error::new(ErrorKind::Io, "the content has no bytes"))?;
                // What is over the limit is not loaded.
                let loaded = content.size() <= self.max_file_size;
                (core::Input::File(Arc::clone(file)), if loaded { content.size() } else { 0 })
            }
        };
        // Memory first: who waits for it must not keep those from scanning whose end it waits for.
        let waits = async {
            let reserved = match &context.budget {
                Some(budget) if wanted > 0 => Some(budget.reserve_patiently(wanted).await?),
                _ => None,
            };
            let closed = |_| Error::new(ErrorKind::Engine, "the engine is shut down");
            let permit = self.permits.here().acquire_owned().await.map_err(closed)?;
            Ok((reserved, permit, context.keeps.clone()))
        };
        let held = before(context.deadline, waits).await.map_err(|why| why.about(name))?;
        let engine = self.handle.engine().map_err(error)?;
        // A scan whose caller has gone ends a while after that, and holds its memory until then.
        let mut request = core::ScanRequest::named(name).keeping(held);
        if let Some(deadline) = context.deadline {
            request = request.deadline(deadline);
        }
        let taker = self.detectors.as_ref().map(|detectors| FindingTaker::new(detectors).most(self.max_findings));
        if let Some(taker) = &taker {
            request = request.detector(taker.detector());
        }
        let scan = engine.try_submit(input, request).map_err(|why| error(why).about(name))?;
        let found = scan.await.map_err(|why| error(why).about(name))?;
        if found.size != content.size() {
            let why = format!("the engine saw {} of {} bytes", found.size, content.size());
            return Err(Error::new(ErrorKind::Engine, why).about(name));
        }
        let mut report = report(&found, Some(content.sha256()), self.settings.clone());
        if let Some(found) = taker.map(|taker| taker.take()) {
            (report.findings, report.findings_omitted) = (found.list, found.omitted);
        }
        Ok(report)
    }
}

/// A hash of everything but the definitions that a verdict and its findings depend on: a verdict that is remembered has
/// the findings of the same detectors, or is not taken.
fn settings(limits: &Limits, options: &core::ScanOptions, detectors: Option<&(Detectors, usize)>) -> String {
    let mut all = format!("{}\n{limits:?}\n{options:?}\n{}", env!("CARGO_PKG_VERSION"), core::library_version());
    if let Some((detectors, most)) = detectors {
        all = format!("{all}\n{} max_findings={most}", detectors.settings());
    }
    ContentDigest::of(all.as_bytes()).to_string()[..32].to_owned()
}

fn core_limits(limits: &Limits) -> core::Limits {
    core::Limits {
        max_file_size: limits.max_file_size,
        max_scan_size: limits.max_scan_size,
        max_recursion: limits.max_recursion,
        max_files: limits.max_files,
        max_scan_time: limits.max_scan_time,
    }
}

fn error(why: core::Error) -> Error {
    let kind = match why.kind() {
        core::ErrorKind::Config => ErrorKind::Config,
        core::ErrorKind::TempDir | core::ErrorKind::Resources | core::ErrorKind::Memory => ErrorKind::Resources,
        core::ErrorKind::Cancelled => ErrorKind::Cancelled,
        core::ErrorKind::Deadline => ErrorKind::Timeout,
        core::ErrorKind::Busy => ErrorKind::Busy,
        core::ErrorKind::Panicked => ErrorKind::Panicked,
        core::ErrorKind::Io => ErrorKind::Io,
        core::ErrorKind::NotAFile => ErrorKind::InvalidInput,
        _ => ErrorKind::Engine,
    };
    let retryable = why.is_retryable();
    Error::new(kind, "the scan failed").with_source(why).retryable(retryable)
}

/// clamav-core's description of an engine in this crate's words.
pub fn engine_info(info: &core::EngineInfo, settings: String) -> EngineInfo {
    EngineInfo {
        name: String::from("clamav"),
        library: info.library.clone(),
        generation: info.generation.clone(),
        settings,
        functionality_level: info.functionality_level,
        signatures: info.signatures,
        definitions_built: info.definitions_built().map(rfc3339),
        databases: info
            .databases
            .iter()
            .map(|database| DatabaseInfo::new(&database.name, database.version, database.built))
            .collect(),
    }
}

/// clamav-core's report in this crate's words.
pub fn report(report: &core::Report, sha256: Option<ContentDigest>, settings: String) -> Report {
    let reasons = |reasons: &[core::Reason]| reasons.iter().map(reason).collect::<Vec<_>>();
    let verdict = match &report.verdict {
        core::Verdict::Clean => Verdict::Clean,
        core::Verdict::Infected { threats } => Verdict::Infected {
            threats: threats
                .iter()
                .map(|threat| Threat { signature: threat.signature.clone(), layer_path: threat.layer_path.clone() })
                .collect(),
        },
        core::Verdict::Unscannable { reasons: all } => Verdict::Unscannable { reasons: reasons(all) },
    };
    let coverage = &report.coverage;
    Report {
        verdict,
        findings: Vec::new(),
        findings_omitted: 0,
        coverage: Coverage {
            proven: true,
            started: coverage.started,
            layers: coverage.layers,
            bytes: coverage.bytes,
            depth: coverage.depth,
            members: coverage.members,
            trivial: coverage.trivial,
            gaps: reasons(&coverage.gaps),
            gap_count: coverage.gap_count,
            limits: Limits {
                max_file_size: coverage.limits.max_file_size,
                max_scan_size: coverage.limits.max_scan_size,
                max_recursion: coverage.limits.max_recursion,
                max_files: coverage.limits.max_files,
                max_scan_time: coverage.limits.max_scan_time,
            },
        },
        engine: engine_info(&report.engine, settings),
        sha256,
        size: Some(report.size),
        file_type: report.file_type.clone(),
        elapsed: report.elapsed,
    }
}

fn reason(reason: &core::Reason) -> Reason {
    let kind = match reason.kind {
        core::ReasonKind::Encrypted => ReasonKind::Encrypted,
        core::ReasonKind::TooLarge => ReasonKind::TooLarge,
        core::ReasonKind::TooDeep => ReasonKind::TooDeep,
        core::ReasonKind::TooManyFiles => ReasonKind::TooManyFiles,
        core::ReasonKind::ScanSize => ReasonKind::ScanSize,
        core::ReasonKind::TimedOut => ReasonKind::TimedOut,
        core::ReasonKind::Unsupported => ReasonKind::Unsupported,
        core::ReasonKind::TruncatedOrCorrupt => ReasonKind::TruncatedOrCorrupt,
        // A kind that is not known here is a gap all the same.
        _ => ReasonKind::EngineReported,
    };
    Reason { kind, layer_path: reason.layer_path.clone(), detail: reason.detail.clone() }
}
