//! Scanning with the callbacks of libclamav 1.4, which 1.5 deprecates.
//!
//! The context pointer of a scan is a [`Scan`] on the stack of [`scan`]. libclamav hands it to the callbacks on the
//! same thread, one at a time, and never after the call has returned.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use libclamav_sys as sys;

use super::process::{Listening, describe};
use super::{Flow, LayerEvent, MemberEvent, NativeEngine, Observer, Outcome, ScanFlags, Severity, Status};

/// The signature that libclamav reports when our callback stopped the scan.
const STOPPED: &str = "Detected.By.Callback";

/// The state of one running scan, behind the context pointer.
pub(super) struct Scan<'a> {
    observer: &'a mut dyn Observer,
    stopped: bool,
    panicked: bool,
}

impl Scan<'_> {
    /// Runs the observer; if it panics, remembers that and asks for the end of the scan.
    fn observe<T>(&mut self, otherwise: T, act: impl FnOnce(&mut dyn Observer) -> T) -> T {
        if self.panicked {
            return otherwise;
        }
        // The observer runs the caller's code, which may call libclamav on this thread; what libclamav says then is not
        // about this scan, and must not find its way back into the observer.
        let _deaf = Listening::new(std::ptr::null_mut());
        catch_unwind(AssertUnwindSafe(|| act(self.observer))).unwrap_or_else(|_| {
            self.panicked = true;
            otherwise
        })
    }

    pub(super) fn message(&mut self, severity: Severity, text: &str) {
        self.observe((), |observer| observer.message(severity, text));
    }
}

/// Passes the messages that libclamav gives during `act` to `observer`.
pub(super) fn listen<T>(observer: &mut dyn Observer, act: impl FnOnce() -> T) -> T {
    let mut scan = Scan { observer, stopped: false, panicked: false };
    let context: *mut Scan<'_> = &mut scan;
    let _listening = Listening::new(context.cast());
    act()
}

/// Scans `bytes`, which are the whole file, under `name`.
pub(crate) fn scan(
    engine: &NativeEngine,
    bytes: &[u8],
    name: &CStr,
    flags: ScanFlags,
    observer: &mut dyn Observer,
) -> Outcome {
    debug_assert!(engine.is_compiled(), "the builder hands out compiled engines only");
    let mut scan = Scan { observer, stopped: false, panicked: false };
    let context: *mut Scan<'_> = &mut scan;
    let mut options = options(flags);
    let mut signature: *const c_char = std::ptr::null();
    let mut scanned: c_ulong = 0;

    let rc = {
        let _listening = Listening::new(context.cast());
        // SAFETY: the map only refers to `bytes`, which outlive it; libclamav does not write to them.
        match NonNull::new(unsafe { sys::cl_fmap_open_memory(bytes.as_ptr().cast(), bytes.len()) }) {
            None => sys::CL_EMEM,
            Some(map) => {
                // SAFETY: every pointer is valid until the call returns: the map is open, the engine is compiled
                // and borrowed, `context` points to `scan`, which is not touched otherwise meanwhile.
                let rc = unsafe {
                    sys::cl_scanmap_callback(
                        map.as_ptr(),
                        name.as_ptr(),
                        &mut signature,
                        &mut scanned,
                        engine.as_ptr(),
                        &mut options,
                        context.cast(),
                    )
                };
                // SAFETY: the map came from cl_fmap_open_memory and is closed once, after the scan.
                unsafe { sys::cl_fmap_close(map.as_ptr()) };
                rc
            }
        }
    };

    // SAFETY: libclamav leaves NULL or a string that lives as long as the engine, which is borrowed.
    let signature = unsafe { super::engine::text(signature) };
    let ours = scan.stopped && signature.starts_with(STOPPED);
    Outcome {
        status: match rc {
            sys::CL_SUCCESS => Status::NoMatch,
            sys::CL_VIRUS => Status::Match,
            rc => Status::Failed {
                memory: rc == sys::CL_EMEM,
                temp_dir: matches!(
                    rc,
                    sys::CL_EACCES | sys::CL_ETMPFILE | sys::CL_ETMPDIR | sys::CL_EWRITE | sys::CL_EUNLINK
                ),
                text: describe(rc),
            },
        },
        signature: (!signature.is_empty() && !ours).then_some(signature),
        panicked: scan.panicked,
    }
}

/// All parsers, the alerts for limits and encryption, and what the caller asks for beyond.
fn options(flags: ScanFlags) -> sys::cl_scan_options {
    let when = |wanted: bool, bits: u32| if wanted { bits } else { 0 };
    sys::cl_scan_options {
        general: sys::CL_SCAN_GENERAL_HEURISTICS | when(flags.all_matches, sys::CL_SCAN_GENERAL_ALLMATCHES),
        parse: u32::MAX,
        heuristic: sys::CL_SCAN_HEURISTIC_EXCEEDS_MAX
            | sys::CL_SCAN_HEURISTIC_ENCRYPTED_ARCHIVE
            | sys::CL_SCAN_HEURISTIC_ENCRYPTED_DOC
            | when(flags.alert_macros, sys::CL_SCAN_HEURISTIC_MACROS)
            | when(flags.alert_broken, sys::CL_SCAN_HEURISTIC_BROKEN | sys::CL_SCAN_HEURISTIC_BROKEN_MEDIA),
        mail: 0,
        dev: 0,
    }
}

/// # Safety
///
/// `engine` is valid, not compiled, and no other thread uses it.
pub(super) unsafe fn install_callbacks(engine: *mut sys::cl_engine) {
    // SAFETY: by this function's contract; the callbacks are plain functions with the types that shim.c checks.
    unsafe {
        sys::cl_engine_set_clcb_pre_cache(engine, Some(on_pre_cache));
        sys::cl_engine_set_clcb_file_inspection(engine, Some(on_file_inspection));
        sys::cl_engine_set_clcb_post_scan(engine, Some(on_post_scan));
        sys::cl_engine_set_clcb_virus_found(engine, Some(on_virus_found));
        sys::cl_engine_set_clcb_meta(engine, Some(on_meta));
    }
}

/// # Safety
///
/// `context` is NULL or the pointer that [`scan`] passed, during that call and on its thread.
unsafe fn running<'a>(context: *mut c_void) -> Option<&'a mut Scan<'a>> {
    // SAFETY: by this function's contract; callbacks of one scan run one at a time, so the reference is unique.
    unsafe { context.cast::<Scan<'a>>().as_mut() }
}

/// # Safety
///
/// `pointer` is NULL or a NUL-terminated string that is valid for `'a`.
unsafe fn c_bytes<'a>(pointer: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: by this function's contract.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

unsafe extern "C" fn on_pre_cache(_fd: c_int, _type: *const c_char, context: *mut c_void) -> sys::cl_error_t {
    // SAFETY: libclamav passes back the context of the running scan.
    if let Some(scan) = unsafe { running(context) } {
        scan.observe((), |observer| observer.layer_begin());
    }
    sys::CL_CLEAN
}

unsafe extern "C" fn on_file_inspection(
    _fd: c_int,
    file_type: *const c_char,
    _ancestors: *mut *const c_char,
    _parent_file_size: usize,
    file_name: *const c_char,
    file_size: usize,
    file_buffer: *const c_char,
    recursion_level: u32,
    layer_attributes: u32,
    context: *mut c_void,
) -> sys::cl_error_t {
    // SAFETY: libclamav passes back the context of the running scan.
    let Some(scan) = (unsafe { running(context) }) else { return sys::CL_CLEAN };
    // SAFETY: the strings are NULL or NUL-terminated and valid during the callback.
    let (file_type, name) = unsafe { (c_bytes(file_type), c_bytes(file_name)) };
    let bytes = if file_buffer.is_null() {
        &[][..]
    } else {
        // SAFETY: libclamav passes the layer's mapped bytes and their length, valid during the callback.
        unsafe { std::slice::from_raw_parts(file_buffer.cast::<u8>(), file_size) }
    };
    let layer = LayerEvent {
        file_type: file_type.and_then(|t| std::str::from_utf8(t).ok()).unwrap_or_default(),
        name: name.filter(|name| !name.is_empty()),
        bytes,
        level: recursion_level,
        normalized: layer_attributes & sys::LAYER_ATTRIBUTES_NORMALIZED != 0,
        decrypted: layer_attributes & sys::LAYER_ATTRIBUTES_DECRYPTED != 0,
    };
    let flow = scan.observe(Flow::Stop, |observer| observer.layer(&layer));
    if scan.panicked || flow == Flow::Stop {
        // Of all callbacks this one ends a scan soonest: the answer is passed up through the unpackers.
        scan.stopped = true;
        return sys::CL_VIRUS;
    }
    sys::CL_CLEAN
}

unsafe extern "C" fn on_post_scan(
    _fd: c_int,
    _result: c_int,
    _signature: *const c_char,
    context: *mut c_void,
) -> sys::cl_error_t {
    // SAFETY: libclamav passes back the context of the running scan.
    if let Some(scan) = unsafe { running(context) } {
        scan.observe((), |observer| observer.layer_end());
    }
    sys::CL_CLEAN
}

unsafe extern "C" fn on_virus_found(_fd: c_int, signature: *const c_char, context: *mut c_void) {
    // SAFETY: libclamav passes back the context of the running scan.
    let Some(scan) = (unsafe { running(context) }) else { return };
    // SAFETY: NULL or a NUL-terminated name that is valid during the callback.
    let signature = unsafe { c_bytes(signature) }.map(String::from_utf8_lossy).unwrap_or_default();
    if scan.stopped && signature.starts_with(STOPPED) {
        return;
    }
    scan.observe((), |observer| observer.found(&signature));
}

unsafe extern "C" fn on_meta(
    container_type: *const c_char,
    _container_size: c_ulong,
    name: *const c_char,
    size: c_ulong,
    is_encrypted: c_int,
    _position: c_uint,
    context: *mut c_void,
) -> sys::cl_error_t {
    // SAFETY: libclamav passes back the context of the running scan.
    let Some(scan) = (unsafe { running(context) }) else { return sys::CL_CLEAN };
    // SAFETY: NULL or NUL-terminated strings that are valid during the callback.
    let (container_type, name) = unsafe { (c_bytes(container_type), c_bytes(name)) };
    #[allow(clippy::useless_conversion)] // unsigned long has 32 bits on some systems.
    let size = u64::from(size);
    let member = MemberEvent {
        container_type: container_type.and_then(|t| std::str::from_utf8(t).ok()).unwrap_or_default(),
        name: name.filter(|name| !name.is_empty()),
        size,
        encrypted: is_encrypted != 0,
    };
    scan.observe((), |observer| observer.member(&member));
    sys::CL_CLEAN
}

/// A name for libclamav: no NUL bytes, never empty.
pub(crate) fn c_name(name: &str) -> CString {
    CString::new(name.replace('\0', "")).unwrap_or_default()
}
