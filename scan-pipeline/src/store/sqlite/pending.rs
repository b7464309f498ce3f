//! What the commits of a batch come to, until it is written, table by table.

use std::collections::{BTreeMap, HashMap};

use sqlx::sqlite::SqliteConnection;

use super::together::Together;
use crate::Result;
use crate::model::{Report, TaskId, Timestamp};
use crate::store::audit::unique_findings;
use crate::store::sql::{Entry, Prepared, TaskRow, to_json};
use crate::store::{AuditHead, CacheKey, Lease, StepRecord};

/// Commits whose leases held, in the order in which they came.
#[derive(Default)]
pub(super) struct Pending<'a> {
    /// As the last commit about it left it.
    tasks: BTreeMap<TaskId, TaskRow>,
    reports: BTreeMap<TaskId, (&'a Report, &'a str)>,
    /// In the order of their beginning.
    steps: Vec<(TaskId, &'a StepRecord, Option<&'a str>)>,
    /// In the order in which they were learned.
    cache: Vec<(&'a CacheKey, &'a str)>,
    log: Vec<Entry<'a>>,
}

impl<'a> Pending<'a> {
    /// Adds a commit, if its lease holds, and moves the end of the log on. `tasks` has the task, and is kept up.
    pub(super) fn add(
        &mut self,
        lease: &Lease,
        prepared: &'a Prepared,
        head: &mut AuditHead,
        tasks: &mut HashMap<TaskId, TaskRow>,
    ) -> Result<Timestamp> {
        let (id, now) = (lease.task, Timestamp::now());
        let row = TaskRow::commit(tasks.get(&id), lease, prepared, now)?;
        tasks.insert(id, row.clone());
        self.tasks.insert(id, row);
        let changes = &prepared.changes;
        if let (Some(report), Some(text)) = (&changes.report, &prepared.report) {
            self.reports.insert(id, (report, text));
        }
        self.steps.extend(changes.steps.iter().zip(&prepared.outputs).map(|(step, out)| (id, step, out.as_deref())));
        if let (Some((key, _)), Some(text)) = (&changes.cache, &prepared.cached) {
            self.cache.push((key, text));
        }
        self.log.extend(prepared.log().map(|entry| Entry::behind(head, now, id, entry)));
        Ok(now)
    }

    /// Whether anything of this task is still to be written.
    pub(super) fn is_about(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id)
    }

    /// Writes all of it. With an error the transaction has failed.
    pub(super) async fn write(&mut self, connection: &mut SqliteConnection, cache_entries: u32) -> Result<()> {
        let Self { tasks, reports, steps, cache, log } = std::mem::take(self);
        let mut all = Together::default();
        save(&mut all, connection, &tasks.into_values().collect::<Vec<_>>()).await?;
        write_reports(&mut all, connection, &reports.into_iter().collect::<Vec<_>>()).await?;
        write_steps(&mut all, connection, &steps).await?;
        write_cache(&mut all, connection, &cache, cache_entries).await?;
        write_log(&mut all, connection, &log).await?;
        all.execute(connection).await
    }
}

/// Writes entries whose place in the log is known.
pub(super) async fn write_log(
    all: &mut Together,
    connection: &mut SqliteConnection,
    entries: &[Entry<'_>],
) -> Result<()> {
    let insert = ("INSERT INTO audit (seq, at, task, kind, body, previous, hash) VALUES ", "(?, ?, ?, ?, ?, ?, ?)", "");
    let bind = |all: &mut Together, entry: &Entry<'_>| {
        all.bind(entry.head.seq.cast_signed())
            .bind(entry.at.0)
            .bind(entry.task.0.0.as_slice())
            .bind(entry.kind)
            .bind(entry.body)
            .bind(entry.previous.0.as_slice())
            .bind(entry.head.hash.0.as_slice());
    };
    all.rows(connection, insert, entries, bind).await
}

/// Writes what may have changed of tasks that are there.
pub(super) async fn save(all: &mut Together, connection: &mut SqliteConnection, rows: &[TaskRow]) -> Result<()> {
    let update = (
        "UPDATE tasks SET state = new.column2, attempts = new.column3, workflow = new.column4, place = new.column5, \
         next_at = new.column6, error = new.column7, updated = new.column8, fence = new.column9, \
         lease_owner = new.column10, lease_until = new.column11 FROM (VALUES ",
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ") AS new WHERE tasks.id = new.column1",
    );
    let bind = |all: &mut Together, row: &TaskRow| {
        all.bind(row.id.0.0.as_slice())
            .bind(row.state.as_str())
            .bind(row.attempts)
            .bind(row.workflow.as_deref())
            .bind(row.place.as_str())
            .bind(row.next_at)
            .bind(row.error.as_deref())
            .bind(row.updated)
            .bind(row.fence)
            .bind(row.lease_owner.as_deref())
            .bind(row.lease_until);
    };
    all.rows(connection, update, rows, bind).await
}

async fn write_reports(
    all: &mut Together,
    connection: &mut SqliteConnection,
    reports: &[(TaskId, (&Report, &str))],
) -> Result<()> {
    let insert =
        ("INSERT INTO reports VALUES ", "(?, ?)", " ON CONFLICT (task) DO UPDATE SET report = excluded.report");
    all.rows(connection, insert, reports, |all, (task, (_, text))| {
        all.bind(task.0.0.as_slice()).bind(*text);
    })
    .await?;
    let delete = ("DELETE FROM findings WHERE task IN (", "?", ")");
    all.rows(connection, delete, reports, |all, (task, _)| {
        all.bind(task.0.0.as_slice());
    })
    .await?;
    let mut findings = Vec::new();
    for (task, (report, _)) in reports {
        for (place, finding) in (0_i64..).zip(unique_findings(report)) {
            findings.push((*task, place, to_json(&finding.tags)?, finding));
        }
    }
    let insert = (
        "INSERT INTO findings (task, layer_path, detector, byte_offset, place, masked_match, context, confidence, \
         raw_offset, tags, fingerprint) VALUES ",
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "",
    );
    all.rows(connection, insert, &findings, |all, (task, place, tags, finding)| {
        all.bind(task.0.0.as_slice())
            .bind(finding.layer_path.as_str())
            .bind(finding.detector.as_str())
            .bind(finding.byte_offset.cast_signed())
            .bind(*place)
            .bind(finding.masked_match.as_str())
            .bind(finding.context.as_str())
            .bind(finding.confidence)
            .bind(finding.raw_offset.map(u64::cast_signed))
            .bind(tags.as_str())
            .bind(finding.fingerprint.as_str());
    })
    .await
}

async fn write_steps(
    all: &mut Together,
    connection: &mut SqliteConnection,
    steps: &[(TaskId, &StepRecord, Option<&str>)],
) -> Result<()> {
    let insert = (
        "INSERT INTO steps (task, workflow, step, state, attempt, output, error, next_at, updated) VALUES ",
        "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        " ON CONFLICT (task, workflow, step) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, \
         output = excluded.output, error = excluded.error, next_at = excluded.next_at, updated = excluded.updated",
    );
    all.rows(connection, insert, steps, |all, (task, step, output)| {
        all.bind(task.0.0.as_slice())
            .bind(step.workflow.as_str())
            .bind(step.step.as_str())
            .bind(step.state.as_str())
            .bind(step.attempt)
            .bind(*output)
            .bind(step.error.as_deref())
            .bind(step.next_at.map(|at| at.0))
            .bind(step.updated.0);
    })
    .await
}

/// Numbers only grow, so all that is `most` below the newest one is the oldest, and finding it costs nothing. Entries that
/// were replaced leave gaps: then a few fewer are kept.
async fn write_cache(
    all: &mut Together,
    connection: &mut SqliteConnection,
    entries: &[(&CacheKey, &str)],
    most: u32,
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let replace = ("INSERT OR REPLACE INTO cache (sha256, generation, settings, report) VALUES ", "(?, ?, ?, ?)", "");
    all.rows(connection, replace, entries, |all, (key, text)| {
        all.bind(key.sha256.0.as_slice()).bind(key.generation.as_str()).bind(key.settings.as_str()).bind(*text);
    })
    .await?;
    all.add("DELETE FROM cache WHERE number <= (SELECT max(number) FROM cache) - ?").bind(i64::from(most));
    Ok(())
}
