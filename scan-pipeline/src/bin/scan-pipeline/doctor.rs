//! `scan-pipeline doctor`: tries what a scan needs, and says what to do about what is missing.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use scan_pipeline::clamav::{Engine, Limits};
use scan_pipeline::engine::clamav;
use scan_pipeline::model::{EngineInfo, rfc3339};
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::definitions::{self, Sources};
use crate::machine;
use crate::probe::Probe;
use crate::text::{bytes, duration, plural, printable};
use crate::{EXIT_CLEAN, EXIT_ERROR};

/// The `schema` of the report as JSON.
const SCHEMA: &str = "scan-pipeline.doctor/1";
/// Less free room for temporary files than this fails on the first larger archive.
const SCARCE_SPACE: u64 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Scans work, but something should be looked at.
    Warn,
    /// Scans fail.
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, message: message.into(), advice: None }
    }

    fn warn(name: &'static str, message: impl Into<String>, advice: &str) -> Self {
        Self { name, status: Status::Warn, message: message.into(), advice: Some(advice.to_owned()) }
    }

    fn fail(name: &'static str, message: impl Into<String>, advice: Option<&str>) -> Self {
        Self { name, status: Status::Fail, message: message.into(), advice: advice.map(str::to_owned) }
    }
}

#[derive(Debug, Serialize)]
struct DoctorJson<'a> {
    schema: &'static str,
    ok: bool,
    version: &'static str,
    engine: Option<EngineInfo>,
    checks: &'a [Check],
}

/// Looks at everything and returns the exit code.
pub(crate) fn run(args: &DoctorArgs) -> io::Result<u8> {
    let sources = Sources::new(&args.definitions);
    let probe = Probe::new();
    let mut checks = vec![library(&probe), temporary_directory()];
    let before = (machine::available_memory(), machine::resident_memory());
    let started = Instant::now();
    let engine = sources.builder().build();
    let took = started.elapsed();
    match &engine {
        Ok(engine) => checks.extend(loaded(engine, &sources, took)),
        Err(why) => checks.push(Check::fail("definitions", why.to_string(), definitions::advice(why))),
    }
    checks.push(memory(engine.is_ok(), before));
    checks.push(rar(&probe));
    checks.push(threads());
    checks.push(open_files());

    let ok = checks.iter().all(|check| check.status != Status::Fail);
    let mut out = io::stdout().lock();
    if args.json {
        let engine = engine.as_ref().ok().map(|engine| clamav::engine_info(engine.info(), String::new()));
        let json = DoctorJson { schema: SCHEMA, ok, version: env!("CARGO_PKG_VERSION"), engine, checks: &checks };
        writeln!(out, "{}", serde_json::to_string(&json)?)?;
    } else {
        for check in &checks {
            let word = match check.status {
                Status::Ok => "ok",
                Status::Warn => "WARN",
                Status::Fail => "FAIL",
            };
            writeln!(out, "{word:<5} {:<13} {}", check.name, printable(&check.message))?;
            if let Some(advice) = &check.advice {
                writeln!(out, "{:20}-> {}", "", printable(advice))?;
            }
        }
        let warnings = checks.iter().filter(|check| check.status == Status::Warn).count();
        writeln!(
            out,
            "\n{}",
            match (ok, warnings) {
                (true, 0) => String::from("This machine can scan."),
                (true, count) => format!("This machine can scan, with {}.", plural(count as u64, "warning")),
                (false, _) => String::from("Scans would fail here until what is marked FAIL is mended."),
            }
        )?;
    }
    Ok(if ok { EXIT_CLEAN } else { EXIT_ERROR })
}

fn library(probe: &Result<Probe, String>) -> Check {
    match probe {
        Ok(_) => Check::ok(
            "library",
            format!(
                "scan-pipeline {} with libclamav {}",
                env!("CARGO_PKG_VERSION"),
                scan_pipeline::clamav::library_version()
            ),
        ),
        Err(why) => Check::fail(
            "library",
            format!("libclamav could not be tried out: {why}"),
            Some("See the other lines for the cause; most often it is the temporary directory."),
        ),
    }
}

fn temporary_directory() -> Check {
    const NAME: &str = "temp dir";
    let dir = std::env::temp_dir();
    let place = dir.display();
    if let Err(why) = machine::try_writing(&dir) {
        return Check::fail(
            NAME,
            format!("{place} cannot be written to: {why}"),
            Some("Set TMPDIR to a directory that exists, has room and may be written to."),
        );
    }
    match machine::free_space(&dir) {
        None => Check::ok(NAME, format!("{place} can be written to")),
        Some(free) if free < SCARCE_SPACE => Check::fail(
            NAME,
            format!("{place} can be written to, but only {} are free", bytes(free)),
            Some("Make room there, or set TMPDIR to a directory that has some."),
        ),
        Some(free) if free < Limits::default().max_scan_size => Check::warn(
            NAME,
            format!("{place} can be written to, and {} are free", bytes(free)),
            "One scan may unpack 400 MiB: make room, set TMPDIR, or lower --max-scan.",
        ),
        Some(free) => Check::ok(NAME, format!("{place} can be written to, and {} are free", bytes(free))),
    }
}

/// The engine with the definitions that scans would use was built, which includes finding its canary.
fn loaded(engine: &Engine, sources: &Sources, took: Duration) -> Vec<Check> {
    let info = engine.info();
    let places: Vec<_> = sources.paths().iter().map(|path| path.display().to_string()).collect();
    let signatures = plural(u64::from(info.signatures), "signature");
    let mut databases: Vec<String> = info
        .databases
        .iter()
        .take(10)
        .map(|database| {
            let version = database.version.map(|version| format!(" version {version}")).unwrap_or_default();
            let built = database.built.map(|built| format!(" of {}", &rfc3339(built)[..10])).unwrap_or_default();
            format!("{}{version}{built}", database.name)
        })
        .collect();
    if info.databases.len() > databases.len() {
        databases.push(format!("and {} more", info.databases.len() - databases.len()));
    }
    let age = match definitions::official_age(info) {
        None => Check::warn(
            "age",
            "none of these databases is official, so their age says nothing",
            "For real scans get the official ones with freshclam; test definitions find test files only.",
        ),
        Some(age) if age > definitions::STALE => Check::warn(
            "age",
            format!("the official definitions are {} old", plural(definitions::days(age), "day")),
            "Run freshclam, or find out why it does not run by itself.",
        ),
        Some(age) => {
            let hours = age.as_secs() / 3600;
            Check::ok("age", format!("the official definitions are {} old", plural(hours, "hour")))
        }
    };
    vec![
        Check::ok(
            "definitions",
            format!("{signatures} from {}, loaded in {}: {}", places.join(", "), duration(took), databases.join(", ")),
        ),
        Check::ok("canary", "a known marker was found, both plain and in a zip"),
        age,
    ]
}

/// What is available against what is needed: the engine as measured, a second one for a reload beside it, and for
/// each thread one file of the largest size and as much again for what is unpacked from it.
fn memory(loaded: bool, (available, before): (Option<u64>, Option<u64>)) -> Check {
    const NAME: &str = "memory";
    let Some(available) = available else {
        return Check::ok(NAME, "how much is available cannot be found out on this system");
    };
    if !loaded {
        return Check::ok(NAME, format!("{} are available", bytes(available)));
    }
    let now = machine::resident_memory().unwrap_or(0);
    let engine = now.saturating_sub(before.unwrap_or(0));
    let scans = 2 * Limits::default().max_file_size * cores();
    let most = engine.saturating_add(scans);
    let message = format!(
        "{} are available; these definitions take {}, and {} at once up to {} more",
        bytes(available),
        bytes(engine),
        plural(cores(), "scan"),
        bytes(scans)
    );
    if available < most {
        let advice = "Lower --threads or --max-file, or give it more memory: a process without is killed.";
        Check::warn(NAME, message, advice)
    } else {
        Check::ok(NAME, message)
    }
}

fn rar(probe: &Result<Probe, String>) -> Check {
    const NAME: &str = "rar";
    match probe.as_ref().map(Probe::unpacks_rar) {
        Ok(Ok(true)) => Check::ok(NAME, "libclamav unpacks RAR: the member of a small archive was found"),
        Ok(Ok(false)) => Check::warn(
            NAME,
            "libclamav did not unpack a small RAR archive, so every RAR file will be unscannable (unsupported)",
            "Install libclamunrar if RAR matters (Debian: libclamunrar in non-free; Fedora: in RPM Fusion).",
        ),
        Ok(Err(why)) => Check::fail(NAME, format!("a small RAR archive could not be scanned: {why}"), None),
        Err(_) => Check::warn(NAME, "was not tried, because libclamav could not be", "See the line about the library."),
    }
}

fn threads() -> Check {
    Check::ok("threads", format!("{} at once, each with a stack of 8 MiB", plural(cores(), "scan")))
}

/// A scan holds its temporary files open, a few for each level of nesting.
fn open_files() -> Check {
    const NAME: &str = "open files";
    let needed = 64 + cores() * 64;
    match machine::open_files() {
        None => Check::ok(NAME, "without a limit"),
        Some(most) if most < needed => Check::warn(
            NAME,
            format!("at most {most}, which deeply nested files may exceed"),
            &format!("Raise it: ulimit -n {}", needed.max(1024)),
        ),
        Some(most) => Check::ok(NAME, format!("at most {}", crate::text::number(most))),
    }
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64
}
