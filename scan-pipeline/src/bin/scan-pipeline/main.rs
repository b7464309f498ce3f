#![forbid(unsafe_code)]
//! The command line of scan-pipeline: scans files, runs pipelines, looks at their stores, and says whether this machine
//! can scan.
//!
//! Exit codes of `scan` are clamscan's: 0 all clean, 1 something infected, 2 an error or something unscannable; and 3 for
//! sensitive data, where it was looked for and nothing is worse. For the other commands 1 means that something needs a
//! look, and 2 that the command could not do its work.

mod args;
mod audit;
mod check;
mod dead_letters;
mod definitions;
mod detect;
mod doctor;
mod from;
mod health;
mod jobs;
mod machine;
mod outcome;
mod probe;
mod progress;
mod results;
mod run;
mod scan;
mod table;
mod tasks;
mod text;
mod walk;
mod work;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use args::{Cli, Command, ConfigCommand};

/// Everything was done and nothing was found.
const EXIT_CLEAN: u8 = 0;
/// Something is infected; wins over every error.
const EXIT_INFECTED: u8 = 1;
/// Nothing is worse than that sensitive data was found.
const EXIT_SENSITIVE: u8 = 3;
/// Something needs a look: it failed, waits, or is not whole.
const EXIT_LOOK: u8 = 1;
/// Something was not scanned, or not proven clean; or the command could not do its work.
const EXIT_ERROR: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(why) if why.kind() == clap::error::ErrorKind::DisplayVersion => return finish(version()),
        Err(why) => {
            // Nobody is left to tell when this cannot be written.
            let _ = why.print();
            return ExitCode::from(if why.use_stderr() { EXIT_ERROR } else { EXIT_CLEAN });
        }
    };
    log();
    finish(match cli.command {
        Command::Scan(options) => scan::run(&options),
        Command::Run(options) => scan_much(run::run(&options)),
        Command::Work(options) => scan_much(work::run(&options)),
        Command::Jobs(options) => wait_for(jobs::run(&options)),
        Command::DeadLetters(options) => wait_for(dead_letters::run(&options)),
        Command::Config(ConfigCommand::Check { file, json }) => wait_for(check::run(&file, json)),
        Command::Tasks(options) => wait_for(tasks::run(&options)),
        Command::Audit(command) => wait_for(audit::run(&command)),
        Command::Doctor(options) => doctor::run(&options),
        Command::Completions { shell } => completions(shell),
    })
}

/// Turns the end of a command into an exit code. A closed pipe is the reader's choice and needs no message.
fn finish(result: std::io::Result<u8>) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|why| {
        if why.kind() != ErrorKind::BrokenPipe {
            complain(&format!("the output could not be written: {why}"));
        }
        EXIT_ERROR
    }))
}

/// Runs a command that waits for disks and networks.
fn wait_for(command: impl Future<Output = std::io::Result<u8>>) -> std::io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(command);
    // What still reads or scans was given up, and is waited for by nobody.
    runtime.shutdown_background();
    code
}

/// The same for one that is there to scan: its other threads leave the processor to its scans.
fn scan_much(command: impl Future<Output = std::io::Result<u8>>) -> std::io::Result<u8> {
    if let Err(why) = scan_pipeline::clamav::prefer_throughput() {
        tracing::debug!(error = %why, "scans are interrupted more often than they need to be");
    }
    wait_for(command)
}

/// Says on standard error what went wrong; file names in it may come from strangers.
fn complain(what: &str) {
    // Nobody is left to tell when this cannot be written.
    let _ = writeln!(std::io::stderr(), "scan-pipeline: {}", text::printable(what));
}

/// Warnings of ours on standard error, unless SCAN_PIPELINE_LOG or RUST_LOG ask for something else.
fn log() {
    const DEFAULT: &str = "scan_pipeline=warn,clamav_core=warn,libclamav=off";
    let asked = ["SCAN_PIPELINE_LOG", "RUST_LOG"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)))
        .find(|(_, value)| !value.is_empty());
    let filter = match &asked {
        None => DEFAULT.parse::<Targets>(),
        Some((name, value)) => value.parse::<Targets>().or_else(|why| {
            complain(&format!("{name} is no log filter ({why}); write it as \"debug\" or \"clamav_core=debug\""));
            DEFAULT.parse()
        }),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    // A second initialisation would fail; there is none.
    let _ = tracing_subscriber::registry().with(lines).with(filter.unwrap_or_default()).try_init();
}

fn version() -> std::io::Result<u8> {
    let library = scan_pipeline::clamav::library_version();
    writeln!(std::io::stdout(), "scan-pipeline {}\nlibclamav {library}", env!("CARGO_PKG_VERSION"))?;
    Ok(EXIT_CLEAN)
}

fn completions(shell: clap_complete::Shell) -> std::io::Result<u8> {
    // Into memory first: clap_complete panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "scan-pipeline", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(EXIT_CLEAN)
}
