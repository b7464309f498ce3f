//! A closure as a handler.

use std::future::Future;

use async_trait::async_trait;

use super::{HandlerError, ResultHandler, Scanned, StepContext, StepOutput};

/// A handler made by [`from_fn`].
pub struct FnHandler<F> {
    name: String,
    call: F,
}

/// Makes a handler of an async function.
///
/// ```
/// use scan_pipeline::handler::{from_fn, HandlerError, StepOutput};
///
/// let ticket = from_fn("ticket", |scanned, step| async move {
///     // The key is the same on every attempt, so the other side can tell a repetition from a second ticket.
///     let number = open_ticket(&scanned.object.key, &step.idempotency_key).await?;
///     Ok(StepOutput::new(serde_json::json!({ "number": number })))
/// });
/// # async fn open_ticket(_: &str, _: &str) -> Result<u64, HandlerError> { Ok(1) }
/// # let _ = ticket;
/// ```
pub fn from_fn<F, R>(name: impl Into<String>, call: F) -> FnHandler<F>
where
    F: Fn(Scanned, StepContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<StepOutput, HandlerError>> + Send,
{
    FnHandler { name: name.into(), call }
}

#[async_trait]
impl<F, R> ResultHandler for FnHandler<F>
where
    F: Fn(Scanned, StepContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<StepOutput, HandlerError>> + Send,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        (self.call)(scanned.clone(), step.clone()).await
    }
}
