//! Directories of our own below one for temporary files.
//!
//! Private, one for each user and process. A directory goes with its owner, and after a kill with the next one of its kind:
//! a lock file beside it, whose lock dies with its owner, tells that nobody uses it any more. So it is between containers as
//! well that share a directory but not their process ids. `clamav-core` has the same for what libclamav unpacks, and each
//! sweeps what the other's dead have left.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind as IoErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

const PREFIX: &str = "scan-pipeline-";
const LOCK: &str = ".lock";

/// A directory that only we may enter.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    path: PathBuf,
    lock_path: PathBuf,
    /// Held locked until the end.
    #[cfg_attr(not(feature = "clamav"), allow(dead_code, reason = "it is held"))]
    lock: File,
    pid: u32,
}

impl PrivateDir {
    /// Makes one under `parent` for a use that its name tells, and removes those there whose owners are gone.
    pub(crate) fn new(parent: &Path, what: &str) -> io::Result<Self> {
        sweep(parent);
        let pid = std::process::id();
        loop {
            let name = format!("{PREFIX}{what}-{pid}-{:016x}", fastrand::u64(..));
            let (path, lock_path) = (parent.join(&name), parent.join(format!("{name}{LOCK}")));
            let mut open = OpenOptions::new();
            let lock = match open.write(true).create_new(true).mode(0o600).open(&lock_path) {
                Ok(lock) => lock,
                Err(why) if why.kind() == IoErrorKind::AlreadyExists => continue,
                Err(why) => return Err(why),
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                // Another process may have swept the lock file before it was locked, or be just about to.
                Ok(()) if lock.metadata().map_or(0, |data| data.nlink()) > 0 => {}
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => continue,
                Err(why) => {
                    let _ = std::fs::remove_file(&lock_path);
                    return Err(why.into());
                }
            }
            let dir = Self { path, lock_path, lock, pid };
            dir.create()?;
            return Ok(dir);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it back if somebody has removed it, and sees to it that the lock file does not look forgotten: without that
    /// nobody would know the directory for one of ours.
    #[cfg(feature = "clamav")]
    pub(crate) fn ensure(&self) -> io::Result<()> {
        self.lock.set_modified(std::time::SystemTime::now())?;
        match self.create() {
            Err(why) if why.kind() != IoErrorKind::AlreadyExists => Err(why),
            _ => Ok(()),
        }
    }

    fn create(&self) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.path)
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // What a fork inherits is its parent's, and not the fork's to remove.
        if self.pid == std::process::id() {
            let _ = std::fs::remove_dir_all(&self.path);
            let _ = std::fs::remove_file(&self.lock_path);
        }
    }
}

/// Removes directories under `parent` whose owners are gone. What cannot be read or removed is left alone.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let uid = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(dir) = name.to_str().filter(|name| name.starts_with(PREFIX)).and_then(|name| name.strip_suffix(LOCK))
        else {
            continue;
        };
        let lock_path = entry.path();
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
        let Ok(lock) = OpenOptions::new().write(true).custom_flags(flags).open(&lock_path) else { continue };
        if lock.metadata().map_or(true, |data| data.uid() != uid || !data.is_file()) {
            continue;
        }
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let dir = parent.join(dir);
            tracing::debug!(path = %dir.display(), "removing the directory of a process that is gone");
            let _ = std::fs::remove_dir_all(&dir);
            let _ = std::fs::remove_file(&lock_path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(parent).expect("readable");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
    }

    #[test]
    fn what_the_dead_left_is_swept_and_the_living_are_spared() {
        let parent = tempfile::tempdir().expect("a directory");
        let _alive = PrivateDir::new(parent.path(), "spool").expect("made");
        let living = names(parent.path());
        let dead = parent.path().join(format!("{PREFIX}definitions-1-2"));
        std::fs::create_dir(&dead).expect("made");
        std::fs::write(dead.join("left"), b"behind").expect("written");
        std::fs::write(parent.path().join(format!("{PREFIX}definitions-1-2{LOCK}")), b"").expect("written");
        std::fs::write(parent.path().join("other.lock"), b"").expect("written");
        let _next = PrivateDir::new(parent.path(), "definitions").expect("made");
        let there = names(parent.path());
        assert!(!dead.exists() && there.contains(&String::from("other.lock")), "{there:?}");
        assert!(living.iter().all(|name| there.contains(name)), "{there:?}");
        assert_eq!(there.len(), 5, "{there:?}");
    }

    #[test]
    fn is_private_and_goes_with_its_owner() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = PrivateDir::new(parent.path(), "spool").expect("made");
        assert_eq!(std::fs::metadata(dir.path()).expect("there").mode() & 0o777, 0o700);
        drop(dir);
        assert_eq!(names(parent.path()), Vec::<String>::new());
    }

    #[test]
    fn a_fork_removes_nothing_of_its_parents() {
        let parent = tempfile::tempdir().expect("a directory");
        let mut dir = PrivateDir::new(parent.path(), "spool").expect("made");
        let (path, lock) = (dir.path.clone(), dir.lock_path.clone());
        dir.pid += 1;
        drop(dir);
        assert!(path.exists() && lock.exists());
    }
}
