//! A clamd, on this machine or another one.

mod reply;
mod wire;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::reply::{Mode, Reply};
use self::wire::{Address, Timeouts};
use super::hash;
use super::{Engine, ScanContext, before};
use crate::content::Content;
use crate::model::{Coverage, DatabaseInfo, EngineInfo, Limits, Reason, ReasonKind, Report, Threat, Verdict};
use crate::{Error, ErrorKind, Result};

/// A client of clamd, by its protocol, over a Unix socket or TCP. Clones share the bound on connections.
///
/// # It never says clean
///
/// clamd's `OK` means that it found nothing in what it looked at, and it does not tell what that was. Seen on 1.4.6:
/// `OK` for content with something to find, in a file over its `MaxFileSize` and, with descriptors, when its temporary
/// directory is gone; and `OK` after its `MaxScanTime` was over. So `OK` is
/// [`Unscannable`](Verdict::Unscannable) with the one reason [`Unproven`](ReasonKind::Unproven). There are two things to
/// do with that: [`Policy::accept_unproven`](crate::Policy::accept_unproven), which believes the server, or a
/// [`Group`](super::Group) with an engine that has proof.
///
/// Run the server with `AlertExceedsMax yes` and `AlertEncrypted yes`: it then says so where it met a limit or
/// encryption, and these are reasons of their own here, never threats, which no policy takes for clean.
///
/// # What it knows
///
/// [`Engine::info`] has what `VERSION` said. Its generation is the official database's version and date, which shows
/// neither other databases nor the server's configuration; name the latter with
/// [`configuration`](ClamdBuilder::configuration). Without an official database it is empty, and so is it before the
/// first scan and when it was asked too long ago: verdicts are not cached then, and the next scan asks anew.
///
/// The connection is neither encrypted nor authenticated. It belongs on the same machine or in a network of its own.
///
/// ```no_run
/// use scan_pipeline::content::Content;
/// use scan_pipeline::engine::{Clamd, Engine, ScanContext};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let engine = Clamd::at("unix:/run/clamav/clamd.ctl")?.build()?;
/// let report = engine.scan(&Content::from_bytes("some text"), &ScanContext::named("a.txt")).await?;
/// assert_eq!(report.verdict.status(), "unscannable"); // unproven
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Clamd {
    setup: Arc<ClamdBuilder>,
    settings: String,
    permits: Arc<Semaphore>,
    known: Arc<Mutex<Option<(Instant, EngineInfo)>>>,
}

/// Sets up a [`Clamd`].
#[derive(Debug, Clone)]
pub struct ClamdBuilder {
    address: Address,
    timeouts: Timeouts,
    mode: Mode,
    max_size: u64,
    connections: usize,
    refresh: Duration,
    configuration: String,
}

impl ClamdBuilder {
    fn new(address: Address) -> Self {
        Self {
            address,
            timeouts: Timeouts {
                connect: Duration::from_secs(10),
                io: Duration::from_secs(30),
                scan: Duration::from_secs(180),
            },
            mode: Mode::Stream,
            max_size: 100 << 20,
            connections: 8,
            refresh: Duration::from_secs(60),
            configuration: String::new(),
        }
    }

    /// Sets the longest time to get a connection. Default 10 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.timeouts.connect = time;
        self
    }

    /// Sets the longest time for clamd to take a part of the content. Default 30 seconds.
    #[must_use]
    pub fn io_timeout(mut self, time: Duration) -> Self {
        self.timeouts.io = time;
        self
    }

    /// Sets the longest time from the last byte to the answer; more than the server's `MaxScanTime`, and than the wait
    /// for one of its threads. Default 180 seconds.
    #[must_use]
    pub fn scan_timeout(mut self, time: Duration) -> Self {
        self.timeouts.scan = time;
        self
    }

    /// Passes a descriptor (`FILDES`) where the default is to send the bytes (`INSTREAM`). It takes a Unix socket, and
    /// saves a copy; the server's `StreamMaxLength` does not matter then, and a server without a temporary directory
    /// does not notice that it cannot scan.
    #[must_use]
    pub fn pass_descriptors(mut self, pass: bool) -> Self {
        self.mode = if pass { Mode::Descriptor } else { Mode::Stream };
        self
    }

    /// Sets the most bytes of a content; what is larger is unscannable and not sent. Set it to the least of the
    /// server's `StreamMaxLength` and `MaxFileSize`. Default 100 MiB.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// Sets how many connections there are at once. Default 8; the server's `MaxThreads` is 10 by default.
    #[must_use]
    pub fn connections(mut self, most: usize) -> Self {
        self.connections = most;
        self
    }

    /// Sets for how long the server's version is taken to be what it said last. Default one minute.
    #[must_use]
    pub fn refresh(mut self, time: Duration) -> Self {
        self.refresh = time;
        self
    }

    /// Names the server's configuration and further databases, in any words: other words mean that verdicts that were
    /// cached before no longer count.
    #[must_use]
    pub fn configuration(mut self, words: impl Into<String>) -> Self {
        self.configuration = words.into();
        self
    }

    /// Makes the engine. The server need not run yet; [`Clamd::refresh`] shows whether it does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for settings that cannot be used.
    pub fn build(self) -> Result<Clamd> {
        let wrong = |why| Err(Error::new(ErrorKind::Config, why).about(self.address.to_string()));
        if self.mode == Mode::Descriptor && !matches!(self.address, Address::Unix(_)) {
            return wrong("descriptors can be passed to clamd over a Unix socket only");
        }
        if self.connections == 0 || self.connections > Semaphore::MAX_PERMITS {
            return wrong("the number of connections to clamd cannot be used");
        }
        let limits = [self.timeouts.connect, self.timeouts.io, self.timeouts.scan];
        if limits.iter().any(Duration::is_zero) {
            return wrong("a time limit of nothing leaves clamd no time");
        }
        let (address, max_size) = (self.address.to_string(), self.max_size.to_string());
        let mode = if self.mode == Mode::Stream { "stream" } else { "descriptor" };
        Ok(Clamd {
            settings: hash([env!("CARGO_PKG_VERSION"), &*address, mode, &max_size, &self.configuration]),
            permits: Arc::new(Semaphore::new(self.connections)),
            known: Arc::default(),
            setup: Arc::new(self),
        })
    }
}

impl Clamd {
    /// A clamd that listens at a Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> ClamdBuilder {
        ClamdBuilder::new(Address::Unix(path.into()))
    }

    /// A clamd that listens at a host and port, such as `127.0.0.1:3310`.
    pub fn tcp(address: impl Into<String>) -> ClamdBuilder {
        ClamdBuilder::new(Address::Tcp(address.into()))
    }

    /// A clamd by its address: `unix:/run/clamav/clamd.ctl`, `tcp://scanner:3310`, or either without what stands before
    /// the path or the host.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] when it is neither.
    pub fn at(address: &str) -> Result<ClamdBuilder> {
        let wrong = || {
            let why = "is no address of a clamd; write unix:/path/to/socket or tcp://host:port";
            Error::new(ErrorKind::Config, why).about(address)
        };
        let path = address.strip_prefix("unix://").or_else(|| address.strip_prefix("unix:")).unwrap_or(address);
        if path.starts_with('/') {
            return Ok(Self::unix(path));
        }
        let host = address.strip_prefix("tcp://").unwrap_or(address);
        match host.rsplit_once(':') {
            Some((name, port))
                if !name.is_empty() && !name.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0) =>
            {
                Ok(Self::tcp(host))
            }
            _ => Err(wrong()),
        }
    }

    /// Asks the server what it is, now.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or does not say.
    pub async fn refresh(&self) -> Result<EngineInfo> {
        let _permit = self.permit().await?;
        self.ask_version().await
    }

    async fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let closed = |_| Error::new(ErrorKind::Engine, "the engine is shut down");
        self.permits.acquire().await.map_err(closed)
    }

    async fn ask_version(&self) -> Result<EngineInfo> {
        let asked = Instant::now();
        let text = wire::command(&self.setup.address, &self.setup.timeouts, b"zVERSION\0").await?;
        let (library, database) = reply::parse_version(&text)?;
        let mut info = EngineInfo::new("clamd", library, "");
        info.settings.clone_from(&self.settings);
        if let Some((version, date)) = database {
            info.generation = format!("{version}/{date}");
            info.databases = vec![DatabaseInfo::new("daily", Some(version), None)];
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, info.clone()));
        Ok(info)
    }

    /// What the server said last, and whether that still counts.
    fn known(&self) -> Option<(bool, EngineInfo)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.map(|(asked, info)| (asked.elapsed() < self.setup.refresh, info))
    }

    async fn ask(&self, content: &Content, name: &str) -> Result<Report> {
        let _permit = self.permit().await?;
        let started = Instant::now();
        // Asked before the scan: the scan has these definitions or newer ones.
        let info = match self.known() {
            Some((true, info)) => info,
            _ => self.ask_version().await?,
        };
        if content.size() > self.setup.max_size {
            let detail = format!("{} bytes, and the limit is {}", content.size(), self.setup.max_size);
            return Ok(self.report(Reply::Left(ReasonKind::TooLarge, detail), None, content, name, info, started));
        }
        let (address, timeouts) = (&self.setup.address, &self.setup.timeouts);
        let answer = match self.setup.mode {
            Mode::Stream => wire::stream(address, timeouts, content).await?,
            Mode::Descriptor => wire::descriptor(address, timeouts, content).await?,
        };
        let reply = reply::parse(&answer.text, self.setup.mode, answer.early)?;
        let taken = (!answer.early).then(|| content.sha256());
        Ok(self.report(reply, taken, content, name, info, started))
    }

    fn report(
        &self,
        reply: Reply,
        sha256: Option<crate::model::ContentDigest>,
        content: &Content,
        name: &str,
        info: EngineInfo,
        started: Instant,
    ) -> Report {
        let layer_path = name.to_owned();
        let reason = |kind, detail: &str| Verdict::Unscannable {
            reasons: vec![Reason { kind, layer_path: name.to_owned(), detail: Some(detail.to_owned()) }],
        };
        let verdict = match reply {
            Reply::Nothing => reason(ReasonKind::Unproven, "clamd found nothing, and does not show what it looked at"),
            Reply::Threat(signature) => Verdict::Infected { threats: vec![Threat { signature, layer_path }] },
            Reply::Left(kind, words) => reason(kind, &words),
        };
        let mut report = Report::new(verdict, info);
        report.coverage = Coverage { started: sha256.is_some(), limits: self.limits(), ..report.coverage };
        report.sha256 = sha256;
        report.size = Some(content.size());
        report.elapsed = started.elapsed();
        report
    }

    /// Only the size is ours to know; 0 stands for what the server does not tell.
    fn limits(&self) -> Limits {
        Limits {
            max_file_size: self.setup.max_size,
            max_scan_size: 0,
            max_recursion: 0,
            max_files: 0,
            max_scan_time: Duration::ZERO,
        }
    }

    fn about(&self, error: Error, name: &str) -> Error {
        let (kind, retryable) = (error.kind(), error.is_retryable());
        Error::new(kind, format!("clamd at {}", self.setup.address)).with_source(error).retryable(retryable).about(name)
    }
}

#[async_trait]
impl Engine for Clamd {
    fn info(&self) -> EngineInfo {
        match self.known() {
            Some((true, info)) => info,
            // What it was is not what it is.
            Some((false, info)) => EngineInfo { generation: String::new(), databases: Vec::new(), ..info },
            None => EngineInfo { settings: self.settings.clone(), ..EngineInfo::new("clamd", "", "") },
        }
    }

    async fn scan(&self, content: &Content, context: &ScanContext) -> Result<Report> {
        let name = context.label();
        before(context.deadline, self.ask(content, name)).await.map_err(|error| self.about(error, name))
    }
}

#[cfg(test)]
mod tests;
