//! From keys to files, without ever leaving the bucket.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, fsync, mkdirat, openat, statat};
use rustix::io::Errno;

use super::state::State;
use super::{Inner, failed};
use crate::model::{BucketUrl, ObjectRef};
use crate::objects::ObjectInfo;
use crate::objects::pin::{bad_key, gone, superseded};
use crate::{Error, ErrorKind, Result};

/// Our own directory in the root of a bucket, which is no part of the key space.
pub(super) const PRIVATE: &str = ".scan-pipeline";

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// A key that a path carries exactly.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) key: String,
    object: ObjectRef,
}

impl Place {
    pub(super) fn of(url: &BucketUrl, key: &str) -> Result<Self> {
        let refuse = |why| Err(bad_key(url, key, why));
        for (i, part) in key.split('/').enumerate() {
            match part {
                "" => return refuse("a path has no empty parts"),
                "." | ".." => return refuse("`.` and `..` mean other directories in a path"),
                PRIVATE if i == 0 => return refuse("this directory is the bucket's own"),
                part if part.len() > 255 => return refuse("a part of a path has at most 255 bytes"),
                part if part.contains('\0') => return refuse("a path has no NUL"),
                _ => {}
            }
        }
        Ok(Self { key: key.to_owned(), object: ObjectRef::new(url.clone(), key) })
    }

    fn dirs(&self) -> impl Iterator<Item = &str> {
        self.key.rsplit_once('/').map(|(dirs, _)| dirs.split('/')).into_iter().flatten()
    }

    pub(super) fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or(&self.key)
    }

    /// The object that is there, or may be.
    pub(super) fn object(&self) -> &ObjectRef {
        &self.object
    }
}

/// An object's file, and where it was found.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: Arc<File>,
    pub(super) state: State,
    dir: OwnedFd,
    name: String,
}

impl Opened {
    /// Fails unless the file is still in this state and under this name.
    pub(super) fn check_again(&self, object: &ObjectRef) -> Result<()> {
        let named = statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let there = match named {
            Ok(stat) => State::of(&stat),
            Err(Errno::NOENT) => return Err(gone(object)),
            Err(why) => return Err(failed("the file could not be looked at", why).about(object.to_string())),
        };
        if there != Some(self.state) || State::of_file(&self.file)? != Some(self.state) {
            return Err(superseded(object));
        }
        Ok(())
    }
}

pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    // The way to the bucket may have links; the way inside may not.
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|why| {
        Error::new(ErrorKind::Config, "the bucket's directory cannot be opened").with_source(std::io::Error::from(why))
    })
}

pub(super) fn open_dir(dir: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, DIRECTORY, Mode::empty())
}

impl Inner {
    /// The directory of a key.
    pub(super) fn parent(&self, place: &Place) -> rustix::io::Result<OwnedFd> {
        let mut dir = open_dir(&self.root, ".")?;
        for part in place.dirs() {
            dir = open_dir(&dir, part)?;
        }
        Ok(dir)
    }

    /// The directory of a key, made where it is not there.
    pub(super) fn make_parent(&self, place: &Place) -> Result<OwnedFd> {
        let about = |why: Errno| match why {
            Errno::NOTDIR | Errno::LOOP => bad_key(&self.url, &place.key, "a part of its path is no directory"),
            why => failed("the object's directory could not be made", why).about(place.object().to_string()),
        };
        let mut dir = open_dir(&self.root, ".").map_err(about)?;
        for part in place.dirs() {
            dir = match open_dir(&dir, part) {
                Err(Errno::NOENT) => {
                    match mkdirat(&dir, part, Mode::from_raw_mode(0o777)) {
                        Ok(()) => fsync(&dir).map_err(about)?,
                        Err(Errno::EXIST) => {}
                        Err(why) => return Err(about(why)),
                    }
                    open_dir(&dir, part)
                }
                opened => opened,
            }
            .map_err(about)?;
        }
        Ok(dir)
    }

    pub(super) fn open_object(&self, place: &Place) -> Result<Opened> {
        let object = place.object();
        let about = |why: Errno| match why {
            // Something that is no object: a directory, a link, a name below a file.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ISDIR => gone(object),
            why => failed("the file could not be opened", why).about(object.to_string()),
        };
        let dir = self.parent(place).map_err(about)?;
        let name = place.name();
        // Looked at before it is opened: opening a device can do things.
        let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(about)?;
        State::of(&stat).ok_or_else(|| gone(object))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&dir, name, flags, Mode::empty()).map_err(about)?);
        let state = State::of_file(&file)?.ok_or_else(|| gone(object))?;
        Ok(Opened { file: Arc::new(file), state, dir, name: name.to_owned() })
    }

    pub(super) fn info(&self, object: &ObjectRef, opened: &Opened) -> Result<ObjectInfo> {
        let meta = self.meta(&opened.file, &opened.state)?;
        let object = opened.state.pin(object);
        Ok(ObjectInfo { object, content_type: meta.content_type, metadata: meta.metadata })
    }

    /// Our own directory, if it is there.
    pub(super) fn private(&self) -> Result<Option<OwnedFd>> {
        match open_dir(&self.root, PRIVATE) {
            Ok(dir) => self.check_private(&dir).map(|()| Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(why) => Err(failed("the bucket's own directory `.scan-pipeline` could not be opened", why)),
        }
    }

    pub(super) fn make_private(&self) -> Result<OwnedFd> {
        if let Some(dir) = self.private()? {
            return Ok(dir);
        }
        match mkdirat(&self.root, PRIVATE, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(why) => return Err(failed("the bucket's own directory `.scan-pipeline` could not be made", why)),
        }
        let gone =
            || Error::new(ErrorKind::Io, "the bucket's own directory `.scan-pipeline` was removed").retryable(true);
        self.private()?.ok_or_else(gone)
    }

    fn check_private(&self, dir: &OwnedFd) -> Result<()> {
        let stat = fstat(dir).map_err(|why| failed("`.scan-pipeline` could not be looked at", why))?;
        let owner = stat.st_uid;
        if (owner != rustix::process::geteuid().as_raw() && owner != 0) || stat.st_mode & 0o022 != 0 {
            let why =
                "the bucket's own directory `.scan-pipeline` belongs to somebody else or can be written by others";
            return Err(Error::new(ErrorKind::Denied, why));
        }
        let same = |other: &Stat| (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino);
        let upper = statat(&self.root, PRIVATE.to_ascii_uppercase(), AtFlags::SYMLINK_NOFOLLOW);
        if upper.is_ok_and(|upper| same(&upper)) {
            let why = "the file system does not tell upper from lower case, so that two keys would be one object";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        Ok(())
    }
}
