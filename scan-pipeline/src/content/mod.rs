//! Contents: the bytes of one thing to scan, spooled so that they can be read again and cannot change.
//!
//! A [`Spool`] takes a stream in, counts and digests it on the way, keeps it in memory up to a threshold and in an
//! unlinked temporary file beyond, and gives a [`Content`]. A [`Budget`] bounds the memory of all contents and scans
//! of a process together: when it is used up, contents go to disk, and scans that need memory wait.
//!
//! ```
//! use bytes::Bytes;
//! use futures_util::stream;
//! use scan_pipeline::content::{Content, Spool};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
//! let parts = ["hello, ", "world"].map(|part| Ok::<_, std::io::Error>(Bytes::from(part)));
//! let content = Content::from_stream(stream::iter(parts), &Spool::default()).await?;
//! assert_eq!(content.size(), 12);
//! assert_eq!(content.bytes().await?, "hello, world");
//! # Ok(()) }
//! ```

mod budget;
mod spool;
mod spooldir;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::io::AsyncRead;

pub use budget::{Budget, Reservation};
pub use spool::{Spool, SpoolOptions};

use crate::model::ContentDigest;
use crate::{Error, ErrorKind, Result};

/// How much of a spooled file is read at once.
const CHUNK: usize = 256 << 10;

/// The error of a stream that somebody else made.
pub type StreamError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Bytes that were taken in whole: their size and SHA-256 are known, and they do not change. Clones share them.
#[derive(Clone)]
pub struct Content(Arc<Inner>);

struct Inner {
    body: Body,
    size: u64,
    sha256: ContentDigest,
    /// What the bytes in memory take of the budget.
    _reserved: Option<Reservation>,
}

enum Body {
    Memory(Bytes),
    /// Without a name, so that nobody else can open it.
    File(Arc<File>),
}

impl Content {
    /// Bytes that are in memory already, outside of any budget.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let sha256 = ContentDigest::of(&bytes);
        Self::in_memory(bytes, sha256, None)
    }

    /// Takes in a stream to its end.
    ///
    /// # Errors
    ///
    /// The stream's own error; [`ErrorKind::TooLarge`] beyond the spool's limit, [`ErrorKind::Timeout`] when nothing
    /// comes for too long, [`ErrorKind::Resources`] on a full disk.
    pub async fn from_stream<S, E>(stream: S, spool: &Spool) -> Result<Self>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Into<StreamError>,
    {
        spool.stream(stream, None).await
    }

    /// Takes in a reader to its end.
    ///
    /// # Errors
    ///
    /// As [`from_stream`](Self::from_stream).
    pub async fn from_reader(reader: impl AsyncRead + Send, spool: &Spool) -> Result<Self> {
        spool.stream(tokio_util::io::ReaderStream::with_capacity(reader, 64 << 10), None).await
    }

    /// Takes in a regular file as it is now.
    ///
    /// # Errors
    ///
    /// As [`from_stream`](Self::from_stream); [`ErrorKind::InvalidInput`] when it is no regular file, and
    /// [`ErrorKind::TooLarge`] or [`ErrorKind::Truncated`] when its size changes meanwhile.
    pub async fn from_file(path: impl AsRef<Path> + Send, spool: &Spool) -> Result<Self> {
        let path = path.as_ref();
        let about = |error: Error| error.about(path.display().to_string());
        let opened = {
            let path = path.to_owned();
            blocking(move || open_regular(&path)).await
        };
        let (file, size) = opened.map_err(about)?;
        let reader = tokio_util::io::ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK);
        spool.stream(reader, Some(size)).await.map_err(about)
    }

    fn in_memory(bytes: Bytes, sha256: ContentDigest, reserved: Option<Reservation>) -> Self {
        let size = bytes.len() as u64;
        Self(Arc::new(Inner { body: Body::Memory(bytes), size, sha256, _reserved: reserved }))
    }

    fn in_file(file: File, size: u64, sha256: ContentDigest) -> Self {
        Self(Arc::new(Inner { body: Body::File(Arc::new(file)), size, sha256, _reserved: None }))
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Their SHA-256.
    pub fn sha256(&self) -> ContentDigest {
        self.0.sha256
    }

    /// The bytes, where they are in memory.
    pub fn memory(&self) -> Option<&Bytes> {
        match &self.0.body {
            Body::Memory(bytes) => Some(bytes),
            Body::File(_) => None,
        }
    }

    /// The temporary file, where they are on disk. Read it with offsets of your own (`read_at`): everyone who has the
    /// content shares the descriptor.
    pub fn file(&self) -> Option<&Arc<File>> {
        match &self.0.body {
            Body::Memory(_) => None,
            Body::File(file) => Some(file),
        }
    }

    /// All bytes at once. Mind the size: this does not ask the budget.
    ///
    /// # Errors
    ///
    /// The temporary file could not be read.
    pub async fn bytes(&self) -> Result<Bytes> {
        let length = usize::try_from(self.size())
            .map_err(|_| Error::new(ErrorKind::Resources, "the content is larger than the address space"))?;
        self.range(0, length).await
    }

    /// Bytes from `offset` on, `length` of them or as many as there are.
    ///
    /// # Errors
    ///
    /// The temporary file could not be read.
    pub async fn range(&self, offset: u64, length: usize) -> Result<Bytes> {
        match &self.0.body {
            Body::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(start..start.saturating_add(length).min(bytes.len())))
            }
            Body::File(file) => {
                let left = self.size().saturating_sub(offset);
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(length);
                let file = Arc::clone(file);
                blocking(move || {
                    let mut buffer = vec![0; length];
                    file.read_exact_at(&mut buffer, offset)
                        .map_err(|why| Error::io("the spooled content could not be read back", why))?;
                    Ok(Bytes::from(buffer))
                })
                .await
            }
        }
    }

    /// The bytes in parts, from the start, as often as it is asked for.
    pub fn stream(&self) -> BoxStream<'static, Result<Bytes>> {
        stream::try_unfold((self.clone(), 0), |(content, offset)| async move {
            let part = content.range(offset, CHUNK).await?;
            let next = offset + part.len() as u64;
            Ok((!part.is_empty()).then_some((part, (content, next))))
        })
        .boxed()
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.memory().is_some() { "memory" } else { "file" };
        write!(f, "Content({} bytes in {place}, {})", self.size(), self.sha256())
    }
}

fn open_regular(path: &Path) -> Result<(File, u64)> {
    use std::os::unix::fs::OpenOptionsExt;
    let why = |why| Error::io("the file could not be opened", why);
    // A fifo would make us wait for its other end.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(why)?;
    let data = file.metadata().map_err(why)?;
    if !data.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "is no regular file; only those can be scanned"));
    }
    Ok((file, data.len()))
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|why| Err(Error::unfinished("work with files did not come to its end", why)))
}
