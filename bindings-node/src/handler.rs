//! Handlers that are JavaScript functions.
//!
//! One function answers for all of them. It takes a call as JSON and answers with JSON, whatever the handler did:
//! `{"value": ...}`, or `{"error": {"message", "retryable", "retry_after_ms"}}`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use napi::Status;
use napi::bindgen_prelude::Promise;
use napi::threadsafe_function::ThreadsafeFunction;
use scan_pipeline::handler::{HandlerError, ResultHandler, Scanned, StepContext, StepOutput};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The function. It keeps no process alive: what waits for it does.
pub(crate) type Dispatch = ThreadsafeFunction<String, Promise<String>, String, Status, false, true>;

/// A handler of the application's.
pub(crate) struct JsHandler {
    name: String,
    dispatch: Arc<Dispatch>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    value: Value,
    error: Option<Failed>,
}

#[derive(Deserialize)]
struct Failed {
    message: String,
    retryable: bool,
    retry_after_ms: Option<f64>,
}

impl JsHandler {
    pub(crate) fn new(name: String, dispatch: Arc<Dispatch>) -> Self {
        Self { name, dispatch }
    }

    fn call(&self, scanned: &Scanned, step: &StepContext) -> String {
        let outputs: Map<_, _> =
            step.outputs.iter().map(|(step, output)| (step.clone(), output.value.clone())).collect();
        json!({
            "handler": self.name,
            "result": { "task": scanned.task, "object": scanned.object, "report": *scanned.report },
            "step": {
                "workflow": step.workflow,
                "step": step.step,
                "attempt": step.attempt,
                "idempotency_key": step.idempotency_key,
                "outputs": outputs,
                "object": step.object(scanned),
            },
        })
        .to_string()
    }
}

#[async_trait]
impl ResultHandler for JsHandler {
    fn name(&self) -> &str {
        &self.name
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        let lost = |why: napi::Error| {
            HandlerError::retryable("the JavaScript thread that has the handler has ended").with_source(why)
        };
        let promise = self.dispatch.call_async(self.call(scanned, step)).await.map_err(lost)?;
        let answer = promise.await.map_err(lost)?;
        let answer: Answer = serde_json::from_str(&answer)
            .map_err(|why| HandlerError::fatal("the handler's answer cannot be read").with_source(why))?;
        match answer.error {
            None => Ok(StepOutput::new(answer.value)),
            Some(Failed { message, retryable: false, .. }) => Err(HandlerError::fatal(message)),
            Some(Failed { message, retry_after_ms, .. }) => {
                let after = retry_after_ms.and_then(|wait| Duration::try_from_secs_f64(wait / 1e3).ok());
                Err(match after {
                    Some(after) => HandlerError::retryable_after(message, after),
                    None => HandlerError::retryable(message),
                })
            }
        }
    }
}
