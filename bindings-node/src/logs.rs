//! What the Rust side says (`tracing`), on its way to functions of JavaScript.
//!
//! Whoever says something never waits for JavaScript: what finds a full queue is counted and left out, and the next
//! record that finds room is told how many there were. Nothing here keeps a process alive.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Once, PoisonError, RwLock};

use napi::Status;
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Most records that wait for one function.
const MOST: usize = 1024;
/// Longest message that is kept, in bytes.
const LONGEST: usize = 4096;
/// Nobody listens.
const OFF: u8 = 0;

type Hook = ThreadsafeFunction<String, (), String, Status, false, true, MOST>;

struct Sink {
    level: u8,
    hook: Hook,
    left_out: AtomicU64,
}

static SINKS: RwLock<Vec<Arc<Sink>>> = RwLock::new(Vec::new());
/// The most talkative level that anybody wants.
static LEVEL: AtomicU8 = AtomicU8::new(OFF);

/// A function that is told what the Rust side says.
#[napi]
pub struct NativeLog {
    sink: Arc<Sink>,
}

#[napi]
impl NativeLog {
    /// Tells `hook` everything of a level and of those above it, from 1 for errors to 5, as JSON.
    #[napi(constructor)]
    pub fn new(
        #[napi(ts_arg_type = "(record: string) => void")] hook: Function<'_, String, ()>,
        level: u8,
    ) -> napi::Result<Self> {
        static START: Once = Once::new();
        let hook = hook.build_threadsafe_function().weak::<true>().max_queue_size::<MOST>().build()?;
        let sink = Arc::new(Sink { level, hook, left_out: AtomicU64::new(0) });
        // The library is this addon's own, and so is the one who listens to it.
        START.call_once(|| drop(tracing::subscriber::set_global_default(ToJavaScript)));
        change(|sinks| sinks.push(Arc::clone(&sink)));
        Ok(Self { sink })
    }

    /// Tells it nothing more.
    #[napi]
    pub fn stop(&self) {
        change(|sinks| sinks.retain(|sink| !Arc::ptr_eq(sink, &self.sink)));
    }
}

fn change(how: impl FnOnce(&mut Vec<Arc<Sink>>)) {
    let mut sinks = SINKS.write().unwrap_or_else(PoisonError::into_inner);
    how(&mut sinks);
    let wanted = sinks.iter().map(|sink| sink.level).max().unwrap_or(OFF);
    drop(sinks);
    if LEVEL.swap(wanted, Ordering::Relaxed) != wanted {
        tracing::callsite::rebuild_interest_cache();
    }
}

impl Sink {
    /// Whether it can be told anything more.
    fn tell(&self, level: &'static str, target: &str, message: &str) -> bool {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let record = json!({ "level": level, "target": target, "message": message, "left_out": left_out });
        match self.hook.call(record.to_string(), ThreadsafeFunctionCallMode::NonBlocking) {
            Status::Ok => true,
            Status::QueueFull => {
                self.left_out.fetch_add(left_out + 1, Ordering::Relaxed);
                true
            }
            // The JavaScript thread that has it is gone.
            _ => false,
        }
    }
}

/// Takes every event of `tracing` in this library; spans say nothing here.
struct ToJavaScript;

impl Subscriber for ToJavaScript {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Those of other libraries may show what a request holds.
        let ours = ["scan_pipeline", "clamav_core", "libclamav"].iter().any(|own| metadata.target().starts_with(own));
        ours && number(metadata.level()) <= LEVEL.load(Ordering::Relaxed)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = number(event.metadata().level());
        let sinks = SINKS.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut text = Text::default();
        event.record(&mut text);
        let Text { mut message, fields } = text;
        message.push_str(&fields);
        if message.len() > LONGEST {
            message.truncate(message.floor_char_boundary(LONGEST));
            message.push_str("...");
        }
        let (name, target) = (name(event.metadata().level()), event.metadata().target());
        let gone: Vec<_> =
            sinks.iter().filter(|sink| level <= sink.level && !sink.tell(name, target, &message)).collect();
        if !gone.is_empty() {
            change(|sinks| sinks.retain(|sink| !gone.iter().any(|gone| Arc::ptr_eq(sink, gone))));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn number(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

fn name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
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
