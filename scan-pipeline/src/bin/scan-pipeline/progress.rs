//! The progress bar, on standard error and only where somebody looks at it.

use std::io::{IsTerminal, stderr, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::outcome::Counts;
use crate::text::printable;
use crate::walk::{Found, Walk};

/// A bar, or nothing.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar if standard error is a terminal that the results do not go to, too.
    pub(crate) fn new(json: bool) -> Self {
        let bar = bar(json, "{spinner} {msg}");
        if let Some(bar) = &bar {
            bar.set_message("loading definitions");
        }
        Self(bar)
    }

    /// The definitions are loaded: from here on files are counted. A second walk on a thread of its own finds out
    /// how many there are; it is not waited for.
    pub(crate) fn start(&self, paths: &[PathBuf]) {
        let Some(bar) = &self.0 else { return };
        bar.set_style(style("{spinner} {bar:30} {human_pos}/{human_len} {msg}"));
        bar.set_message("");
        let (bar, walk) = (bar.clone(), Walk::new(paths.to_vec()));
        // Without the thread the bar merely knows no end.
        let _ = std::thread::Builder::new().name(String::from("count-files")).spawn(move || {
            for found in walk {
                if bar.is_finished() {
                    break;
                }
                if !matches!(found, Found::Skipped { .. }) {
                    bar.inc_length(1);
                }
            }
        });
    }

    /// Names the file whose result comes next.
    pub(crate) fn wait_for(&self, counts: &Counts, path: &Path) {
        let Some(bar) = &self.0 else { return };
        let name = printable(&path.file_name().unwrap_or_default().to_string_lossy());
        let name: String = name.chars().take(30).collect();
        bar.set_message(match counts.infected {
            0 => name,
            infected => format!("{infected} infected, {name}"),
        });
    }

    /// Counts a file that is done.
    pub(crate) fn step(&self, counts: &Counts) {
        if let Some(bar) = &self.0 {
            bar.set_position(counts.scanned() + counts.errors);
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A bar of this form, where somebody looks at it.
pub(crate) fn bar(json: bool, template: &str) -> Option<ProgressBar> {
    let torn_by_results = json && stdout().is_terminal();
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if !stderr().is_terminal() || torn_by_results || dumb {
        return None;
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.set_style(style(template));
    bar.enable_steady_tick(Duration::from_millis(100));
    Some(bar)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
