//! Deletes that look at what they took before it is gone for good, and what a crash in the middle leaves.
//!
//! A name is unlinked whatever file it has by then. So a file is first moved to a directory of its own inside our own
//! one, with a record of what was meant. If it is that, it is removed there; if not, it is moved back. After a crash
//! the record says which of the two it was to be: removing that state was asked for, so it is finished; any other
//! state goes back, and stays where it is, with a warning, when its name is taken by then. Nothing that was not meant
//! is lost.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fsync, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::place::{TEMPORARY, rename_new, unique};
use super::state::State;
use super::tree::{Place, open_dir};
use super::{Inner, failed};
use crate::model::ObjectRef;
use crate::objects::pin::{gone, superseded};
use crate::{Error, ErrorKind, Result};

const REMOVAL: &str = "del-";
const RECORD: &str = "record";
const TAKEN: &str = "object";

/// What a removal means to remove.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: String,
    etag: String,
}

/// A directory for one removal, locked by its record for as long as somebody works on it.
struct Removal {
    private: OwnedFd,
    dir: OwnedFd,
    name: String,
    _record: File,
}

fn not_removed(why: Errno) -> Error {
    failed("the object could not be removed", why)
}

impl Inner {
    /// Removes the state that is meant, or what is there.
    pub(super) fn remove(&self, object: &ObjectRef, place: &Place) -> Result<()> {
        let about = |why: Errno| match why {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => gone(object),
            why => not_removed(why).about(object.to_string()),
        };
        let parent = self.parent(place).map_err(about)?;
        let stat = statat(&parent, place.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(about)?;
        let state = State::of(&stat).ok_or_else(|| gone(object))?;
        state.check(object)?;
        if object.is_pinned() {
            let removal = self.removal(Record { key: place.key.clone(), etag: state.etag() })?;
            match renameat(&parent, place.name(), &removal.dir, TAKEN) {
                Ok(()) => {}
                Err(why) => {
                    removal.clear();
                    return Err(match why {
                        Errno::XDEV => {
                            let why = "the key lies on another file system than the bucket's root";
                            Error::new(ErrorKind::Unsupported, why).about(object.to_string())
                        }
                        why => about(why),
                    });
                }
            }
            self.decide(&removal, place, &state.etag())?;
        } else {
            unlinkat(&parent, place.name(), AtFlags::empty()).map_err(about)?;
        }
        fsync(&parent).map_err(about)?;
        self.drop_meta(&state);
        Ok(())
    }

    /// Removes what was taken if it is what was meant, and else moves it back.
    fn decide(&self, removal: &Removal, place: &Place, etag: &str) -> Result<()> {
        let taken = match statat(&removal.dir, TAKEN, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(taken) => taken,
            // Somebody who recovers was faster.
            Err(Errno::NOENT) => {
                removal.clear();
                return Ok(());
            }
            Err(why) => return Err(not_removed(why)),
        };
        if State::of(&taken).is_some_and(|taken| taken.etag() == etag) {
            match unlinkat(&removal.dir, TAKEN, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(why) => return Err(not_removed(why).about(place.object().to_string())),
            }
            removal.clear();
            return Ok(());
        }
        let parent = self.make_parent(place)?;
        match rename_new(&removal.dir, TAKEN, &parent, place.name()) {
            Ok(()) => {
                fsync(&parent).map_err(not_removed)?;
                removal.clear();
            }
            Err(why) => tracing::warn!(
                object = %place.object(), kept = %format!(".scan-pipeline/{}/{TAKEN}", removal.name), %why,
                "a file that came between a delete and its name is kept aside, since its name is taken"
            ),
        }
        Err(superseded(place.object()))
    }

    fn removal(&self, record: Record) -> Result<Removal> {
        let private = self.make_private()?;
        let name = unique(REMOVAL);
        let json = serde_json::to_vec(&record).map_err(|why| {
            Error::new(ErrorKind::Io, "the record of a removal could not be written").with_source(why)
        })?;
        // First the record under a name that nobody cleans up, then the directory: a removal always has a locked one.
        mkdirat(&private, &name, Mode::RWXU).map_err(not_removed)?;
        let dir = open_dir(&private, &name).map_err(not_removed)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(openat(&dir, RECORD, flags, Mode::from_raw_mode(0o600)).map_err(not_removed)?);
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(not_removed)?;
        (&file)
            .write_all(&json)
            .and_then(|()| file.sync_all())
            .map_err(|why| Error::io("the record of a removal could not be written", why))?;
        fsync(&dir).and_then(|()| fsync(&private)).map_err(not_removed)?;
        Ok(Removal { private, dir, name, _record: file })
    }

    /// Finishes or undoes what a crash left.
    pub(super) fn recover(&self) -> Result<()> {
        let private = match self.private() {
            Ok(Some(private)) => private,
            Ok(None) => return Ok(()),
            // Who may not look into it may still read the bucket.
            Err(why) if why.kind() == ErrorKind::Denied => return Ok(()),
            Err(why) => return Err(why),
        };
        let unreadable = |why| failed("the bucket's own directory could not be read", why);
        for entry in Dir::read_from(&private).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name.starts_with(TEMPORARY) {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let Ok(file) = openat(&private, name, flags, Mode::empty()) else { continue };
                // Whoever still writes it holds the lock.
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    let _ = unlinkat(&private, name, AtFlags::empty());
                }
            } else if name.starts_with(REMOVAL)
                && let Err(why) = self.recover_removal(&private, name)
                && why.kind() != ErrorKind::Superseded
            {
                tracing::warn!(removal = name, %why, "the leftover of a delete could not be cleared up");
            }
        }
        Ok(())
    }

    fn recover_removal(&self, private: &OwnedFd, name: &str) -> Result<()> {
        let dir = open_dir(private, name).map_err(not_removed)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = match openat(&dir, RECORD, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            // It was being made or cleared. An empty directory may be somebody's who is about to use it.
            Err(Errno::NOENT) => return Ok(()),
            Err(why) => return Err(not_removed(why)),
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        let mut json = Vec::new();
        file.read_to_end(&mut json).map_err(|why| Error::io("the record of a removal could not be read", why))?;
        let private = private.try_clone().map_err(|why| Error::io("no descriptor is left", why))?;
        let removal = Removal { private, dir, name: name.to_owned(), _record: file };
        match serde_json::from_slice::<Record>(&json) {
            Ok(record) => self.decide(&removal, &Place::of(&self.url, &record.key)?, &record.etag),
            // The record is made durable before anything is taken.
            Err(_) if matches!(statat(&removal.dir, TAKEN, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)) => {
                removal.clear();
                Ok(())
            }
            Err(why) => Err(Error::new(ErrorKind::Corrupt, "the record of a removal is damaged").with_source(why)),
        }
    }
}

impl Removal {
    fn clear(&self) {
        // What stays is empty, and is cleared when the bucket is opened the next time.
        let _ = unlinkat(&self.dir, RECORD, AtFlags::empty());
        let _ = unlinkat(&self.private, &self.name, AtFlags::REMOVEDIR);
    }
}
