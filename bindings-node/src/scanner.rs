//! Scanners: an engine with its spool, shared by every JavaScript thread that asks for the same settings.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use scan_pipeline::content::{Budget, Content, Reservation, Spool, StreamError};
use scan_pipeline::engine::{Engine, ScanContext};
use scan_pipeline::model::{ContentDigest, Report};
use scan_pipeline::{Error, ErrorKind, Policy};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::content::{NativeUpload, json, path_of};
use crate::error::{Failure, Result};
use crate::health::health;
use crate::intake::Intake;
use crate::runtime::{promise, promise_for, runtime};
use crate::settings::Settings;
use crate::ticket::Ticket;

/// The digest of so many bytes takes less time than handing them to another thread.
const SMALL: u64 = 64 << 10;
/// Files that are taken in at once.
const FILES: usize = 64;

/// An engine, for all scanners whose settings ask for the same one.
struct Loaded(Option<Arc<dyn Engine>>);

impl Drop for Loaded {
    /// Freeing definitions takes a while, and waits for scans: not on a thread that runs JavaScript.
    fn drop(&mut self) {
        let engine = self.0.take();
        if let Ok(runtime) = runtime() {
            runtime.spawn_blocking(move || drop(engine));
        }
    }
}

/// What scanners of the same settings share.
pub(crate) struct Shared {
    loaded: Arc<Loaded>,
    /// Takes in what is not in memory yet.
    spool: Spool,
    /// Takes in what the caller holds in memory anyway, with the same budget.
    memory: Spool,
    /// Each file that is taken in takes room on the disk.
    files: Semaphore,
    settings: Settings,
}

impl Shared {
    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        // It is taken out by `drop` alone.
        self.loaded.0.as_ref().unwrap_or_else(|| unreachable!("the engine is there until the end"))
    }

    pub(crate) fn budget(&self) -> &Budget {
        self.spool.budget()
    }

    fn new(loaded: Arc<Loaded>, settings: Settings) -> Arc<Self> {
        let (spool, memory) = settings.spools();
        Arc::new(Self { loaded, spool, memory, files: Semaphore::new(FILES), settings })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// What one call is told.
#[derive(Deserialize)]
struct Request {
    name: String,
    timeout_ms: Option<f64>,
    /// How many bytes there will be.
    announced: Option<f64>,
    /// The caller holds all of it in memory.
    #[serde(default)]
    in_memory: bool,
    /// The caller wants the content, if it may have it.
    #[serde(default)]
    keep: bool,
}

impl Request {
    fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|why| Failure::invalid(format!("the request cannot be read: {why}")))
    }

    fn deadline(&self) -> Option<Instant> {
        let timeout = Duration::try_from_secs_f64(self.timeout_ms? / 1e3).ok()?;
        Instant::now().checked_add(timeout)
    }
}

/// Bytes with the part of the budget that they take.
struct Held(Vec<u8>, #[expect(dead_code, reason = "given back when the bytes are")] Reservation);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A scanner of one JavaScript object.
#[napi]
pub struct NativeScanner {
    shared: Mutex<Option<Arc<Shared>>>,
    running: TaskTracker,
}

/// Loads an engine, or finds the one that the process has loaded with the same settings.
#[napi(ts_return_type = "Promise<NativeScanner>")]
pub fn open_scanner<'env>(env: &'env Env, settings: String, base: &[u8]) -> napi::Result<Object<'env>> {
    let base = path_of(base);
    promise(env, async move {
        let shared = Mutex::new(Some(open(settings, base).await?));
        Ok(NativeScanner { shared, running: TaskTracker::new() })
    })
}

/// A scanner without libclamav's definitions, for tests of applications: it looks for texts.
#[napi(ts_return_type = "Promise<NativeScanner>")]
pub fn open_double<'env>(env: &'env Env, settings: String, base: &[u8]) -> napi::Result<Object<'env>> {
    let base = path_of(base);
    promise(env, async move {
        let settings = Settings::parse(&settings, &base)?;
        let loaded = Arc::new(Loaded(Some(Arc::new(settings.double()?))));
        Ok(NativeScanner { shared: Mutex::new(Some(Shared::new(loaded, settings))), running: TaskTracker::new() })
    })
}

/// What is open, by the digests of its settings. The lock of one is held while it opens, so that threads that start
/// together load an engine once.
struct Registry<T>(Mutex<Option<HashMap<ContentDigest, Slot<T>>>>);

type Slot<T> = Arc<tokio::sync::Mutex<Weak<T>>>;

impl<T> Registry<T> {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    async fn get(&self, digest: ContentDigest, open: impl Future<Output = Result<Arc<T>>>) -> Result<Arc<T>> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let slots = slots.get_or_insert_default();
            // What was closed, and nobody is opening.
            slots.retain(|_, slot| {
                Arc::strong_count(slot) > 1 || slot.try_lock().map_or(true, |held| held.strong_count() > 0)
            });
            Arc::clone(slots.entry(digest).or_default())
        };
        let mut held = slot.lock().await;
        if let Some(there) = held.upgrade() {
            return Ok(there);
        }
        let opened = open.await?;
        *held = Arc::downgrade(&opened);
        Ok(opened)
    }
}

async fn open(text: String, base: PathBuf) -> Result<Arc<Shared>> {
    static ENGINES: Registry<Loaded> = Registry::new();
    static OPEN: Registry<Shared> = Registry::new();
    let settings = Settings::parse(&text, &base)?;
    OPEN.get(settings.digest(), async {
        let load = async { Ok(Arc::new(Loaded(Some(settings.engine().await?)))) };
        let loaded = ENGINES.get(settings.engine_digest(), load).await?;
        Ok(Shared::new(loaded, settings))
    })
    .await
}

/// Where the bytes come from.
enum Source {
    /// A copy that is ours alone.
    Bytes(Bytes),
    File(PathBuf),
    Parts(BoxStream<'static, std::result::Result<Bytes, StreamError>>),
}

#[napi]
impl NativeScanner {
    /// Copies bytes and scans the copy. Answers nothing when the memory for it is not free now: then they go through an
    /// intake, which waits.
    #[napi(ts_return_type = "Promise<string | NativeUpload> | null")]
    pub fn scan_bytes<'env>(
        &self,
        env: &'env Env,
        bytes: &[u8],
        request: String,
        ticket: &Ticket,
    ) -> napi::Result<Option<Object<'env>>> {
        let shared = self.shared()?;
        let Some(reserved) = shared.budget().try_reserve(bytes.len() as u64) else { return Ok(None) };
        // JavaScript can write to its bytes while they are scanned: what is judged is a copy of this moment.
        let copy = Bytes::from_owner(Held(bytes.to_vec(), reserved));
        self.start(env, shared, Source::Bytes(copy), &request, ticket).map(Some)
    }

    /// Scans the file at a path, as it is now.
    #[napi(ts_return_type = "Promise<string | NativeUpload>")]
    pub fn scan_path<'env>(
        &self,
        env: &'env Env,
        path: &[u8],
        request: String,
        ticket: &Ticket,
    ) -> napi::Result<Object<'env>> {
        self.start(env, self.shared()?, Source::File(path_of(path)), &request, ticket)
    }

    /// Scans what comes through an intake.
    #[napi(ts_return_type = "Promise<string | NativeUpload>")]
    pub fn scan_intake<'env>(
        &self,
        env: &'env Env,
        intake: &Intake,
        request: String,
        ticket: &Ticket,
    ) -> napi::Result<Object<'env>> {
        let source = Source::Parts(intake.stream(ticket.clone())?.boxed());
        self.start(env, self.shared()?, source, &request, ticket)
    }

    /// What the next scan would use, as JSON.
    #[napi]
    pub fn info(&self) -> napi::Result<String> {
        Ok(json(&self.shared()?.engine().info())?)
    }

    /// Whether this machine can scan, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn health<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let shared = self.shared()?;
        promise(env, async move { json(&health(&shared).await) })
    }

    /// Takes up newer definitions, and says whether there were any.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn refresh_definitions<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let shared = self.shared()?;
        promise(env, async move { Ok(shared.engine().refresh_definitions().await?) })
    }

    /// Takes nothing new, waits for what is under way, and gives the engine up.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.running.close();
        let running = self.running.clone();
        promise(env, async move {
            running.wait().await;
            drop(shared);
            Ok(())
        })
    }
}

impl NativeScanner {
    pub(crate) fn shared(&self) -> Result<Arc<Shared>> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shared.ok_or_else(|| Failure::closed("scanner"))
    }

    fn start<'env>(
        &self,
        env: &'env Env,
        shared: Arc<Shared>,
        source: Source,
        request: &str,
        ticket: &Ticket,
    ) -> napi::Result<Object<'env>> {
        let request = Request::parse(request)?;
        let (ticket, keep) = (ticket.clone(), request.keep);
        let (name, running) = (request.name.clone(), self.running.clone());
        let scan = async move {
            let admits = |report: &Report| Policy::new().admits(report);
            let (content, report) = ticket.until_cancelled(shared.scan(source, request, &ticket)).await?;
            Ok::<_, Failure>((admits(&report), content, report))
        };
        let scan = running.track_future(scan);
        if keep {
            let upload = async move {
                let (admitted, content, report) = scan.await?;
                NativeUpload::new(name, &report, admitted, content)
            };
            promise_for(env, upload, NativeUpload::arrive)
        } else {
            promise(env, async move { json(&scan.await?.2) })
        }
    }
}

impl Shared {
    async fn scan(&self, source: Source, request: Request, ticket: &Ticket) -> Result<(Content, Report)> {
        let deadline = request.deadline();
        let about = |error: Error| match request.name.as_str() {
            "" => error,
            name => error.about(name),
        };
        let content = match deadline {
            None => self.take(source, &request).await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), self.take(source, &request))
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "the content was not complete in time"))),
        };
        let content = content.map_err(about)?;
        ticket.took_all(content.size());
        let budget = Some(self.budget().clone());
        let context = ScanContext { name: request.name.clone(), deadline, budget, keeps: None };
        let report = self.engine().scan(&content, &context).await?;
        if report.size != Some(content.size()) || report.sha256 != Some(content.sha256()) {
            let why = "the engine's report is about other bytes";
            return Err(about(Error::new(ErrorKind::Engine, why).retryable(false)).into());
        }
        Ok((content, report))
    }

    async fn take(&self, source: Source, request: &Request) -> scan_pipeline::Result<Content> {
        match source {
            Source::Bytes(bytes) => {
                let most = self.spool.options().max_size;
                if bytes.len() as u64 > most {
                    let why = format!("the content has {} bytes, and the limit is {most} bytes", bytes.len());
                    return Err(Error::new(ErrorKind::TooLarge, why));
                }
                if (bytes.len() as u64) <= SMALL {
                    return Ok(Content::from_bytes(bytes));
                }
                // The digest is taken where it keeps nobody waiting.
                let taken = tokio::task::spawn_blocking(move || Content::from_bytes(bytes)).await;
                taken.map_err(|why| Error::new(ErrorKind::Panicked, "the content was not taken in").with_source(why))
            }
            Source::File(path) => self.take_file(path).await,
            Source::Parts(parts) => {
                let spool = if request.in_memory { &self.memory } else { &self.spool };
                spool.stream(parts, request.announced.map(|size| size as u64)).await
            }
        }
    }

    pub(crate) async fn take_file(&self, path: PathBuf) -> scan_pipeline::Result<Content> {
        let _turn = self.files.acquire().await.map_err(|_| Error::new(ErrorKind::Engine, "is shut down"))?;
        Content::from_file(path, &self.spool).await
    }
}
