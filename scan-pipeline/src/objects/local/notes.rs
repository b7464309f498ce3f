//! What is kept beside the bytes: media type, metadata and tags.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, XattrFlags, fgetxattr, flock, fremovexattr, fsetxattr, mkdirat,
};
use rustix::fs::{openat, unlinkat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::state::State;
use super::tree::{Opened, open_dir};
use super::{Inner, failed};
use crate::model::{ObjectRef, Tags};
use crate::objects::TagsSet;
use crate::objects::pin::superseded;
use crate::{Error, ErrorKind, Result};

const TAGS: &str = "user.scan-pipeline.tags";
const META: &str = "user.scan-pipeline.meta";
/// Below our own directory, where the file system has no attributes.
const META_DIR: &str = "meta";
/// Linux takes no attribute that is larger.
const LARGEST: usize = 64 << 10;

/// Media type and metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// A note that is void when the file changes.
#[derive(Debug, Serialize, Deserialize)]
struct Bound<T> {
    /// Size and time of the state that it is about.
    state: String,
    note: T,
}

/// Whether the file system of an open file keeps attributes.
pub(super) fn has_attributes(root: impl AsFd) -> bool {
    let mut buffer = [0; 16];
    // Reading suffices to know, and works where we may not write.
    !matches!(fgetxattr(root, TAGS, &mut buffer[..]), Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM))
}

fn attribute(file: &File, name: &str) -> Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; LARGEST];
    match fgetxattr(file, name, &mut buffer[..]) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(why) => Err(failed("the file's attributes could not be read", why)),
    }
}

fn set_attribute(file: &File, name: &str, value: &[u8]) -> Result<()> {
    fsetxattr(file, name, value, XattrFlags::empty()).map_err(|why| match why {
        Errno::NOSPC | Errno::TOOBIG | Errno::RANGE | Errno::DQUOT => {
            let why = std::io::Error::from(why);
            Error::new(ErrorKind::Resources, "the file system has no room for the object's tags or metadata")
                .with_source(why)
                .retryable(false)
        }
        why => failed("the file's attributes could not be written", why),
    })
}

/// A note if it is about this state. What somebody else wrote there is none.
fn bound<T: DeserializeOwned>(value: Option<&[u8]>, state: &State) -> Option<T> {
    let bound: Bound<T> = serde_json::from_slice(value?).ok()?;
    (bound.state == state.content()).then_some(bound.note)
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|why| Error::new(ErrorKind::Io, "a note could not be written").with_source(why))
}

pub(super) fn tags(file: &File, state: &State) -> Result<Tags> {
    Ok(bound(attribute(file, TAGS)?.as_deref(), state).unwrap_or_default())
}

pub(super) fn write_tags(file: &File, state: &State, tags: &Tags) -> Result<()> {
    set_attribute(file, TAGS, &json(&Bound { state: state.content(), note: tags })?)
}

impl Inner {
    pub(super) fn meta(&self, file: &File, state: &State) -> Result<Meta> {
        if self.attributes {
            return Ok(bound(attribute(file, META)?.as_deref(), state).unwrap_or_default());
        }
        let Some(private) = self.private()? else { return Ok(Meta::default()) };
        let Ok(dir) = open_dir(&private, META_DIR) else { return Ok(Meta::default()) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&dir, state.within_device(), flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(Meta::default()),
            Err(why) => Err(failed("the object's metadata could not be read", why)),
            Ok(note) => {
                let mut value = Vec::new();
                File::from(note)
                    .read_to_end(&mut value)
                    .map_err(|why| Error::io("the metadata could not be read", why))?;
                Ok(bound(Some(&value), state).unwrap_or_default())
            }
        }
    }

    pub(super) fn write_meta(&self, private: &OwnedFd, file: &File, state: &State, meta: &Meta) -> Result<()> {
        if *meta == Meta::default() {
            return Ok(());
        }
        let value = json(&Bound { state: state.content(), note: meta })?;
        if self.attributes {
            return set_attribute(file, META, &value);
        }
        let why = |why| failed("the object's metadata could not be written", why);
        match mkdirat(private, META_DIR, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(why(errno)),
        }
        let dir = open_dir(private, META_DIR).map_err(why)?;
        // Its name is that of a state that has no other name yet, so nobody reads it half written.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let note = File::from(openat(&dir, state.within_device(), flags, Mode::from_raw_mode(0o600)).map_err(why)?);
        std::io::Write::write_all(&mut &note, &value)
            .and_then(|()| note.sync_all())
            .map_err(|why| Error::io("the object's metadata could not be written", why))
    }

    /// Forgets the metadata of a state that is no more.
    pub(super) fn drop_meta(&self, state: &State) {
        if self.attributes {
            return;
        }
        if let Ok(Some(private)) = self.private()
            && let Ok(dir) = open_dir(&private, META_DIR)
        {
            // What stays costs a few bytes, and is bound to a state that does not come again.
            let _ = unlinkat(&dir, state.within_device(), AtFlags::empty());
        }
    }

    /// Merges tags into those of an opened file, and takes them off again when it is another one by then. `None` while
    /// another process does the same in this bucket.
    pub(super) fn merge_tags(
        &self,
        object: &ObjectRef,
        opened: &Opened,
        ours: &[(String, String)],
    ) -> Result<Option<TagsSet>> {
        let about = |why: Error| why.about(object.to_string());
        // One at a time, also between processes: merging is reading, then writing.
        let Some(_lock) = self.try_lock()? else { return Ok(None) };
        let before = attribute(&opened.file, TAGS).map_err(about)?;
        let there: Tags = bound(before.as_deref(), &opened.state).unwrap_or_default();
        let merged = there.merge(ours);
        let merged = TagsSet { tags: merged.tags, dropped: merged.dropped };
        opened.check_again(object)?;
        if merged.tags == there {
            return Ok(Some(merged));
        }
        write_tags(&opened.file, &opened.state, &merged.tags).map_err(about)?;
        if let Err(why) = opened.check_again(object) {
            match before {
                Some(before) => set_attribute(&opened.file, TAGS, &before).map_err(about)?,
                None => match fremovexattr(&opened.file, TAGS) {
                    Ok(()) | Err(Errno::NODATA) => {}
                    Err(errno) => return Err(about(failed("tags could not be taken off again", errno))),
                },
            }
            return Err(if why.kind() == ErrorKind::Gone { why } else { superseded(object) });
        }
        Ok(Some(merged))
    }

    fn try_lock(&self) -> Result<Option<OwnedFd>> {
        let why = |why| failed("the bucket's lock could not be taken", why);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = openat(self.make_private()?, "lock", flags, Mode::from_raw_mode(0o600)).map_err(why)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(why(errno)),
        }
    }
}
