//! Scans every path on standard input and prints a line for each that is not clean:
//! `cargo run --release -p scan-pipeline-tests --example survey -- DEFINITIONS < files.txt`

use std::collections::VecDeque;
use std::io::BufRead;
use std::path::PathBuf;

use clamav_core::{EngineBuilder, PendingScan, Report, ScanRequest, Verdict};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let definitions = std::env::args_os().nth(1).ok_or("name a definitions folder")?;
    let engine = EngineBuilder::new().definitions(definitions).build()?;
    let mut running: VecDeque<(PathBuf, PendingScan)> = VecDeque::new();
    let mut count = 0;
    for line in std::io::stdin().lock().lines() {
        let path = PathBuf::from(line?);
        if running.len() >= 8
            && let Some((path, scan)) = running.pop_front()
        {
            show(&path, scan.wait());
        }
        running.push_back((path.clone(), engine.submit(path, ScanRequest::new())?));
        count += 1;
    }
    for (path, scan) in running {
        show(&path, scan.wait());
    }
    eprintln!("{count} files");
    Ok(())
}

fn show(path: &std::path::Path, result: clamav_core::Result<Report>) {
    match result {
        Err(error) => eprintln!("error\t{}\t{error}", path.display()),
        Ok(report) => match report.verdict {
            Verdict::Clean => {}
            Verdict::Infected { threats } => eprintln!("infected\t{}\t{threats:?}", path.display()),
            Verdict::Unscannable { reasons } => {
                for reason in reasons.iter().take(3) {
                    let detail = reason.detail.as_deref().unwrap_or_default();
                    eprintln!("{}\t{}\t{}\t{detail}", reason.kind, path.display(), reason.layer_path);
                }
            }
        },
    }
}
