//! What this process has of its own: a runtime, a thread that calls into Python, and the gate that a fork closes.
//!
//! Threads do not survive a fork, and locks of the parent's may have been held by them. So a child makes all of this
//! anew and leaks what it inherited; the loaded engine, which is memory only, is shared copy-on-write.

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use scan_pipeline::content::{Budget, Spool};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::failure::Failure;
use crate::logs::Waiting;

/// How long a fork waits for scans to end. A child that was forked in the middle of one is refused by clamav-core.
const DRAIN: Duration = Duration::from_secs(30);
/// Scans run on the engine's own threads; these only move things along.
const WORKERS: usize = 2;
/// Threads for files, and for digests of large contents.
const BLOCKING: usize = 64;

/// Something to do while attached to the interpreter.
pub(crate) type Callback = Box<dyn for<'py> FnOnce(Python<'py>) + Send>;

pub(crate) struct Process {
    pid: u32,
    pub(crate) runtime: Runtime,
    callbacks: Sender<Callback>,
    inside: Arc<Inside>,
    gate: Arc<RwLock<()>>,
    /// What a fork in this process holds while it forks.
    closed: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
    pub(crate) logs: Waiting,
    /// Contents of scans and of uploads share one budget of memory.
    pub(crate) budget: Budget,
}

/// The right to be inside of the engine. While one exists no fork happens, unless it lost patience.
pub(crate) struct Ticket {
    _guard: OwnedRwLockReadGuard<()>,
}

static CURRENT: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());

impl Process {
    /// That of the calling process.
    pub(crate) fn current() -> Result<&'static Self, Failure> {
        if let Some(process) = Self::known() {
            return Ok(process);
        }
        let current = CURRENT.load(Ordering::Acquire);
        let fresh = Box::into_raw(Box::new(Self::start()?));
        match CURRENT.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it was made just now, and from here on it is never freed.
            Ok(_) => Ok(unsafe { &*fresh }),
            // SAFETY: it came from here, for the pointer that another thread of this process stored. Ours is leaked: to
            // end a runtime may block.
            Err(other) => Ok(unsafe { &*other }),
        }
    }

    /// That of the calling process, if it has been asked for before.
    pub(crate) fn known() -> Option<&'static Self> {
        // SAFETY: the pointer is null or came from Box::into_raw in `current`, and what it points to is never freed.
        let process = unsafe { CURRENT.load(Ordering::Acquire).as_ref() };
        process.filter(|process| process.pid == std::process::id())
    }

    fn start() -> Result<Self, Failure> {
        let why = |why: std::io::Error| {
            Failure::engine("resources", format!("the threads of scan-pipeline could not be started: {why}"))
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(BLOCKING)
            .thread_name("scan-pipeline")
            .enable_all()
            .build()
            .map_err(why)?;
        // Its bound is that of what is at work: each has one callback at a time.
        let (callbacks, waiting) = mpsc::channel::<Callback>();
        let inside = Arc::new(Inside::default());
        let caller = Arc::clone(&inside);
        std::thread::Builder::new()
            .name(String::from("scan-pipeline-python"))
            .spawn(move || {
                while let Ok(first) = waiting.recv() {
                    // All that wait by now, for one turn of the interpreter's lock.
                    caller.attached(|py| {
                        first(py);
                        waiting.try_iter().for_each(|next| next(py));
                    });
                }
            })
            .map_err(why)?;
        let gate = Arc::new(RwLock::new(()));
        let (pid, closed, budget) = (std::process::id(), Mutex::new(None), Budget::default());
        Ok(Self { pid, runtime, callbacks, inside, gate, closed, logs: Waiting::default(), budget })
    }

    /// Waits while a fork is under way.
    pub(crate) async fn enter(&self) -> Ticket {
        Ticket { _guard: Arc::clone(&self.gate).read_owned().await }
    }

    /// Has it done on the thread that calls into Python.
    pub(crate) fn call(&self, callback: Callback) {
        // The thread ends with the process only.
        let _ = self.callbacks.send(callback);
    }

    pub(crate) fn spool(&self, options: scan_pipeline::content::SpoolOptions) -> Spool {
        Spool::new(options, self.budget.clone())
    }

    fn closed(&self) -> MutexGuard<'_, Option<OwnedRwLockWriteGuard<()>>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody attaches any more once this is set: the interpreter may be gone at any time.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Whether callbacks are called no more.
pub(crate) fn is_exiting() -> bool {
    EXITING.load(Ordering::Acquire)
}

/// Whether one of our threads is attached to the interpreter, or about to be.
#[derive(Default)]
struct Inside {
    is: Mutex<bool>,
    left: Condvar,
}

impl Inside {
    /// Runs something while attached to the interpreter, unless that is about to end.
    fn attached(&self, work: impl for<'py> FnOnce(Python<'py>)) {
        {
            let mut is = self.lock();
            if is_exiting() {
                return;
            }
            *is = true;
        }
        Python::try_attach(work);
        *self.lock() = false;
        self.left.notify_all();
    }

    fn wait_until_left(&self) {
        let mut is = self.lock();
        while *is {
            is = self.left.wait(is).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Before a fork: lets what is inside of the engine come to its end, and nothing new in.
#[pyfunction]
pub(crate) fn before_fork(py: Python<'_>) {
    // A process that has not scanned yet has nothing to wait for.
    let Some(process) = Process::known() else { return };
    let gate = Arc::clone(&process.gate);
    let closed =
        py.detach(|| process.runtime.block_on(async { tokio::time::timeout(DRAIN, gate.write_owned()).await }));
    match closed {
        Ok(guard) => *process.closed() = Some(guard),
        Err(_) => tracing::warn!("forking while scans run, for longer than {DRAIN:?}: the child cannot scan"),
    }
}

/// After a fork, in the parent: scans go on.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    if let Some(process) = Process::known() {
        drop(process.closed().take());
    }
}

/// After a fork, in the child: what the parent had is none of ours.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    EXITING.store(false, Ordering::Release);
    CURRENT.store(std::ptr::null_mut(), Ordering::Release);
}

/// At the exit of the interpreter: nobody calls into it from here on, and whoever does has come out.
#[pyfunction]
pub(crate) fn at_exit(py: Python<'_>) {
    EXITING.store(true, Ordering::Release);
    if let Some(process) = Process::known() {
        process.logs.end();
        py.detach(|| process.inside.wait_until_left());
    }
}
