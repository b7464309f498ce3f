//! Handlers that are Python callables.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pyo3::prelude::*;
use scan_pipeline::handler::{HandlerError, ResultHandler, Scanned, StepContext, StepOutput};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::process::Process;

/// A handler of the application's. `dispatch` is called with the request as JSON and a [`Call`], on the thread that
/// calls into Python, and only has to see to it that the handler runs somewhere else.
pub(crate) struct PyHandler {
    pub(crate) name: String,
    /// Shared, so that no thread of the runtime has to attach to count a reference.
    pub(crate) dispatch: Arc<Py<PyAny>>,
}

/// What is said where the next process that opens the store takes the step up.
const NOT_CALLED: &str = "the application stops: the handler was not called";

/// When the next process may try, and this one again.
const AGAIN: Duration = Duration::from_secs(5);

type Answer = Result<Value, HandlerError>;

/// One call of a handler: it is answered once, by `done` or `fail`.
#[pyclass(frozen, module = "scan_pipeline._native")]
pub(crate) struct Call {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answer: Option<oneshot::Sender<Answer>>,
    cancel: Option<Py<PyAny>>,
    /// The handler was called, and may have had its effect.
    has_begun: bool,
    is_over: bool,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Call {
    /// The handler has had its effect, and returned this JSON.
    fn done(&self, output: &str) {
        self.answer(match serde_json::from_str(output) {
            Ok(value) => Ok(value),
            Err(why) => Err(HandlerError::fatal(format!("the handler returned what is no JSON: {why}"))),
        });
    }

    /// The handler is called now.
    fn begin(&self) {
        lock(&self.state).has_begun = true;
    }

    /// The handler was not called, because what it would have run on is gone.
    fn untried(&self, message: String) {
        self.answer(Err(HandlerError::untried(message, AGAIN)));
    }

    /// The handler failed. Another call may succeed (after so many seconds), or will not.
    #[pyo3(signature = (message, retryable, after=None))]
    fn fail(&self, message: String, retryable: bool, after: Option<f64>) {
        let after = after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        self.answer(Err(match (retryable, after) {
            (false, _) => HandlerError::fatal(message),
            (true, None) => HandlerError::retryable(message),
            (true, Some(after)) => HandlerError::retryable_after(message, after),
        }));
    }

    /// Has something called when nobody waits for the answer any more: the step's time is over, or the process stops.
    fn on_cancel(&self, callback: Py<PyAny>) -> bool {
        let mut state = lock(&self.state);
        if !state.is_over {
            state.cancel = Some(callback);
        }
        !state.is_over
    }
}

impl Call {
    fn answer(&self, answer: Answer) {
        let (sender, cancel) = {
            let mut state = lock(&self.state);
            (state.answer.take(), state.cancel.take())
        };
        if let Some(sender) = sender {
            // Nobody waits any more, and the journal says so.
            let _ = sender.send(answer);
        }
        drop(cancel);
    }
}

impl Drop for Call {
    /// Nobody is left who could answer.
    fn drop(&mut self) {
        let has_begun = lock(&self.state).has_begun;
        self.answer(Err(match has_begun {
            true => HandlerError::retryable("the handler ended without an answer"),
            false => HandlerError::untried(NOT_CALLED, AGAIN),
        }));
    }
}

/// Tells the handler when nobody waits for it any more.
struct Waiting {
    state: Arc<Mutex<State>>,
    process: &'static Process,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let cancel = {
            let mut state = lock(&self.state);
            state.is_over = true;
            state.cancel.take()
        };
        if let Some(cancel) = cancel {
            self.process.call(Box::new(move |py| {
                if let Err(why) = cancel.call0(py) {
                    why.write_unraisable(py, Some(cancel.bind(py)));
                }
            }));
        }
    }
}

#[async_trait]
impl ResultHandler for PyHandler {
    fn name(&self) -> &str {
        &self.name
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        let process = Process::current().map_err(|why| HandlerError::untried(why.to_string(), AGAIN))?;
        let request = request(scanned, step).to_string();
        let (sender, answer) = oneshot::channel();
        let state = Arc::new(Mutex::new(State { answer: Some(sender), ..State::default() }));
        let waiting = Waiting { state: Arc::clone(&state), process };
        let dispatch = Arc::clone(&self.dispatch);
        process.call(Box::new(move |py| {
            let called = Bound::new(py, Call { state }).and_then(|call| dispatch.call1(py, (request, call)));
            if let Err(why) = called {
                why.write_unraisable(py, Some(dispatch.bind(py)));
            }
        }));
        let answer = answer.await;
        drop(waiting);
        match answer {
            Ok(answer) => answer.map(StepOutput::new),
            // It never got to Python: the interpreter ends.
            Err(_) => Err(HandlerError::untried(NOT_CALLED, AGAIN)),
        }
    }
}

fn request(scanned: &Scanned, step: &StepContext) -> Value {
    let outputs = step.outputs.iter().map(|(name, output)| (name.clone(), output.value.clone()));
    json!({
        "task": scanned.task.to_string(),
        "object": scanned.object,
        "report": *scanned.report,
        "step": {
            "workflow": step.workflow,
            "step": step.step,
            "attempt": step.attempt,
            "idempotency_key": step.idempotency_key,
            "outputs": outputs.collect::<serde_json::Map<_, _>>(),
            "object": step.object(scanned),
        },
    })
}
