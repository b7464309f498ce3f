//! `[engine.*]`: what scans.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::buckets::BucketSpec;
use super::detect::{self, DetectSpec};
use super::read::{Reader, Section};
use super::text::Text;
use crate::Result;
use crate::engine::{Clamd, Engine};
use crate::model::Limits;
use crate::objects::Buckets;
#[cfg(not(feature = "clamav"))]
use crate::{Error, ErrorKind};

/// One engine; several are a group whose worst verdict counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum EngineSpec {
    ClamAv(ClamAvSpec),
    Clamd(ClamdSpec),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClamAvSpec {
    /// None means where freshclam puts them.
    pub(super) definitions: Vec<Definitions>,
    pub(super) limits: Limits,
    pub(super) threads: Option<usize>,
    pub(super) temp_dir: Option<PathBuf>,
    pub(super) alert_macros: bool,
    pub(super) alert_broken: bool,
}

/// Where signature databases are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Definitions {
    /// A folder, or one of them.
    Path(PathBuf),
    /// An address in one of the buckets.
    Address(Text),
}

impl Definitions {
    fn describe(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Address(text) => text.address(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClamdSpec {
    pub(super) address: String,
    pub(super) max_size: Option<u64>,
    pub(super) connections: Option<usize>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) io_timeout: Option<Duration>,
    pub(super) scan_timeout: Option<Duration>,
    pub(super) pass_descriptors: Option<bool>,
    pub(super) configuration: Option<String>,
}

/// The largest file that libclamav can be told to scan.
const LARGEST_FILE: u64 = (2 << 30) - 3;

impl EngineSpec {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::ClamAv(spec) => match spec.definitions.as_slice() {
                [] => String::from("libclamav in process, with the definitions that freshclam keeps"),
                all => {
                    let all: Vec<_> = all.iter().map(Definitions::describe).collect();
                    format!("libclamav in process, with the definitions in {}", all.join(" and "))
                }
            },
            Self::Clamd(spec) => format!("clamd at {}, which cannot prove what it looked at", spec.address),
        }
    }

    /// The largest file that it scans, where that is set here.
    pub(super) fn max_file_size(&self) -> Option<u64> {
        match self {
            Self::ClamAv(spec) => Some(spec.limits.max_file_size),
            Self::Clamd(spec) => spec.max_size,
        }
    }
}

impl ClamAvSpec {
    #[cfg(feature = "clamav")]
    pub(super) async fn build(&self, detect: Option<&DetectSpec>, buckets: &Buckets) -> Result<Arc<dyn Engine>> {
        let options = crate::clamav::ScanOptions {
            alert_macros: self.alert_macros,
            alert_broken: self.alert_broken,
            ..crate::clamav::ScanOptions::default()
        };
        let mut builder = crate::engine::ClamAv::builder().limits(self.limits).options(options);
        for definitions in &self.definitions {
            builder = match definitions {
                Definitions::Path(path) => builder.definitions(path),
                Definitions::Address(text) => {
                    let (bucket, prefix) = buckets.within(&text.value)?;
                    // Of a folder, as of `s3://definitions/clamav`, what lies in it is meant.
                    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
                    builder.definitions_in(Arc::clone(bucket), format!("{prefix}{slash}"))
                }
            };
        }
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        if let Some(detect) = detect {
            builder = builder.detectors(detect.build()?);
            if let Some(most) = detect.max_findings {
                builder = builder.max_findings(most);
            }
        }
        if let Some(dir) = &self.temp_dir {
            builder = builder.temp_dir(dir);
        }
        Ok(Arc::new(builder.build().await?))
    }

    #[cfg(not(feature = "clamav"))]
    pub(super) async fn build(&self, _: Option<&DetectSpec>, _: &Buckets) -> Result<Arc<dyn Engine>> {
        Err(Error::new(ErrorKind::Unsupported, "this build has no libclamav; rebuild with --features clamav"))
    }
}

impl ClamdSpec {
    pub(super) fn build(&self) -> Result<Arc<dyn Engine>> {
        let mut builder = Clamd::at(&self.address)?;
        if let Some(bytes) = self.max_size {
            builder = builder.max_size(bytes);
        }
        if let Some(most) = self.connections {
            builder = builder.connections(most);
        }
        if let Some(time) = self.connect_timeout {
            builder = builder.connect_timeout(time);
        }
        if let Some(time) = self.io_timeout {
            builder = builder.io_timeout(time);
        }
        if let Some(time) = self.scan_timeout {
            builder = builder.scan_timeout(time);
        }
        if let Some(pass) = self.pass_descriptors {
            builder = builder.pass_descriptors(pass);
        }
        if let Some(words) = &self.configuration {
            builder = builder.configuration(words.as_str());
        }
        Ok(Arc::new(builder.build()?))
    }
}

/// The engines, and what they look for beside malware.
pub(super) fn read(root: &Section<'_>) -> (Vec<EngineSpec>, Option<DetectSpec>) {
    let item = root.get("engine");
    if root.reader.provided.engine.is_some() {
        if let Some(item) = item {
            item.mistake("the program brings an engine of its own, which is set up already: leave this out");
        }
        return (Vec::new(), None);
    }
    let Some(item) = item else {
        root.missing("engine", "no engine is set up: write [engine.clamav] for libclamav in this process");
        return (Vec::new(), None);
    };
    let Some(section) = item.section() else { return (Vec::new(), None) };
    let mut engines = Vec::new();
    let detect = section.read(|engine| {
        let detect = detect::read(engine);
        if let Some(section) = engine.section("clamav") {
            let spec = section.read(clamav);
            if cfg!(feature = "clamav") {
                engines.push(EngineSpec::ClamAv(spec));
            } else {
                section.mistake("this build has no libclamav; rebuild with --features clamav");
            }
        }
        if let Some(section) = engine.section("clamd")
            && let Some(spec) = section.read(clamd)
        {
            engines.push(EngineSpec::Clamd(spec));
        }
        match (engine.is_there("clamav"), engine.is_there("clamd")) {
            (false, false) if detect.is_some() => engine.missing(
                "clamav",
                "detect looks for sensitive data and not for malware: write [engine.clamav] or [engine.clamd] as well",
            ),
            (false, false) => engine.missing("clamav", "no engine is set up: write [engine.clamav] or [engine.clamd]"),
            (false, true) if detect.is_some() => engine.warning(
                "detect: clamd shows nobody what it unpacks, so sensitive data inside of archives, PDF and Office files \
                 is not found; with [engine.clamav] it is",
            ),
            _ => {}
        }
        detect
    });
    (engines, detect)
}

fn clamav(section: &Section<'_>) -> ClamAvSpec {
    let reader = section.reader;
    let definitions = section.texts("definitions");
    ClamAvSpec {
        definitions: definitions.into_iter().filter_map(|text| source(reader, text)).collect(),
        limits: section.section("limits").map_or_else(Limits::default, |section| section.read(limits)),
        threads: section.count("threads", 1..=1024).map(|threads| threads as usize),
        temp_dir: section.text("temp_dir").map(|text| text.path(reader)),
        alert_macros: section.flag("alert_macros").unwrap_or_default(),
        alert_broken: section.flag("alert_broken").unwrap_or_default(),
    }
}

/// A path, or an address.
fn source(reader: &Reader<'_>, text: Text) -> Option<Definitions> {
    let path = match url::Url::parse(&text.value) {
        Ok(url) if url.scheme() == "file" => match url.to_file_path() {
            Ok(path) if url.query().is_none() && url.fragment().is_none() => path,
            _ => {
                let why = "is no address of a folder: write file:///absolute/path, with %3F for ? and %23 for #";
                text.mistake(reader, format!("`{}` {why}", text.written));
                return None;
            }
        },
        Ok(_) if text.value.contains("://") => return Some(Definitions::Address(text)),
        _ => text.path(reader),
    };
    // They may come before the start; that is worth a word, and no mistake.
    if !path.exists() {
        text.warning(reader, format!("`{}` does not exist (yet)", text.written));
    }
    Some(Definitions::Path(path))
}

/// Definitions that are fetched come from a bucket that is set up, with its region and credentials.
pub(super) fn sources(reader: &Reader<'_>, engines: &[EngineSpec], buckets: &[BucketSpec]) {
    for engine in engines {
        let EngineSpec::ClamAv(spec) = engine else { continue };
        for definitions in &spec.definitions {
            let Definitions::Address(text) = definitions else { continue };
            if !buckets.iter().any(|bucket| bucket.place.has(&text.value)) {
                let why = "is in none of the buckets: add the one that has the databases to [buckets], or have freshclam \
                           fetch the definitions, and name the folder that it keeps them in";
                text.dangling(reader, format!("`{}` {why}", text.address()));
            }
        }
    }
}

fn limits(section: &Section<'_>) -> Limits {
    let default = Limits::default();
    let count = |name, most| section.count(name, 1..=most).and_then(|count| u32::try_from(count).ok());
    let times = Duration::from_millis(1)..=Duration::from_secs(49 * 86_400);
    let limits = Limits {
        max_file_size: section.size("max_file_size", 1..=LARGEST_FILE).unwrap_or(default.max_file_size),
        max_scan_size: section.size("max_scan_size", 1..=u64::MAX).unwrap_or(default.max_scan_size),
        max_recursion: count("max_recursion", 100).unwrap_or(default.max_recursion),
        max_files: count("max_files", i32::MAX as u64).unwrap_or(default.max_files),
        max_scan_time: section.time("max_scan_time", times).unwrap_or(default.max_scan_time),
    };
    if limits.max_scan_size < limits.max_file_size {
        section.warning("max_scan_size is below max_file_size: larger files than that are never clean");
    }
    limits
}

fn clamd(section: &Section<'_>) -> Option<ClamdSpec> {
    const FORM: &str = "write unix:/run/clamav/clamd.ctl or tcp://host:3310";
    let times = Duration::from_millis(1)..=Duration::from_secs(86_400);
    let address = section.required("address", FORM);
    let spec = ClamdSpec {
        address: address.as_ref().map(|address| address.value.clone()).unwrap_or_default(),
        max_size: section.size("max_size", 1..=u64::MAX),
        connections: section.count("connections", 1..=1024).map(|count| count as usize),
        connect_timeout: section.time("connect_timeout", times.clone()),
        io_timeout: section.time("io_timeout", times.clone()),
        scan_timeout: section.time("scan_timeout", times),
        pass_descriptors: section.flag("pass_descriptors"),
        configuration: section.text("configuration").map(|words| words.value),
    };
    let address = address?;
    let path = address.value.strip_prefix("unix:").unwrap_or(&address.value);
    let host = address.value.strip_prefix("tcp://").unwrap_or(&address.value);
    let port = host.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    if !path.starts_with('/') && port.is_none_or(|(host, port)| host.is_empty() || port == 0) {
        address.mistake(section.reader, format!("`{}` is no address of clamd: {FORM}", address.written));
        return None;
    }
    if port.is_some_and(|(host, _)| !["127.0.0.1", "localhost", "[::1]"].contains(&host)) {
        address
            .warning(section.reader, "clamd knows no encryption: files can be read and verdicts changed on their way");
    }
    Some(spec)
}
