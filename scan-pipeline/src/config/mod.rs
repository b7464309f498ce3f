//! A pipeline from a TOML file: this room alone names every engine, bucket, handler and store.
//!
//! ```toml
//! [engine]
//! detect = ["ssn", "credit_card"]       # sensitive data in the same pass; "all" for everything there is
//! [engine.clamav]                       # and, or instead: [engine.clamd]
//! definitions = "/var/lib/clamav"       # default: where freshclam puts them
//! [engine.clamav.limits]
//! max_file_size = "100MB"
//!
//! [store]
//! url = "sqlite:///var/lib/scan-pipeline/state.db"
//!
//! [buckets]
//! quarantine = { url = "file:///data/quarantine", watch = true }
//! clean = "file:///data/clean"
//! infected = "file:///data/infected"
//!
//! [policy]
//! clean = "release"
//! infected = "isolate"
//! unscannable = "leave"                 # the word for: nothing follows, and that is meant
//! [[policy.findings]]                   # when it is clean, with findings; the first that matches counts
//! min_confidence = 0.8
//! workflow = "review"
//!
//! [[workflow.release.steps]]
//! do = "relocate"
//! to = "clean"
//! tags = true
//! [[workflow.release.steps]]
//! do = "notify"
//! url = "https://example.com/scanned"
//! secrets = ["${WEBHOOK_SECRET}"]
//!
//! [[workflow.isolate.steps]]
//! do = "relocate"
//! to = "infected"
//!
//! [[workflow.review.steps]]
//! do = "tag"
//!
//! [queue]                               # for `scan-pipeline work` and bulk jobs
//! url = "sqlite:///var/lib/scan-pipeline/queue.db"
//! [worker]
//! messages = 32                         # in hand at a time
//! ```
//!
//! Texts may hold `${NAME}` and `${NAME:-default}` for variables of the environment, and `$$` for a dollar. Relative
//! paths begin at the file's folder. Sizes are `25MB` or a number of bytes, times `30s`, `5m` or `1h30m`.
//!
//! [`Config::check`] finds every mistake in one go, each with its line, column and key; [`Config::build`] makes the
//! pipeline. A program that has its settings elsewhere hands over the same keys as JSON, and what it brings of its own:
//! [`Config::from_value`].

mod buckets;
mod build;
mod detect;
mod engine;
mod explain;
mod limits;
mod mail;
mod open;
mod problem;
mod provided;
mod queue;
mod read;
#[cfg(feature = "s3")]
mod s3;
mod steps;
mod store;
mod table;
mod text;
mod units;
mod variables;
mod vocabulary;
mod webhook;
mod workflows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::content::blocking;
use crate::worker::WorkerOptions;
use crate::{Error, ErrorKind, Result};

use buckets::BucketSpec;
use detect::DetectSpec;
use engine::EngineSpec;
use limits::{LimitsSpec, RunSpec};
use read::{Reader, Section};
use workflows::{PolicySpec, WorkflowSpec};

pub use open::OpenStore;
pub use problem::{Problem, Severity};
pub use provided::{Provided, engine_from_value};
pub use queue::QueueUrl;
pub use store::StoreUrl;
pub use units::{parse_duration, parse_size};
pub use variables::Environment;

/// A configuration without mistakes.
#[derive(Debug, Clone)]
pub struct Config {
    engines: Vec<EngineSpec>,
    detect: Option<DetectSpec>,
    store: StoreUrl,
    queue: Option<QueueUrl>,
    worker: WorkerOptions,
    buckets: Vec<BucketSpec>,
    policy: PolicySpec,
    workflows: BTreeMap<String, WorkflowSpec>,
    limits: LimitsSpec,
    run: RunSpec,
    provided: Provided,
    warnings: Vec<Problem>,
}

/// What was found in a configuration file.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The configuration, if there was no mistake.
    pub config: Option<Config>,
    /// Mistakes and warnings, in the order of the file.
    pub problems: Vec<Problem>,
}

/// Larger files than this are none that a person wrote.
const LARGEST_FILE: u64 = 1 << 20;

impl Config {
    /// Reads and checks a text. Relative paths in it begin at `base`; variables are looked up with `environment`.
    ///
    /// ```
    /// use std::path::Path;
    /// use scan_pipeline::config::Config;
    ///
    /// let checked = Config::check("[engine.clamav]\nthreads = 0\n[stoer]", Path::new("/"), &|_| None);
    /// let problems: Vec<_> = checked.problems.iter().map(ToString::to_string).collect();
    /// let threads = "2:11: mistake: engine.clamav.threads: is out of range: it has to be 1 to 1024";
    /// assert!(problems.iter().any(|problem| problem == threads));
    /// assert!(problems.iter().any(|problem| problem.contains("did you mean `store`?")));
    /// ```
    pub fn check(text: &str, base: &Path, environment: &Environment<'_>) -> Checked {
        let (config, problems) = read_document(text, base, Some(environment), Provided::new());
        Checked { config, problems }
    }

    /// Reads and checks a file, with the variables of this process.
    ///
    /// # Errors
    ///
    /// The file cannot be read. What is wrong with it is in the answer.
    pub async fn check_file(path: impl AsRef<Path>) -> Result<Checked> {
        let path = path.as_ref().to_owned();
        blocking(move || {
            let (text, base) = read_file(&path).map_err(|why| why.about(path.display().to_string()))?;
            Ok(Self::check(&text, &base, &|name| std::env::var(name).ok()))
        })
        .await
    }

    /// Reads a file that has to be without mistakes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] with every mistake, one a line; or the file cannot be read.
    pub async fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let checked = Self::check_file(path).await?;
        let file = path.display();
        checked.config.ok_or_else(|| {
            let mistakes = checked.problems.iter().filter(|problem| problem.severity == Severity::Mistake);
            let lines: Vec<_> = mistakes.map(|problem| format!("{file}:{problem}")).collect();
            Error::new(ErrorKind::Config, lines.join("\n"))
        })
    }

    /// What may not be what the writer of the file means.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The store.
    pub fn store_url(&self) -> &StoreUrl {
        &self.store
    }

    /// The queue, if one is set up.
    pub fn queue_url(&self) -> Option<&QueueUrl> {
        self.queue.as_ref()
    }

    /// How a worker works.
    pub fn worker(&self) -> &WorkerOptions {
        &self.worker
    }

    /// The addresses to process again and again: short names of buckets with the prefixes to watch in them.
    pub fn watched(&self) -> impl Iterator<Item = (&str, &str)> {
        self.buckets.iter().filter_map(|bucket| Some((bucket.name.as_str(), bucket.watch.as_deref()?)))
    }

    /// Time from the end of one round over the watched buckets to the beginning of the next.
    pub fn interval(&self) -> Duration {
        self.run.interval
    }

    /// How long the end waits for workflows that have begun.
    pub fn drain_deadline(&self) -> Duration {
        self.run.drain
    }
}

/// Reads a document; there is a configuration only where it has no mistake.
fn read_document(
    text: &str,
    base: &Path,
    environment: Option<&Environment<'_>>,
    provided: Provided,
) -> (Option<Config>, Vec<Problem>) {
    let reader = Reader::new(text, base, environment, provided);
    let config = reader.read_root(read);
    let problems = reader.problems();
    let is_whole = problems.iter().all(|problem| problem.severity != Severity::Mistake);
    let config = config.filter(|_| is_whole).map(|config| Config { warnings: problems.clone(), ..config });
    (config, problems)
}

/// Reads every part, whatever is wrong with the others.
fn read(root: &Section<'_>) -> Option<Config> {
    let (engines, detect) = engine::read(root);
    let store = store::read(root);
    let (queue, worker) = (queue::read(root), queue::worker(root));
    let (buckets, names) = buckets::read(root);
    engine::sources(root.reader, &engines, &buckets);
    let workflows = workflows::workflows(root, &buckets, &names);
    workflows::sources(root.reader, &buckets, &workflows);
    let policy = workflows::policy(root, &workflows, detect.as_ref());
    let (limits, run) = (limits::limits(root), limits::run(root));
    if !buckets.is_empty() && queue.is_none() && buckets.iter().all(|bucket| bucket.watch.is_none()) {
        let at = buckets.iter().map(|bucket| bucket.at).min().unwrap_or_default();
        let why =
            "no bucket is watched: `run` has nothing to do; write watch = true for one of them, or [queue] for `work`";
        root.reader.note(Severity::Warning, at, "buckets", why, true);
    }
    let (provided, warnings) = (root.reader.provided.clone(), Vec::new());
    let store = store?;
    Some(Config { engines, detect, store, queue, worker, buckets, policy, workflows, limits, run, provided, warnings })
}

fn read_file(path: &Path) -> Result<(String, PathBuf)> {
    let io = |why| Error::io("the configuration file cannot be read", why);
    let absolute = std::path::absolute(path).map_err(io)?;
    let data = std::fs::metadata(&absolute).map_err(io)?;
    if data.is_dir() {
        return Err(Error::new(ErrorKind::Config, "is a folder; name the configuration file in it"));
    }
    if data.len() > LARGEST_FILE {
        return Err(Error::new(ErrorKind::Config, "is no configuration file: it has more than a megabyte"));
    }
    let bytes = std::fs::read(&absolute).map_err(io)?;
    let text = String::from_utf8(bytes).map_err(|why| {
        let line = why.as_bytes()[..why.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::new(ErrorKind::Config, format!("is no configuration file: line {line} is not UTF-8 text"))
    })?;
    let base = absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    Ok((text, base))
}

#[cfg(test)]
mod tests;
