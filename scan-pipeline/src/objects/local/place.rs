//! Writing: first without a name in the key space, then under it, in one step.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::fs::{flock, fstat, fsync, futimens, linkat, openat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::notes::{Meta, write_tags};
use super::state::{CHUNK, State, TICK, read_part};
use super::tree::Place;
use super::{Inner, failed};
use crate::content::Content;
use crate::model::{ContentDigest, Tags};
use crate::objects::pin::{bad_key, exists};
use crate::{Error, ErrorKind, Result};

pub(super) const TEMPORARY: &str = "tmp-";

/// A file in our own directory that gets its name later; it is removed if it never does. It is locked for as long as
/// it is open, so that another process can tell it from the leftover of a crash.
#[derive(Debug)]
pub(super) struct Temporary {
    dir: OwnedFd,
    name: String,
    file: File,
    placed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            // What stays is removed when the bucket is opened the next time.
            let _ = unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}

/// A name that nobody else has.
pub(super) fn unique(prefix: &str) -> String {
    format!("{prefix}{:x}-{:016x}{:016x}", std::process::id(), fastrand::u64(..), fastrand::u64(..))
}

/// Renames, and fails where the new name is taken.
pub(super) fn rename_new(from: &OwnedFd, name: &str, to: &OwnedFd, new: &str) -> rustix::io::Result<()> {
    match renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        // Not every file system can; linking is refused in the same way where the name is taken.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            linkat(from, name, to, new, AtFlags::empty())?;
            unlinkat(from, name, AtFlags::empty())
        }
        done => done,
    }
}

fn not_written(why: std::io::Error) -> Error {
    Error::io("the object could not be written", why)
}

impl Inner {
    fn temporary(&self) -> Result<Temporary> {
        let dir = self.make_private()?;
        loop {
            let name = unique(TEMPORARY);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            // The directory keeps others out until the file has its name; then the umask has its say.
            let file = match openat(&dir, &name, flags, Mode::from_raw_mode(0o666)) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST) => continue,
                Err(why) => return Err(failed("a temporary file could not be made", why)),
            };
            let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
            let removed = fstat(&file).is_ok_and(|stat| stat.st_nlink == 0);
            if locked != Err(Errno::WOULDBLOCK) && !removed {
                return Ok(Temporary { dir, name, file, placed: false });
            }
            // Somebody who cleans up was faster than our lock.
        }
    }

    /// Writes a content to a temporary file.
    pub(super) fn write(&self, content: &Content) -> Result<Temporary> {
        use std::os::unix::fs::FileExt;
        let temporary = self.temporary()?;
        let mut file = &temporary.file;
        match (content.memory(), content.file()) {
            (Some(bytes), _) => file.write_all(bytes).map_err(not_written)?,
            (None, Some(spooled)) => {
                let mut buffer = vec![0; CHUNK];
                let mut offset = 0;
                while offset < content.size() {
                    let length = usize::try_from(content.size() - offset).map_or(CHUNK, |left| left.min(CHUNK));
                    let part = &mut buffer[..length];
                    spooled
                        .read_exact_at(part, offset)
                        .map_err(|why| Error::io("the spooled content could not be read back", why))?;
                    file.write_all(part).map_err(not_written)?;
                    offset += length as u64;
                }
            }
            (None, None) => return Err(Error::new(ErrorKind::Io, "the content is in no known place")),
        }
        Ok(temporary)
    }

    /// Copies that state of a file to a temporary one, and digests it on the way.
    pub(super) fn duplicate(&self, file: &File, state: &State) -> Result<(Temporary, ContentDigest)> {
        let temporary = self.temporary()?;
        let mut hash = Sha256::new();
        let mut offset = 0;
        loop {
            let part = read_part(file, state, offset)?;
            if part.is_empty() {
                return Ok((temporary, ContentDigest(hash.finalize().into())));
            }
            hash.update(&part);
            (&temporary.file).write_all(&part).map_err(not_written)?;
            offset += part.len() as u64;
        }
    }

    /// Gives a written file its time and notes, and makes it durable.
    pub(super) fn seal(&self, temporary: &Temporary, meta: &Meta, tags: &Tags) -> Result<State> {
        let file = &temporary.file;
        // A little before now, so that nobody has to wait for the clock before it is read.
        let written = (SystemTime::now() - TICK - TICK / 4).duration_since(UNIX_EPOCH).unwrap_or_default();
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            last_modification: Timespec {
                tv_sec: i64::try_from(written.as_secs()).unwrap_or(0),
                tv_nsec: written.subsec_nanos().into(),
            },
        };
        futimens(file, &times).map_err(|why| failed("the file's time could not be set", why))?;
        let state = State::of_file(file)?.ok_or_else(|| Error::new(ErrorKind::Io, "the temporary file is none"))?;
        self.write_meta(&temporary.dir, file, &state, meta)?;
        if !tags.is_empty() {
            write_tags(file, &state, tags)?;
        }
        file.sync_all().map_err(not_written)?;
        Ok(state)
    }

    /// Gives a sealed file its name.
    pub(super) fn name(&self, mut temporary: Temporary, place: &Place, only_new: bool) -> Result<()> {
        let object = place.object();
        let taken = || bad_key(&self.url, &place.key, "a directory or something else that is no file has this name");
        let mut attempts = 0;
        let (parent, replaced) = loop {
            let parent = self.make_parent(place)?;
            let there = statat(&parent, place.name(), AtFlags::SYMLINK_NOFOLLOW).ok();
            let replaced = match &there {
                Some(stat) => Some(State::of(stat).ok_or_else(taken)?),
                None => None,
            };
            let named = if only_new {
                rename_new(&temporary.dir, &temporary.name, &parent, place.name())
            } else {
                renameat(&temporary.dir, &temporary.name, &parent, place.name())
            };
            match named {
                Ok(()) => break (parent, replaced),
                Err(Errno::EXIST) if only_new => return Err(exists(object)),
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => return Err(taken()),
                // The directory was removed between making and using it.
                Err(Errno::NOENT) if attempts < 10 => attempts += 1,
                Err(Errno::XDEV) => {
                    let why = "the key lies on another file system than the bucket's root";
                    return Err(Error::new(ErrorKind::Unsupported, why).about(object.to_string()));
                }
                Err(why) => return Err(failed("the object could not get its name", why).about(object.to_string())),
            }
        };
        temporary.placed = true;
        fsync(&parent).map_err(|why| failed("the object's directory could not be written", why))?;
        if let Some(replaced) = replaced {
            self.drop_meta(&replaced);
        }
        Ok(())
    }
}
