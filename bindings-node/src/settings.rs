//! The settings of a scanner, as JSON.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use scan_pipeline::config::{engine_from_value, parse_duration, parse_size};
use scan_pipeline::content::{Budget, Spool, SpoolOptions};
use scan_pipeline::engine::{Closure, Engine};
use scan_pipeline::model::{ContentDigest, Reason, ReasonKind, Threat, Verdict};
use scan_pipeline::{Error, ErrorKind};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Failure, Result};

/// What was asked for.
pub(crate) struct Settings {
    value: Value,
    base: PathBuf,
    options: SpoolOptions,
    budget: Budget,
}

/// How contents are taken in, in the words of the configuration's table `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SpoolSettings {
    max_size: Option<Value>,
    memory: Option<Value>,
    memory_threshold: Option<Value>,
    stall_timeout: Option<String>,
    read_timeout: Option<String>,
    room_timeout: Option<String>,
}

/// How long a scan waits for memory while nobody gives any back.
const ROOM_TIMEOUT: Duration = Duration::from_secs(30);

impl SpoolSettings {
    fn parse(value: &Value) -> Result<Self> {
        if value.is_null() {
            return Ok(Self::default());
        }
        Self::deserialize(value).map_err(|why| wrong("spool", why))
    }

    fn options(&self, max_size: Option<u64>, dir: PathBuf) -> Result<(SpoolOptions, Budget)> {
        let default = SpoolOptions::default();
        let options = SpoolOptions {
            max_size: size("spool.max_size", &self.max_size)?.or(max_size).unwrap_or(default.max_size),
            memory_threshold: size("spool.memory_threshold", &self.memory_threshold)?
                .unwrap_or(default.memory_threshold),
            stall_timeout: time("spool.stall_timeout", &self.stall_timeout)?.unwrap_or(default.stall_timeout),
            max_time: time("spool.read_timeout", &self.read_timeout)?.unwrap_or(default.max_time),
            dir: Some(dir),
        };
        let budget = size("spool.memory", &self.memory)?.map_or_else(Budget::default, Budget::new);
        let patience = time("spool.room_timeout", &self.room_timeout)?.unwrap_or(ROOM_TIMEOUT);
        Ok((options, budget.patience(patience)))
    }
}

fn wrong(key: &str, why: impl std::fmt::Display) -> Failure {
    Error::new(ErrorKind::Config, format!("{key}: {why}")).into()
}

/// A number of bytes, or a text such as `25MB`.
fn size(key: &str, value: &Option<Value>) -> Result<Option<u64>> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => parse_size(text).map(Some).map_err(|why| wrong(key, why)),
        Some(value) => match value.as_u64() {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(wrong(key, "is no size: write a number of bytes, or a text such as 25MB")),
        },
    }
}

/// Paths that mean the same wherever the process goes.
fn absolute(paths: &mut Value, base: &Path) {
    match paths {
        // An address means the same anywhere.
        Value::String(path) if path.contains("://") => {}
        Value::String(path) => *path = base.join(&*path).to_string_lossy().into_owned(),
        Value::Array(all) => all.iter_mut().for_each(|path| absolute(path, base)),
        _ => {}
    }
}

/// A text such as `30s`.
fn time(key: &str, value: &Option<String>) -> Result<Option<Duration>> {
    value.as_deref().map(|text| parse_duration(text).map_err(|why| wrong(key, why))).transpose()
}

impl Settings {
    pub(crate) fn parse(text: &str, base: &Path) -> Result<Self> {
        let mut value: Value = serde_json::from_str(text)
            .map_err(|why| Error::new(ErrorKind::Config, format!("the settings are no JSON: {why}")))?;
        for paths in ["definitions", "temp_dir"] {
            if let Some(paths) = value["engine"]["clamav"].get_mut(paths) {
                absolute(paths, base);
            }
        }
        let spool = SpoolSettings::parse(&value["spool"])?;
        let clamav = &value["engine"]["clamav"];
        let temp_dir = clamav["temp_dir"].as_str().map_or_else(std::env::temp_dir, |dir| base.join(dir));
        // What no engine scans need not be taken in. A size that cannot be read is the engine's to refuse.
        let max_size = clamav["limits"].get("max_file_size").cloned();
        let max_size = size("max_file_size", &max_size).unwrap_or_default();
        let (options, budget) = spool.options(max_size, temp_dir)?;
        Ok(Self { value, base: base.to_owned(), options, budget })
    }

    /// The same for the same settings, and no secret of theirs can be read from it.
    pub(crate) fn digest(&self) -> ContentDigest {
        ContentDigest::of(self.value.to_string().as_bytes())
    }

    /// The same where an engine of the same settings does, however contents are taken in.
    pub(crate) fn engine_digest(&self) -> ContentDigest {
        ContentDigest::of(self.value["engine"].to_string().as_bytes())
    }

    pub(crate) async fn engine(&self) -> Result<Arc<dyn Engine>> {
        Ok(engine_from_value(&self.value["engine"], &self.base).await?)
    }

    /// An engine that looks for texts instead of malware.
    pub(crate) fn double(&self) -> Result<impl Engine + use<>> {
        #[derive(Deserialize)]
        struct Texts {
            infected: Vec<String>,
            unscannable: Vec<String>,
        }
        let texts = Texts::deserialize(&self.value["double"]).map_err(|why| wrong("double", why))?;
        let found = |bytes: &[u8], all: &[String]| {
            all.iter()
                .find(|text| !text.is_empty() && bytes.windows(text.len()).any(|part| part == text.as_bytes()))
                .cloned()
        };
        Ok(Closure::new("double", move |bytes: &[u8], name: &str| {
            let layer_path = name.to_owned();
            if let Some(signature) = found(bytes, &texts.infected) {
                return Ok(Verdict::Infected { threats: vec![Threat { signature, layer_path }] });
            }
            Ok(match found(bytes, &texts.unscannable) {
                Some(text) => {
                    let reason = Reason { kind: ReasonKind::Encrypted, layer_path, detail: Some(text) };
                    Verdict::Unscannable { reasons: vec![reason] }
                }
                None => Verdict::Clean,
            })
        }))
    }

    /// How contents are taken in, and the memory for them.
    pub(crate) fn spool(&self) -> (SpoolOptions, Budget) {
        (self.options.clone(), self.budget.clone())
    }

    /// Where libclamav unpacks to, and where large contents wait.
    pub(crate) fn temp_dir(&self) -> PathBuf {
        self.options.dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// A spool for what comes in parts, and one for what the caller holds in memory anyway. They share a budget.
    pub(crate) fn spools(&self) -> (Spool, Spool) {
        let memory = SpoolOptions { memory_threshold: self.options.max_size, ..self.options.clone() };
        (Spool::new(self.options.clone(), self.budget.clone()), Spool::new(memory, self.budget.clone()))
    }
}
