//! The bare loop: libclamav called directly, with the settings of `clamav-core` and nothing around it.
//!
//! No callbacks, no accounts of members, no checks of what was delivered. It is what our own cost is measured against.

use std::ffi::{CStr, CString, c_longlong, c_uint, c_ulong};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{NonNull, null, null_mut};
use std::sync::OnceLock;

use clamav_core::Limits;
use libclamav_sys as sys;

use crate::Result;
use crate::definitions::{self, Plan};

/// A compiled engine of libclamav's.
#[derive(Debug)]
pub struct Bare {
    engine: NonNull<sys::cl_engine>,
}

// SAFETY: a compiled engine may be used from any thread (libclamav's manual, "Multithreading").
unsafe impl Send for Bare {}
// SAFETY: scans only read it, and there is no method that changes it.
unsafe impl Sync for Bare {}

impl Drop for Bare {
    fn drop(&mut self) {
        // SAFETY: the pointer came from cl_engine_new and is freed once.
        unsafe { sys::cl_engine_free(self.engine.as_ptr()) };
    }
}

/// What libclamav said of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing found, which proves nothing.
    NoMatch,
    /// A signature matched, or a heuristic that tells of a limit or of encryption.
    Match,
    /// An error code.
    Failed(u32),
}

impl Bare {
    /// Loads definitions with the limits and settings that `clamav-core` uses; unpacks into `temp_dir`.
    ///
    /// # Errors
    ///
    /// When libclamav refuses anything.
    pub fn load(folder: &Path, temp_dir: &Path) -> Result<Self> {
        initialise()?;
        // SAFETY: libclamav is initialised.
        let engine = NonNull::new(unsafe { sys::cl_engine_new() }).ok_or("no memory for an engine")?;
        let bare = Self { engine };
        let limits = Limits::default();
        let file = limits.max_file_size;
        for (field, value) in [
            (sys::CL_ENGINE_MAX_FILESIZE, file),
            (sys::CL_ENGINE_MAX_SCANSIZE, limits.max_scan_size),
            (sys::CL_ENGINE_MAX_RECURSION, u64::from(limits.max_recursion)),
            (sys::CL_ENGINE_MAX_FILES, u64::from(limits.max_files)),
            (sys::CL_ENGINE_MAX_SCANTIME, limits.max_scan_time.as_millis() as u64),
            (sys::CL_ENGINE_MAX_EMBEDDEDPE, file),
            (sys::CL_ENGINE_MAX_HTMLNORMALIZE, file),
            (sys::CL_ENGINE_MAX_HTMLNOTAGS, file),
            (sys::CL_ENGINE_MAX_SCRIPTNORMALIZE, file),
            (sys::CL_ENGINE_PCRE_MAX_FILESIZE, file),
            (sys::CL_ENGINE_DISABLE_CACHE, 1),
        ] {
            // SAFETY: the engine is valid and nobody else has it.
            check(unsafe { sys::cl_engine_set_num(engine.as_ptr(), field, value as c_longlong) })?;
        }
        let temp_dir = c_path(temp_dir)?;
        // SAFETY: as above; libclamav copies the string.
        check(unsafe { sys::cl_engine_set_str(engine.as_ptr(), sys::CL_ENGINE_TMPDIR, temp_dir.as_ptr()) })?;
        let folder = c_path(folder)?;
        let mut signatures: c_uint = 0;
        // SAFETY: the path is NUL-terminated, the counter outlives the call, the engine is not compiled.
        check(unsafe { sys::cl_load(folder.as_ptr(), engine.as_ptr(), &mut signatures, sys::CL_DB_STDOPT) })?;
        // SAFETY: the engine is loaded and compiled once.
        check(unsafe { sys::cl_engine_compile(engine.as_ptr()) })?;
        Ok(bare)
    }

    /// Scans bytes in memory.
    pub fn scan_bytes(&self, bytes: &[u8], name: &CStr) -> Answer {
        let (mut signature, mut scanned, mut options) = (null(), 0 as c_ulong, options());
        // SAFETY: the map refers to `bytes`, which outlive it.
        let map = unsafe { sys::cl_fmap_open_memory(bytes.as_ptr().cast(), bytes.len()) };
        if map.is_null() {
            return Answer::Failed(sys::CL_EMEM);
        }
        // SAFETY: all pointers are valid until the call returns; the engine is compiled; there are no callbacks.
        let rc = unsafe {
            sys::cl_scanmap_callback(
                map,
                name.as_ptr(),
                &mut signature,
                &mut scanned,
                self.engine.as_ptr(),
                &mut options,
                null_mut(),
            )
        };
        // SAFETY: the map is open and closed once.
        unsafe { sys::cl_fmap_close(map) };
        answer(rc)
    }

    /// Scans a file that it opens.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn scan_file(&self, path: &Path, c_path: &CStr) -> Result<Answer> {
        let file = File::open(path)?;
        let (mut signature, mut scanned, mut options) = (null(), 0 as c_ulong, options());
        // SAFETY: the descriptor is open and all pointers are valid until the call returns; no callbacks.
        let rc = unsafe {
            sys::cl_scandesc_callback(
                file.as_raw_fd(),
                c_path.as_ptr(),
                &mut signature,
                &mut scanned,
                self.engine.as_ptr(),
                &mut options,
                null_mut(),
            )
        };
        Ok(answer(rc))
    }
}

/// What `clamav-core` asks for with its default [`clamav_core::ScanOptions`].
fn options() -> sys::cl_scan_options {
    sys::cl_scan_options {
        general: sys::CL_SCAN_GENERAL_HEURISTICS | sys::CL_SCAN_GENERAL_ALLMATCHES,
        parse: u32::MAX,
        heuristic: sys::CL_SCAN_HEURISTIC_EXCEEDS_MAX
            | sys::CL_SCAN_HEURISTIC_ENCRYPTED_ARCHIVE
            | sys::CL_SCAN_HEURISTIC_ENCRYPTED_DOC,
        mail: 0,
        dev: 0,
    }
}

/// Lets `clamav-core` initialise libclamav, which may be done only once in a process that also uses `clamav-core`.
fn initialise() -> Result<()> {
    static DONE: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        let tiny = Plan { seed: 0, sha256: 1, md5: 1, bodies: 1, logical: 1 };
        let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
        definitions::generate(&tiny, folder.path()).map_err(|why| why.to_string())?;
        let engine = clamav_core::EngineBuilder::new().definitions(folder.path()).threads(1).build();
        engine.map(drop).map_err(|why| why.to_string())
    });
    Ok(done.clone()?)
}

/// A path as C takes it.
///
/// # Errors
///
/// When it holds a NUL byte.
pub fn c_path(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn answer(rc: sys::cl_error_t) -> Answer {
    match rc {
        sys::CL_CLEAN => Answer::NoMatch,
        sys::CL_VIRUS => Answer::Match,
        rc => Answer::Failed(rc),
    }
}

fn check(rc: sys::cl_error_t) -> Result<()> {
    if rc == sys::CL_SUCCESS {
        return Ok(());
    }
    // SAFETY: cl_strerror gives a static string for every value.
    let text = unsafe { CStr::from_ptr(sys::cl_strerror(rc)) };
    Err(format!("libclamav: {} ({rc})", text.to_string_lossy()).into())
}
