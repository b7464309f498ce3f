//! Writes synthetic signatures: `generate-definitions [--small] [--seed N] [FOLDER]`.
//!
//! FOLDER is `target/bench-definitions` by default. What is there already is not written again.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::path::PathBuf;

use scan_pipeline_benches::definitions::{self, Plan};
use scan_pipeline_benches::{Result, files, flag, number};

fn main() -> Result<()> {
    let plan = if flag("--small") { Plan::SMALL } else { Plan::FULL };
    let plan = Plan { seed: number("--seed", 1)? as u64, ..plan };
    let mut words = std::env::args_os().skip(1);
    let mut folder = None;
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--small") => {}
            Some("--seed") => drop(words.next()),
            Some(other) if other.starts_with('-') => return Err(format!("unknown option {other}").into()),
            _ => folder = Some(PathBuf::from(word)),
        }
    }
    let folder = folder.unwrap_or_else(|| files::target_dir().join("bench-definitions"));
    let wrote = definitions::generate(&plan, &folder)?;
    let done = if wrote { "written to" } else { "already in" };
    println!("{} signatures {done} {}", plan.total(), folder.display());
    Ok(())
}
