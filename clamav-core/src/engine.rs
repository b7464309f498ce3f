//! The engine: built once, then immutable and shared.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::database::{self, Canary, EngineInfo};
use crate::native::{NativeEngine, ScanFlags};
use crate::pool::{self, Pool, WhenFull};
use crate::scan::{self, PendingScan, ScanRequest};
use crate::tempdir::{self, TempDir};
use crate::{Error, ErrorKind, Input, Limits, ReasonKind, Report, Result, ScanOptions, Verdict};

/// Everything that makes an engine: definitions, limits, threads.
///
/// ```no_run
/// use clamav_core::{EngineBuilder, Limits};
///
/// # fn main() -> Result<(), clamav_core::Error> {
/// let engine = EngineBuilder::new()
///     .definitions("/var/lib/clamav")
///     .limits(Limits { max_file_size: 50 << 20, ..Limits::default() })
///     .build()?;
/// # let _ = engine; Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct EngineBuilder {
    definitions: Vec<PathBuf>,
    limits: Limits,
    options: ScanOptions,
    temp_dir: Option<PathBuf>,
    threads: Option<usize>,
    queue: Option<usize>,
    min_signatures: u32,
    pool: Option<Arc<Pool>>,
}

impl EngineBuilder {
    /// A builder with the defaults: official definitions, default limits, a thread for each core.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder of signature databases, or one database file. Without any, the folder is
    /// [`default_definitions_dir`](crate::default_definitions_dir).
    pub fn definitions(mut self, path: impl Into<PathBuf>) -> Self {
        self.definitions.push(path.into());
        self
    }

    /// Sets how much one scan may cost.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what is reported beyond signatures.
    pub fn options(mut self, options: ScanOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the directory in which the engine makes its private temporary directory. Default: `TMPDIR`, else `/tmp`.
    pub fn temp_dir(mut self, parent: impl Into<PathBuf>) -> Self {
        self.temp_dir = Some(parent.into());
        self
    }

    /// Sets how many scans run at once. Default: the number of cores.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets how many scans may wait for a thread. Default: four for each thread.
    pub fn queue(mut self, waiting: usize) -> Self {
        self.queue = Some(waiting);
        self
    }

    /// Refuses definitions with fewer signatures. Default and minimum 1; the official ones have millions.
    pub fn min_signatures(mut self, least: u32) -> Self {
        self.min_signatures = least;
        self
    }

    pub(crate) fn with_definitions(mut self, definitions: Vec<PathBuf>) -> Self {
        self.definitions = definitions;
        self
    }

    pub(crate) fn with_pool(mut self, pool: Arc<Pool>) -> Self {
        self.pool = Some(pool);
        self
    }

    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        if self.definitions.is_empty() { vec![database::default_definitions_dir()] } else { self.definitions.clone() }
    }

    pub(crate) fn temp_parent(&self) -> PathBuf {
        self.temp_dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Loads the definitions, compiles them and proves with a canary that the engine detects.
    ///
    /// Takes seconds and, for the official definitions, over a gigabyte of memory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for impossible settings, [`ErrorKind::Definitions`] when they are missing, empty or
    /// malformed, [`ErrorKind::TempDir`] when the temporary directory cannot be used.
    pub fn build(&self) -> Result<Engine> {
        self.limits.check()?;
        let temp_parent = self.temp_parent();
        tempdir::sweep(&temp_parent);
        let temp_dir = TempDir::new(&temp_parent)?;
        let mut native = NativeEngine::new(&self.limits, temp_dir.path())?;
        let info = database::load(&mut native, &self.sources(), self.min_signatures)?;
        let canary = Canary::add(&mut native, temp_dir.path())?;
        let native = native.compile()?;
        let pool = match &self.pool {
            Some(pool) => Arc::clone(pool),
            None => self.new_pool()?,
        };
        let engine = Engine {
            inner: Arc::new(Inner {
                native,
                info: Arc::new(info),
                limits: self.limits.clone(),
                options: self.options.clone(),
                temp_parent,
                temp_dirs: Mutex::new(vec![Arc::new(temp_dir)]),
                temp_owner: AtomicU32::new(std::process::id()),
                gone: TellsWhenDropped::default(),
            }),
            pool,
        };
        engine.prove(&canary)?;
        // SAFETY: the engine is not handed out yet, and the canary's scans have ended.
        unsafe { engine.inner.native.set_scan_time(self.limits.max_scan_time)? };
        tracing::info!(
            signatures = engine.info().signatures,
            generation = %engine.info().generation,
            "definitions loaded"
        );
        Ok(engine)
    }

    pub(crate) fn new_pool(&self) -> Result<Arc<Pool>> {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = self.threads.unwrap_or_else(cores);
        if threads == 0 {
            return Err(Error::new(ErrorKind::Config, "threads is 0; at least one thread has to scan"));
        }
        Pool::new(threads, self.queue.unwrap_or(threads * 4))
    }
}

/// A loaded engine. Cloning it is cheap and shares everything; it can be used from any number of threads.
///
/// ```no_run
/// use clamav_core::{EngineBuilder, ScanRequest, Verdict};
///
/// # fn main() -> Result<(), clamav_core::Error> {
/// let engine = EngineBuilder::new().build()?;
/// let report = engine.scan(b"some bytes".to_vec(), ScanRequest::named("upload.txt"))?;
/// match report.verdict {
///     Verdict::Clean => println!("clean"),
///     Verdict::Infected { threats } => println!("infected: {threats:?}"),
///     Verdict::Unscannable { reasons } => println!("not proven clean: {reasons:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
    pub(crate) pool: Arc<Pool>,
}

/// What scans share. Kept alive by running scans, so an engine can be dropped under them.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) native: NativeEngine,
    pub(crate) info: Arc<EngineInfo>,
    pub(crate) limits: Limits,
    pub(crate) options: ScanOptions,
    temp_parent: PathBuf,
    /// The last one is this process's; a fork's list starts with its ancestors'.
    temp_dirs: Mutex<Vec<Arc<TempDir>>>,
    /// The process whose directory libclamav was told, or `PREPARING`.
    temp_owner: AtomicU32,
    /// Last, so that the engine's memory is free by the time it tells.
    gone: TellsWhenDropped,
}

/// Tells when an engine was dropped.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    is: Mutex<bool>,
    became: Condvar,
}

impl Gone {
    pub(crate) fn wait(&self) {
        let mut is = self.is.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while !*is {
            is = self.became.wait(is).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

#[derive(Debug, Default)]
struct TellsWhenDropped(Arc<Gone>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        *self.0.is.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        self.0.became.notify_all();
    }
}

const PREPARING: u32 = 0;

impl Engine {
    /// Scans and waits for the report.
    ///
    /// # Errors
    ///
    /// An error means that nothing is known about the input: it could not be read ([`ErrorKind::Io`],
    /// [`ErrorKind::NotAFile`], [`ErrorKind::Changed`]), or libclamav failed. It is never to be taken for clean.
    /// [`ErrorKind::Busy`] when a layer detector calls this: all scan threads could end up waiting for each other.
    pub fn scan(&self, input: impl Into<Input>, request: ScanRequest) -> Result<Report> {
        if pool::on_scan_thread() {
            let why = "a scan cannot be waited for on a scan thread; submit it and do not wait";
            return Err(Error::new(ErrorKind::Busy, why).retryable(false));
        }
        self.submit(input, request)?.wait()
    }

    /// Hands a scan to the scan threads. Waits for room in the queue, until the request's deadline.
    pub fn submit(&self, input: impl Into<Input>, request: ScanRequest) -> Result<PendingScan> {
        let when_full = WhenFull::WaitUntil(request.deadline);
        self.enqueue(input.into(), request, when_full)
    }

    /// Hands a scan to the scan threads, or fails with [`ErrorKind::Busy`] when the queue is full.
    pub fn try_submit(&self, input: impl Into<Input>, request: ScanRequest) -> Result<PendingScan> {
        self.enqueue(input.into(), request, WhenFull::Refuse)
    }

    fn enqueue(&self, input: Input, request: ScanRequest, when_full: WhenFull) -> Result<PendingScan> {
        let (pending, answer) = PendingScan::new();
        let inner = Arc::clone(&self.inner);
        let job = move || {
            let cancelled = answer.cancelled();
            let scan = AssertUnwindSafe(|| scan::run(&inner, &input, request, cancelled));
            let result = catch_unwind(scan).unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Panicked, "the scan panicked; this is a bug in clamav-core"))
            });
            // The answer may end the caller's process; what the scan held goes first.
            drop((inner, input));
            answer.give(result);
        };
        self.pool.submit(Box::new(job), when_full)?;
        Ok(pending)
    }

    /// What this engine is made of.
    pub fn info(&self) -> &EngineInfo {
        &self.inner.info
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Finds the canary's marker plain and, where the limits allow nesting, packed.
    fn prove(&self, canary: &Canary) -> Result<()> {
        let found = |bytes: Vec<u8>, name: &str| -> Result<bool> {
            let report = self.scan(bytes, ScanRequest { patient: true, ..ScanRequest::named(name) })?;
            Ok(match report.verdict {
                Verdict::Infected { threats } => {
                    threats.iter().any(|threat| threat.signature.starts_with(Canary::SIGNATURE))
                }
                // With limits this tight, nothing is ever called clean that has a member.
                Verdict::Unscannable { reasons } => {
                    let limit = [ReasonKind::TooDeep, ReasonKind::TooManyFiles];
                    name.ends_with(".zip") && reasons.iter().all(|reason| limit.contains(&reason.kind))
                }
                Verdict::Clean => false,
            })
        };
        if found(canary.plain(), "canary.txt")? && found(canary.zipped()?, "canary.zip")? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Engine,
            "the loaded engine does not find a known marker, so it is not used; \
             a signature that allows files by their size or name may be the cause",
        ))
    }
}

impl Inner {
    pub(crate) fn flags(&self) -> ScanFlags {
        ScanFlags {
            all_matches: self.options.all_matches,
            alert_macros: self.options.alert_macros,
            alert_broken: self.options.alert_broken,
        }
    }

    pub(crate) fn gone(&self) -> Arc<Gone> {
        Arc::clone(&self.gone.0)
    }

    /// Makes sure that the temporary directory is there and is this process's own.
    pub(crate) fn ensure_temp_dir(&self) -> Result<()> {
        let pid = std::process::id();
        loop {
            let owner = self.temp_owner.load(Ordering::Acquire);
            if owner == pid {
                return self.temp_dir().ensure();
            }
            let claim = self.temp_owner.compare_exchange(owner, PREPARING, Ordering::AcqRel, Ordering::Acquire);
            if owner == PREPARING || claim.is_err() {
                // Another thread of this child makes the directory, which takes microseconds.
                std::thread::yield_now();
                continue;
            }
            let made = self.adopt_temp_dir();
            self.temp_owner.store(if made.is_ok() { pid } else { owner }, Ordering::Release);
            return made;
        }
    }

    /// Checks that libclamav has room to unpack `bytes`.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<()> {
        // Each level of nesting holds a few files open.
        self.temp_dir().check_room(bytes, u64::from(self.limits.max_recursion) * 4)
    }

    fn temp_dir(&self) -> Arc<TempDir> {
        let dirs = self.temp_dirs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Arc::clone(dirs.last().unwrap_or_else(|| unreachable!("an engine is built with a directory")))
    }

    /// Gives a forked child a directory of its own.
    fn adopt_temp_dir(&self) -> Result<()> {
        let dir = TempDir::new(&self.temp_parent)?;
        // SAFETY: scans come here before they use the engine, and all of this process wait until this is done.
        unsafe { self.native.set_temp_dir(dir.path())? };
        self.temp_dirs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(Arc::new(dir));
        Ok(())
    }
}
