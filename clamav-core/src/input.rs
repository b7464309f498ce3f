//! What can be scanned, and how its bytes get into memory.
//!
//! A scan works on a private copy: what libclamav sees is one state of the file, whatever happens to it meanwhile.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::{Error, ErrorKind, Result};

/// Something to scan.
///
/// ```
/// use clamav_core::Input;
/// let from_memory = Input::from(b"some bytes".to_vec());
/// let from_disk = Input::from(std::path::Path::new("/etc/hostname"));
/// # let _ = (from_memory, from_disk);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Input {
    /// Bytes in memory. They stay owned by the scan until libclamav is done with them.
    Bytes(Arc<dyn AsRef<[u8]> + Send + Sync>),
    /// An open regular file, read from its start; its offset does not matter and is not moved.
    File(Arc<File>),
    /// A path to a regular file, opened when the scan starts. Links are followed.
    Path(PathBuf),
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", (**bytes).as_ref().len()),
            Self::File(file) => write!(f, "File({file:?})"),
            Self::Path(path) => write!(f, "Path({path:?})"),
        }
    }
}

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Arc::new(bytes))
    }
}

impl From<&[u8]> for Input {
    /// Copies the bytes: a scan outlives a caller who stops waiting.
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl From<Arc<[u8]>> for Input {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Bytes(Arc::new(bytes))
    }
}

impl From<File> for Input {
    fn from(file: File) -> Self {
        Self::File(Arc::new(file))
    }
}

impl From<OwnedFd> for Input {
    fn from(fd: OwnedFd) -> Self {
        Self::from(File::from(fd))
    }
}

impl From<PathBuf> for Input {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for Input {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

/// The bytes of an input, or that there are too many.
pub(crate) enum Loaded {
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
    Owned(Vec<u8>),
    /// More than the limit; this many.
    TooLarge(u64),
}

impl Input {
    /// A name for the file that a path gives away.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::Path(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            _ => None,
        }
    }

    pub(crate) fn load(&self, most: u64) -> Result<Loaded> {
        match self {
            Self::Bytes(bytes) => Ok(match (**bytes).as_ref().len() as u64 {
                size if size > most => Loaded::TooLarge(size),
                _ => Loaded::Shared(Arc::clone(bytes)),
            }),
            Self::File(file) => read(file, most),
            Self::Path(path) => {
                let about = |error: Error| error.about(path.display().to_string());
                read(&open(path).map_err(about)?, most).map_err(about)
            }
        }
    }
}

/// Opens without waiting for a fifo's other end and without getting a terminal.
fn open(path: &Path) -> Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path).map_err(|why| {
        // A socket cannot be opened; say what it is instead of "no such device or address".
        match std::fs::metadata(path) {
            Ok(data) if !data.is_file() => not_a_file(&data),
            _ => Error::io("the file could not be opened", why),
        }
    })
}

fn not_a_file(data: &std::fs::Metadata) -> Error {
    let kind = data.file_type();
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a fifo"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "no regular file"
    };
    Error::new(ErrorKind::NotAFile, format!("is {what} and was not scanned; only regular files can be"))
}

fn read(file: &File, most: u64) -> Result<Loaded> {
    let stat = || file.metadata().map_err(|why| Error::io("the file's size could not be read", why));
    let before = stat()?;
    if !before.is_file() {
        return Err(not_a_file(&before));
    }
    let size = before.len();
    if size > most {
        return Ok(Loaded::TooLarge(size));
    }
    let mut bytes = Vec::new();
    let wanted = usize::try_from(size).unwrap_or(usize::MAX);
    bytes
        .try_reserve_exact(wanted)
        .map_err(|why| Error::new(ErrorKind::Memory, format!("no memory for {size} bytes")).with_source(why))?;
    // One byte more than announced tells of a file that grows, and keeps files of /proc from being endless.
    AtStart { file, at: 0 }
        .take(size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|why| Error::io(format!("the file could not be read to its end ({size} bytes)"), why))?;
    let after = stat()?;
    let state =
        |data: &std::fs::Metadata| (data.len(), data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec());
    if bytes.len() as u64 != size || state(&before) != state(&after) {
        return Err(Error::new(
            ErrorKind::Changed,
            format!("the file changed while it was read ({size} bytes at first, {} in the end)", after.len()),
        ));
    }
    Ok(Loaded::Owned(bytes))
}

/// Reads from the start without the descriptor's own offset, which others may share.
struct AtStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for AtStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
