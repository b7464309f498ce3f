//! An engine, and scans on it.

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use scan_pipeline::config;
use scan_pipeline::content::{Content, SpoolOptions, StreamError};
use scan_pipeline::engine::{self, Engine as _, ScanContext};
use scan_pipeline::model::{Coverage, EngineInfo, Limits, Reason, ReasonKind, Report, Verdict};
use scan_pipeline::{Error, ErrorKind};
use serde_json::Value;

use crate::feed::Feed;
use crate::job::{Ended, Job, flag, object, text};
use crate::process::Process;

/// Contents above this size are digested where it may take its time.
const LARGE: usize = 256 << 10;
/// How much of a file is read at once.
const CHUNK: usize = 256 << 10;

/// A loaded engine. Forked children share its memory.
#[pyclass(frozen, module = "scan_pipeline._native")]
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) engine: Arc<Gated>,
    limits: Limits,
    temp_dir: Option<PathBuf>,
}

/// What is scanned.
enum Source {
    Bytes(PyBackedBytes),
    Path(PathBuf),
    File(File),
    Stream(BoxStream<'static, Result<Bytes, StreamError>>),
}

#[pymethods]
impl Engine {
    /// Loads an engine. `settings` is the table `[engine]` of a configuration as JSON; relative paths in it begin at
    /// `base`.
    #[staticmethod]
    #[pyo3(signature = (settings, base, callback=None))]
    fn open(settings: &str, base: PathBuf, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let settings: Value = serde_json::from_str(settings).map_err(|why| PyValueError::new_err(why.to_string()))?;
        Job::start(callback, move |_| async move { Ok(object(Self::load(&settings, &base).await?)) })
    }

    /// What the next scan would use, as JSON.
    fn info(&self) -> PyResult<String> {
        json(&self.engine.info()).map_err(|why| PyValueError::new_err(why.to_string()))
    }

    /// Takes up newer definitions: whether there were any.
    #[pyo3(signature = (callback=None))]
    fn refresh_definitions(&self, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let engine = Arc::clone(&self.engine);
        Job::start(callback, |_| async move { Ok(flag(engine.refresh_definitions().await?)) })
    }

    /// Scans bytes, which are not copied. The result is a report as JSON.
    #[pyo3(signature = (data, name, timeout=None, callback=None))]
    fn scan_bytes(
        &self,
        data: PyBackedBytes,
        name: String,
        timeout: Option<f64>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<Job> {
        self.scan(Source::Bytes(data), name, timeout, callback)
    }

    /// Scans the regular file at a path.
    #[pyo3(signature = (path, name, timeout=None, callback=None))]
    fn scan_path(
        &self,
        path: PathBuf,
        name: String,
        timeout: Option<f64>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<Job> {
        self.scan(Source::Path(path), name, timeout, callback)
    }

    /// Scans an open regular file from its start, and closes the descriptor, which is the caller's no more.
    #[pyo3(signature = (descriptor, name, timeout=None, callback=None))]
    fn scan_descriptor(
        &self,
        descriptor: i32,
        name: String,
        timeout: Option<f64>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<Job> {
        if descriptor < 0 {
            return Err(PyValueError::new_err("a descriptor is not negative"));
        }
        // SAFETY: the contract of this private method: the caller has duplicated the descriptor for us, and never uses
        // the number again.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
        self.scan(Source::File(file), name, timeout, callback)
    }

    /// Scans what comes through a feed.
    #[pyo3(signature = (feed, name, timeout=None, callback=None))]
    fn scan_feed(&self, feed: &Feed, name: String, timeout: Option<f64>, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        self.scan(Source::Stream(feed.stream()?), name, timeout, callback)
    }
}

impl Engine {
    fn scan(&self, source: Source, name: String, timeout: Option<f64>, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let deadline = deadline(timeout)?;
        let this = self.clone();
        Job::start(callback, |process| async move { this.run(process, source, name, deadline).await })
    }

    async fn run(&self, process: &'static Process, source: Source, name: String, deadline: Option<Instant>) -> Ended {
        let late = |_| Error::new(ErrorKind::Timeout, "the deadline passed before all of the content had come");
        let taken = self.take(process, source);
        let taken = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), taken).await.map_err(late),
            None => Ok(taken.await),
        };
        let report = match taken.and_then(|taken| taken).map_err(|why| why.about(name.clone()))? {
            Taken::Content(content) => {
                let budget = Some(process.budget.clone());
                let context = ScanContext { name, deadline, budget, keeps: None };
                self.engine.scan(&content, &context).await?
            }
            Taken::TooLarge(size) => self.too_large(size, name),
        };
        Ok(text(json(&report)?))
    }

    /// Takes the content in, whole. One that is known to be too large is not read; one that turns out to be is an
    /// error.
    async fn take(&self, process: &'static Process, source: Source) -> Result<Taken, Error> {
        let max_size = self.limits.max_file_size;
        let options = SpoolOptions { max_size, dir: self.temp_dir.clone(), ..SpoolOptions::default() };
        let spool = process.spool(options);
        let content = match source {
            // The engine says what it thinks of their number.
            Source::Bytes(data) if data.len() <= LARGE => Content::from_bytes(Bytes::from_owner(data)),
            Source::Bytes(data) => blocking(move || Ok(Content::from_bytes(Bytes::from_owner(data)))).await?,
            Source::Stream(stream) => spool.stream(stream, None).await?,
            Source::Path(path) => {
                let known = path.clone();
                let size = blocking(move || Ok(std::fs::metadata(known).ok().filter(|data| data.is_file()))).await?;
                match size.map(|data| data.len()) {
                    Some(size) if size > max_size => return Ok(Taken::TooLarge(size)),
                    _ => Content::from_file(path, &spool).await?,
                }
            }
            Source::File(file) => {
                let (file, size) = blocking(move || regular(file)).await?;
                if size > max_size {
                    return Ok(Taken::TooLarge(size));
                }
                spool.stream(read(Arc::new(file)), Some(size)).await?
            }
        };
        Ok(Taken::Content(content))
    }

    /// What clamav-core says of a file above the limit, which it does not read either.
    fn too_large(&self, size: u64, name: String) -> Report {
        let layer_path = if name.is_empty() { String::from("content") } else { name };
        let detail = Some(format!("{size} bytes"));
        let reason = Reason { kind: ReasonKind::TooLarge, layer_path, detail };
        let report = Report::new(Verdict::Unscannable { reasons: vec![reason] }, self.engine.info());
        let coverage = Coverage { limits: self.limits, proven: true, ..report.coverage };
        Report { size: Some(size), coverage, ..report }
    }
}

enum Taken {
    Content(Content),
    /// It has so many bytes, and none of them was read.
    TooLarge(u64),
}

/// A time from now; `None` is for ever.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    let wrong = |_| PyValueError::new_err("a timeout is a number of seconds, and not negative");
    let timeout = Duration::try_from_secs_f64(seconds).map_err(wrong)?;
    Ok(Instant::now().checked_add(timeout))
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|why| Error::new(ErrorKind::Corrupt, "the result could not be written as JSON").with_source(why))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let panicked = |why| Error::new(ErrorKind::Panicked, "work with files did not come to its end").with_source(why);
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

fn regular(file: File) -> Result<(File, u64), Error> {
    let data = file.metadata().map_err(|why| Error::io("the file's size could not be read", why))?;
    if !data.is_file() {
        let why = "is no regular file; hand over what comes from a pipe or socket as an iterable of bytes";
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    Ok((file, data.len()))
}

/// Reads from the start without the descriptor's own offset, which the caller goes on using.
fn read(file: Arc<File>) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    stream::try_unfold((file, 0), |(file, offset)| async move {
        let (file, part) = blocking(move || {
            let mut buffer = vec![0; CHUNK];
            let count =
                file.read_at(&mut buffer, offset).map_err(|why| Error::io("the file could not be read", why))?;
            buffer.truncate(count);
            Ok((file, Bytes::from(buffer)))
        })
        .await?;
        let next = offset + part.len() as u64;
        Ok((!part.is_empty()).then_some((part, (file, next))))
    })
    .boxed()
}

impl Engine {
    pub(crate) async fn load(settings: &Value, base: &Path) -> Result<Self, Error> {
        let (table, place) = (settings.clone(), base.to_owned());
        let engine = Gated::to_its_end(async move { config::engine_from_value(&table, &place).await }).await?;
        let engine = Arc::new(Gated(engine));
        // They were checked just now.
        let size = |value: &Value| value.as_u64().or_else(|| config::parse_size(value.as_str()?).ok());
        let time = |value: &Value| config::parse_duration(value.as_str()?).ok();
        let count = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let (given, default) = (&settings["clamav"]["limits"], Limits::default());
        // The largest that any of them takes.
        let clamav =
            (!settings["clamav"].is_null()).then(|| size(&given["max_file_size"]).unwrap_or(default.max_file_size));
        let limits = Limits {
            max_file_size: clamav.max(size(&settings["clamd"]["max_size"])).unwrap_or(default.max_file_size),
            max_scan_size: size(&given["max_scan_size"]).unwrap_or(default.max_scan_size),
            max_recursion: count(&given["max_recursion"]).unwrap_or(default.max_recursion),
            max_files: count(&given["max_files"]).unwrap_or(default.max_files),
            max_scan_time: time(&given["max_scan_time"]).unwrap_or(default.max_scan_time),
        };
        let temp_dir = settings["clamav"]["temp_dir"].as_str().map(|dir| base.join(dir));
        Ok(Self { engine, limits, temp_dir })
    }
}

/// An engine that no fork interrupts, whoever has it scan: its callers here, or a pipeline.
pub(crate) struct Gated(Arc<dyn engine::Engine>);

impl Gated {
    /// What a Rust program has, which knows nothing of the gate.
    #[cfg(feature = "bench")]
    pub(crate) fn ungated(&self) -> &dyn engine::Engine {
        &*self.0
    }

    fn process() -> Result<&'static Process, Error> {
        Process::current().map_err(|why| Error::new(ErrorKind::Resources, why.to_string()))
    }

    /// Does something that a fork has to wait for, and that nothing can stop once it has begun: who does not wait for it
    /// any more leaves it behind, and the fork still waits.
    async fn to_its_end<T: Send + 'static>(
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let process = Self::process()?;
        let ticket = process.enter().await;
        let done = process.runtime.spawn(async move {
            let done = work.await;
            drop(ticket);
            done
        });
        let panicked = |why| Error::new(ErrorKind::Panicked, "the engine did not come to its end").with_source(why);
        done.await.map_err(panicked)?
    }
}

#[async_trait]
impl engine::Engine for Gated {
    fn info(&self) -> EngineInfo {
        self.0.info()
    }

    async fn scan(&self, content: &Content, context: &ScanContext) -> Result<Report, Error> {
        // The engine holds on to the ticket: a scan that was cancelled is inside of libclamav for a while yet.
        let ticket = Self::process()?.enter().await;
        let context = ScanContext { keeps: Some(Arc::new((ticket, context.keeps.clone()))), ..context.clone() };
        self.0.scan(content, &context).await
    }

    async fn refresh_definitions(&self) -> Result<bool, Error> {
        let engine = Arc::clone(&self.0);
        Self::to_its_end(async move { engine.refresh_definitions().await }).await
    }
}
