//! Pipelines: the words of the configuration file, with the scanner and the handlers of the application.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use napi::Env;
use napi::bindgen_prelude::{Function, Object, Promise};
use napi_derive::napi;
use scan_pipeline::config::{Config, OpenStore, Provided};
use scan_pipeline::content::StreamError;
use scan_pipeline::event::TaskMessage;
use scan_pipeline::model::{ObjectRef, TaskId};
use scan_pipeline::pipeline::{Processed, Progress, UploadRequest};
use scan_pipeline::queue::NewMessage;
use scan_pipeline::worker::Worker;
use scan_pipeline::{Error, ErrorKind, Pipeline};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::content::{NativeUpload, json as text, path_of};
use crate::error::{Failure, Result};
use crate::handler::{Dispatch, JsHandler};
use crate::intake::Intake;
use crate::runtime::{promise, promise_for};
use crate::scanner::{NativeScanner, Shared};
use crate::ticket::Ticket;

/// A pipeline of one JavaScript object.
#[napi]
pub struct NativePipeline {
    open: Mutex<Option<Arc<Open>>>,
    running: TaskTracker,
    closing: CancellationToken,
}

struct Open {
    pipeline: Pipeline,
    store: OpenStore,
    config: Config,
    /// Its engine lives as long as the pipeline, whatever becomes of the scanner.
    scanner: Arc<Shared>,
}

/// An object as JavaScript names it.
#[derive(Deserialize)]
struct Wanted {
    /// A short name or an address.
    bucket: String,
    key: String,
    version: Option<String>,
    etag: Option<String>,
}

#[derive(Deserialize)]
struct UploadWanted {
    name: String,
    id: Option<String>,
    announced: Option<f64>,
    timeout_ms: Option<f64>,
}

impl UploadWanted {
    fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|why| Failure::invalid(why.to_string()))
    }

    /// The work, for as long as the caller waits for it.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.timeout_ms.and_then(|wait| Duration::try_from_secs_f64(wait / 1e3).ok()) {
            None => work.await,
            Some(wait) => tokio::time::timeout(wait, work).await.unwrap_or_else(|_| {
                let why = format!("the upload was not through within {wait:?}");
                Err(Error::new(ErrorKind::Timeout, why).about(self.name.as_str()).into())
            }),
        }
    }
}

/// Opens the store and the buckets, and builds the pipeline.
#[napi(ts_return_type = "Promise<NativePipeline>")]
pub fn open_pipeline<'env>(
    env: &'env Env,
    settings: String,
    base: &[u8],
    scanner: &NativeScanner,
    handlers: Vec<String>,
    #[napi(ts_arg_type = "(call: string) => Promise<string>")] dispatch: Function<'env, String, Promise<String>>,
) -> napi::Result<Object<'env>> {
    let dispatch: Arc<Dispatch> = Arc::new(dispatch.build_threadsafe_function().weak::<true>().build()?);
    let (scanner, base) = (scanner.shared()?, path_of(base));
    promise(env, async move {
        let settings: Value = serde_json::from_str(&settings)
            .map_err(|why| Failure::invalid(format!("the settings are no JSON: {why}")))?;
        let (options, budget) = scanner.settings().spool();
        let mut provided = Provided::new().engine(Arc::clone(scanner.engine())).spool(options, budget);
        for name in handlers {
            provided = provided.handler(name.as_str(), Arc::new(JsHandler::new(name.clone(), Arc::clone(&dispatch))));
        }
        let config = Config::from_value(&settings, &base, provided)?;
        for warning in config.warnings() {
            tracing::warn!("{}: {}", warning.key, warning.message);
        }
        let store = config.store_url().open().await?;
        let pipeline = config.build_with(&store).await?;
        let open = Mutex::new(Some(Arc::new(Open { pipeline, store, config, scanner })));
        Ok(NativePipeline { open, running: TaskTracker::new(), closing: CancellationToken::new() })
    })
}

#[napi]
impl NativePipeline {
    /// What it will do, and what may not be meant, as JSON.
    #[napi]
    pub fn explain(&self) -> napi::Result<String> {
        let open = self.open()?;
        let warnings: Vec<_> =
            open.config.warnings().iter().map(|warning| format!("{}: {}", warning.key, warning.message)).collect();
        Ok(text(&json!({ "lines": open.config.explain(), "warnings": warnings }))?)
    }

    /// Processes an object.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn process<'env>(&self, env: &'env Env, object: String, ticket: &Ticket) -> napi::Result<Object<'env>> {
        let (open, ticket) = (self.open()?, ticket.clone());
        self.start(env, async move {
            let object = open.object(&object)?;
            let done = ticket.until_cancelled(async { Ok(open.pipeline.process(object).await?) }).await?;
            text(&processed(&done))
        })
    }

    /// Takes an upload in, scans it, and runs what follows.
    #[napi(ts_return_type = "Promise<NativeUpload>")]
    pub fn process_upload<'env>(
        &self,
        env: &'env Env,
        intake: &Intake,
        request: String,
        ticket: &Ticket,
    ) -> napi::Result<Object<'env>> {
        let (open, ticket) = (self.open()?, ticket.clone());
        let (parts, wanted) = (intake.stream(ticket.clone())?, UploadWanted::parse(&request)?);
        let upload = async move {
            let size = wanted.announced.map(|size| size as u64);
            ticket.until_cancelled(wanted.in_time(open.upload(&wanted, size, parts))).await
        };
        promise_for(env, self.running.track_future(upload), NativeUpload::arrive)
    }

    /// The same with the file at a path, as it is now.
    #[napi(ts_return_type = "Promise<NativeUpload>")]
    pub fn process_path<'env>(
        &self,
        env: &'env Env,
        path: &[u8],
        request: String,
        ticket: &Ticket,
    ) -> napi::Result<Object<'env>> {
        let (open, ticket) = (self.open()?, ticket.clone());
        let (path, wanted) = (path_of(path), UploadWanted::parse(&request)?);
        let upload = async move {
            let work = async {
                let file = open.scanner.take_file(path).await?;
                ticket.took_all(file.size());
                let (size, parts) = (file.size(), file.stream());
                // The pipeline takes it in once more: from then on one of the two is enough.
                drop(file);
                open.upload(&wanted, Some(size), parts).await
            };
            ticket.until_cancelled(wanted.in_time(work)).await
        };
        promise_for(env, self.running.track_future(upload), NativeUpload::arrive)
    }

    /// Processes everything under an address, while it is asked for the next.
    #[napi]
    pub fn run(&self, url: String) -> napi::Result<NativeRun> {
        let open = self.open()?;
        let progress = open.pipeline.process_prefix(&url).map_err(Failure::from)?.boxed();
        let stream = Arc::new(tokio::sync::Mutex::new(Some(progress)));
        Ok(NativeRun { stream, running: self.running.clone(), stop: self.closing.child_token() })
    }

    /// Takes messages from the queue until the ticket is cancelled, and says what became of them.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn work<'env>(&self, env: &'env Env, ticket: &Ticket) -> napi::Result<Object<'env>> {
        let (open, told, closing) = (self.open()?, ticket.token(), self.closing.clone());
        self.start(env, async move {
            let queue = open.queue()?.open().await?;
            let options = open.config.worker().clone();
            let worker = Worker::with_jobs(open.pipeline.clone(), queue, open.store.jobs(), options)?;
            let stop = CancellationToken::new();
            let listen = {
                let stop = stop.clone();
                async move {
                    tokio::select! { () = told.cancelled() => {}, () = closing.cancelled() => {} }
                    stop.cancel();
                    std::future::pending::<()>().await;
                }
            };
            let stopped = tokio::select! { stopped = worker.run(stop.clone()) => stopped, () = listen => unreachable!() };
            let counts = worker.counts();
            text(&json!({ "done": counts.done, "retried": counts.retried, "dead": counts.dead, "abandoned": stopped.abandoned }))
        })
    }

    /// Puts an object into the queue.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn enqueue<'env>(&self, env: &'env Env, object: String) -> napi::Result<Object<'env>> {
        let open = self.open()?;
        self.start(env, async move {
            let object = open.object(&object)?;
            let message = NewMessage::new(TaskMessage::new(&object).to_json());
            open.queue()?.open().await?.enqueue(&[message]).await?;
            Ok(())
        })
    }

    /// Takes up what was left in the middle.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn resume<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let open = self.open()?;
        self.start(env, async move {
            let resumed = open.pipeline.resume().await?;
            let tasks: Vec<_> = resumed.tasks.iter().map(processed).collect();
            let errors: Vec<_> = resumed
                .errors
                .into_iter()
                .map(|(task, why)| json!({ "task": task, "error": Failure::from(why) }))
                .collect();
            text(&json!({ "tasks": tasks, "errors": errors }))
        })
    }

    /// A task, as the store has it.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn task<'env>(&self, env: &'env Env, id: String) -> napi::Result<Object<'env>> {
        let open = self.open()?;
        self.start(env, async move {
            let id: TaskId = serde_json::from_value(Value::String(id))
                .map_err(|_| Failure::invalid("a task's id has 64 hexadecimal digits"))?;
            text(&open.pipeline.store().task(id).await?)
        })
    }

    /// Takes nothing new, waits for what is under way, and closes the store.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.running.close();
        self.closing.cancel();
        let running = self.running.clone();
        promise(env, async move {
            running.wait().await;
            if let Some(open) = open {
                open.pipeline.drain().await;
                open.store.close().await?;
            }
            Ok(())
        })
    }
}

impl NativePipeline {
    fn open(&self) -> Result<Arc<Open>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.ok_or_else(|| Failure::closed("pipeline"))
    }

    fn start<'env, T>(
        &self,
        env: &'env Env,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> napi::Result<Object<'env>>
    where
        T: napi::bindgen_prelude::ToNapiValue + Send + 'static,
    {
        promise(env, self.running.track_future(work))
    }
}

impl Open {
    async fn upload<S, E>(&self, wanted: &UploadWanted, size: Option<u64>, parts: S) -> Result<NativeUpload>
    where
        S: Stream<Item = std::result::Result<Bytes, E>> + Send,
        E: Into<StreamError>,
    {
        let mut request = UploadRequest::named(wanted.name.as_str());
        if let Some(id) = &wanted.id {
            request = request.id(id);
        }
        if let Some(size) = size {
            request = request.size(size);
        }
        let upload = self.pipeline.process_upload(request, parts).await?;
        let (report, admitted) = (upload.report().clone(), upload.is_admitted());
        let task = text(&processed(upload.processed()))?;
        // Behind the gate of what it goes into.
        let content = upload.into_unadmitted_content();
        Ok(NativeUpload::new(wanted.name.clone(), &report, admitted, content)?.with_task(task))
    }

    fn object(&self, wanted: &str) -> Result<ObjectRef> {
        let wanted: Wanted = serde_json::from_str(wanted).map_err(|why| Failure::invalid(why.to_string()))?;
        let mut object = self.pipeline.object(&wanted.bucket, wanted.key)?;
        object.version = wanted.version;
        object.etag = wanted.etag;
        Ok(object)
    }

    fn queue(&self) -> Result<&scan_pipeline::config::QueueUrl> {
        let none =
            || Error::new(ErrorKind::Config, "the pipeline has no queue: give it one, such as sqlite://queue.db");
        Ok(self.config.queue_url().ok_or_else(none)?)
    }
}

/// Everything under an address, one after the other.
#[napi]
pub struct NativeRun {
    stream: Arc<tokio::sync::Mutex<Option<BoxStream<'static, Progress>>>>,
    running: TaskTracker,
    stop: CancellationToken,
}

#[napi]
impl NativeRun {
    /// What happens next, as JSON; nothing at the end.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (stream, stop) = (Arc::clone(&self.stream), self.stop.clone());
        let next = async move {
            let mut stream = stream.lock().await;
            let Some(all) = stream.as_mut() else { return Ok(None) };
            match stop.run_until_cancelled(all.next()).await {
                Some(Some(one)) => text(&progress(one)).map(Some),
                Some(None) => {
                    *stream = None;
                    Ok(None)
                }
                // An end that somebody made is not the end of the listing.
                None => {
                    *stream = None;
                    Err(Error::new(ErrorKind::Cancelled, "the run was ended before everything was processed").into())
                }
            }
        };
        promise(env, self.running.track_future(next))
    }

    /// Ends it. Workflows that have begun go on.
    #[napi]
    pub fn stop(&self) {
        self.stop.cancel();
        // Where nobody waits for the next one, the work that was begun ends here.
        if let Ok(mut stream) = self.stream.try_lock() {
            *stream = None;
        }
    }
}

fn progress(progress: Progress) -> Value {
    match progress {
        Progress::Done(done) => json!({ "status": "done", "processed": processed(&done) }),
        Progress::Failed { object, error } => {
            json!({ "status": "failed", "object": object, "error": Failure::from(error) })
        }
        Progress::ListingFailed { after, error } => {
            json!({ "status": "listing_failed", "after": after, "error": Failure::from(error) })
        }
        // The kinds are open; one that is not known here must not pass as an end that is well.
        _ => json!({ "status": "failed", "object": null, "error": Failure::invalid("something else happened") }),
    }
}

fn processed(done: &Processed) -> Value {
    json!({ "task": done.record, "repeated": done.repeated, "superseded": done.superseded })
}
