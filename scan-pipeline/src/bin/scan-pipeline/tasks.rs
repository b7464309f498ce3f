//! `scan-pipeline tasks`: what has become of objects.

use std::io::{self, Write};
use std::time::Duration;

use scan_pipeline::Error;
use scan_pipeline::handler::Place;
use scan_pipeline::model::{Report, Verdict};
use scan_pipeline::store::{Store, TaskFilter, TaskRecord};
use scan_pipeline::workflow::Run;
use serde::Serialize;

use crate::args::{TasksArgs, TasksCommand};
use crate::from::{self, Source};
use crate::results::{Names, details, error, label, particulars};
use crate::table::{Label, Table};
use crate::text::{plural, printable};
use crate::{EXIT_CLEAN, EXIT_ERROR, EXIT_LOOK, complain};

/// Tasks that are read at once: each comes with its report, which may list a thousand findings.
const PAGE: usize = 100;
/// Digits of an id that are shown in lists: enough to name it.
const SHORT: usize = 12;
/// How long the end waits for steps that go on.
const DRAIN: Duration = Duration::from_secs(30);

/// Lists, shows or retries, and returns the exit code.
pub(crate) async fn run(args: &TasksArgs) -> io::Result<u8> {
    from::with(&args.from, async |source| {
        let store = source.store.store();
        match &args.command {
            None => list(&*store, args).await,
            Some(TasksCommand::Show { id }) => show(&*store, source, id, args.json).await,
            Some(TasksCommand::Retry { id }) => retry(&*store, source, id, args.json).await,
        }
    })
    .await
}

/// A task with the name of its form.
#[derive(Serialize)]
pub(crate) struct TaskJson<'a> {
    schema: &'static str,
    #[serde(flatten)]
    record: &'a TaskRecord,
}

impl<'a> TaskJson<'a> {
    pub(crate) fn line(record: &'a TaskRecord) -> io::Result<String> {
        Ok(serde_json::to_string(&Self { schema: "scan-pipeline.task/1", record })?)
    }
}

async fn list(store: &dyn Store, args: &TasksArgs) -> Result<io::Result<u8>, Error> {
    let mut out = io::BufWriter::new(io::stdout());
    let mut filter = TaskFilter { states: args.state.clone(), most: PAGE, ..TaskFilter::default() };
    loop {
        let page = store.tasks(&filter).await?;
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        for record in &page {
            if let Err(why) = write(&mut out, record, args.json) {
                return Ok(Err(why));
            }
        }
    }
    Ok(out.flush().map(|()| EXIT_CLEAN))
}

fn write(out: &mut impl Write, record: &TaskRecord, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", TaskJson::line(record)?);
    }
    let id = record.id.to_string();
    let verdict = record.report.as_ref().map_or("-", |report| report.verdict.status());
    let TaskRecord { state, updated, object, .. } = record;
    let why = record.error.as_deref().map(|why| format!("  ({})", printable(why))).unwrap_or_default();
    let findings = record.report.as_ref().map_or(0, Report::finding_count);
    let findings = if findings > 0 { format!("  [{}]", plural(findings, "finding")) } else { String::new() };
    let object = printable(&object.to_string());
    writeln!(out, "{}  {:<10}  {verdict:<11}  {updated}  {object}{findings}{why}", &id[..SHORT], state.as_str())
}

async fn show(store: &dyn Store, source: &Source, id: &str, json: bool) -> Result<io::Result<u8>, Error> {
    let record = from::task(store, id).await?;
    let mut out = io::stdout().lock();
    if json {
        return Ok(TaskJson::line(&record).and_then(|line| writeln!(out, "{line}")).map(|()| EXIT_CLEAN));
    }
    let runs = runs(&record, source)?;
    Ok(write_whole(&mut out, &record, &runs).map(|()| EXIT_CLEAN))
}

/// The workflow with its steps; and what else was run for the task, under names that the configuration has not.
fn runs(record: &TaskRecord, source: &Source) -> Result<Vec<Run>, Error> {
    let policy = source.config.as_ref().map(|config| config.policy()).transpose()?;
    let known = policy.as_ref().and_then(|policy| {
        let name = record.workflow.as_deref()?;
        policy.workflows().find(|workflow| workflow.name() == name)
    });
    let mut runs: Vec<Run> = known.map(|workflow| Run::new(workflow, &record.steps)).into_iter().collect();
    for step in &record.steps {
        let shown = |run: &Run| {
            run.workflow == step.workflow || run.on_fatal.as_ref().is_some_and(|fatal| fatal.workflow == step.workflow)
        };
        if !runs.iter().any(shown) {
            runs.push(Run::of_unknown(&step.workflow, &record.steps));
        }
    }
    Ok(runs)
}

fn write_whole(out: &mut impl Write, record: &TaskRecord, runs: &[Run]) -> io::Result<()> {
    let object = &record.object;
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<10}{}", printable(value));
    line("task", &record.id.to_string())?;
    line("object", &object.to_string())?;
    for (name, value) in [("version", &object.version), ("etag", &object.etag)] {
        if let Some(value) = value {
            line(name, value)?;
        }
    }
    line("state", &format!("{}, attempt {}", record.state, record.attempts))?;
    if let Some(report) = &record.report {
        let found = particulars(report, object.file_name(), &Table::new(true));
        let found = if found.is_empty() { String::new() } else { format!(": {}", found.join("; ")) };
        line("verdict", &format!("{}{found}", report.verdict.status()))?;
        if !matches!(report.verdict, Verdict::Clean) && report.coverage.gap_count > 0 {
            line("gaps", &report.coverage.gap_count.to_string())?;
        }
        if report.finding_count() > 0 {
            line("findings", &report.finding_count().to_string())?;
        }
        if let Some(sha256) = report.sha256 {
            line("sha256", &sha256.to_string())?;
        }
        let engine = &report.engine;
        line("engine", &format!("{} {}, definitions {}", engine.name, engine.library, engine.generation))?;
    }
    line(
        "place",
        &match &record.place {
            Place::Here => String::from("where it was scanned"),
            Place::Moved { object } => object.to_string(),
            Place::Deleted => String::from("deleted"),
        },
    )?;
    line("created", &record.created.to_string())?;
    line("updated", &record.updated.to_string())?;
    if let Some(at) = record.next_at.filter(|_| !record.state.is_terminal()) {
        line("next", &at.to_string())?;
    }
    if record.error.is_some() {
        line("error", error(record))?;
    }
    if runs.is_empty() {
        return line("workflow", record.workflow.as_deref().unwrap_or("none"));
    }
    for run in runs {
        writeln!(out)?;
        // The tree's own line ends stay; everything else in it may be a stranger's.
        for text in run.to_string().lines() {
            writeln!(out, "{}", printable(text))?;
        }
    }
    Ok(())
}

async fn retry(store: &dyn Store, source: &Source, id: &str, json: bool) -> Result<io::Result<u8>, Error> {
    let Some(config) = &source.config else {
        complain("a retry needs the whole pipeline: name its configuration file with --config instead of --store");
        return Ok(Ok(EXIT_ERROR));
    };
    let record = from::task(store, id).await?;
    let pipeline = config.build_with(&source.store).await?;
    let done = pipeline.retry(record.id).await?;
    // Branches that go on are part of the task.
    let _ = tokio::time::timeout(DRAIN, pipeline.drain()).await;
    let mut out = io::stdout().lock();
    let written = if json {
        TaskJson::line(&done.record).and_then(|line| writeln!(out, "{line}"))
    } else {
        let names = Names::of(&pipeline);
        let mut table = Table::new(true);
        let details = details(&done.record, &names, &table);
        table.push(label(&done.record), &names.show(&done.record.object), details);
        table.write(&mut out)
    };
    let through = !matches!(label(&done.record), Label::Error | Label::Waiting);
    Ok(written.map(|()| if through { EXIT_CLEAN } else { EXIT_LOOK }))
}
