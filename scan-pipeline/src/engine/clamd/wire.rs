//! A connection to clamd: one command, one answer.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::content::{Content, blocking};
use crate::{Error, ErrorKind, Result};

/// The longest answer that is read. Names of signatures are some dozens of bytes long.
const MAX_REPLY: usize = 4 << 10;

/// Where a clamd listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// How long each part of an exchange may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    /// For each part that is sent, and for an answer that needs no scan.
    pub(super) io: Duration,
    /// From the last byte that was sent to the end of the answer.
    pub(super) scan: Duration,
}

/// An answer without its end mark.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    /// It came before everything was sent.
    pub(super) early: bool,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A command without anything else, such as `VERSION`.
pub(super) async fn command(address: &Address, timeouts: &Timeouts, words: &[u8]) -> Result<String> {
    let mut stream = connect(address, timeouts).await?;
    within(timeouts.io, "take a command", stream.write_all(words)).await?.map_err(broken)?;
    within(timeouts.io, "answer a command", read_answer(&mut stream)).await?
}

/// Sends a content in parts.
pub(super) async fn stream(address: &Address, timeouts: &Timeouts, content: &Content) -> Result<Answer> {
    let (mut reader, mut writer) = tokio::io::split(connect(address, timeouts).await?);
    let broken_off = {
        let mut answer = pin!(read_answer(&mut reader));
        let sending = pin!(send(&mut writer, timeouts, content));
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            // It does not want the rest. What it says is all that is left to know.
            early = &mut answer => return Ok(Answer { text: early?, early: true }),
        };
        match sent {
            Ok(()) => {
                let text = within(timeouts.scan, "scan", answer).await??;
                return Ok(Answer { text, early: false });
            }
            Err(Unsent::Content(why)) => return Err(why),
            Err(Unsent::Timeout(why)) => return Err(why),
            Err(Unsent::Broken(why)) => {
                // It has closed, most likely because of its limit, and may have said so before.
                match within(timeouts.io, "say why it closed", answer).await {
                    Ok(Ok(text)) => return Ok(Answer { text, early: true }),
                    _ => why,
                }
            }
        }
    };
    let what = "clamd closed the connection before it had the whole content, without an answer";
    Err(Error::new(ErrorKind::Unavailable, what).with_source(broken_off))
}

/// Why not everything was sent.
enum Unsent {
    Content(Error),
    Timeout(Error),
    Broken(io::Error),
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), timeouts: &Timeouts, content: &Content) -> Result<(), Unsent> {
    let mut put =
        async |bytes: &[u8]| match within(timeouts.io, "take more of the content", writer.write_all(bytes)).await {
            Ok(written) => written.map_err(Unsent::Broken),
            Err(late) => Err(Unsent::Timeout(late)),
        };
    put(b"zINSTREAM\0").await?;
    let mut parts = content.stream();
    let mut sent = 0;
    while let Some(part) = parts.try_next().await.map_err(Unsent::Content)? {
        let length = u32::try_from(part.len()).map_err(|_| {
            Unsent::Content(Error::new(ErrorKind::Io, "a part of the content is larger than clamd's protocol allows"))
        })?;
        // A part of no bytes is the end mark.
        if length > 0 {
            put(&length.to_be_bytes()).await?;
            put(&part).await?;
            sent += u64::from(length);
        }
    }
    if sent != content.size() {
        let why = format!("{sent} of {} bytes of the content could be read back", content.size());
        return Err(Unsent::Content(Error::new(ErrorKind::Io, why)));
    }
    put(&[0; 4]).await
}

/// Hands over a descriptor of a content, which takes a Unix socket and a clamd on the same machine.
pub(super) async fn descriptor(address: &Address, timeouts: &Timeouts, content: &Content) -> Result<Answer> {
    let Address::Unix(path) = address else {
        return Err(Error::new(ErrorKind::Config, "descriptors can be passed over a Unix socket only"));
    };
    let file = readable(content).await?;
    let mut stream = connect_unix(path, timeouts).await?;
    within(timeouts.io, "take a command", stream.write_all(b"zFILDES\0")).await?.map_err(broken)?;
    let pass = stream.async_io(Interest::WRITABLE, || {
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        // A descriptor travels with a byte that means nothing.
        Ok(sendmsg(&stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?)
    });
    within(timeouts.io, "take a descriptor", pass).await?.map_err(broken)?;
    let text = within(timeouts.scan, "scan", read_answer(&mut stream)).await??;
    Ok(Answer { text, early: false })
}

/// A descriptor that can be given away: only readable, and with an offset of its own.
async fn readable(content: &Content) -> Result<File> {
    let (memory, file) = (content.memory().cloned(), content.file().map(Arc::clone));
    blocking(move || {
        let cannot = |why| Error::io("no descriptor of the content could be made", why).retryable(true);
        let file = match (memory, file) {
            (Some(bytes), _) => {
                use std::io::Write;
                let mut file = tempfile::tempfile().map_err(cannot)?;
                file.write_all(&bytes).map_err(cannot)?;
                Arc::new(file)
            }
            (None, Some(file)) => file,
            (None, None) => return Err(Error::new(ErrorKind::Io, "the content has no bytes")),
        };
        if cfg!(target_os = "linux") {
            // A new description of the same file, which has no name.
            File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(cannot)
        } else {
            file.try_clone().map_err(cannot)
        }
    })
    .await
}

async fn connect(address: &Address, timeouts: &Timeouts) -> Result<Box<dyn Io>> {
    match address {
        Address::Unix(path) => Ok(Box::new(connect_unix(path, timeouts).await?)),
        Address::Tcp(address) => {
            let stream = within(timeouts.connect, "take a connection", TcpStream::connect(address)).await?;
            let stream = stream.map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            Ok(Box::new(stream))
        }
    }
}

async fn connect_unix(path: &PathBuf, timeouts: &Timeouts) -> Result<UnixStream> {
    within(timeouts.connect, "take a connection", UnixStream::connect(path)).await?.map_err(unreachable)
}

/// Reads one answer to the end of the connection, which is also how clamd ends it.
async fn read_answer(reader: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let odd = |why: &str| Error::new(ErrorKind::Engine, format!("clamd's answer makes no sense: {why}"));
    let (mut answer, mut part) = (Vec::new(), [0; 512]);
    loop {
        let whole = answer.last() == Some(&0);
        let count = match reader.read(&mut part).await {
            Ok(0) if whole => break,
            // It closed with bytes of ours unread. The answer is here already.
            Err(_) if whole => break,
            Ok(0) if answer.is_empty() => {
                return Err(Error::new(ErrorKind::Unavailable, "clamd closed the connection without an answer"));
            }
            Ok(0) => return Err(odd("it breaks off")),
            Ok(count) => count,
            Err(why) => return Err(broken(why)),
        };
        answer.extend_from_slice(&part[..count]);
        let end = answer.iter().position(|byte| *byte == 0);
        if end.is_some_and(|end| end + 1 < answer.len()) {
            return Err(odd("something follows it"));
        }
        if answer.len() > MAX_REPLY {
            return Err(odd("it is too long"));
        }
    }
    answer.pop();
    String::from_utf8(answer).map_err(|_| odd("it is no text"))
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T> {
    let late = |_| Error::new(ErrorKind::Timeout, format!("clamd did not {what} within {limit:?}"));
    timeout(limit, work).await.map_err(late)
}

/// Whatever the system says about the socket, it is not about the content.
fn unreachable(why: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "clamd cannot be reached").with_source(why)
}

fn broken(why: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to clamd broke").with_source(why)
}
