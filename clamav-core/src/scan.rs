//! One scan, from its request to its report.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::engine::Inner;
use crate::input::Loaded;
use crate::native::{self, Outcome, Status};
use crate::report::{Coverage, Report};
use crate::tracker::{FollowUp, Stopped, Tracker, join};
use crate::verdict::{Reason, ReasonKind, Threat, Verdict};
use crate::witness::TINY;
use crate::{Error, ErrorKind, Input, LayerDetector, Result};

/// What to do beyond scanning, and until when.
///
/// ```
/// use std::time::Duration;
/// use clamav_core::ScanRequest;
/// let request = ScanRequest::named("upload.docx").timeout(Duration::from_secs(30));
/// # let _ = request;
/// ```
#[derive(Default)]
pub struct ScanRequest {
    pub(crate) name: Option<String>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) detectors: Vec<Box<dyn LayerDetector>>,
    /// Not held to the engine's `max_scan_time`: for the canary.
    pub(crate) patient: bool,
    pub(crate) kept: Vec<Box<dyn Any + Send>>,
}

impl std::fmt::Debug for ScanRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScanRequest")
            .field("name", &self.name)
            .field("deadline", &self.deadline)
            .field("detectors", &self.detectors.len())
            .finish()
    }
}

impl ScanRequest {
    /// A request without a name: layer paths start with the input's file name, or with `content`.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request whose layer paths start with `name`. Signatures can look at its ending.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// The scan ends at this time: with [`ErrorKind::Deadline`] if it had not started, else as unscannable, timed out.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The scan ends when this much time from now has passed, waiting in the queue included.
    pub fn timeout(self, timeout: Duration) -> Self {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.deadline(deadline),
            None => self,
        }
    }

    /// Adds code that looks at every layer.
    pub fn detector(mut self, detector: impl LayerDetector + 'static) -> Self {
        self.detectors.push(Box::new(detector));
        self
    }

    /// Keeps something until the scan is over and its bytes are free again, which a cancelled scan is a while after its
    /// [`PendingScan`] was dropped: a permit to scan, a part of a memory budget.
    pub fn keeping(mut self, what: impl Any + Send) -> Self {
        self.kept.push(Box::new(what));
        self
    }
}

/// A scan that was handed to the scan threads. It can be waited for, or awaited: it is a plain [`Future`] that needs
/// no runtime. Dropping it cancels the scan; the bytes stay owned until libclamav is done with them.
#[derive(Debug)]
#[must_use = "dropping a pending scan cancels it"]
pub struct PendingScan {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    cancelled: Arc<AtomicBool>,
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    result: Option<Result<Report>>,
    waker: Option<Waker>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Answers a pending scan when it is dropped, whatever happened: nobody waits for ever.
pub(crate) struct Answer {
    shared: Arc<Shared>,
    result: Option<Result<Report>>,
}

impl Answer {
    pub(crate) fn cancelled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.shared.cancelled)
    }

    pub(crate) fn give(mut self, result: Result<Report>) {
        self.result = Some(result);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let result = self
            .result
            .take()
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Panicked, "the scan ended without a result").retryable(true)));
        let waker = {
            let mut state = self.shared.state();
            state.result = Some(result);
            state.waker.take()
        };
        self.shared.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl PendingScan {
    pub(crate) fn new() -> (Self, Answer) {
        let shared = Arc::new(Shared::default());
        (Self { shared: Arc::clone(&shared) }, Answer { shared, result: None })
    }

    /// Asks the scan to end. It does so between two layers, within milliseconds for archives of small files, and
    /// then gives [`ErrorKind::Cancelled`].
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// Something to cancel the scan with from elsewhere.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.shared.cancelled))
    }

    /// Waits for the result.
    pub fn wait(self) -> Result<Report> {
        let mut state = self.shared.state();
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            state = self.shared.done.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

impl Future for PendingScan {
    type Output = Result<Report>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.state();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for PendingScan {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Cancels one scan; see [`PendingScan::canceller`].
#[derive(Debug, Clone)]
pub struct Canceller(Arc<AtomicBool>);

impl Canceller {
    /// Asks the scan to end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Scans on the current thread, which is one of the pool's.
pub(crate) fn run(
    engine: &Arc<Inner>,
    input: &Input,
    request: ScanRequest,
    cancelled: Arc<AtomicBool>,
) -> Result<Report> {
    // First, so that it goes last.
    let ScanRequest { kept: _kept, name, deadline, detectors, patient } = request;
    let name = name.or_else(|| input.name()).unwrap_or_else(|| String::from("content"));
    let about = |error: Error| error.about(name.clone());
    let started = Instant::now();
    if cancelled.load(Ordering::Relaxed) {
        return Err(about(Error::new(ErrorKind::Cancelled, "the scan was cancelled before it started")));
    }
    if deadline.is_some_and(|deadline| started >= deadline) {
        return Err(about(Error::new(ErrorKind::Deadline, "the deadline passed before the scan started")));
    }
    let limits = &engine.limits;
    let loaded = input.load(limits.max_file_size).map_err(about)?;
    let shared;
    let bytes: &[u8] = match &loaded {
        Loaded::Owned(bytes) => bytes,
        Loaded::Shared(bytes) => {
            shared = Arc::clone(bytes);
            (*shared).as_ref()
        }
        Loaded::TooLarge(size) => return Ok(too_large(engine, name, *size, started)),
    };

    let backstop = started.checked_add(limits.max_scan_time).filter(|_| !patient);
    let deadline = [deadline, backstop].into_iter().flatten().min();
    let room = Arc::clone(engine);
    let has_room = Box::new(move |bytes| room.check_room(bytes).is_ok());
    let mut tracker = Tracker::new(name.clone(), limits.clone(), cancelled, deadline, detectors, has_room);
    let outcome = if bytes.len() as u64 <= TINY {
        if tracker.show_tiny(bytes) {
            return Err(about(detector_panicked()));
        }
        None
    } else {
        Some(scan_all(engine, bytes, &mut tracker).map_err(about)?)
    };
    let temp_dir_error = tracker.ledger.temp_dir_error().map(str::to_owned);
    let mut coverage = tracker.finish();
    coverage.trivial = outcome.is_none();
    if let Some(error) = temp_dir_error.filter(|_| tracker.threats.is_empty()) {
        let failed = format!("libclamav could not unpack into its temporary directory: {error}");
        return Err(about(Error::new(ErrorKind::TempDir, failed)));
    }
    let verdict = conclude(outcome, &mut tracker, &coverage).map_err(about)?;
    if verdict == Verdict::Clean && !coverage.trivial {
        engine.check_room(0).map_err(about)?;
    }
    if tracker.ran_short && !matches!(verdict, Verdict::Infected { .. }) {
        let why = "disk space or file descriptors ran short during the scan, so its answer proves nothing";
        return Err(about(Error::new(ErrorKind::Resources, why)));
    }
    Ok(Report {
        verdict,
        coverage,
        layers: std::mem::take(&mut tracker.layers),
        engine: Arc::clone(&engine.info),
        size: bytes.len() as u64,
        file_type: tracker.file_type.take(),
        elapsed: started.elapsed(),
    })
}

/// Scans the file and then what libclamav could not reach in it. The outcome is the worst of all calls.
fn scan_all(engine: &Arc<Inner>, bytes: &[u8], tracker: &mut Tracker) -> Result<Outcome> {
    let mut outcome = scan_once(engine, bytes, tracker)?;
    while let Some(FollowUp { parent, name, level, bytes }) = tracker.follow_ups.pop() {
        let early = !engine.options.all_matches && !tracker.threats.is_empty();
        if early || outcome.panicked || tracker.check_stop().is_some() {
            break;
        }
        if bytes.len() as u64 <= TINY {
            continue; // As for the file itself: nothing can be in it.
        }
        let path = join(&parent, &name);
        if level >= engine.limits.max_recursion {
            tracker.ledger.gap(ReasonKind::TooDeep, path, Some(format!("level {level}")));
            continue;
        }
        if bytes.len() as u64 > engine.limits.max_file_size {
            tracker.ledger.gap(ReasonKind::TooLarge, path, Some(format!("{} bytes", bytes.len())));
            continue;
        }
        tracker.rebase(path, level);
        let next = match scan_once(engine, &bytes, tracker) {
            Ok(next) => next,
            Err(_) if !tracker.threats.is_empty() => break, // Infected is certain already.
            Err(error) => return Err(error),
        };
        outcome.panicked |= next.panicked;
        if matches!(outcome.status, Status::NoMatch) || matches!(next.status, Status::Failed { .. }) {
            outcome.status = next.status;
        }
        outcome.signature = outcome.signature.or(next.signature);
    }
    Ok(outcome)
}

fn scan_once(engine: &Arc<Inner>, bytes: &[u8], tracker: &mut Tracker) -> Result<Outcome> {
    let _inside = native::enter()?; // First of all: what follows takes locks that a fork must not copy.
    engine.ensure_temp_dir()?;
    engine.check_room(bytes.len() as u64)?;
    let name = native::c_name(tracker.root());
    let outcome = native::scan(&engine.native, bytes, &name, engine.flags(), tracker);
    if !tracker.started && !outcome.panicked && tracker.stopped.is_none() && !tracker.ledger.has_alerts() {
        // libclamav answered without having looked: its temporary directory failed, or memory did.
        let said = match (&outcome.status, tracker.ledger.last_error()) {
            (_, Some(message)) => message.to_owned(),
            (Status::Failed { text, .. }, None) => text.clone(),
            _ => String::from("it gave no reason"),
        };
        return Err(Error::new(
            match outcome.status {
                Status::Failed { memory: true, .. } => ErrorKind::Memory,
                _ if said.contains("temporary") || said.contains("tmp") => ErrorKind::TempDir,
                _ => ErrorKind::Engine,
            },
            format!("libclamav did not scan the content: {said}"),
        )
        .retryable(true));
    }
    Ok(outcome)
}

/// The rule of this crate: clean only with proof, infected before unscannable, and an error is no verdict.
fn conclude(outcome: Option<Outcome>, tracker: &mut Tracker, coverage: &Coverage) -> Result<Verdict> {
    let threats = std::mem::take(&mut tracker.threats);
    if !threats.is_empty() {
        return Ok(Verdict::Infected { threats });
    }
    let Some(outcome) = outcome else {
        return Ok(Verdict::Clean); // Too small to hold anything; the coverage says so.
    };
    if outcome.panicked {
        return Err(detector_panicked());
    }
    if tracker.stopped == Some(Stopped::Cancelled) {
        return Err(Error::new(ErrorKind::Cancelled, "the scan was cancelled"));
    }
    match outcome.status {
        Status::Failed { memory: true, .. } => {
            Err(Error::new(ErrorKind::Memory, "libclamav ran out of memory during the scan"))
        }
        Status::Failed { temp_dir: true, text, .. } => Err(Error::new(
            ErrorKind::TempDir,
            format!("libclamav could not unpack into its temporary directory: {text}"),
        )),
        Status::Failed { text, .. } => {
            Err(Error::new(ErrorKind::Engine, format!("libclamav failed during the scan: {text}")))
        }
        _ if coverage.gap_count > 0 => Ok(Verdict::Unscannable { reasons: coverage.gaps.clone() }),
        Status::Match => match outcome.signature {
            // It matched without telling the callback; believe it.
            Some(signature) => {
                Ok(Verdict::Infected { threats: vec![Threat { signature, layer_path: tracker.root().to_owned() }] })
            }
            None => Err(Error::new(ErrorKind::Engine, "libclamav reported a match without a signature")),
        },
        Status::NoMatch if !tracker.started || !coverage.started => {
            Err(Error::new(ErrorKind::Engine, "libclamav did not look at the content"))
        }
        Status::NoMatch => Ok(Verdict::Clean),
    }
}

fn detector_panicked() -> Error {
    Error::new(ErrorKind::Panicked, "a layer detector panicked, so the scan was stopped")
}

fn too_large(engine: &Arc<Inner>, name: String, size: u64, started: Instant) -> Report {
    let reason = Reason {
        kind: ReasonKind::TooLarge,
        layer_path: name,
        detail: Some(format!("{size} bytes; the limit is {}", engine.limits.max_file_size)),
    };
    Report {
        verdict: Verdict::Unscannable { reasons: vec![reason.clone()] },
        coverage: Coverage::none(reason, engine.limits.clone()),
        layers: Vec::new(),
        engine: Arc::clone(&engine.info),
        size,
        file_type: None,
        elapsed: started.elapsed(),
    }
}
