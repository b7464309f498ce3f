//! `scan-pipeline scan`: walk, submit, collect in the order of the walk, show.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use scan_pipeline::clamav::{Coverage, Engine, PendingScan, Reason, ReasonKind, Report, ScanRequest, Verdict};
use scan_pipeline::digest::DigestTaker;
use scan_pipeline::engine::{Detectors, FindingTaker, Findings};
use scan_pipeline::json::ErrorJson;
use scan_pipeline::model::ContentDigest;

use crate::args::ScanArgs;
use crate::definitions::{self, Sources};
use crate::outcome::{Counts, Outcome};
use crate::progress::Progress;
use crate::table::Table;
use crate::walk::{Found, Walk};
use crate::{EXIT_ERROR, EXIT_INFECTED, complain, detect, text};

/// Results that may wait for an earlier file's. The engine's own queue bounds what is in memory; this bounds how
/// far a slow file lets the others run ahead.
pub(crate) const AHEAD: usize = 256;
/// The name under which standard input is scanned and shown.
const STANDARD_INPUT: &str = "-";

/// Scans what the arguments name and returns the exit code.
pub(crate) fn run(args: &ScanArgs) -> io::Result<u8> {
    if args.paths.iter().filter(|path| path.as_os_str() == STANDARD_INPUT).count() > 1 {
        complain("standard input (-) is named more than once, but it can be read only once");
        return Ok(EXIT_ERROR);
    }
    let detectors = match detect::asked_for(args) {
        Ok(detectors) => detectors,
        Err(why) => {
            complain(&why);
            return Ok(EXIT_ERROR);
        }
    };
    if let (Some(detectors), true) = (&detectors, args.detect_only) {
        return detect::run(args, detectors.clone());
    }
    let progress = Progress::new(args.json);
    let sources = Sources::new(&args.definitions);
    let engine = match build(args, &sources) {
        Ok(engine) => engine,
        Err(why) => {
            progress.end();
            return refuse(args, &sources, &why);
        }
    };
    if let Some(age) = definitions::official_age(engine.info()).filter(|age| *age > definitions::STALE) {
        let days = definitions::days(age);
        complain(&format!("warning: the definitions are {days} days old; run freshclam to get new ones"));
    }
    progress.start(&args.paths);
    let mut run = Run {
        args,
        engine: &engine,
        detectors,
        started: Instant::now(),
        counts: Counts::default(),
        table: Table::new(args.verbose),
        progress,
    };
    let done = run.all();
    run.progress.end();
    match done.and_then(|()| if args.json { Ok(()) } else { run.conclude() }) {
        Ok(()) => Ok(run.counts.exit_code(args.allow_unscannable)),
        // What was found stays found when nobody reads on.
        Err(_) if run.counts.infected > 0 => Ok(EXIT_INFECTED),
        Err(why) => Err(why),
    }
}

fn build(args: &ScanArgs, sources: &Sources) -> scan_pipeline::clamav::Result<Engine> {
    let builder = sources.builder().limits(args.limits());
    match args.threads {
        Some(threads) => builder.threads(usize::from(threads)).build(),
        None => builder.build(),
    }
}

/// There is no engine, so nothing can be scanned: says so to the person and, with `--json`, to the program.
fn refuse(args: &ScanArgs, sources: &Sources, why: &scan_pipeline::clamav::Error) -> io::Result<u8> {
    complain(&format!("nothing was scanned: {}", in_terms_of_options(why.to_string())));
    if let Some(advice) = definitions::advice(why) {
        complain(advice);
    }
    if args.json {
        let message = why.to_string();
        let line = serde_json::to_string(&ErrorJson::new(sources.first(), why.kind().as_str(), &message))?;
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(EXIT_ERROR)
}

/// The engine names limits as its own users know them.
fn in_terms_of_options(message: String) -> String {
    [
        ("max_file_size", "--max-file"),
        ("max_scan_size", "--max-scan"),
        ("max_recursion", "--max-recursion"),
        ("max_files", "--max-files"),
        ("max_scan_time", "--timeout"),
    ]
    .into_iter()
    .find_map(|(limit, option)| Some(format!("{option}{}", message.strip_prefix(limit)?)))
    .unwrap_or(message)
}

/// A file on its way.
struct InFlight {
    path: PathBuf,
    state: State,
}

enum State {
    Done(Outcome),
    Running { scan: PendingScan, digest: DigestTaker, taker: Option<FindingTaker> },
}

struct Run<'a> {
    args: &'a ScanArgs,
    engine: &'a Engine,
    detectors: Option<Detectors>,
    started: Instant,
    counts: Counts,
    table: Table,
    progress: Progress,
}

impl Run<'_> {
    fn all(&mut self) -> io::Result<()> {
        let mut ahead: VecDeque<InFlight> = VecDeque::new();
        for found in Walk::new(self.args.paths.clone()) {
            if ahead.len() >= AHEAD
                && let Some(first) = ahead.pop_front()
            {
                self.collect(first)?;
            }
            ahead.push_back(self.begin(found));
        }
        ahead.into_iter().try_for_each(|next| self.collect(next))
    }

    fn begin(&self, found: Found) -> InFlight {
        match found {
            Found::File(path) => {
                let digest = DigestTaker::new();
                let (request, taker) = self.looking(ScanRequest::new().detector(digest.detector()));
                let state = match self.engine.submit(path.as_path(), request) {
                    Ok(scan) => State::Running { scan, digest, taker },
                    Err(why) => State::Done(Outcome::failed(&why)),
                };
                InFlight { path, state }
            }
            Found::StandardInput => {
                InFlight { path: PathBuf::from(STANDARD_INPUT), state: State::Done(self.scan_standard_input()) }
            }
            Found::Skipped { path, kind, message } => {
                InFlight { path, state: State::Done(Outcome::Skipped { kind, message }) }
            }
            Found::Failed { path, kind, message } => {
                InFlight { path, state: State::Done(Outcome::Failed { kind, message }) }
            }
        }
    }

    /// Waits for one file and shows what became of it.
    fn collect(&mut self, InFlight { path, state }: InFlight) -> io::Result<()> {
        let outcome = match state {
            State::Done(outcome) => outcome,
            State::Running { scan, digest, taker } => {
                self.progress.wait_for(&self.counts, &path);
                match scan.wait() {
                    Err(why) => Outcome::failed(&why),
                    // Too small for detectors, so its digest is of bytes that are read here.
                    Ok(report) if report.coverage.trivial && report.size > 0 => self.scan_tiny(&path, report.size),
                    Ok(report) => Outcome::Scanned {
                        sha256: digest.of(&report),
                        report: Box::new(report),
                        size_known: true,
                        found: taken(taker),
                    },
                }
            }
        };
        self.counts.add(&outcome);
        self.progress.step(&self.counts);
        if self.args.json {
            let line = outcome.to_json(&path)?;
            writeln!(io::stdout(), "{line}")
        } else {
            self.table.add(&path, &outcome);
            Ok(())
        }
    }

    fn conclude(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.table.write(&mut out)?;
        self.table.write_totals(&mut out, &self.counts, self.started.elapsed(), self.engine.info())?;
        if self.counts.unscannable > 0 {
            let exit = if self.args.allow_unscannable || self.counts.infected > 0 {
                ""
            } else {
                " The exit code is 2; with --allow-unscannable it would not be."
            };
            writeln!(
                out,
                "Unscannable means: no threat was found, but part of the file could not be looked at.{exit}"
            )?;
        }
        out.flush()
    }

    /// Has detectors see the layers, where some are asked for.
    fn looking(&self, request: ScanRequest) -> (ScanRequest, Option<FindingTaker>) {
        match self.detectors.as_ref().map(FindingTaker::new) {
            Some(taker) => (request.detector(taker.detector()), Some(taker)),
            None => (request, None),
        }
    }

    /// A file of 1 to 5 bytes, read here so that the digest is of the very bytes that were scanned.
    fn scan_tiny(&self, path: &Path, size: u64) -> Outcome {
        let mut bytes = Vec::new();
        let read = detect::open_regular(path).and_then(|file| file.take(size + 1).read_to_end(&mut bytes));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match read {
            Ok(_) if bytes.len() as u64 == size => self.scan_bytes(bytes, name),
            Ok(_) => Outcome::Failed { kind: "changed", message: String::from("the file changed while it was read") },
            Err(why) => {
                Outcome::Failed { kind: "io", message: format!("the file could not be read a second time: {why}") }
            }
        }
    }

    /// Standard input, held in memory up to the limit for a file.
    fn scan_standard_input(&self) -> Outcome {
        let most = self.engine.limits().max_file_size;
        let mut bytes = Vec::new();
        match io::stdin().lock().take(most.saturating_add(1)).read_to_end(&mut bytes) {
            Err(why) => Outcome::Failed { kind: "io", message: format!("standard input could not be read: {why}") },
            Ok(count) if count as u64 > most => beyond(self.engine, most),
            Ok(_) => self.scan_bytes(bytes, String::from("stdin")),
        }
    }

    fn scan_bytes(&self, bytes: Vec<u8>, name: String) -> Outcome {
        let sha256 = Some(ContentDigest::of(&bytes));
        let (request, taker) = self.looking(ScanRequest::named(name));
        match self.engine.scan(bytes, request) {
            Ok(report) => Outcome::Scanned { report: Box::new(report), sha256, size_known: true, found: taken(taker) },
            Err(why) => Outcome::failed(&why),
        }
    }
}

/// What was found, where somebody looked.
fn taken(taker: Option<FindingTaker>) -> Findings {
    taker.map(|taker| taker.take()).unwrap_or_default()
}

/// More came than the limit: none of it is scanned, because the verdict on a beginning is about something else.
fn beyond(engine: &Engine, most: u64) -> Outcome {
    let reason = Reason {
        kind: ReasonKind::TooLarge,
        layer_path: String::from("stdin"),
        detail: Some(format!("more than {}, the limit for a file", text::plural(most, "byte"))),
    };
    let report = Report {
        verdict: Verdict::Unscannable { reasons: vec![reason.clone()] },
        coverage: Coverage::none(reason, engine.limits().clone()),
        layers: Vec::new(),
        engine: std::sync::Arc::new(engine.info().clone()),
        size: most.saturating_add(1),
        file_type: None,
        elapsed: std::time::Duration::ZERO,
    };
    Outcome::Scanned { report: Box::new(report), sha256: None, size_known: false, found: Findings::default() }
}
