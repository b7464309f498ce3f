//! The other side of honesty: files that nobody here made stay clean.
//!
//! This takes what is installed on any Debian or Ubuntu, so that it runs everywhere; the large corpus, with archives,
//! documents and mails of all kinds, is `tests/corpus/` (its figures are in `tests/README.md`).

mod common;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use clamav_core::{Input, PendingScan, ScanRequest, Verdict};
use common::engine;

const FOLDERS: &[&str] = &["/usr/share", "/usr/lib", "/usr/bin", "/usr/sbin", "/etc", "/var/lib/dpkg"];
const WANTED: usize = 4_000;
const LARGEST: u64 = 8 << 20;

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(data) = path.symlink_metadata() else { continue };
        if data.is_dir() {
            walk(&path, files);
        } else if data.is_file() && (1..=LARGEST).contains(&data.len()) && std::fs::File::open(&path).is_ok() {
            files.push(path);
        }
    }
}

#[test]
fn installed_files_are_clean() {
    let mut files = Vec::new();
    for folder in FOLDERS {
        walk(Path::new(folder), &mut files);
    }
    assert!(files.len() >= 1_000, "only {} files are installed here", files.len());
    let step = files.len().div_ceil(WANTED);
    let files: Vec<_> = files
        .into_iter()
        // The fixtures' own package is there to be found, and official definitions are no ordinary files.
        .filter(|path| !path.starts_with("/usr/share/clamav-testfiles") && !path.starts_with("/var/lib/clamav"))
        .step_by(step)
        .collect();

    let mut unscannable = Vec::new();
    let mut running: VecDeque<(PathBuf, PendingScan)> = VecDeque::new();
    let mut settle = |(path, scan): (PathBuf, PendingScan)| match scan.wait().map(|report| report.verdict) {
        Ok(Verdict::Clean) => {}
        Ok(Verdict::Unscannable { reasons }) => unscannable.push(format!("{}: {reasons:?}", path.display())),
        Ok(Verdict::Infected { threats }) => panic!("{}: {threats:?}", path.display()),
        Err(error) => panic!("{error}"),
    };
    for path in &files {
        if running.len() >= 8
            && let Some(first) = running.pop_front()
        {
            settle(first);
        }
        let request = ScanRequest::named(path.to_string_lossy());
        running.push_back((path.clone(), engine().submit(Input::from(path.as_path()), request).expect("taken")));
    }
    running.into_iter().for_each(&mut settle);
    eprintln!("{} files, {} unscannable:\n{}", files.len(), unscannable.len(), unscannable.join("\n"));
    assert!(unscannable.len() * 1000 <= files.len() * 2, "more than 0.2%: {unscannable:#?}");
}
