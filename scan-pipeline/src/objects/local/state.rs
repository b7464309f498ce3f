//! Which state of a file it is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::{FileType, Stat};

use super::failed;
use crate::model::{ObjectRef, Timestamp};
use crate::objects::pin::superseded;
use crate::{Error, ErrorKind, Result};

/// How much is read at once.
pub(super) const CHUNK: usize = 256 << 10;

/// No kernel's clock for files ticks slower (`CONFIG_HZ=100` gives 10 ms).
pub(super) const TICK: Duration = Duration::from_millis(20);

/// File systems with whole seconds only: FAT has steps of two, ext4 with small inodes and HFS+ of one.
const COARSE_TICK: Duration = Duration::from_millis(2_020);

/// What tells one state of a file from another. The time of the inode's change is no part of it: tagging changes that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    dev: u64,
    ino: u64,
    pub(super) size: u64,
    modified_ns: i128,
}

impl State {
    /// `None` for what is no regular file.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the fields' types differ by platform")]
    pub(super) fn of(stat: &Stat) -> Option<Self> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        Some(Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ns: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
        })
    }

    pub(super) fn of_file(file: &File) -> Result<Option<Self>> {
        let stat = rustix::fs::fstat(file).map_err(|why| failed("the file could not be looked at", why))?;
        Ok(Self::of(&stat))
    }

    pub(super) fn etag(&self) -> String {
        format!("{:x}-{}", self.dev, self.within_device())
    }

    /// The etag without the device, whose number may change when the machine is started again.
    pub(super) fn within_device(&self) -> String {
        format!("{:x}-{}", self.ino, self.content())
    }

    /// What survives a backup that keeps times.
    pub(super) fn content(&self) -> String {
        format!("{:x}-{:x}", self.size, self.modified_ns)
    }

    /// The object in this state.
    pub(super) fn pin(&self, object: &ObjectRef) -> ObjectRef {
        let millis = i64::try_from(self.modified_ns.div_euclid(1_000_000)).unwrap_or(i64::MAX);
        let mut pinned = object.unpinned().with_etag(self.etag()).with_size(self.size);
        pinned.modified = Some(Timestamp(millis));
        pinned
    }

    /// Fails when the reference means another state.
    pub(super) fn check(&self, object: &ObjectRef) -> Result<()> {
        let other = object.version.is_some() || object.etag.as_ref().is_some_and(|etag| *etag != self.etag());
        if other { Err(superseded(object)) } else { Ok(()) }
    }

    /// How long to wait until every later write gets another time.
    pub(super) fn unsettled(&self) -> Option<Duration> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX) - self.modified_ns;
        let tick = if self.modified_ns % 1_000_000_000 == 0 { COARSE_TICK } else { TICK };
        // A time far in the future was set by somebody, or is another machine's; the next write gets another one.
        let tick_ns = i128::try_from(tick.as_nanos()).unwrap_or(0);
        (-tick_ns..tick_ns).contains(&age).then(|| Duration::from_nanos(u64::try_from(tick_ns - age).unwrap_or(0)))
    }
}

/// The next bytes of that state, or none at its end, and an error when it is another one now.
pub(super) fn read_part(file: &File, state: &State, offset: u64) -> Result<Bytes> {
    let changed = || Error::new(ErrorKind::Superseded, "the file was changed while it was read");
    let left = usize::try_from(state.size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut part = vec![0; left.min(CHUNK)];
    match file.read_exact_at(&mut part, offset) {
        Ok(()) => {}
        Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => return Err(changed()),
        Err(why) => return Err(Error::io("the file could not be read", why)),
    }
    // After every part, so that a change is not first noticed at the end of a large file.
    if State::of_file(file)?.as_ref() != Some(state) {
        return Err(changed());
    }
    Ok(Bytes::from(part))
}
