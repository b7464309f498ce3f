//! The directory that contents are spooled into.
//!
//! Private, one for each spool and process, made for the first content that goes to disk and made again when somebody
//! removed it. Its files have no names, so they are gone with the process; the directory itself is swept by the next one:
//! a lock file beside it, whose lock dies with its owner, tells that nobody uses it any more. So it is between containers as
//! well that share a directory but not their process ids.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind as IoErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, OFlags, flock};

const PREFIX: &str = "scan-pipeline-spool-";
const LOCK: &str = ".lock";
/// How often the directory is made for one file: whoever cleans up may come in between.
const TRIES: u32 = 3;

/// The directory of a spool, while there is one.
#[derive(Debug, Default)]
pub(super) struct Home(Mutex<Option<Arc<SpoolDir>>>);

impl Home {
    /// A file without a name, in a directory under `parent` that only we may enter.
    pub(super) fn file(&self, parent: &Path) -> io::Result<File> {
        let mut tried = 1;
        loop {
            let dir = self.dir(parent)?;
            match tempfile::tempfile_in(&dir.path) {
                Err(why) if why.kind() == IoErrorKind::NotFound && tried < TRIES => {
                    tracing::warn!(path = %dir.path.display(), "the directory for temporary files was removed; making another");
                    self.forget(&dir);
                    tried += 1;
                }
                file => return file,
            }
        }
    }

    fn dir(&self, parent: &Path) -> io::Result<Arc<SpoolDir>> {
        let mut home = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &*home {
            return Ok(Arc::clone(dir));
        }
        sweep(parent);
        let dir = Arc::new(SpoolDir::new(parent)?);
        *home = Some(Arc::clone(&dir));
        Ok(dir)
    }

    /// Unless somebody else has made another one already.
    fn forget(&self, dir: &Arc<SpoolDir>) {
        let mut home = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if home.as_ref().is_some_and(|home| Arc::ptr_eq(home, dir)) {
            *home = None;
        }
    }
}

#[derive(Debug)]
struct SpoolDir {
    path: PathBuf,
    lock_path: PathBuf,
    /// Held locked until the end.
    _lock: File,
    pid: u32,
}

impl SpoolDir {
    fn new(parent: &Path) -> io::Result<Self> {
        let pid = std::process::id();
        loop {
            let name = format!("{PREFIX}{pid}-{:016x}", fastrand::u64(..));
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
                Err(why) => return Err(why.into()),
            }
            let dir = Self { path, lock_path, _lock: lock, pid };
            DirBuilder::new().mode(0o700).create(&dir.path)?;
            return Ok(dir);
        }
    }
}

impl Drop for SpoolDir {
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
            tracing::debug!(path = %dir.display(), "removing the spool of a process that is gone");
            let _ = std::fs::remove_dir_all(&dir);
            let _ = std::fs::remove_file(&lock_path);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;
    use crate::content::{Budget, Content, Spool, SpoolOptions};

    fn names(parent: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(parent).expect("readable");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_somebody_removes_is_made_again() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = Some(parent.path().to_owned());
        let spool = Spool::new(SpoolOptions { memory_threshold: 1, dir, ..SpoolOptions::default() }, Budget::default());
        let mut kept = Vec::new();
        for round in 0..3 {
            let parts = stream::iter([Ok::<_, io::Error>(Bytes::from(format!("round {round}")))]);
            let content = Content::from_stream(parts, &spool).await.expect("is taken in");
            assert!(content.file().is_some(), "it is on disk");
            kept.push(content);
            let there = names(parent.path());
            assert_eq!(there.len(), 2, "{there:?}");
            let mode = std::fs::metadata(parent.path().join(&there[0])).expect("there").mode();
            assert_eq!(mode & 0o777, 0o700);
            std::fs::remove_dir(parent.path().join(&there[0])).expect("removed");
            if round > 0 {
                std::fs::remove_file(parent.path().join(&there[1])).expect("removed");
            }
        }
        for (round, content) in kept.iter().enumerate() {
            assert_eq!(content.bytes().await.expect("still there"), format!("round {round}"));
        }
        drop(spool);
        assert_eq!(names(parent.path()), Vec::<String>::new());
    }

    #[test]
    fn what_the_dead_left_is_swept_and_the_living_are_spared() {
        let parent = tempfile::tempdir().expect("a directory");
        let alive = Home::default();
        alive.file(parent.path()).expect("a file");
        let living = names(parent.path());
        let dead = parent.path().join(format!("{PREFIX}1-2"));
        std::fs::create_dir(&dead).expect("made");
        std::fs::write(dead.join("left"), b"behind").expect("written");
        std::fs::write(parent.path().join(format!("{PREFIX}1-2{LOCK}")), b"").expect("written");
        std::fs::write(parent.path().join("other.lock"), b"").expect("written");
        let next = Home::default();
        next.file(parent.path()).expect("a file");
        let there = names(parent.path());
        assert!(!dead.exists() && there.contains(&String::from("other.lock")), "{there:?}");
        assert!(living.iter().all(|name| there.contains(name)), "{there:?}");
        assert_eq!(there.len(), 5, "{there:?}");
    }

    #[test]
    fn a_fork_removes_nothing_of_its_parents() {
        let parent = tempfile::tempdir().expect("a directory");
        let mut dir = SpoolDir::new(parent.path()).expect("made");
        let (path, lock) = (dir.path.clone(), dir.lock_path.clone());
        dir.pid += 1;
        drop(dir);
        assert!(path.exists() && lock.exists());
    }

    #[test]
    fn a_parent_that_is_missing_is_an_error() {
        let parent = tempfile::tempdir().expect("a directory");
        let missing = Home::default().file(&parent.path().join("missing")).expect_err("refused");
        assert_eq!(missing.kind(), IoErrorKind::NotFound);
    }
}
