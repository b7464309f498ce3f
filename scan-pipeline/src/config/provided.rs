//! Settings from a program instead of a file, and what a program brings beside its settings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::build::{engines, joined};
use super::problem::{Problem, Severity};
use super::read::Reader;
use super::{Config, engine, read_document};
use crate::content::{Budget, SpoolOptions};
use crate::engine::Engine;
use crate::handler::ResultHandler;
use crate::objects::Buckets;
use crate::workflow::Step;
use crate::{Error, ErrorKind, Result};

/// What a program brings beside its settings: an engine that is loaded already, and handlers of its own, which steps name
/// as `{ do = "custom", handler = "crm" }`.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use scan_pipeline::config::{Config, Provided};
/// use scan_pipeline::engine::Closure;
/// use scan_pipeline::handler::{StepOutput, from_fn};
/// use scan_pipeline::model::Verdict;
///
/// # fn main() -> Result<(), scan_pipeline::Error> {
/// let ticket = from_fn("ticket", |_, _| async { Ok(StepOutput::new(serde_json::json!({ "number": 7 }))) });
/// let provided = Provided::new()
///     .engine(Arc::new(Closure::new("nothing", |_: &[u8], _: &str| Ok(Verdict::Clean))))
///     .handler("ticket", Arc::new(ticket));
/// let settings = serde_json::json!({
///     "store": { "url": "sqlite://state.db" },
///     "buckets": { "uploads": "memory://uploads" },
///     "policy": { "clean": "leave", "infected": "report", "unscannable": "leave" },
///     "workflow": { "report": { "steps": [{ "do": "custom", "handler": "ticket" }] } },
/// });
/// let config = Config::from_value(&settings, Path::new("/var/lib/app"), provided)?;
/// assert!(config.explain().contains(&String::from("  1. call ticket")));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Provided {
    pub(super) engine: Option<Arc<dyn Engine>>,
    pub(super) handlers: BTreeMap<String, Arc<dyn ResultHandler>>,
    pub(super) spool: Option<(SpoolOptions, Budget)>,
}

impl Provided {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine, in the place of those that `[engine]` would set up.
    #[must_use]
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// How contents are taken in where `[limits]` does not say it. The budget is shared with whoever has it, too, unless
    /// there is a `memory` of the pipeline's own.
    #[must_use]
    pub fn spool(mut self, options: SpoolOptions, budget: Budget) -> Self {
        self.spool = Some((options, budget));
        self
    }

    /// A handler by the name that steps call it. A later one by the same name takes its place.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, handler: Arc<dyn ResultHandler>) -> Self {
        self.handlers.insert(name.into(), handler);
        self
    }

    pub(super) fn step(&self, name: &str) -> Result<Step> {
        let handler = self.handlers.get(name).cloned();
        handler.map(Step::shared).ok_or_else(|| Error::new(ErrorKind::Config, format!("there is no handler {name}")))
    }
}

impl fmt::Debug for Provided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provided")
            .field("engine", &self.engine.is_some())
            .field("handlers", &self.handlers.keys())
            .field("spool", &self.spool)
            .finish()
    }
}

impl Config {
    /// A configuration from a program: the keys and values that a file would have, where `null` is as good as nothing.
    /// Texts are taken as they are, `$` included. Relative paths begin at `base`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] with every mistake, one a line, each with its key.
    pub fn from_value(settings: &Value, base: &Path, provided: Provided) -> Result<Self> {
        let document = document(settings)?;
        let (config, problems) = read_document(&document, base, None, provided);
        config.ok_or_else(|| refused(&problems))
    }
}

/// An engine alone, from what `[engine]` has in a file: for programs that scan without a pipeline.
///
/// # Errors
///
/// [`ErrorKind::Config`] with every mistake, one a line; or the engine cannot be set up.
pub async fn engine_from_value(settings: &Value, base: &Path) -> Result<Arc<dyn Engine>> {
    let document = document(&serde_json::json!({ "engine": settings }))?;
    let (specs, detect) = {
        let reader = Reader::new(&document, base, None, Provided::new());
        let read = reader.read_root(|root| {
            let (engines, detect) = engine::read(root);
            engine::sources(root.reader, &engines, &[]);
            (engines, detect)
        });
        let problems = reader.problems();
        if problems.iter().any(|problem| problem.severity == Severity::Mistake) {
            return Err(refused(&problems));
        }
        read
    };
    joined(engines(&specs, detect.as_ref(), &Buckets::new()).await?)
}

/// The text of a file that has these settings.
fn document(settings: &Value) -> Result<String> {
    let wrong = |why: &str| Error::new(ErrorKind::Config, format!("these are no settings: {why}"));
    let Value::Object(_) = settings else { return Err(wrong("a table is wanted, keys with their values")) };
    let table = without_nulls(settings);
    toml::to_string(&table).map_err(|why| wrong(&why.to_string()))
}

/// What a value is without the keys that have none.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(table) => {
            let there = table.iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(all) => Value::Array(all.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

/// Every mistake by its key; lines and columns would be those of a text that nobody wrote.
fn refused(problems: &[Problem]) -> Error {
    let mistakes = problems.iter().filter(|problem| problem.severity == Severity::Mistake);
    let lines: Vec<_> = mistakes.map(Problem::without_place).collect();
    Error::new(ErrorKind::Config, lines.join("\n"))
}
