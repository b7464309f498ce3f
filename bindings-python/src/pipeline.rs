//! A pipeline: objects and uploads from their scan to the last step that follows.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use scan_pipeline::config::{Config, OpenStore, Provided};
use scan_pipeline::handler::ResultHandler;
use scan_pipeline::model::TaskId;
use scan_pipeline::objects::PutOptions;
use scan_pipeline::pipeline::{Processed, Progress, Resumed, UploadRequest};
use scan_pipeline::queue::{NewMessage, Queue};
use scan_pipeline::worker::Worker;
use scan_pipeline::{Error, ErrorKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, json as to_json};
use crate::feed::Feed;
use crate::handler::PyHandler;
use crate::job::{Ended, Job, Made, object, text};
use crate::process::Process;

/// Objects that are through and that nobody has asked for yet; then the work waits.
const AHEAD: usize = 64;

/// A pipeline that was set up, with its store open. It belongs to the process that opened it.
#[pyclass(frozen, module = "scan_pipeline._native")]
#[derive(Clone)]
pub(crate) struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    pid: u32,
    open: ManuallyDrop<Open>,
}

struct Open {
    config: Config,
    store: OpenStore,
    pipeline: scan_pipeline::Pipeline,
}

impl Deref for Inner {
    type Target = Open;

    fn deref(&self) -> &Open {
        &self.open
    }
}

impl Drop for Inner {
    /// In a child of a fork it is leaked: its connections, files and locks are the parent's.
    fn drop(&mut self) {
        if self.pid == std::process::id() {
            // SAFETY: it is dropped here alone, and nobody gets at it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.open) };
        }
    }
}

#[pymethods]
impl Pipeline {
    /// Sets one up. `settings` is a configuration as JSON; `handlers` are those that its steps name, and `engine` takes
    /// the place of the table `[engine]`.
    #[staticmethod]
    #[pyo3(signature = (settings, base, handlers, engine=None, callback=None))]
    fn open(
        settings: &str,
        base: PathBuf,
        handlers: BTreeMap<String, Py<PyAny>>,
        engine: Option<&Engine>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<Job> {
        let mut settings: Value =
            serde_json::from_str(settings).map_err(|why| PyValueError::new_err(why.to_string()))?;
        let mut provided = Provided::new();
        let engine = engine.map(|engine| Arc::clone(&engine.engine));
        for (name, dispatch) in handlers {
            let handler: Arc<dyn ResultHandler> =
                Arc::new(PyHandler { name: name.clone(), dispatch: Arc::new(dispatch) });
            provided = provided.handler(name, handler);
        }
        Job::start(callback, move |_| async move {
            let engine = match engine {
                Some(engine) => engine,
                None => {
                    // Every mistake first, wherever it is; then what takes seconds.
                    Config::from_value(&settings, &base, provided.clone())?;
                    let engine = settings.as_object_mut().and_then(|table| table.remove("engine"));
                    Engine::load(&engine.unwrap_or_default(), &base).await?.engine
                }
            };
            let config = Config::from_value(&settings, &base, provided.engine(engine))?;
            // Which buckets are watched matters to the command line alone.
            for warning in config.warnings().iter().filter(|warning| warning.key != "buckets") {
                tracing::warn!("{}: {}", warning.key, warning.message);
            }
            let store = config.store_url().open().await?;
            let pipeline = match config.build_with(&store).await {
                Ok(pipeline) => pipeline,
                Err(why) => {
                    // What matters is why the pipeline cannot be.
                    let _ = store.close().await;
                    return Err(why.into());
                }
            };
            let open = ManuallyDrop::new(Open { config, store, pipeline });
            Ok(object(Self { inner: Arc::new(Inner { pid: std::process::id(), open }) }))
        })
    }

    /// Does everything that has to follow from an object, once. The result is JSON.
    #[pyo3(signature = (bucket, key, callback=None))]
    fn process(&self, bucket: String, key: String, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        self.start(callback, |this, _| async move {
            let object = this.pipeline.object(&bucket, key)?;
            Ok(text(to_json(&processed(&this.pipeline.process(object).await?))?))
        })
    }

    /// Takes an upload in, scans it, and runs what follows. The result is an [`Upload`].
    #[pyo3(signature = (feed, name, id=None, size=None, callback=None))]
    fn process_upload(
        &self,
        feed: &Feed,
        name: String,
        id: Option<String>,
        size: Option<u64>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<Job> {
        let stream = feed.stream()?;
        let mut request = UploadRequest::named(name);
        if let Some(id) = id {
            request = request.id(id);
        }
        if let Some(size) = size {
            request = request.size(size);
        }
        self.start(callback, |this, _| async move {
            let upload = this.pipeline.process_upload(request, stream).await?;
            Ok(object(Upload { upload: Arc::new(upload), pipeline: this }))
        })
    }

    /// Processes everything under an address or a bucket's short name.
    fn run(&self, url: &str) -> PyResult<Running> {
        let process = self.here()?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let stream = self.inner.pipeline.process_prefix(url);
        let task = process.runtime.spawn(async move {
            let mut stream = match stream {
                Ok(stream) => Box::pin(stream),
                Err(why) => {
                    // The only one: the address is in none of the buckets.
                    let _ = sender.send(Err(why)).await;
                    return;
                }
            };
            while let Some(progress) = stream.next().await {
                if sender.send(Ok(progress)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Running { receiver: Arc::new(tokio::sync::Mutex::new(receiver)), abort: task.abort_handle() })
    }

    /// Takes up what was left in the middle. The result is JSON.
    #[pyo3(signature = (callback=None))]
    fn resume(&self, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        self.start(callback, |this, _| async move {
            let Resumed { tasks, errors } = this.pipeline.resume().await?;
            let tasks: Vec<_> = tasks.iter().map(processed).collect();
            let errors: Vec<_> =
                errors.iter().map(|(task, why)| json!({ "task": task.to_string(), "error": failure(why) })).collect();
            Ok(text(json!({ "tasks": tasks, "errors": errors }).to_string()))
        })
    }

    /// A task as the store has it, as JSON, or `null`.
    #[pyo3(signature = (id, callback=None))]
    fn task(&self, id: &str, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let id: TaskId = id.parse().map_err(|why: Error| PyValueError::new_err(why.to_string()))?;
        self.start(callback, move |this, _| async move { Ok(text(to_json(&this.pipeline.store().task(id).await?)?)) })
    }

    /// Writes a message for workers into the queue.
    #[pyo3(signature = (body, callback=None))]
    fn enqueue(&self, body: String, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        self.start(callback, |this, _| async move {
            let sent = this.queue().await?.enqueue(&[NewMessage::new(body)]).await?;
            sent.into_iter().try_for_each(|one| one.map(drop))?;
            Ok(nothing())
        })
    }

    /// Works on messages of the queue until it is told to stop.
    fn work(&self) -> PyResult<Work> {
        self.here()?;
        Ok(Work { inner: Arc::clone(&self.inner), stop: CancellationToken::new() })
    }

    /// What it does, in lines.
    fn explain(&self) -> Vec<String> {
        self.inner.config.explain()
    }

    /// Waits for the workflows that have begun, and closes the store.
    #[pyo3(signature = (callback=None))]
    fn close(&self, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        self.start(callback, |this, _| async move {
            // A step that never ends is taken up by whoever opens the store next.
            let drained = tokio::time::timeout(this.config.drain_deadline(), this.pipeline.drain()).await;
            if drained.is_err() {
                tracing::warn!("workflows were still at work when the pipeline was closed");
            }
            this.store.close().await?;
            Ok(nothing())
        })
    }
}

impl Pipeline {
    /// A fork has the descriptors of its parent's connections, and none of the threads that serve them.
    fn here(&self) -> PyResult<&'static Process> {
        if self.inner.pid != std::process::id() {
            let why = "this pipeline was opened before a fork: open one in each process (a scanner can be shared)";
            return Err(PyRuntimeError::new_err(why));
        }
        Process::current().map_err(|why| PyRuntimeError::new_err(why.to_string()))
    }

    fn start<W>(
        &self,
        callback: Option<Py<PyAny>>,
        work: impl FnOnce(Arc<Inner>, &'static Process) -> W,
    ) -> PyResult<Job>
    where
        W: Future<Output = Ended> + Send + 'static,
    {
        self.here()?;
        Job::start(callback, |process| work(Arc::clone(&self.inner), process))
    }
}

impl Inner {
    async fn queue(&self) -> Result<Arc<dyn Queue>, Error> {
        let Some(url) = self.config.queue_url() else {
            return Err(Error::new(
                ErrorKind::Config,
                "no queue is set up: give the pipeline queue=\"sqlite:///queue.db\"",
            ));
        };
        url.open().await
    }
}

fn nothing() -> Made {
    Box::new(|py| Ok(py.None().into_bound(py)))
}

fn processed(done: &Processed) -> Value {
    json!({ "task": done.record, "repeated": done.repeated, "superseded": done.superseded })
}

fn failure(why: &Error) -> Value {
    json!({ "kind": why.kind().as_str(), "retryable": why.is_retryable(), "message": why.to_string() })
}

/// A run over everything under an address.
#[pyclass(frozen, module = "scan_pipeline._native")]
pub(crate) struct Running {
    receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Result<Progress, Error>>>>,
    abort: tokio::task::AbortHandle,
}

#[pymethods]
impl Running {
    /// Waits for the next object that is through: JSON, or `None` at the end.
    #[pyo3(signature = (callback=None))]
    fn next(&self, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let receiver = Arc::clone(&self.receiver);
        Job::start(callback, |_| async move {
            let Some(progress) = receiver.lock().await.recv().await else { return Ok(nothing()) };
            let form = match progress? {
                Progress::Done(done) => json!({ "event": "done", "processed": processed(&done) }),
                Progress::Failed { object, error } => {
                    json!({ "event": "failed", "object": object, "error": failure(&error) })
                }
                Progress::ListingFailed { after, error } => {
                    json!({ "event": "listing_failed", "after": after, "error": failure(&error) })
                }
                _ => json!({ "event": "unknown" }),
            };
            Ok(text(form.to_string()))
        })
    }

    /// Begins nothing new. Workflows that have begun go on.
    fn stop(&self) {
        self.abort.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// A worker.
#[pyclass(frozen, module = "scan_pipeline._native")]
pub(crate) struct Work {
    inner: Arc<Inner>,
    stop: CancellationToken,
}

#[pymethods]
impl Work {
    /// Opens the queue.
    #[pyo3(signature = (callback=None))]
    fn open(&self, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let inner = Arc::clone(&self.inner);
        Job::start(callback, |_| async move {
            inner.queue().await?;
            Ok(nothing())
        })
    }

    /// Works until `stop` is called. The result is JSON: counts of messages.
    #[pyo3(signature = (callback=None))]
    fn run(&self, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let (inner, stop) = (Arc::clone(&self.inner), self.stop.clone());
        Job::start(callback, |_| async move {
            let queue = inner.queue().await?;
            let options = inner.config.worker().clone();
            let worker = Worker::with_jobs(inner.pipeline.clone(), queue, inner.store.jobs(), options)?;
            let stopped = worker.run(stop).await;
            let counts = worker.counts();
            let form = json!({
                "done": counts.done, "retried": counts.retried, "dead": counts.dead, "abandoned": stopped.abandoned,
            });
            Ok(text(form.to_string()))
        })
    }

    /// Takes nothing new, and ends when what has begun has ended.
    fn stop(&self) {
        self.stop.cancel();
    }
}

/// An upload behind the gate.
#[pyclass(frozen, module = "scan_pipeline._native")]
pub(crate) struct Upload {
    upload: Arc<scan_pipeline::pipeline::Upload>,
    pipeline: Arc<Inner>,
}

#[pymethods]
impl Upload {
    /// The task and the report, as JSON.
    fn info(&self) -> PyResult<String> {
        let form = json!({
            "processed": processed(self.upload.processed()),
            "report": self.upload.report(),
            "admitted": self.upload.is_admitted(),
        });
        Ok(form.to_string())
    }

    /// Bytes of the content, if the policy hands it on.
    #[pyo3(signature = (offset, length, callback=None))]
    fn read(&self, offset: u64, length: usize, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let upload = Arc::clone(&self.upload);
        Job::start(callback, move |_| async move {
            let bytes = upload.content()?.range(offset, length).await?;
            let made: Made = Box::new(move |py| Ok(PyBytes::new(py, &bytes).into_any()));
            Ok(made)
        })
    }

    /// Stores the content in a bucket, if the policy hands it on. The result is the object, as JSON.
    #[pyo3(signature = (bucket, key, callback=None))]
    fn store(&self, bucket: String, key: String, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let (upload, pipeline) = (Arc::clone(&self.upload), Arc::clone(&self.pipeline));
        Job::start(callback, |_| async move {
            let options = PutOptions::default();
            let object = upload.store(&pipeline.pipeline, &bucket, &key, &options).await?;
            Ok(text(to_json(&object)?))
        })
    }
}
