//! What can be asked for on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use scan_pipeline::clamav::Limits;
use scan_pipeline::config::parse_size;
use scan_pipeline::store::{AuditHead, JobId, Rescan, TaskState};

use crate::detect::Asked;

/// Scan files for malware, and prove every "clean".
#[derive(Debug, Parser)]
#[command(name = "scan-pipeline", version, propagate_version = false, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Scan files and directory trees
    #[command(after_help = AFTER_SCAN)]
    Scan(ScanArgs),
    /// Run the pipeline of a configuration file over its watched buckets
    #[command(after_help = AFTER_RUN)]
    Run(RunArgs),
    /// Take messages from the queue of a configuration file and do what follows from them
    #[command(after_help = AFTER_WORK)]
    Work(WorkArgs),
    /// Scan everything under a prefix, or in an inventory, by the workers on the same queue
    Jobs(JobsArgs),
    /// Look at the messages that failed for good, put them back, or remove them
    DeadLetters(DeadLettersArgs),
    /// Look at a configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List what has become of objects, look at one, or try one again
    Tasks(TasksArgs),
    /// List or verify the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Say whether this machine can scan, and what to do if not
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell to write it for
        shell: clap_complete::Shell,
    },
}

const AFTER_SCAN: &str = "\
Exit code: 0 all clean, 1 something infected, 2 an error or something unscannable, 3 sensitive data in what is clean \
(with --detect). Of several the first of 1, 2, 3 counts. With --detect-only: 0 nothing found, 2 an error or \
something that would have to be unpacked, 3 sensitive data.
Findings are masked, and their fingerprints are keyed with SCAN_PIPELINE_FINGERPRINT_KEY (64 hexadecimal digits).
Unscannable: no threat was found, but part of the file could not be looked at (a password, a limit, damage).
Paths: a link is followed when it is named here, and not inside a directory tree. Links, fifos, sockets and devices \
met in a tree are skipped and counted; a fifo, socket or device named here is an error.
SIZE is in bytes or with K, M, G or T, which are powers of 1024: 100, 10K, 25MB, 1GiB.";

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// Files and directories to scan; - is standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) definitions: DefinitionsArgs,
    /// Print one JSON object a line for each file instead of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// List clean files, skipped links and every threat and reason, too
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Call larger files, and larger files inside of files, unscannable [default: 100M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_file: Option<u64>,
    /// Unpack at most this much of one file, all layers together [default: 400M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_scan: Option<u64>,
    /// Unpack at most this many levels of files in files [default: 17]
    #[arg(long, value_name = "N")]
    pub(crate) max_recursion: Option<u32>,
    /// Unpack at most this many files out of one file [default: 10000]
    #[arg(long, value_name = "N")]
    pub(crate) max_files: Option<u32>,
    /// Spend at most this many seconds on one file [default: 120]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Exit with 0 although something was unscannable; it is still shown
    #[arg(long)]
    pub(crate) allow_unscannable: bool,
    /// Look for sensitive data in every unpacked layer, too: all, first_tier, or names such as ssn,credit_card
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub(crate) detect: Vec<Asked>,
    /// Look for sensitive data alone, without definitions: nothing is unpacked, and nothing is called clean
    #[arg(long, conflicts_with_all = ["dirs", "max_file", "max_scan", "max_recursion", "max_files", "timeout"])]
    pub(crate) detect_only: bool,
    /// Leave out findings that are less certain than this, from 0 to 1 [default: 0.5]
    #[arg(long, value_name = "NUMBER", value_parser = confidence)]
    pub(crate) min_confidence: Option<f64>,
    /// Scan this many files at once [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

impl ScanArgs {
    /// The limits that were asked for; the engine says what is wrong with them.
    pub(crate) fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            max_file_size: self.max_file.unwrap_or(default.max_file_size),
            max_scan_size: self.max_scan.unwrap_or(default.max_scan_size),
            max_recursion: self.max_recursion.unwrap_or(default.max_recursion),
            max_files: self.max_files.unwrap_or(default.max_files),
            max_scan_time: self.timeout.unwrap_or(default.max_scan_time),
        }
    }
}

const AFTER_RUN: &str = "\
Exit code: 0 everything that was found is through, whatever the verdicts; 1 something failed or waits for another \
attempt; 2 the pipeline could not run (mistakes in the file, no store, no definitions).
SIGTERM and Ctrl-C end it: no new object is begun, and workflows that have begun are finished within the time of \
run.drain. What was cut short is taken up by the next run. A second signal ends it at once.";

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Go over the watched buckets once, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Print one JSON object a line for each object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

const AFTER_WORK: &str = "\
Exit code: 0 stopped in order, 1 messages are dead or were given up at the end, 2 the worker could not run.
SIGTERM and Ctrl-C end it: nothing new is taken, and what has begun is finished within the time of worker.drain. What \
was cut short comes again, here or to another worker. A second signal ends it at once.";

#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// The configuration file; it needs a [queue]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// End when the queue is empty and nothing is at work
    #[arg(long)]
    pub(crate) until_empty: bool,
    /// Answer GET /livez and /readyz at this address, such as 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) health: Option<SocketAddr>,
    /// Print one JSON object at the end instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    pub(crate) command: JobsCommand,
    /// The configuration file; it needs a [queue]
    #[arg(long, short, value_name = "FILE", global = true, default_value = "scan-pipeline.toml")]
    pub(crate) config: PathBuf,
    /// Print one JSON object a line for each job instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Begin one
    Start {
        /// What to scan: an address such as s3://uploads/2026/, or a bucket by its short name
        #[arg(value_name = "ADDRESS")]
        from: String,
        /// Take the objects of the bucket from the S3 Inventory with this manifest: s3://lists/.../manifest.json
        #[arg(long, value_name = "ADDRESS")]
        inventory: Option<String>,
        /// What to do with objects that were scanned before: never, outdated (by other definitions or settings), always
        #[arg(long, value_name = "WHEN", default_value = "outdated", value_parser = rescan)]
        rescan: Rescan,
        /// List about this many ranges of keys side by side
        #[arg(long, value_name = "N", default_value_t = 32)]
        shards: usize,
        /// Put at most this many keys into a message
        #[arg(long, value_name = "N", default_value_t = 500)]
        chunk: u32,
        /// Wait for its end, and show how far it is
        #[arg(long)]
        follow: bool,
    },
    /// List them, the newest first
    List,
    /// Show how far one is
    #[command(after_help = "Exit code: 0, 1 when objects failed or the job was stopped, 2 when there is no such job.")]
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: JobId,
        /// Wait for its end
        #[arg(long)]
        follow: bool,
    },
    /// Stop one; what of it has begun comes to its end
    Cancel {
        /// Its id
        #[arg(value_name = "ID")]
        id: JobId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    pub(crate) command: DeadLettersCommand,
    /// The configuration file that names the queue
    #[arg(long, short, value_name = "FILE", global = true, default_value = "scan-pipeline.toml")]
    pub(crate) config: PathBuf,
    /// Print one JSON object a line instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List them, the oldest first, with why they failed
    List,
    /// Show one with its body
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Put them back into the queue, with all their attempts before them
    Redrive {
        #[command(flatten)]
        which: WhichArgs,
        /// At most so many a second
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
    },
    /// Remove them for good
    Purge {
        #[command(flatten)]
        which: WhichArgs,
    },
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// Those with these ids
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Those whose reason holds this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Name every mistake in a configuration file, with its place, and say what it will do
    #[command(after_help = "Exit code: 0 no mistake (there may be warnings), 2 mistakes or no such file.")]
    Check {
        /// The configuration file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print one JSON object a line for each problem instead of text
        #[arg(long)]
        json: bool,
    },
}

/// Where the store is: by its address, or by the configuration file that names it. That one of them is there is asked
/// for where it is opened: clap does not look for required options behind a subcommand's name.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct FromArgs {
    /// The store: the path of its file, sqlite:///path, or postgres://user@host/database
    #[arg(long, value_name = "STORE", global = true)]
    pub(crate) store: Option<String>,
    /// The configuration file that names the store
    #[arg(long, short, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct TasksArgs {
    #[command(subcommand)]
    pub(crate) command: Option<TasksCommand>,
    #[command(flatten)]
    pub(crate) from: FromArgs,
    /// List only tasks in these states: pending, scanning, handling, done, superseded, gone, dead
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state)]
    pub(crate) state: Vec<TaskState>,
    /// Print one JSON object a line for each task instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TasksCommand {
    /// Show one task: what was found, and the tree of its steps
    #[command(after_help = "Exit code: 0, or 2 when there is no such task.")]
    Show {
        /// Its id, or the beginning of it
        #[arg(value_name = "ID", value_parser = task_prefix)]
        id: String,
    },
    /// Go on with a task that failed for good, where it stopped, after its cause was removed; needs --config
    #[command(after_help = "Exit code: 0 it is through now, 1 it failed again or waits, 2 it cannot be retried.")]
    Retry {
        /// Its id, or the beginning of it
        #[arg(value_name = "ID", value_parser = task_prefix)]
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what happened, in its order
    List {
        #[command(flatten)]
        from: FromArgs,
        /// Begin behind the entry with this number
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        after: u64,
        /// Only entries about the task with this id, or with an id that begins so
        #[arg(long, value_name = "ID", value_parser = task_prefix)]
        task: Option<String>,
        /// Print one JSON object a line for each entry instead of text
        #[arg(long)]
        json: bool,
    },
    /// Say whether the log is whole, and print its head to note elsewhere
    #[command(after_help = "Exit code: 0 it is whole, 1 it is not, 2 it could not be read.")]
    Verify {
        #[command(flatten)]
        from: FromArgs,
        /// A head that was noted before: it has to be in the log still
        #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
        head: Option<AuditHead>,
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) definitions: DefinitionsArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DefinitionsArgs {
    /// Folder of signature databases, or one of them; may be given several times
    /// [default: $SCAN_PIPELINE_DEFINITIONS, else where freshclam puts them]
    #[arg(long = "definitions", short, value_name = "DIR")]
    pub(crate) dirs: Vec<PathBuf>,
}

fn confidence(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| String::from("a confidence is a number from 0 to 1, such as 0.8"))
}

fn state(text: &str) -> Result<TaskState, String> {
    TaskState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let all: Vec<_> = TaskState::ALL.iter().map(|state| state.as_str()).collect();
        format!("the states are {}", all.join(", "))
    })
}

fn rescan(text: &str) -> Result<Rescan, String> {
    Rescan::ALL.into_iter().find(|rescan| rescan.as_str() == text).ok_or_else(|| {
        let all: Vec<_> = Rescan::ALL.iter().map(|rescan| rescan.as_str()).collect();
        format!("write one of {}", all.join(", "))
    })
}

fn task_prefix(text: &str) -> Result<String, String> {
    let digits = text.chars().all(|c| c.is_ascii_hexdigit());
    if digits && (4..=64).contains(&text.len()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(String::from("a task's id has 64 hexadecimal digits, of which the first 4 or more are enough"))
    }
}

fn head(text: &str) -> Result<AuditHead, String> {
    let wrong =
        || String::from("write a head as `audit verify` prints it: its number, a colon, and 64 hexadecimal digits");
    let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
    Ok(AuditHead { seq: seq.parse().map_err(|_| wrong())?, hash: hash.parse().map_err(|_| wrong())? })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || String::from("write a time in seconds as 30 or 0.5");
    let number: f64 = text.strip_suffix('s').unwrap_or(text).trim().parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds() {
        assert_eq!(seconds("30"), Ok(Duration::from_secs(30)));
        assert_eq!(seconds("0.5s"), Ok(Duration::from_millis(500)));
        for text in ["", "x", "-1", "nan", "inf", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
