//! Whether libclamav has room to unpack: disk, inodes, file size, descriptors.
//!
//! Where libclamav runs short of one of these, some of its unpackers (mail among them: its writes are buffered, and
//! nobody looks whether they arrive) go on without a word, and the answer is "clean". So a scan starts only with room
//! for what it may write, and a clean verdict needs that the room is still there at its end.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::{Error, ErrorKind, Result};

/// More than libclamav's own small files take.
const MARGIN: u64 = 1 << 20;
const INODES: u64 = 64;

/// Checks that `bytes` can be written below `dir`, in one file if need be, and that `descriptors` more can be opened.
/// `open` is any open descriptor.
pub(crate) fn check(dir: &Path, bytes: u64, descriptors: u64, open: impl AsFd) -> Result<()> {
    let short = |what: String| {
        Error::new(
            ErrorKind::Resources,
            format!("{what}: a scan could leave something out, so its answer would prove nothing"),
        )
        .about(dir.display().to_string())
    };
    let failed = |why: rustix::io::Errno| {
        Error::new(ErrorKind::Resources, "the room for temporary files could not be read")
            .about(dir.display().to_string())
            .with_source(std::io::Error::from(why))
    };
    let needed = bytes.saturating_add(MARGIN);
    let disk = rustix::fs::statvfs(dir).map_err(failed)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed {
        return Err(short(format!("only {free} bytes are free for temporary files, of {needed} that may be needed")));
    }
    // Some file systems do not count inodes and say 0 of 0.
    if disk.f_files > 0 && disk.f_favail < INODES {
        return Err(short(format!("only {} inodes are free for temporary files", disk.f_favail)));
    }
    if let Some(largest) = getrlimit(Resource::Fsize).current.filter(|largest| *largest < needed) {
        return Err(short(format!("files may have only {largest} bytes (RLIMIT_FSIZE), and {needed} may be needed")));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        // A new descriptor gets the lowest free number, which tells how many are in use, give or take the gaps.
        let next = rustix::io::dup(open).map(|descriptor| descriptor.as_raw_fd());
        let used = next.map_or(u64::MAX, |next| u64::try_from(next).unwrap_or(0));
        if used.saturating_add(descriptors) > most {
            return Err(short(format!("too few file descriptors are left of {most} (RLIMIT_NOFILE)")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_little_and_not_for_everything() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(check(dir.path(), 1, 1, std::io::stdin()).is_ok());
        for (bytes, descriptors) in [(u64::MAX, 1), (1, u64::MAX)] {
            let error = check(dir.path(), bytes, descriptors, std::io::stdin()).expect_err("too much");
            assert_eq!(error.kind(), ErrorKind::Resources);
            assert!(error.is_retryable());
        }
    }
}
