//! What the Rust side says (`tracing`), on its way to `logging`.
//!
//! No thread of ours ever waits for the interpreter to log something: records are kept, up to a bound, and a thread of
//! Python's fetches them.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::process::Process;

/// Most records that wait; those beyond are counted.
const MOST: usize = 1024;
/// Longest message that is kept, in bytes.
const LONGEST: usize = 4096;

/// Python's level: 10 for debug, 20 for info and so on. Below it nothing is kept.
static LEVEL: AtomicU8 = AtomicU8::new(WARNING);
const WARNING: u8 = 30;

/// Records of one process that Python has not fetched yet.
#[derive(Default)]
pub(crate) struct Waiting {
    queue: Mutex<Queue>,
    came: Condvar,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<(u8, String, String)>,
    dropped: u64,
    is_over: bool,
}

impl Waiting {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, record: (u8, String, String)) {
        let mut queue = self.queue();
        if queue.records.len() < MOST {
            queue.records.push_back(record);
        } else {
            queue.dropped += 1;
        }
        self.came.notify_one();
    }

    /// Lets whoever waits come out.
    pub(crate) fn end(&self) {
        self.queue().is_over = true;
        self.came.notify_all();
    }

    fn next(&self) -> Option<Vec<(u8, String, String)>> {
        let queue = self.queue();
        let waits = |queue: &mut Queue| queue.records.is_empty() && !queue.is_over;
        let mut queue = self.came.wait_while(queue, waits).unwrap_or_else(PoisonError::into_inner);
        if queue.is_over {
            return None;
        }
        let mut records: Vec<_> = queue.records.drain(..).collect();
        if let dropped @ 1.. = std::mem::take(&mut queue.dropped) {
            let why = format!("{dropped} messages came too fast and were left out");
            records.push((WARNING, String::from("scan_pipeline"), why));
        }
        Some(records)
    }
}

/// Takes every event of `tracing` in this library; spans say nothing here.
struct ToPython;

impl Subscriber for ToPython {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Those of other libraries may show what a request holds.
        let ours = ["scan_pipeline", "clamav_core", "libclamav"].iter().any(|own| metadata.target().starts_with(own));
        ours && level(metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(process) = Process::known() else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let Text { mut message, fields } = text;
        message.push_str(&fields);
        if message.len() > LONGEST {
            message.truncate(message.floor_char_boundary(LONGEST));
            message.push_str("...");
        }
        let metadata = event.metadata();
        process.logs.keep((level(metadata.level()), metadata.target().to_owned(), message));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn level(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 40,
        Level::WARN => WARNING,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// The message, then the fields as `name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// From here on what is said is kept for `next_records`.
#[pyfunction]
pub(crate) fn start_logging() {
    // A second call finds the first one's.
    let _ = tracing::subscriber::set_global_default(ToPython);
}

/// Keeps nothing below one of Python's levels.
#[pyfunction]
pub(crate) fn set_level(level: u8) {
    if LEVEL.swap(level, Ordering::Relaxed) != level {
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Waits for records: level, target and message of each. `None` when there will be no more.
#[pyfunction]
pub(crate) fn next_records(py: Python<'_>) -> PyResult<Option<Vec<(u8, String, String)>>> {
    let process = Process::current().map_err(|why| PyRuntimeError::new_err(why.to_string()))?;
    Ok(py.detach(|| process.logs.next()))
}
