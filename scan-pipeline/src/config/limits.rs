//! `[limits]` and `[run]`: how much at once, how long, and how often.

use std::path::PathBuf;
use std::time::Duration;

use super::read::Section;

/// How much a pipeline takes; `None` is the pipeline's own default.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LimitsSpec {
    pub(super) max_size: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) memory_threshold: Option<u64>,
    pub(super) temp_dir: Option<PathBuf>,
    pub(super) stall_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) concurrency: Option<usize>,
    pub(super) scan_timeout: Option<Duration>,
    pub(super) scan_attempts: Option<u32>,
    pub(super) lease: Option<Duration>,
    pub(super) patience: Option<Duration>,
    pub(super) settle: Option<Duration>,
    pub(super) verdict_cache: Option<usize>,
    pub(super) durable_verdict_cache: Option<bool>,
}

/// How the `run` command works.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunSpec {
    pub(super) interval: Duration,
    pub(super) drain: Duration,
}

impl Default for RunSpec {
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), drain: Duration::from_secs(30) }
    }
}

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn limits(root: &Section<'_>) -> LimitsSpec {
    let Some(section) = root.section("limits") else { return LimitsSpec::default() };
    section.read(|limits| {
        let spec = LimitsSpec {
            max_size: limits.size("max_size", 1..=u64::MAX),
            memory: limits.size("memory", 1 << 20..=1 << 42),
            memory_threshold: limits.size("memory_threshold", 0..=1 << 42),
            temp_dir: limits.text("temp_dir").map(|dir| dir.path(limits.reader)),
            stall_timeout: limits.time("stall_timeout", SECOND..=DAY),
            read_timeout: limits.time("read_timeout", SECOND..=7 * DAY),
            concurrency: limits.count("concurrency", 1..=65_536).map(|count| count as usize),
            scan_timeout: limits.time("scan_timeout", SECOND..=DAY),
            scan_attempts: limits.count("scan_attempts", 1..=1000).and_then(|count| u32::try_from(count).ok()),
            lease: limits.time("lease", SECOND..=DAY),
            patience: limits.time("patience", Duration::ZERO..=DAY),
            settle: limits.time("settle", Duration::ZERO..=DAY),
            verdict_cache: limits.count("verdict_cache", 0..=1 << 30).map(|count| count as usize),
            durable_verdict_cache: limits.flag("durable_verdict_cache"),
        };
        if spec.memory_threshold.is_some_and(|threshold| threshold > spec.memory.unwrap_or(512 << 20)) {
            limits.warning("memory_threshold is above memory: a content of that size takes all of it, alone");
        }
        spec
    })
}

pub(super) fn run(root: &Section<'_>) -> RunSpec {
    let default = RunSpec::default();
    let Some(section) = root.section("run") else { return default };
    section.read(|run| RunSpec {
        interval: run.time("interval", SECOND..=30 * DAY).unwrap_or(default.interval),
        drain: run.time("drain", Duration::ZERO..=DAY).unwrap_or(default.drain),
    })
}
