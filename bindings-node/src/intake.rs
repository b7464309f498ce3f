//! Parts of a source, from JavaScript to a spool.
//!
//! A source that is given up without a word must not pass as one that has come to its end: only [`Intake::end`] ends it.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use scan_pipeline::content::StreamError;
use scan_pipeline::{Error, ErrorKind};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::error::{Failure, Result};
use crate::runtime::promise;
use crate::ticket::Ticket;

/// Parts that wait for the spool. A stream's parts have 64 KiB as a rule.
const WAITING: usize = 8;

enum Part {
    Bytes(Bytes),
    End,
    Broken(String),
}

/// The door that JavaScript puts a source's parts through.
#[napi]
pub struct Intake {
    sender: Mutex<Option<Sender<Part>>>,
    receiver: Mutex<Option<Receiver<Part>>>,
}

#[napi]
impl Intake {
    /// A door for one source.
    #[napi(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript alone makes them")]
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender: Mutex::new(Some(sender)), receiver: Mutex::new(Some(receiver)) }
    }

    /// Copies a part. Answers `true` when there is room for another, `false` when nobody wants more, or a promise of one
    /// of these.
    #[napi(ts_return_type = "boolean | Promise<boolean>")]
    pub fn push<'env>(&self, env: &'env Env, part: &[u8]) -> napi::Result<napi::Either<bool, Object<'env>>> {
        let Some(sender) = self.sender() else { return Ok(napi::Either::A(false)) };
        match sender.try_send(Part::Bytes(Bytes::copy_from_slice(part))) {
            Ok(()) => Ok(napi::Either::A(true)),
            Err(TrySendError::Closed(_)) => Ok(napi::Either::A(false)),
            Err(TrySendError::Full(part)) => {
                let wait = async move { Ok(sender.send(part).await.is_ok()) };
                promise(env, wait).map(napi::Either::B)
            }
        }
    }

    /// Says that the source has come to its end. The last push has to be settled.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn end<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.finish(env, Part::End)
    }

    /// Says that the source broke off, and why.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn fail<'env>(&self, env: &'env Env, why: String) -> napi::Result<Object<'env>> {
        self.finish(env, Part::Broken(why))
    }
}

impl Intake {
    fn sender(&self) -> Option<Sender<Part>> {
        self.sender.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn finish<'env>(&self, env: &'env Env, last: Part) -> napi::Result<Object<'env>> {
        let sender = self.sender.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        promise(env, async move {
            match sender {
                Some(sender) => Ok(sender.send(last).await.is_ok()),
                None => Ok(false),
            }
        })
    }

    /// The parts as a stream, for the one who takes them in.
    pub(crate) fn stream(
        &self,
        ticket: Ticket,
    ) -> Result<impl Stream<Item = std::result::Result<Bytes, StreamError>> + Send + use<>> {
        let receiver = self.receiver.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let receiver = receiver.ok_or_else(|| Failure::invalid("an intake serves one call"))?;
        Ok(stream::unfold(Some(receiver), move |receiver| {
            let ticket = ticket.clone();
            async move {
                let mut receiver = receiver?;
                match receiver.recv().await {
                    Some(Part::End) => {
                        ticket.ended();
                        None
                    }
                    Some(Part::Bytes(bytes)) => {
                        ticket.took(bytes.len());
                        Some((Ok(bytes), Some(receiver)))
                    }
                    Some(Part::Broken(why)) => Some((Err(why.into()), None)),
                    None => {
                        let why = "the source was given up before its end";
                        Some((Err(Error::new(ErrorKind::Truncated, why).into()), None))
                    }
                }
            }
        }))
    }
}
