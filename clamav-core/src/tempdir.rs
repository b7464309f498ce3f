//! The private directory that libclamav unpacks into.
//!
//! When libclamav cannot write there it reports clean, so the directory is our own, tried before use, one for each
//! engine and process, and put back when somebody removed it. Directories that a killed process left behind are swept when
//! the next engine is built: each has a lock file beside it whose lock dies with its owner, which also holds between
//! containers that share a directory but not their process ids.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind as IoErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Access, AtFlags, FlockOperation, access, flock};

use crate::{Error, ErrorKind, Result, room};

const PREFIX: &str = "scan-pipeline-";
const LOCK: &str = ".lock";

#[derive(Debug)]
pub(crate) struct TempDir {
    path: PathBuf,
    lock_path: PathBuf,
    /// Held locked until the end.
    lock: File,
    pid: u32,
}

impl TempDir {
    /// Makes a directory under `parent` that only this user can read, and tries it.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let pid = std::process::id();
        let failed = |what: &str, path: &Path, why: std::io::Error| {
            Error::new(ErrorKind::TempDir, format!("the temporary directory {what}"))
                .about(path.display().to_string())
                .with_source(why)
        };
        if !parent.is_dir() {
            return Err(Error::new(
                ErrorKind::TempDir,
                "the directory for temporary files is missing or no directory; create it or choose another \
                 (TMPDIR, or EngineBuilder::temp_dir)",
            )
            .about(parent.display().to_string()));
        }
        // libclamav builds some names in buffers of 1,024 bytes and leaves out what does not fit.
        const LONGEST: usize = 512;
        if parent.as_os_str().len() > LONGEST {
            let why = format!("the path of the directory for temporary files is longer than {LONGEST} bytes");
            return Err(Error::new(ErrorKind::TempDir, why).about(parent.display().to_string()));
        }
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let name = format!("{PREFIX}{pid}-{number}-{:08x}", now.subsec_nanos());
            let (path, lock_path) = (parent.join(&name), parent.join(format!("{name}{LOCK}")));
            let mut open = OpenOptions::new();
            let lock = match open.write(true).create_new(true).mode(0o600).open(&lock_path) {
                Ok(lock) => lock,
                Err(why) if why.kind() == IoErrorKind::AlreadyExists => continue,
                Err(why) => return Err(failed("cannot be created", parent, why)),
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                // Another process may have swept the lock file before it was locked, or be just about to.
                Ok(()) if lock.metadata().map_or(0, |data| data.nlink()) > 0 => {}
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => continue,
                Err(why) => {
                    let _ = std::fs::remove_file(&lock_path);
                    return Err(failed("cannot be locked", &lock_path, why.into()));
                }
            }
            let dir = Self { path, lock_path, lock, pid };
            dir.create().map_err(|why| failed("cannot be created", parent, why))?;
            dir.probe()?;
            return Ok(dir);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that there is room for what a scan may write.
    pub(crate) fn check_room(&self, bytes: u64, descriptors: u64) -> Result<()> {
        room::check(&self.path, bytes, descriptors, &self.lock)
    }

    fn create(&self) -> std::io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.path)
    }

    /// Writes a file and removes it: permissions alone do not tell of a full or read-only file system.
    fn probe(&self) -> Result<()> {
        let path = self.path.join("probe");
        let mut open = OpenOptions::new();
        let tried = open
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(&[0; 4096]))
            .and_then(|()| std::fs::remove_file(&path));
        tried.map_err(|why| {
            Error::new(ErrorKind::TempDir, "the temporary directory cannot be written to")
                .about(self.path.display().to_string())
                .with_source(why)
        })
    }

    /// Looks whether the directory is still there, and puts it back if not.
    pub(crate) fn ensure(&self) -> Result<()> {
        match access(&self.path, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::NOENT) => {
                tracing::warn!(path = %self.path.display(), "the temporary directory was removed; putting it back");
                match self.create() {
                    Err(why) if why.kind() != IoErrorKind::AlreadyExists => Err(Error::new(
                        ErrorKind::TempDir,
                        "the temporary directory was removed and cannot be put back",
                    )
                    .about(self.path.display().to_string())
                    .with_source(why)),
                    _ => self.probe(),
                }
            }
            Err(why) => Err(Error::new(ErrorKind::TempDir, "the temporary directory cannot be used any more")
                .about(self.path.display().to_string())
                .with_source(std::io::Error::from(why))),
        }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A fork's copy of the parent's directory is not the fork's to remove.
        if self.pid == std::process::id() {
            let _ = std::fs::remove_dir_all(&self.path);
            let _ = std::fs::remove_file(&self.lock_path);
        }
    }
}

/// Removes directories under `parent` whose owners are gone. What cannot be read or removed is left alone.
pub(crate) fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let uid = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(dir_name) = name.to_str().filter(|name| name.starts_with(PREFIX)).and_then(|n| n.strip_suffix(LOCK))
        else {
            continue;
        };
        let lock_path = entry.path();
        let Ok(lock) = OpenOptions::new().write(true).custom_flags(no_follow()).open(&lock_path) else { continue };
        if lock.metadata().map_or(true, |data| data.uid() != uid || !data.is_file()) {
            continue;
        }
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let dir = parent.join(dir_name);
            tracing::debug!(path = %dir.display(), "removing the temporary directory of a process that is gone");
            let _ = std::fs::remove_dir_all(&dir);
            let _ = rustix::fs::unlinkat(rustix::fs::CWD, &lock_path, AtFlags::empty());
        }
    }
}

fn no_follow() -> i32 {
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC).bits() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_private_and_goes_with_its_owner() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = TempDir::new(parent.path()).expect("made");
        let mode = std::fs::metadata(dir.path()).expect("there").mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(dir);
        assert_eq!(std::fs::read_dir(parent.path()).expect("readable").count(), 0);
    }

    #[test]
    fn sweeping_spares_the_living() {
        let parent = tempfile::tempdir().expect("a directory");
        let alive = TempDir::new(parent.path()).expect("made");
        let dead = parent.path().join(format!("{PREFIX}1-2-3"));
        std::fs::create_dir(&dead).expect("made");
        std::fs::write(dead.join("left"), b"behind").expect("written");
        std::fs::write(parent.path().join(format!("{PREFIX}1-2-3{LOCK}")), b"").expect("written");
        let foreign = parent.path().join("other.lock");
        std::fs::write(&foreign, b"").expect("written");
        sweep(parent.path());
        assert!(alive.path().exists() && foreign.exists());
        assert!(!dead.exists());
    }

    #[test]
    fn is_put_back_when_somebody_removes_it() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = TempDir::new(parent.path()).expect("made");
        std::fs::remove_dir(dir.path()).expect("removed");
        dir.ensure().expect("put back");
        assert!(dir.path().is_dir());
    }

    #[test]
    fn a_parent_that_is_a_file_or_missing_is_an_error() {
        let parent = tempfile::tempdir().expect("a directory");
        let file = parent.path().join("file");
        std::fs::write(&file, b"").expect("written");
        for path in [file, parent.path().join("missing")] {
            assert_eq!(TempDir::new(&path).expect_err("refused").kind(), ErrorKind::TempDir);
        }
    }
}
