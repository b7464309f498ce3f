//! Loading an engine: from `cl_engine_new` to a compiled engine that only scans.

use std::ffi::{CStr, CString, c_char, c_longlong, c_uint};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::time::Duration;

use libclamav_sys as sys;

use super::process::{describe, enter};
use super::{Flow, LayerEvent, MemberEvent, Observer, Severity, v1_4};
use crate::{Error, ErrorKind, Limits, Result};

/// How long a canary may take.
const PROOF_TIME: Duration = Duration::from_secs(120);

/// A libclamav engine. While it is being built it belongs to one owner; after [`NativeEngine::compile`] nothing
/// changes it any more but [`NativeEngine::set_scan_time`] before it is handed out and [`NativeEngine::set_temp_dir`] in a
/// forked child.
#[derive(Debug)]
pub(crate) struct NativeEngine {
    engine: NonNull<sys::cl_engine>,
    compiled: bool,
}

// SAFETY: libclamav engines may be used from any thread (its manual's "Multithreading" section).
unsafe impl Send for NativeEngine {}
// SAFETY: a compiled engine is only read by scans, which may run at the same time; the methods that change it take
// `&mut self`, and `set_temp_dir` has its own contract.
unsafe impl Sync for NativeEngine {}

impl Drop for NativeEngine {
    fn drop(&mut self) {
        // SAFETY: the pointer came from cl_engine_new and is freed once.
        unsafe { sys::cl_engine_free(self.engine.as_ptr()) };
    }
}

impl NativeEngine {
    /// An empty engine with our limits, our temporary directory and libclamav's clean cache off.
    pub(crate) fn new(limits: &Limits, temp_dir: &Path) -> Result<Self> {
        super::init()?;
        // SAFETY: libclamav is initialised.
        let engine = NonNull::new(unsafe { sys::cl_engine_new() })
            .ok_or_else(|| Error::new(ErrorKind::Memory, "libclamav could not allocate an engine"))?;
        let mut engine = Self { engine, compiled: false };

        let file = limits.max_file_size;
        engine.set(sys::CL_ENGINE_MAX_FILESIZE, file)?;
        engine.set(sys::CL_ENGINE_MAX_SCANSIZE, limits.max_scan_size)?;
        engine.set(sys::CL_ENGINE_MAX_RECURSION, u64::from(limits.max_recursion))?;
        engine.set(sys::CL_ENGINE_MAX_FILES, u64::from(limits.max_files))?;
        engine.set(sys::CL_ENGINE_MAX_SCANTIME, u64::try_from(PROOF_TIME.as_millis()).unwrap_or(u64::MAX))?;
        // Beyond these libclamav skips a kind of inspection without a word, so they follow the file limit.
        engine.set(sys::CL_ENGINE_MAX_EMBEDDEDPE, file)?;
        engine.set(sys::CL_ENGINE_MAX_HTMLNORMALIZE, file)?;
        engine.set(sys::CL_ENGINE_MAX_HTMLNOTAGS, file)?;
        engine.set(sys::CL_ENGINE_MAX_SCRIPTNORMALIZE, file)?;
        engine.set(sys::CL_ENGINE_PCRE_MAX_FILESIZE, file)?;
        // The cache is keyed without the scan options and stores verdicts of degraded scans as clean.
        engine.set(sys::CL_ENGINE_DISABLE_CACHE, 1)?;
        // SAFETY: no other thread has the engine yet.
        unsafe { engine.set_temp_dir(temp_dir)? };
        // SAFETY: as above; the callbacks are plain functions.
        unsafe { v1_4::install_callbacks(engine.engine.as_ptr()) };
        Ok(engine)
    }

    /// Sets the time that one scan may take; until then it is generous, so that a canary is found on any machine.
    ///
    /// # Safety
    ///
    /// No other thread may be using the engine.
    pub(crate) unsafe fn set_scan_time(&self, time: Duration) -> Result<()> {
        let millis = c_longlong::from(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        // SAFETY: the engine is valid, and the caller keeps other threads out.
        match unsafe { sys::cl_engine_set_num(self.engine.as_ptr(), sys::CL_ENGINE_MAX_SCANTIME, millis) } {
            sys::CL_SUCCESS => Ok(()),
            rc => {
                Err(Error::new(ErrorKind::Engine, format!("libclamav refused {time:?} for a scan: {}", describe(rc))))
            }
        }
    }

    fn set(&mut self, field: sys::cl_engine_field, value: u64) -> Result<()> {
        let value = c_longlong::try_from(value).unwrap_or(c_longlong::MAX);
        // SAFETY: the engine is valid and, by `&mut self`, in nobody else's hands.
        match unsafe { sys::cl_engine_set_num(self.engine.as_ptr(), field, value) } {
            sys::CL_SUCCESS => Ok(()),
            rc => Err(Error::new(
                ErrorKind::Engine,
                format!("libclamav refused the value {value} for its setting {field}: {}", describe(rc)),
            )),
        }
    }

    /// Tells libclamav where to unpack.
    ///
    /// # Safety
    ///
    /// No other thread may be using the engine: libclamav frees the old path.
    pub(crate) unsafe fn set_temp_dir(&self, path: &Path) -> Result<()> {
        let text = c_path(path)?;
        // SAFETY: both pointers are valid, libclamav copies the string, and the caller keeps other threads out.
        match unsafe { sys::cl_engine_set_str(self.engine.as_ptr(), sys::CL_ENGINE_TMPDIR, text.as_ptr()) } {
            sys::CL_SUCCESS => Ok(()),
            rc => Err(Error::new(
                ErrorKind::TempDir,
                format!("libclamav refused the temporary directory {}: {}", path.display(), describe(rc)),
            )),
        }
    }

    /// Loads a database file, or all database files of a directory, and returns how many signatures it held.
    pub(crate) fn load(&mut self, path: &Path) -> Result<u32> {
        debug_assert!(!self.compiled);
        let inside = enter()?;
        let text = c_path(path)?;
        let mut signatures: c_uint = 0;
        let engine = self.engine.as_ptr();
        let mut words = Words::default();
        let rc = v1_4::listen(&mut words, || {
            // SAFETY: the path is NUL-terminated, the counter outlives the call, and the engine is not compiled yet.
            unsafe { sys::cl_load(text.as_ptr(), engine, &mut signatures, sys::CL_DB_STDOPT) }
        });
        drop(inside);
        let words = words.0;
        match rc {
            sys::CL_SUCCESS => Ok(signatures),
            sys::CL_EMEM => Err(Error::new(ErrorKind::Memory, "not enough memory to load the definitions")
                .about(path.display().to_string())),
            sys::CL_EMALFDB => {
                Err(Error::new(ErrorKind::Definitions, format!("a signature database is malformed: {words}"))
                    .about(path.display().to_string()))
            }
            rc => Err(Error::new(
                ErrorKind::Definitions,
                format!("the signature databases could not be loaded: {}: {words}", describe(rc)),
            )
            .about(path.display().to_string())),
        }
    }

    /// Prepares the engine for scans. Compiling twice crashes libclamav, so this consumes the builder's half.
    pub(crate) fn compile(mut self) -> Result<Self> {
        debug_assert!(!self.compiled);
        let inside = enter()?;
        // SAFETY: the engine is valid, not compiled yet, and in nobody else's hands.
        let rc = unsafe { sys::cl_engine_compile(self.engine.as_ptr()) };
        drop(inside);
        match rc {
            sys::CL_SUCCESS => {
                self.compiled = true;
                Ok(self)
            }
            sys::CL_EMEM => Err(Error::new(ErrorKind::Memory, "not enough memory to compile the definitions")),
            rc => Err(Error::new(
                ErrorKind::Definitions,
                format!("the signature databases could not be compiled: {}", describe(rc)),
            )),
        }
    }

    pub(super) fn as_ptr(&self) -> *const sys::cl_engine {
        self.engine.as_ptr()
    }

    pub(super) fn is_compiled(&self) -> bool {
        self.compiled
    }
}

/// What libclamav says about a database that it cannot load: the line, then the file.
#[derive(Default)]
struct Words(String);

impl Observer for Words {
    fn layer_begin(&mut self) {}
    fn layer(&mut self, _: &LayerEvent<'_>) -> Flow {
        Flow::Continue
    }
    fn layer_end(&mut self) {}
    fn member(&mut self, _: &MemberEvent<'_>) {}
    fn found(&mut self, _: &str) {}
    fn message(&mut self, severity: Severity, text: &str) {
        const MOST: usize = 500;
        if severity == Severity::Error && self.0.len() < MOST {
            if !self.0.is_empty() {
                self.0.push_str("; ");
            }
            self.0.push_str(text);
        }
    }
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(ErrorKind::Config, "the path holds a NUL byte").about(path.display().to_string()))
}

/// The version of the libclamav in use, such as `1.4.6`, and its functionality level.
pub(crate) fn library_version() -> (String, u32) {
    // SAFETY: both functions return constants of the library; the string is static.
    unsafe { (text(sys::cl_retver()), sys::cl_retflevel()) }
}

/// The directory that this build of libclamav takes official databases from.
pub(crate) fn default_definitions() -> PathBuf {
    // SAFETY: the function returns a static string.
    PathBuf::from(unsafe { text(sys::cl_retdbdir()) })
}

/// What the header of an official database (`.cvd`, `.cld`) says.
#[derive(Debug)]
pub(crate) struct CvdHeader {
    pub(crate) version: u32,
    pub(crate) signatures: u32,
    /// Build time in seconds since 1970.
    pub(crate) built: u64,
}

/// Reads the header of a `.cvd` or `.cld` file; `None` when it has no valid one.
pub(crate) fn read_cvd_header(path: &Path) -> Option<CvdHeader> {
    let text = c_path(path).ok()?;
    // SAFETY: the path is NUL-terminated; the function opens, reads and closes the file.
    let header = NonNull::new(unsafe { sys::cl_cvdhead(text.as_ptr()) })?;
    // SAFETY: the pointer is not NULL and points to a header that is ours until it is freed.
    let read = unsafe { header.as_ref() };
    let answer = CvdHeader { version: read.version, signatures: read.sigs, built: u64::from(read.stime) };
    // SAFETY: the header came from cl_cvdhead and is freed once, after its last use.
    unsafe { sys::cl_cvdfree(header.as_ptr()) };
    Some(answer)
}

/// # Safety
///
/// `pointer` is NULL or a NUL-terminated string that is valid during the call.
pub(super) unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
