//! Taking a stream in.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::spooldir::Home;
use super::{Budget, Content, Reservation, StreamError, blocking};
use crate::model::ContentDigest;
use crate::{Error, ErrorKind, Result};

/// Memory is taken from the budget in steps of this many bytes.
const STEP: u64 = 64 << 10;
/// Longer than anybody waits, and still a time that a clock can have.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How much a spool takes, and where it puts it.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// Most bytes of one content. Default 100 MiB, which is also the most that the ClamAV engine scans by default.
    pub max_size: u64,
    /// Contents up to this size stay in memory. Default 1 MiB.
    pub memory_threshold: u64,
    /// Longest time in which nothing comes. Default 30 seconds.
    pub stall_timeout: Duration,
    /// Longest time for one content in all, writing it to disk included. Default one hour.
    pub max_time: Duration,
    /// Where temporary files go. Default the system's directory for them (`TMPDIR`).
    pub dir: Option<PathBuf>,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            max_size: 100 << 20,
            memory_threshold: 1 << 20,
            stall_timeout: Duration::from_secs(30),
            max_time: Duration::from_secs(3600),
            dir: None,
        }
    }
}

/// Takes contents in. Clones share the budget and the directory.
///
/// Temporary files have no name from the start, so they are gone with the process, however it ends.
#[derive(Debug, Clone, Default)]
pub struct Spool {
    options: SpoolOptions,
    budget: Budget,
    /// Made for the first content that goes to disk.
    home: Arc<Home>,
}

impl Spool {
    /// A spool with these options, whose contents in memory count against `budget`.
    pub fn new(options: SpoolOptions, budget: Budget) -> Self {
        Self { options, budget, home: Arc::default() }
    }

    /// The options.
    pub fn options(&self) -> &SpoolOptions {
        &self.options
    }

    /// The budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Takes in a stream to its end. When its size was announced (a `Content-Length`, a size in a listing) it has to
    /// be just that.
    ///
    /// # Errors
    ///
    /// The stream's own error; [`ErrorKind::TooLarge`] beyond the limit or what was announced,
    /// [`ErrorKind::Truncated`] when it is shorter, [`ErrorKind::Timeout`] when nothing comes for too long,
    /// [`ErrorKind::Resources`] on a full disk. Nothing is kept.
    pub async fn stream<S, E>(&self, stream: S, announced: Option<u64>) -> Result<Content>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Into<StreamError>,
    {
        if let Some(size) = announced.filter(|size| *size > self.options.max_size) {
            return Err(self.too_large(&format!("{size} bytes are announced")));
        }
        let mut taker = Taker::new(self, announced);
        let started = Instant::now();
        let deadline = started + self.options.max_time.min(FAR);
        let mut progress = started;
        let mut stream = pin!(stream);
        loop {
            let limit = (progress + self.options.stall_timeout.min(FAR)).min(deadline);
            let part = match timeout_at(limit, stream.next()).await {
                Err(_) => return Err(self.too_slow(taker.size, started)),
                Ok(None) => break,
                Ok(Some(Err(why))) => return Err(from_stranger(why.into(), taker.size)),
                Ok(Some(Ok(part))) => part,
            };
            if part.is_empty() {
                // No progress. A stream of nothing but these is always ready, so the clock has to be asked here, and
                // the thread given to others.
                if Instant::now() >= limit {
                    return Err(self.too_slow(taker.size, started));
                }
                tokio::task::yield_now().await;
                continue;
            }
            progress = Instant::now();
            let size = taker.size + part.len() as u64;
            if announced.is_some_and(|announced| size > announced) {
                let why = format!("is longer than the {} bytes that were announced", announced.unwrap_or_default());
                return Err(Error::new(ErrorKind::TooLarge, why));
            }
            if size > self.options.max_size {
                return Err(self.too_large(&format!("more than {} bytes came", self.options.max_size)));
            }
            // A disk may be as slow as a sender.
            match timeout_at(deadline, taker.take(part)).await {
                Ok(taken) => taken?,
                Err(_) => return Err(self.too_slow(size, started)),
            }
        }
        if let Some(announced) = announced.filter(|announced| *announced != taker.size) {
            let why = format!("ended after {} of the {announced} bytes that were announced", taker.size);
            return Err(Error::new(ErrorKind::Truncated, why));
        }
        let size = taker.size;
        timeout_at(deadline, taker.finish()).await.unwrap_or_else(|_| Err(self.too_slow(size, started)))
    }

    fn too_large(&self, what: &str) -> Error {
        let why = format!("the content is too large: {what}, and the limit is {} bytes", self.options.max_size);
        Error::new(ErrorKind::TooLarge, why)
    }

    fn too_slow(&self, size: u64, started: Instant) -> Error {
        let (what, limit) = if started.elapsed() >= self.options.max_time {
            ("the content was not complete", self.options.max_time)
        } else {
            ("nothing came", self.options.stall_timeout)
        };
        Error::new(ErrorKind::Timeout, format!("{what} within {limit:?}, after {size} bytes"))
    }

    /// A file without a name, in a directory that only we may enter.
    async fn temporary_file(&self) -> Result<tokio::fs::File> {
        let parent = self.options.dir.clone().unwrap_or_else(std::env::temp_dir);
        let home = Arc::clone(&self.home);
        let open = move || {
            home.file(&parent)
                .map_err(|why| Error::io("a temporary file could not be made", why).about(parent.display().to_string()))
        };
        blocking(open).await.map(tokio::fs::File::from_std)
    }
}

/// The stream's error: ours as it is, another as the cause of one of ours.
fn from_stranger(why: StreamError, size: u64) -> Error {
    let message = format!("the content broke off after {size} bytes");
    match why.downcast::<Error>() {
        Ok(ours) => *ours,
        Err(why) => match why.downcast::<std::io::Error>() {
            Ok(io) => Error::io(message, *io),
            Err(why) => Error::new(ErrorKind::Truncated, message).with_source(why),
        },
    }
}

/// A content that is being taken in.
struct Taker<'a> {
    spool: &'a Spool,
    hash: Sha256,
    size: u64,
    /// As many bytes as were announced, so that none of them is copied again when there are more.
    announced: u64,
    body: Taking,
}

enum Taking {
    Memory { bytes: BytesMut, reserved: Option<Reservation>, room: u64 },
    File(tokio::fs::File),
}

impl<'a> Taker<'a> {
    fn new(spool: &'a Spool, announced: Option<u64>) -> Self {
        let body = Taking::Memory { bytes: BytesMut::new(), reserved: None, room: 0 };
        Self { spool, hash: Sha256::new(), size: 0, announced: announced.unwrap_or_default(), body }
    }

    async fn take(&mut self, part: Bytes) -> Result<()> {
        self.hash.update(&part);
        self.size += part.len() as u64;
        if !self.fits() {
            self.spill().await?;
        }
        match &mut self.body {
            Taking::Memory { bytes, .. } => {
                if bytes.is_empty() {
                    // No more than the threshold, and the system gives no memory for what never comes.
                    bytes.reserve(usize::try_from(self.announced).unwrap_or_default());
                }
                bytes.extend_from_slice(&part);
            }
            Taking::File(file) => file.write_all(&part).await.map_err(not_written)?,
        }
        Ok(())
    }

    /// Whether the content so far may stay in memory; takes more of the budget where it needs to.
    fn fits(&mut self) -> bool {
        let Taking::Memory { reserved, room, .. } = &mut self.body else { return true };
        if self.size.max(self.announced) > self.spool.options.memory_threshold {
            return false;
        }
        if self.size <= *room {
            return true;
        }
        let more = (self.size - *room).next_multiple_of(STEP);
        match self.spool.budget.try_reserve(more) {
            None => false,
            Some(next) => {
                *room += more;
                match reserved {
                    Some(reserved) => reserved.merge(next),
                    None => *reserved = Some(next),
                }
                true
            }
        }
    }

    async fn spill(&mut self) -> Result<()> {
        let mut file = self.spool.temporary_file().await?;
        if let Taking::Memory { bytes, .. } = &self.body {
            file.write_all(bytes).await.map_err(not_written)?;
        }
        // The memory and its part of the budget are free from here on.
        self.body = Taking::File(file);
        Ok(())
    }

    async fn finish(self) -> Result<Content> {
        let sha256 = ContentDigest(self.hash.finalize().into());
        match self.body {
            Taking::Memory { bytes, reserved, .. } => Ok(Content::in_memory(bytes.freeze(), sha256, reserved)),
            Taking::File(mut file) => {
                file.flush().await.map_err(not_written)?;
                let file = file.into_std().await;
                let written = file.metadata().map_err(not_written)?.len();
                if written != self.size {
                    let why = format!("the temporary file holds {written} of {} bytes", self.size);
                    return Err(Error::new(ErrorKind::Resources, why));
                }
                Ok(Content::in_file(file, self.size, sha256))
            }
        }
    }
}

fn not_written(why: std::io::Error) -> Error {
    Error::io("the content could not be written to a temporary file; make room or name another directory", why)
}
