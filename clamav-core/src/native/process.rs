//! What libclamav keeps for the whole process: its initialisation, its messages, and what a fork does to it.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use libclamav_sys as sys;

use super::{Severity, v1_4};
use crate::{Error, ErrorKind, Result};

/// The process that libclamav was last prepared for, times two, plus one while that is being done.
static OWNER: AtomicU64 = AtomicU64::new(0);
/// A process that must not call libclamav: its parent was inside when it forked.
static POISONED: AtomicU32 = AtomicU32::new(0);
/// Calls that are inside libclamav in this process.
static INSIDE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where messages go that libclamav gives on this thread. It passes a context with some messages and NULL
    /// with others, so the thread is what tells them apart.
    static LISTENER: Cell<*mut v1_4::Scan<'static>> = const { Cell::new(std::ptr::null_mut()) };
}

/// Initialises libclamav, once in the life of the process and its children.
pub(crate) fn init() -> Result<()> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| {
        // SAFETY: the callback is a plain function that lives as long as the program; it is set before any other
        // thread of this process can be inside libclamav, because everything goes through this function first.
        unsafe { sys::cl_set_clcb_msg(Some(on_message)) };
        // SAFETY: called once, guarded by the OnceLock.
        match unsafe { sys::cl_init(sys::CL_INIT_DEFAULT) } {
            sys::CL_SUCCESS => Ok(()),
            rc => Err(describe(rc)),
        }
    })
    .clone()
    .map_err(|why| Error::new(ErrorKind::Engine, format!("libclamav could not be initialised: {why}")))
}

/// A permit to be inside libclamav. While one exists a fork leaves the child with locks that nobody will open.
#[derive(Debug)]
pub(crate) struct Inside(());

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Registers a call into libclamav, and notices when this process is a fork of the one that called last.
///
/// # Errors
///
/// [`ErrorKind::Forked`] in a child whose parent was inside libclamav when it forked.
pub(crate) fn enter() -> Result<Inside> {
    let pid = std::process::id();
    let (preparing, ready) = (u64::from(pid) << 1 | 1, u64::from(pid) << 1);
    loop {
        let owner = OWNER.load(Ordering::Acquire);
        if owner == ready {
            break;
        }
        let claim = OWNER.compare_exchange(owner, preparing, Ordering::AcqRel, Ordering::Acquire);
        if owner == preparing || claim.is_err() {
            std::thread::yield_now(); // Another thread of this process does the same; it takes microseconds.
            continue;
        }
        let inherited = INSIDE.swap(0, Ordering::AcqRel) > 0;
        // The children of a refused child have the same locks.
        let refused = u64::from(POISONED.load(Ordering::Acquire)) == owner >> 1;
        if owner != 0 && (inherited || refused) {
            POISONED.store(pid, Ordering::Release);
        }
        reseed();
        OWNER.store(ready, Ordering::Release);
    }
    if POISONED.load(Ordering::Acquire) == pid {
        return Err(Error::new(
            ErrorKind::Forked,
            "this process was forked while a scan or a load was running, so libclamav may hang in it: \
             fork while nothing runs, or start a new process",
        ));
    }
    INSIDE.fetch_add(1, Ordering::AcqRel);
    Ok(Inside(()))
}

/// libclamav draws temporary names from `rand()`, whose state siblings of one fork share.
fn reseed() {
    // A hasher with keys of its own is what the standard library has of randomness; the pid and the clock differ
    // between siblings, whose keys may be the same.
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u128(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos());
    let seed = hasher.finish() as u32;
    // SAFETY: srand only sets the generator's seed; it has no other precondition.
    unsafe { libc::srand(seed) };
}

/// Directs the messages of this thread to `scan` until the guard is dropped.
pub(super) struct Listening(*mut v1_4::Scan<'static>);

impl Listening {
    pub(super) fn new(scan: *mut v1_4::Scan<'static>) -> Self {
        Self(LISTENER.replace(scan))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENER.set(self.0);
    }
}

unsafe extern "C" fn on_message(severity: sys::cl_msg, _full: *const c_char, text: *const c_char, _: *mut c_void) {
    // A panic must not cross into C; a message that cannot be passed on is lost, which only tracing could do.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if text.is_null() {
            return;
        }
        // SAFETY: libclamav passes a NUL-terminated buffer that is valid during the call.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        let text = text.trim();
        let severity = match severity {
            sys::CL_MSG_ERROR => Severity::Error,
            sys::CL_MSG_WARN => Severity::Warning,
            _ => Severity::Info,
        };
        match severity {
            Severity::Error => tracing::warn!(target: "libclamav", "{text}"),
            Severity::Warning => tracing::debug!(target: "libclamav", "{text}"),
            Severity::Info => tracing::trace!(target: "libclamav", "{text}"),
        }
        let scan = LISTENER.get();
        if !scan.is_null() {
            // SAFETY: the pointer is set only while `v1_4::scan` is on this thread's stack below us, and it is taken
            // away while one of the observer's methods runs, so there is no other reference.
            unsafe { (*scan).message(severity, text) };
        }
    }));
}

/// libclamav's words for a return code.
pub(super) fn describe(rc: sys::cl_error_t) -> String {
    // SAFETY: cl_strerror returns a pointer to a static string for every value.
    let text = unsafe { CStr::from_ptr(sys::cl_strerror(rc)) };
    format!("{} ({rc})", text.to_string_lossy())
}
