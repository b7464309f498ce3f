//! What can be asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use scan_pipeline::clamav::Limits;

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
    /// Say whether this machine can scan, and what to do if not
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell to write it for
        shell: clap_complete::Shell,
    },
}

const AFTER_SCAN: &str = "\
Exit code: 0 all clean, 1 something infected, 2 an error or something unscannable. Infected wins.
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
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_file: Option<u64>,
    /// Unpack at most this much of one file, all layers together [default: 400M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
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

/// A size as people write it. Units are powers of 1024, as clamscan has them.
fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(String::from("write a size as 100, 10K, 25MB or 1GiB")),
    };
    if number.is_empty() {
        return Err(String::from("a size begins with a number: 100, 10K, 25MB or 1GiB"));
    }
    let number = number.parse::<u64>().map_err(|_| String::from("the number is too large"))?;
    number.checked_mul(1 << shift).ok_or_else(|| String::from("the size is too large"))
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
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("100", 100),
            ("0", 0),
            ("10K", 10 << 10),
            ("10KB", 10 << 10),
            ("25M", 25 << 20),
            ("25 MiB", 25 << 20),
            ("1g", 1 << 30),
            ("1GiB", 1 << 30),
            ("2tb", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "10X", "10MM", "99999999999999999999", "18446744073709551615K"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

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
