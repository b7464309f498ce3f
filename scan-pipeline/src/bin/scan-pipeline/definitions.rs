//! Which definitions to load, how old they are, and what to say when they cannot be loaded.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use scan_pipeline::clamav::{EngineBuilder, EngineInfo, Error, ErrorKind, default_definitions_dir};

use crate::args::DefinitionsArgs;

/// The environment variable that names the definitions folder.
pub(crate) const VARIABLE: &str = "SCAN_PIPELINE_DEFINITIONS";
/// Official definitions change several times a day; older ones than this miss what is going round.
pub(crate) const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where the definitions come from.
#[derive(Debug)]
pub(crate) struct Sources(Vec<PathBuf>);

impl Sources {
    /// What was asked for: by option, else by the environment, else the official ones.
    pub(crate) fn new(args: &DefinitionsArgs) -> Self {
        if !args.dirs.is_empty() {
            return Self(args.dirs.clone());
        }
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(dir) => Self(vec![dir.into()]),
            None => Self(vec![default_definitions_dir()]),
        }
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    /// The first of them, to name in messages about all.
    pub(crate) fn first(&self) -> &Path {
        self.0.first().map_or(Path::new(""), PathBuf::as_path)
    }

    pub(crate) fn builder(&self) -> EngineBuilder {
        self.0.iter().fold(EngineBuilder::new(), |builder, path| builder.definitions(path))
    }
}

/// What to do about an engine that could not be built.
pub(crate) fn advice(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::Definitions if error.is_retryable() => Some("Something updates them right now: try again."),
        ErrorKind::Definitions => Some(
            "Name a good folder with --definitions DIR or SCAN_PIPELINE_DEFINITIONS, or get the official ones: \
             install freshclam (Debian: apt-get install clamav-freshclam) and run it.",
        ),
        ErrorKind::TempDir => Some("Set TMPDIR to a directory that exists, has room and may be written to."),
        ErrorKind::Config => Some("See scan-pipeline scan --help for the options."),
        ErrorKind::Memory => Some("Official definitions need about 1.5 GiB: free some memory."),
        _ => None,
    }
}

/// The age of the official definitions, if these are some: only they carry a version and a build time.
pub(crate) fn official_age(info: &EngineInfo) -> Option<Duration> {
    let newest = info.databases.iter().filter(|database| database.version.is_some()).filter_map(|d| d.built).max()?;
    Some(SystemTime::now().duration_since(newest).unwrap_or_default())
}

/// Whole days.
pub(crate) fn days(age: Duration) -> u64 {
    age.as_secs() / (24 * 3600)
}
