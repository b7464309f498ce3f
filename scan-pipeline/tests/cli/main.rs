//! The program as its users run it: arguments in, exit code and text out.

mod audit;
mod bad_input;
mod config;
mod definitions;
mod doctor;
#[cfg(feature = "s3")]
mod inventory;
mod json;
mod postgres;
mod run;
mod scan;
mod scene;
mod sensitive;
mod tasks;
mod terminal;
mod work;

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The program, without what the tester's environment would change in it.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scan-pipeline"));
    for name in ["SCAN_PIPELINE_DEFINITIONS", "SCAN_PIPELINE_LOG", "RUST_LOG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// The definitions that the project ships.
pub(crate) fn shipped_definitions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("definitions")
}

/// `scan-pipeline scan` with the shipped definitions.
pub(crate) fn scan() -> Command {
    let mut command = program();
    command.arg("scan").arg("--definitions").arg(shipped_definitions());
    command
}

/// What a run said, as text, and its exit code.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("prints UTF-8");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        let code = output.status.code().unwrap_or_else(|| panic!("killed by signal {:?}", output.status.signal()));
        Self { code, out, err }
    }

    /// The objects of `--json`, one a line.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }

    /// The line of the table about a path, its verdict in front.
    pub(crate) fn line(&self, path: &str) -> &str {
        self.out
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(path))
            .unwrap_or_else(|| panic!("no line about {path} in:\n{}", self.out))
    }
}

pub(crate) fn run(command: &mut Command) -> Said {
    Said::of(&command.output().expect("the program runs"))
}

/// Runs `scan` with arguments and the shipped definitions.
pub(crate) fn scan_with(args: &[&dyn AsRef<OsStr>]) -> Said {
    run(scan().args(args.iter().map(|arg| (*arg).as_ref())))
}

/// A folder of files.
pub(crate) fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("is in the folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
    dir
}
