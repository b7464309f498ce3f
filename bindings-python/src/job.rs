//! Something that goes on beside Python, and how its end gets there: by a callback, or by waiting.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tokio::task::AbortHandle;

use crate::failure::Failure;
use crate::process::{Process, is_exiting};

/// How long a waiting thread sleeps at most before it looks for signals (Ctrl-C); an end wakes it at once.
const SIGNALS: Duration = Duration::from_millis(200);

/// Makes the Python object of a result, once the thread is attached.
pub(crate) type Made = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send>;

pub(crate) type Ended = Result<Made, Failure>;

/// Text, mostly JSON.
pub(crate) fn text(text: String) -> Made {
    Box::new(move |py| Ok(text.into_pyobject(py)?.into_any()))
}

/// A yes or no.
pub(crate) fn flag(flag: bool) -> Made {
    Box::new(move |py| Ok(flag.into_pyobject(py)?.to_owned().into_any()))
}

/// An object of a class of this module.
pub(crate) fn object<T: Into<PyClassInitializer<T>> + pyo3::PyClass + Send + 'static>(value: T) -> Made {
    Box::new(move |py| Ok(Bound::new(py, value)?.into_any()))
}

/// A piece of work that runs beside Python. Its end is told to a callback as `(result, None)` or `(None, failure)`, a
/// failure being `(class, kind, retryable, message)`, or is waited for.
#[pyclass(frozen, module = "scan_pipeline._native")]
pub(crate) struct Job {
    shared: Arc<Shared>,
    abort: AbortHandle,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Default)]
struct State {
    ended: Option<Ended>,
    callback: Option<Py<PyAny>>,
    is_cancelled: bool,
    /// Somebody waits for the end already, or is called with it.
    is_taken: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a job when it is dropped, whatever happened: nobody waits for ever.
struct Ending {
    shared: Arc<Shared>,
    ended: Option<Ended>,
    process: &'static Process,
}

impl Ending {
    fn give(mut self, ended: Ended) {
        self.ended = Some(ended);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let ended = self.ended.take().unwrap_or_else(|| {
            let (kind, why) = match self.shared.state().is_cancelled {
                true => ("cancelled", "was cancelled"),
                false => ("panicked", "the work ended without a result; this is a bug in scan-pipeline"),
            };
            Err(Failure::engine(kind, why))
        });
        let callback = {
            let mut state = self.shared.state();
            let callback = state.callback.take();
            if callback.is_none() {
                state.ended = Some(ended);
                self.shared.done.notify_all();
                return;
            }
            state.ended = None;
            callback.map(|callback| (callback, ended))
        };
        if let Some((callback, ended)) = callback {
            self.process.call(Box::new(move |py| {
                let told = tuple(py, ended).and_then(|ended| callback.bind(py).call1(ended));
                if let Err(why) = told {
                    why.write_unraisable(py, Some(callback.bind(py)));
                }
            }));
        }
    }
}

fn tuple(py: Python<'_>, ended: Ended) -> PyResult<Bound<'_, PyTuple>> {
    match ended {
        Ok(made) => (made(py)?, py.None()).into_pyobject(py),
        Err(failure) => (py.None(), failure.into_tuple(py)?).into_pyobject(py),
    }
}

impl Job {
    /// Starts what is made for this process.
    pub(crate) fn start<W>(callback: Option<Py<PyAny>>, work: impl FnOnce(&'static Process) -> W) -> PyResult<Self>
    where
        W: Future<Output = Ended> + Send + 'static,
    {
        if callback.is_some() && is_exiting() {
            // Nobody would call it, and who awaits it would wait for ever.
            let why = "the interpreter ends: what is awaited has to be over before scan_pipeline's exit handler runs";
            return Err(PyRuntimeError::new_err(why));
        }
        let process = Process::current().map_err(|why| PyRuntimeError::new_err(why.to_string()))?;
        let work = work(process);
        let shared = Arc::new(Shared {
            state: Mutex::new(State { is_taken: callback.is_some(), callback, ..State::default() }),
            ..Shared::default()
        });
        let ending = Ending { shared: Arc::clone(&shared), ended: None, process };
        let task = process.runtime.spawn(async move {
            let ended = work.await;
            ending.give(ended);
        });
        Ok(Self { shared, abort: task.abort_handle() })
    }
}

#[pymethods]
impl Job {
    /// Ends the work as soon as possible. The callback is not called any more.
    fn cancel(&self) {
        let callback = {
            let mut state = self.shared.state();
            state.is_cancelled = true;
            state.callback.take()
        };
        drop(callback);
        self.abort.abort();
    }

    /// Waits for the end of a job without a callback; other threads of Python run meanwhile. A signal's exception
    /// cancels it. The end is told once.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        if std::mem::replace(&mut self.shared.state().is_taken, true) {
            return Err(PyRuntimeError::new_err("the end of a job is told once"));
        }
        loop {
            let ended = py.detach(|| {
                let state = self.shared.state();
                let waits = |state: &mut State| state.ended.is_none();
                let waited = self.shared.done.wait_timeout_while(state, SIGNALS, waits);
                waited.unwrap_or_else(PoisonError::into_inner).0.ended.take()
            });
            if let Some(ended) = ended {
                return tuple(py, ended);
            }
            py.check_signals().inspect_err(|_| self.cancel())?;
        }
    }
}
