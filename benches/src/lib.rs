//! The parts of the benches: definitions and files to scan, the bare loop to compare with, and the clock.
//!
//! The programs are in `src/bin` (`side-by-side`, `pipeline`, `stores`, `queue`, `jobs`, `detectors`, `peers`,
//! `generate-definitions`), the micro benches in `benches`; `README.md` says how they measure and what came out.

pub mod bare;
pub mod definitions;
pub mod files;
pub mod jobs;
pub mod make;
pub mod measure;
pub mod queue;
pub mod rates;
pub mod relay;
pub mod remote;
pub mod rng;
pub mod sides;
pub mod stores;
pub mod texts;
pub mod turns;

/// What the programs here fail with: they only ever show it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The value of `--name VALUE` among the program's arguments.
pub fn option(name: &str) -> Option<String> {
    let mut args = std::env::args().skip(1);
    args.by_ref().find(|arg| arg == name)?;
    args.next()
}

/// Whether `--name` is among the program's arguments.
pub fn flag(name: &str) -> bool {
    std::env::args().skip(1).any(|arg| arg == name)
}

/// The number after `--name`, or `otherwise`.
///
/// # Errors
///
/// When what follows is no number.
pub fn number(name: &str, otherwise: usize) -> Result<usize> {
    match option(name) {
        None => Ok(otherwise),
        Some(text) => text.parse().map_err(|_| format!("{name} takes a number, not {text}").into()),
    }
}
