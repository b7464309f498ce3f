//! A content that Python hands over in parts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use scan_pipeline::content::StreamError;
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};

use crate::job::{Job, flag};

/// Parts that wait to be taken in; who hands over more has to wait.
const PARTS: usize = 8;

/// The two ends of a content on its way. Unless `finish` was called, its end is no end but a failure: what broke off
/// was not scanned.
#[pyclass(frozen, module = "scan_pipeline._native")]
pub(crate) struct Feed {
    sender: Mutex<Option<Sender<Bytes>>>,
    receiver: Mutex<Option<Receiver<Bytes>>>,
    is_whole: Arc<AtomicBool>,
}

impl Feed {
    fn sender(&self) -> MutexGuard<'_, Option<Sender<Bytes>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes out at the other end.
    pub(crate) fn stream(&self) -> PyResult<BoxStream<'static, Result<Bytes, StreamError>>> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = receiver.ok_or_else(|| PyRuntimeError::new_err("a feed is read once"))?;
        let is_whole = Arc::clone(&self.is_whole);
        Ok(stream::unfold(Some((receiver, is_whole)), |state| async move {
            let (mut receiver, is_whole) = state?;
            match receiver.recv().await {
                Some(part) => Some((Ok(part), Some((receiver, is_whole)))),
                None if is_whole.load(Ordering::Acquire) => None,
                None => Some((Err(StreamError::from("the source broke off")), None)),
            }
        })
        .boxed())
    }
}

#[pymethods]
impl Feed {
    #[new]
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(PARTS);
        let (sender, receiver) = (Mutex::new(Some(sender)), Mutex::new(Some(receiver)));
        Self { sender, receiver, is_whole: Arc::default() }
    }

    /// Hands a part over if there is room: whether there was. `None` when nobody takes any more.
    fn try_send(&self, part: PyBackedBytes) -> Option<bool> {
        match self.sender().as_ref()?.try_send(Bytes::from_owner(part)) {
            Ok(()) => Some(true),
            Err(TrySendError::Full(_)) => Some(false),
            Err(TrySendError::Closed(_)) => None,
        }
    }

    /// Hands a part over, and waits for room: whether anybody takes it.
    #[pyo3(signature = (part, callback=None))]
    fn send(&self, part: PyBackedBytes, callback: Option<Py<PyAny>>) -> PyResult<Job> {
        let sender = self.sender().clone();
        Job::start(callback, |_| async move {
            let Some(sender) = sender else { return Ok(flag(false)) };
            Ok(flag(sender.send(Bytes::from_owner(part)).await.is_ok()))
        })
    }

    /// This was all of it.
    fn finish(&self) {
        self.is_whole.store(true, Ordering::Release);
        self.sender().take();
    }

    /// There will be no more, and it is not whole.
    fn abandon(&self) {
        self.sender().take();
        // Where nobody came for it, so that whoever waits for room hears of the end.
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
