//! Handlers: what follows from a scan.
//!
//! # Contract
//!
//! - A handler may be called again after it had its effect: the process can die before the journal is written. It is
//!   called with the same [`StepContext::idempotency_key`] each time, and has to make one effect of all the calls.
//! - It acts on [`StepContext::object`], pinned; when that is not there any more it says
//!   [`HandlerErrorKind::Superseded`] or [`HandlerErrorKind::Gone`], and touches nothing else.
//! - What it returns is JSON, is kept, and is shown to people: no secrets.

mod closure;
mod delete;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(feature = "email")]
mod email;
#[cfg(test)]
pub(crate) mod fixture;
mod record;
pub mod relocate;
mod tag;
mod template;
mod vocabulary;
#[cfg(feature = "webhook")]
pub mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{ContentDigest, ObjectRef, Report, TaskId, Verdict};
use crate::objects::Buckets;
use crate::{Error, ErrorKind};

pub use closure::{FnHandler, from_fn};
pub use delete::{Delete, delete};
#[cfg(feature = "dynamodb")]
pub use dynamodb::{Column, RecordToTable, record_to_table};
#[cfg(feature = "email")]
pub use email::{Email, EmailBuilder, email};
pub use record::{RECORD_SCHEMA, Record, RecordTo, record, record_to};
pub use relocate::{OnConflict, Relocate, relocate};
pub use tag::{Tag, tag};
pub use vocabulary::{Fact, Vocabulary};
#[cfg(feature = "webhook")]
pub use webhook::{Webhook, WebhookBuilder, notify};

/// Something that follows from a scan; the module page has the contract.
#[async_trait]
pub trait ResultHandler: Send + Sync + 'static {
    /// A short name, such as `tag`. Steps have it unless they are given another.
    fn name(&self) -> &str;

    /// The host that it cannot do without, as a name that is set up and few share. While that does not answer, the
    /// handler is not called, and no attempt is used up.
    fn depends_on(&self) -> Option<&str> {
        None
    }

    /// Whether it deletes the object where it is, itself or as the end of a move. A pipeline then refuses buckets that
    /// cannot delete just the state that was scanned; [`Buckets::check_delete`] is what the handler asks.
    fn deletes(&self) -> bool {
        false
    }

    /// The bucket that it writes objects to, by short name or address.
    fn writes_to(&self) -> Option<&str> {
        None
    }

    /// Has its effect, once for all calls with one key.
    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError>;
}

/// What was scanned, and what was found.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// The task.
    pub task: TaskId,
    /// The object as it was scanned, pinned. Where it is now is [`StepContext::object`].
    pub object: ObjectRef,
    /// What was found.
    pub report: Arc<Report>,
}

impl Scanned {
    /// The conclusion.
    pub fn verdict(&self) -> &Verdict {
        &self.report.verdict
    }
}

/// The circumstances of one call of a handler.
#[derive(Debug, Clone)]
pub struct StepContext {
    /// The workflow's name.
    pub workflow: String,
    /// The step's name in it.
    pub step: String,
    /// 1 for the first call.
    pub attempt: u32,
    /// The same for every call of this step for this task, and for nothing else: 64 hexadecimal digits. Send it
    /// outward as `Idempotency-Key` or as the external reference.
    pub idempotency_key: String,
    /// Outputs of the steps before this one, by step.
    pub outputs: Arc<BTreeMap<String, StepOutput>>,
    /// Where the object is, as far as the steps before this one have moved it.
    pub place: Place,
    /// The buckets that the pipeline knows.
    pub buckets: Arc<Buckets>,
}

impl StepContext {
    /// The idempotency key of a step.
    pub fn key(task: TaskId, workflow: &str, step: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(task.0.0);
        for part in [workflow, step] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        ContentDigest(hash.finalize().into()).to_string()
    }

    /// The output of an earlier step.
    pub fn output(&self, step: &str) -> Option<&serde_json::Value> {
        self.outputs.get(step).map(|output| &output.value)
    }

    /// The object as it is now: as it was scanned, or where an earlier step has put it. `None` when it was deleted,
    /// and for uploads, which are no objects.
    pub fn object<'a>(&'a self, scanned: &'a Scanned) -> Option<&'a ObjectRef> {
        match &self.place {
            Place::Here if scanned.object.bucket.scheme() == crate::pipeline::UPLOAD_SCHEME => None,
            Place::Here => Some(&scanned.object),
            Place::Moved { object } => Some(object),
            Place::Deleted => None,
        }
    }
}

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "place", rename_all = "snake_case")]
pub enum Place {
    /// Where it was scanned.
    #[default]
    Here,
    /// A step has moved it.
    Moved {
        /// To there.
        object: ObjectRef,
    },
    /// A step has deleted it.
    Deleted,
}

/// What a step gives.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepOutput {
    /// Anything that later steps and people want to know.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub value: serde_json::Value,
    /// Where the object is now, if the step has moved or deleted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl StepOutput {
    /// Nothing to say.
    pub fn none() -> Self {
        Self::default()
    }

    /// Something for later steps and people.
    pub fn new(value: serde_json::Value) -> Self {
        Self { value, place: None }
    }

    /// Nothing was done, and that is right: the reason.
    pub fn skipped(why: &str) -> Self {
        Self::new(serde_json::json!({ "skipped": why }))
    }

    /// The object is somewhere else now.
    #[must_use]
    pub fn with_place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }
}

/// What follows from a handler's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlerErrorKind {
    /// Another call may succeed, not before this time has passed if one is given.
    Retryable {
        /// How long the other side asked to be left alone.
        after: Option<Duration>,
    },
    /// No other call will succeed.
    Fatal,
    /// Another state of the object has taken the place of the one that was scanned.
    Superseded,
    /// The object is not there any more.
    Gone,
}

/// Why a handler failed.
#[derive(Debug)]
pub struct HandlerError {
    kind: HandlerErrorKind,
    untried: bool,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl HandlerError {
    fn new(kind: HandlerErrorKind, message: impl Into<String>) -> Self {
        Self { kind, untried: false, message: message.into(), source: None }
    }

    /// Another call may succeed.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::new(HandlerErrorKind::Retryable { after: None }, message)
    }

    /// Another call may succeed, but not before this time has passed.
    pub fn retryable_after(message: impl Into<String>, after: Duration) -> Self {
        Self::new(HandlerErrorKind::Retryable { after: Some(after) }, message)
    }

    /// No other call will succeed.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(HandlerErrorKind::Fatal, message)
    }

    /// Nothing was tried, because whoever would have tried is not there. Another call may succeed when this time has
    /// passed, and this one is not counted as an attempt.
    pub fn untried(message: impl Into<String>, after: Duration) -> Self {
        Self { untried: true, ..Self::retryable_after(message, after) }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What follows from it.
    pub fn kind(&self) -> HandlerErrorKind {
        self.kind
    }

    /// Nothing was tried, so it does not count as an attempt.
    pub fn is_untried(&self) -> bool {
        self.untried
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for HandlerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

impl From<Error> for HandlerError {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Superseded => HandlerErrorKind::Superseded,
            ErrorKind::Gone => HandlerErrorKind::Gone,
            _ if error.is_retryable() => HandlerErrorKind::Retryable { after: error.retry_after() },
            _ => HandlerErrorKind::Fatal,
        };
        Self { untried: error.is_untried(), ..Self::new(kind, error.to_string()) }
    }
}
