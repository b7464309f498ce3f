//! `scan-pipeline config check`: every mistake with its place, and what the file will do.

use std::io::{self, Write};
use std::path::Path;

use scan_pipeline::config::{Checked, Config, Severity};
use serde_json::json;

use crate::text::{plural, printable};
use crate::{EXIT_CLEAN, EXIT_ERROR, from};

/// The `schema` of a line about a problem.
const SCHEMA: &str = "scan-pipeline.problem/1";

/// Checks a file and returns the exit code.
pub(crate) async fn run(file: &Path, json: bool) -> io::Result<u8> {
    let checked = match Config::check_file(file).await {
        Ok(checked) => checked,
        Err(why) => {
            from::say(&why);
            return Ok(EXIT_ERROR);
        }
    };
    let mut out = io::stdout().lock();
    let name = printable(&file.to_string_lossy());
    for problem in &checked.problems {
        if json {
            let line = json!({
                "schema": SCHEMA,
                "severity": problem.severity.as_str(),
                "line": problem.line,
                "column": problem.column,
                "key": problem.key,
                "message": problem.message,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{name}:{}", printable(&problem.to_string()))?;
        }
    }
    if !json {
        conclude(&mut out, &name, &checked)?;
    }
    out.flush()?;
    Ok(if checked.config.is_some() { EXIT_CLEAN } else { EXIT_ERROR })
}

fn conclude(out: &mut impl Write, name: &str, checked: &Checked) -> io::Result<()> {
    let count = |severity| checked.problems.iter().filter(|problem| problem.severity == severity).count() as u64;
    let warnings = plural(count(Severity::Warning), "warning");
    if !checked.problems.is_empty() {
        writeln!(out)?;
    }
    let Some(config) = &checked.config else {
        return writeln!(
            out,
            "{name}: {} and {warnings}; it cannot be used",
            plural(count(Severity::Mistake), "mistake")
        );
    };
    writeln!(out, "{name}: no mistake, {warnings}. It will:\n")?;
    for line in config.explain().into_iter().chain([config.explain_run()]) {
        writeln!(out, "  {}", printable(&line))?;
    }
    Ok(())
}
