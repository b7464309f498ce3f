//! The table at the end of a scan: a line for everything that is not clean, and the totals.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use scan_pipeline::clamav::{EngineInfo, Reason, Verdict};
use scan_pipeline::model::{Finding, rfc3339};
use unicode_width::UnicodeWidthStr;

use crate::outcome::{Counts, Outcome, whole};
use crate::text::{self, plural, printable};

/// Clean files are listed when there are no more of them than this.
const FEW: usize = 20;
/// Rows that are kept; `--json` is for more.
const MOST_ROWS: usize = 10_000;
/// Threats and reasons that are listed of one file, unless all are asked for.
const MOST_DETAILS: usize = 3;
/// The widest that the column of paths gets. What is said of a longer path, and more than one thing, stands below.
const WIDEST_PATH: usize = 56;
/// Characters of one threat or reason: the names in archives are as long as their makers like.
const LONGEST_DETAIL: usize = 240;
const LABEL_WIDTH: usize = 13;

/// What is said of a file or object, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    Clean,
    /// Clean, or not looked at for malware, with sensitive data.
    Sensitive,
    /// No sensitive data in what was looked at for nothing else.
    NothingFound,
    /// Sensitive data alone was looked for, and what is there is packed.
    NotUnpacked,
    Infected,
    Unscannable,
    Error,
    /// It will be tried again.
    Waiting,
    Skipped,
}

impl Label {
    fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Sensitive => "SENSITIVE",
            Self::NothingFound => "no findings",
            Self::NotUnpacked => "NOT UNPACKED",
            Self::Infected => "INFECTED",
            Self::Unscannable => "UNSCANNABLE",
            Self::Error => "ERROR",
            Self::Waiting => "waiting",
            Self::Skipped => "skipped",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Clean => AnsiColor::Green.on_default(),
            Self::Infected => AnsiColor::Red.on_default().bold(),
            Self::Sensitive => AnsiColor::Blue.on_default().bold(),
            Self::NothingFound => Style::new(),
            Self::Unscannable | Self::NotUnpacked => AnsiColor::Yellow.on_default().bold(),
            Self::Error => AnsiColor::Magenta.on_default().bold(),
            Self::Waiting => AnsiColor::Cyan.on_default(),
            Self::Skipped => Style::new().dimmed(),
        }
    }
}

#[derive(Debug)]
struct Row {
    label: Label,
    path: String,
    details: Vec<String>,
}

/// The rows so far.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Row>,
    left_out: u64,
    clean: usize,
    verbose: bool,
    colour: bool,
}

impl Table {
    pub(crate) fn new(verbose: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        Self { rows: Vec::new(), left_out: 0, clean: 0, verbose, colour }
    }

    pub(crate) fn add(&mut self, path: &Path, outcome: &Outcome) {
        // Layer paths begin with the name that the scan had.
        let root = match path.file_name() {
            Some(name) if path.as_os_str() != "-" => name.to_string_lossy().into_owned(),
            _ => String::from("stdin"),
        };
        let (label, details) = match outcome {
            Outcome::Searched { report } => {
                let mut details = self.findings(&report.findings, report.findings_omitted, &root);
                let label = match (report.finding_count(), whole(report)) {
                    (1.., _) => Label::Sensitive,
                    (0, true) => Label::NothingFound,
                    (0, false) => Label::NotUnpacked,
                };
                if let Some(form) = &report.file_type {
                    details.push(format!("what is packed in it ({form}) was not looked at"));
                }
                (label, details)
            }
            Outcome::Scanned { report, found, .. } => {
                let sensitive = self.findings(&found.list, found.omitted, &root);
                let (label, mut details) = match &report.verdict {
                    Verdict::Clean if !sensitive.is_empty() => (Label::Sensitive, Vec::new()),
                    Verdict::Clean => (Label::Clean, Vec::new()),
                    Verdict::Infected { threats } => {
                        let mut details = self.first(threats.len(), threats.iter(), |threat| {
                            match inside(&threat.layer_path, &root) {
                                Some(inner) => format!("{} in {inner}", threat.signature),
                                None => threat.signature.clone(),
                            }
                        });
                        let gaps = &report.coverage.gaps;
                        let also = self.first(report.coverage.gap_count as usize, gaps.iter(), |gap| {
                            format!("and not scanned: {}", reason(gap, &root))
                        });
                        details.extend(also);
                        (Label::Infected, details)
                    }
                    Verdict::Unscannable { reasons } => {
                        let count = report.coverage.gap_count.max(reasons.len() as u64) as usize;
                        (Label::Unscannable, self.first(count, reasons.iter(), |gap| reason(gap, &root)))
                    }
                };
                details.extend(sensitive);
                (label, details)
            }
            Outcome::Failed { message, .. } => (Label::Error, vec![message.clone()]),
            Outcome::Skipped { kind: "link", .. } if !self.verbose => return,
            Outcome::Skipped { message, .. } => (Label::Skipped, vec![(*message).to_owned()]),
        };
        self.push(label, &path.to_string_lossy(), details);
    }

    /// Adds a row. Nothing of it needs to be printable yet.
    pub(crate) fn push(&mut self, label: Label, path: &str, details: Vec<String>) {
        let is_plain = |label| matches!(label, Label::Clean | Label::NothingFound);
        if is_plain(label) {
            self.clean += 1;
            if !self.verbose && self.clean > FEW {
                if self.clean == FEW + 1 {
                    self.rows.retain(|row| !is_plain(row.label));
                }
                return;
            }
        }
        if self.rows.len() >= MOST_ROWS {
            self.left_out += 1;
            return;
        }
        let path = printable(path);
        let short = |detail: String| match detail.char_indices().nth(LONGEST_DETAIL) {
            Some((end, _)) => format!("{}...", &detail[..end]),
            None => detail,
        };
        let details = details.iter().map(|detail| short(printable(detail))).collect();
        self.rows.push(Row { label, path, details });
    }

    /// Rows in the order of their paths, where they came as they were done.
    pub(crate) fn sort(&mut self) {
        self.rows.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// The first few in words, and how many more there are.
    pub(crate) fn first<T>(
        &self,
        count: usize,
        items: impl Iterator<Item = T>,
        say: impl Fn(T) -> String,
    ) -> Vec<String> {
        let most = if self.verbose { usize::MAX } else { MOST_DETAILS };
        let mut said: Vec<String> = items.take(most).map(say).collect();
        if count > said.len() {
            said.push(format!("and {} more", text::number((count - said.len()) as u64)));
        }
        said
    }

    /// Findings in words, each with what stands around it where everything is asked for. All of it is masked.
    pub(crate) fn findings(&self, listed: &[Finding], omitted: u64, root: &str) -> Vec<String> {
        let count = usize::try_from(omitted).unwrap_or(usize::MAX).saturating_add(listed.len());
        self.first(count, listed.iter(), |finding| {
            let Finding { detector, masked_match, byte_offset, confidence, tags, .. } = finding;
            let inner = inside(&finding.layer_path, root).map(|inner| format!(" in {inner}")).unwrap_or_default();
            let tags: String = tags.iter().map(|tag| format!(", {tag}")).collect();
            let context = if self.verbose { format!(": {}", finding.context) } else { String::new() };
            format!("{detector} {masked_match} at {byte_offset}{inner} ({confidence:.2}{tags}){context}")
        })
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_rows(out)?;
        if !self.rows.is_empty() {
            writeln!(out)?;
        }
        Ok(())
    }

    /// The rows alone.
    pub(crate) fn write_rows(&self, out: &mut impl Write) -> io::Result<()> {
        let width =
            self.rows.iter().map(|row| row.path.width()).filter(|width| *width <= WIDEST_PATH).max().unwrap_or(0);
        for row in &self.rows {
            let word = format!("{:LABEL_WIDTH$}", row.label.word());
            if self.colour {
                let style = row.label.style();
                write!(out, "{style}{word}{style:#}{}", row.path)?;
            } else {
                write!(out, "{word}{}", row.path)?;
            }
            let own = row.path.width();
            match row.details.as_slice() {
                [detail] if own <= width => writeln!(out, "{:pad$}  {detail}", "", pad = width - own)?,
                details => {
                    writeln!(out)?;
                    for detail in details {
                        writeln!(out, "{:LABEL_WIDTH$}  {detail}", "")?;
                    }
                }
            }
        }
        if self.left_out > 0 {
            writeln!(out, "... and {}; --json shows all", plural(self.left_out, "more line"))?;
        }
        Ok(())
    }

    pub(crate) fn write_totals(
        &self,
        out: &mut impl Write,
        counts: &Counts,
        elapsed: Duration,
        engine: &EngineInfo,
    ) -> io::Result<()> {
        let clean = format!("{} clean", text::number(counts.clean));
        self.write_line(out, vec![clean], counts, elapsed)?;
        let built = engine.definitions_built().map(rfc3339);
        let day = built.as_deref().and_then(|time| time.get(..10)).unwrap_or("unknown date");
        let signatures = plural(u64::from(engine.signatures), "signature");
        writeln!(out, "libclamav {} with {signatures} of {day}", printable(&engine.library))
    }

    /// The totals of a search for sensitive data alone, which calls nothing clean.
    pub(crate) fn write_searched(&self, out: &mut impl Write, counts: &Counts, elapsed: Duration) -> io::Result<()> {
        self.write_line(out, Vec::new(), counts, elapsed)
    }

    /// How many of what, in one line.
    fn write_line(
        &self,
        out: &mut impl Write,
        mut parts: Vec<String>,
        counts: &Counts,
        elapsed: Duration,
    ) -> io::Result<()> {
        for (count, what, style) in [
            (counts.infected, "infected", Label::Infected.style()),
            (counts.unscannable, "unscannable", Label::Unscannable.style()),
            (counts.sensitive, "with sensitive data", Label::Sensitive.style()),
            (counts.packed, "not unpacked", Label::NotUnpacked.style()),
        ] {
            if count > 0 {
                let words = format!("{} {what}", text::number(count));
                parts.push(if self.colour { format!("{style}{words}{style:#}") } else { words });
            }
        }
        if counts.errors > 0 {
            parts.push(plural(counts.errors, "error"));
        }
        for (count, what) in [(counts.links, "link"), (counts.specials, "special file")] {
            if count > 0 {
                parts.push(format!("{} skipped", plural(count, what)));
            }
        }
        let (files, size) = (plural(counts.scanned(), "file"), text::bytes(counts.bytes));
        if parts.is_empty() {
            parts.push(String::from("no sensitive data found"));
        }
        writeln!(out, "{files}, {size} in {}: {}", text::duration(elapsed), parts.join(", "))
    }
}

/// The layer without the file's own name; `None` for the file itself.
pub(crate) fn inside<'a>(layer_path: &'a str, root: &str) -> Option<&'a str> {
    layer_path.strip_prefix(root)?.strip_prefix('/').filter(|inner| !inner.is_empty())
}

fn reason(reason: &Reason, root: &str) -> String {
    explain(reason.kind.as_str(), &reason.layer_path, reason.detail.as_deref(), root)
}

/// Why something is unscannable, in words: kind, layer and details.
pub(crate) fn explain(kind: &str, layer_path: &str, detail: Option<&str>, root: &str) -> String {
    let mut words = kind.replace('_', " ");
    if let Some(inner) = inside(layer_path, root) {
        words = format!("{words}: {inner}");
    }
    match detail.filter(|detail| !detail.is_empty()) {
        Some(detail) => format!("{words} ({detail})"),
        None => words,
    }
}
