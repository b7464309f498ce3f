//! `scan-pipeline audit`: the log of what happened, and whether it is whole.

use std::io::{self, Write};

use scan_pipeline::Error;
use scan_pipeline::store::{AuditEntry, AuditHead, Store, audit};
use serde::Serialize;
use serde_json::json;

use crate::args::AuditCommand;
use crate::text::{plural, printable};
use crate::{EXIT_CLEAN, EXIT_LOOK, from};

/// Entries that are read at once.
const PAGE: usize = 1000;
/// Digits of a task's id that are shown.
const SHORT: usize = 12;

/// Lists or verifies, and returns the exit code.
pub(crate) async fn run(command: &AuditCommand) -> io::Result<u8> {
    match command {
        AuditCommand::List { from, after, task, json } => {
            from::with(from, async |source| list(&*source.store.store(), *after, task.as_deref(), *json).await).await
        }
        AuditCommand::Verify { from, head, json } => {
            from::with(from, async |source| verify(&*source.store.store(), head.as_ref(), *json).await).await
        }
    }
}

/// An entry with the name of its form.
#[derive(Serialize)]
struct EntryJson<'a> {
    schema: &'static str,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

async fn list(store: &dyn Store, mut after: u64, task: Option<&str>, json: bool) -> Result<io::Result<u8>, Error> {
    let mut out = io::BufWriter::new(io::stdout());
    loop {
        let page = store.audit(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let ours = |entry: &&AuditEntry| task.is_none_or(|task| entry.task.to_string().starts_with(task));
        for entry in page.iter().filter(ours) {
            if let Err(why) = write(&mut out, entry, json) {
                return Ok(Err(why));
            }
        }
    }
    Ok(out.flush().map(|()| EXIT_CLEAN))
}

fn write(out: &mut impl Write, entry: &AuditEntry, json: bool) -> io::Result<()> {
    if json {
        let line = serde_json::to_string(&EntryJson { schema: "scan-pipeline.audit/1", entry })?;
        return writeln!(out, "{line}");
    }
    let AuditEntry { seq, at, task, kind, body, .. } = entry;
    let (task, kind, body) = (task.to_string(), printable(kind), printable(body));
    writeln!(out, "{seq:>7}  {at}  {}  {kind:<16}  {body}", &task[..SHORT])
}

async fn verify(store: &dyn Store, noted: Option<&AuditHead>, json: bool) -> Result<io::Result<u8>, Error> {
    let verified = audit::verify(store).await?;
    let mut problems = verified.problems;
    if let Some(noted) = noted
        && let Some(problem) = against(store, noted, &verified.head).await?
    {
        problems.push(problem);
    }
    let AuditHead { seq, hash } = verified.head;
    let mut out = io::stdout().lock();
    let written = if json {
        let line = json!({
            "schema": "scan-pipeline.audit-verified/1",
            "whole": problems.is_empty(),
            "head": format!("{seq}:{hash}"),
            "entries": seq,
            "problems": problems,
        });
        writeln!(out, "{line}")
    } else if problems.is_empty() {
        let entries = match seq {
            1 => String::from("1 entry"),
            _ => format!("{} entries", crate::text::number(seq)),
        };
        writeln!(out, "The audit log is whole: {entries}. Its head, to be noted elsewhere:\n{seq}:{hash}")
    } else {
        let said = problems.iter().try_for_each(|problem| writeln!(out, "  {}", printable(problem)));
        said.and_then(|()| writeln!(out, "The audit log is NOT whole: {}.", plural(problems.len() as u64, "problem")))
    };
    Ok(written.map(|()| if problems.is_empty() { EXIT_CLEAN } else { EXIT_LOOK }))
}

/// What is wrong with the log if this was its head once.
async fn against(store: &dyn Store, noted: &AuditHead, head: &AuditHead) -> Result<Option<String>, Error> {
    let AuditHead { seq, hash } = noted;
    if *seq == 0 {
        return Ok((*noted != AuditHead::EMPTY).then(|| String::from("an empty log has a head of zeros")));
    }
    if *seq > head.seq {
        let end = head.seq;
        return Ok(Some(format!(
            "entry {seq}, which was noted, is not there: the log ends with {end} and was cut off"
        )));
    }
    let entry = store.audit(seq - 1, 1).await?;
    Ok(match entry.first().filter(|entry| entry.seq == *seq) {
        Some(entry) if entry.hash == *hash => None,
        Some(entry) => Some(format!("entry {seq} was noted as {hash} and is {}: the log was made anew", entry.hash)),
        None => Some(format!("entry {seq}, which was noted, is missing")),
    })
}
