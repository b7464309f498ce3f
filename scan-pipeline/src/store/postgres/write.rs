//! A batch as one transaction: lock the tasks, let each call say what it changes, write that set by set.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::batch::{Batch, Outcome};
use super::jobs;
use super::read::{self, execute};
use crate::model::Timestamp;
use crate::sql::Columns as _;
use crate::sql::gather::Writes;
use crate::sql::postgres::{BEGIN, Postgres, escape, failed};
use crate::store::audit::unique_findings;
use crate::store::sql::{
    self, Answer, Call, Entry, TASK_COLUMNS, Taken, TaskRow, begin_anew, select_head, task_columns,
};
use crate::store::{AuditHead, JobState};
use crate::{Error, ErrorKind, Result};

/// How often a batch that met with others, or with a dead connection, begins again, and how long it waits at most before
/// it first does.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(20);

/// What the writer of a store does.
pub(super) struct Tasks {
    pub(super) database: Postgres,
    pub(super) cache_entries: u32,
}

impl Writes for Tasks {
    type Call = Call;
    type Answer = Answer;

    async fn write(&mut self, calls: &[&Call]) -> Result<Vec<Result<Answer>>> {
        let mut tried = 1;
        loop {
            let mut sent = false;
            let error = match self.once(calls, &mut sent).await {
                Ok(answers) => return Ok(answers),
                Err(error) => error,
            };
            // Once the server was told to commit, nobody knows whether it has.
            let passes = matches!(error.kind(), ErrorKind::Busy | ErrorKind::Unavailable) && error.is_retryable();
            if sent || !passes || tried == TRIES {
                return Err(error);
            }
            tokio::time::sleep(PAUSE.mul_f64(f64::from(tried) * fastrand::f64())).await;
            tried += 1;
        }
    }

    fn undo(answer: Answer) -> Option<Call> {
        answer.undo()
    }

    fn name(&self) -> String {
        self.database.name()
    }

    async fn close(self) {}
}

impl Tasks {
    async fn once(&self, calls: &[&Call], sent: &mut bool) -> Result<Vec<Result<Answer>>> {
        let mut session = self.database.session().await?;
        let writing = transaction(session.connection(), calls, self.cache_entries, sent);
        let answers = self.database.run("writing to the store", writing).await?;
        session.done();
        Ok(answers)
    }
}

async fn transaction(
    connection: &mut PgConnection,
    calls: &[&Call],
    cache_entries: u32,
    sent: &mut bool,
) -> Result<Vec<Result<Answer>>> {
    execute(connection, BEGIN).await?;
    let (rows, now) = lock(connection, calls).await?;
    // With the locks: nobody else has written about these tasks since.
    let now = match now {
        Some(now) => now,
        None => read::now(connection).await?,
    };
    let mut batch = Batch::new(rows, now);
    let outcomes: Vec<_> = calls.iter().map(|call| batch.take(call)).collect();
    insert(connection, &batch.new_tasks()).await?;
    update(connection, &batch.changed_tasks()).await?;
    write_reports(connection, &batch).await?;
    write_steps(connection, &batch).await?;
    begin_anew(connection, &batch).await?;
    // The one chain of all machines is held as shortly as can be; what is not a task's own comes behind it, lest two wait
    // for each other.
    write_log(connection, &batch).await?;
    write_cache(connection, &batch, cache_entries).await?;
    write_tags(connection, &batch).await?;
    let states = write_jobs(connection, &batch).await?;
    let answers = answers(connection, outcomes, states, batch.now()).await?;
    *sent = true;
    execute(connection, "COMMIT").await?;
    Ok(answers)
}

/// The tasks that calls are about, as far as they are known; in the order of their ids, so that nobody waits in a circle.
/// And the time when the last of them was locked, if there was any.
async fn lock(connection: &mut PgConnection, calls: &[&Call]) -> Result<(Vec<TaskRow>, Option<Timestamp>)> {
    let ids: BTreeSet<_> = calls
        .iter()
        .filter_map(|call| match call {
            Call::Claim(request) | Call::Reopen(request) => Some(request.id),
            Call::Commit(lease, _) => Some(lease.task),
            Call::SetTags(..) | Call::Job(_) => None,
        })
        .collect();
    if ids.is_empty() {
        return Ok((Vec::new(), None));
    }
    let ids: Vec<_> = ids.iter().map(|id| id.0.0.as_slice()).collect();
    // The clock is read for each row, when it has come out of the inner statement, which is with its lock.
    let sql = concat!(
        "SELECT ",
        task_columns!(),
        ", floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM (SELECT ",
        task_columns!(),
        " FROM tasks WHERE id = ANY($1) ORDER BY id FOR UPDATE) AS locked"
    );
    let rows = sqlx::query(sql).bind(ids).fetch_all(connection).await.map_err(failed("reading tasks"))?;
    let times = rows.iter().map(|row| row.number(TASK_COLUMNS)).collect::<Result<Vec<_>>>()?;
    let tasks = rows.iter().map(TaskRow::read).collect::<Result<_>>()?;
    Ok((tasks, times.into_iter().max().map(Timestamp)))
}

/// What became of each call, for its caller.
async fn answers(
    connection: &mut PgConnection,
    outcomes: Vec<Result<Outcome>>,
    mut states: Vec<Result<Option<JobState>>>,
    now: Timestamp,
) -> Result<Vec<Result<Answer>>> {
    let known = outcomes.iter().filter_map(|outcome| match outcome {
        Ok(Outcome::Claim { taken: Taken::Mine | Taken::NotYet { .. } | Taken::Finished, row, known: true }) => {
            Some(TaskRow::clone(row))
        }
        _ => None,
    });
    let mut records = read::whole(connection, known.collect(), true).await?.into_iter();
    let mut answer = |outcome| {
        Ok(match outcome {
            Outcome::Claim { taken, row, known } => {
                let read = known && !matches!(taken, Taken::Busy { .. });
                let record = if read { records.next() } else { None };
                let record = record.map_or_else(|| row.clone().alone(), Ok)?;
                Answer::Claim(row.answer(taken, record))
            }
            Outcome::Committed => Answer::Committed(now),
            Outcome::Job(place) => Answer::Job(std::mem::replace(&mut states[place], Ok(None))?),
            Outcome::Done => Answer::Done,
        })
    };
    Ok(outcomes.into_iter().map(|outcome| outcome.and_then(&mut answer)).collect())
}

/// Gathers a column of rows.
macro_rules! column {
    ($query:ident, $rows:expr, $one:pat => $value:expr) => {
        $query = $query.bind($rows.iter().map(|$one| $value).collect::<Vec<_>>())
    };
}

async fn insert(connection: &mut PgConnection, rows: &[&TaskRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut query = sqlx::query(concat!(
        "INSERT INTO tasks (",
        task_columns!(),
        ") SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], \
         $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[]) ON CONFLICT DO NOTHING"
    ));
    column!(query, rows, row => row.id.0.0.as_slice());
    column!(query, rows, row => row.object.as_str());
    column!(query, rows, row => row.state.as_str());
    column!(query, rows, row => i64::from(row.attempts));
    column!(query, rows, row => row.workflow.as_deref().map(escape));
    column!(query, rows, row => row.place.as_str());
    column!(query, rows, row => row.next_at);
    column!(query, rows, row => row.error.as_deref().map(escape));
    column!(query, rows, row => row.created);
    column!(query, rows, row => row.updated);
    column!(query, rows, row => row.fence);
    column!(query, rows, row => row.lease_owner.as_deref().map(escape));
    column!(query, rows, row => row.lease_until);
    let written = query.execute(connection).await.map_err(failed("writing tasks"))?;
    if written.rows_affected() == rows.len() as u64 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Busy, "another process has just made one of the tasks"))
}

async fn update(connection: &mut PgConnection, rows: &[&TaskRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut query = sqlx::query(
        "UPDATE tasks SET state = new.state, attempts = new.attempts, workflow = new.workflow, place = new.place, \
         next_at = new.next_at, error = new.error, updated = new.updated, fence = new.fence, \
         lease_owner = new.lease_owner, lease_until = new.lease_until \
         FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[], \
         $8::bigint[], $9::bigint[], $10::text[], $11::bigint[]) AS new (id, state, attempts, workflow, place, next_at, \
         error, updated, fence, lease_owner, lease_until) WHERE tasks.id = new.id",
    );
    column!(query, rows, row => row.id.0.0.as_slice());
    column!(query, rows, row => row.state.as_str());
    column!(query, rows, row => i64::from(row.attempts));
    column!(query, rows, row => row.workflow.as_deref().map(escape));
    column!(query, rows, row => row.place.as_str());
    column!(query, rows, row => row.next_at);
    column!(query, rows, row => row.error.as_deref().map(escape));
    column!(query, rows, row => row.updated);
    column!(query, rows, row => row.fence);
    column!(query, rows, row => row.lease_owner.as_deref().map(escape));
    column!(query, rows, row => row.lease_until);
    query.execute(connection).await.map(drop).map_err(failed("writing tasks"))
}

/// Locks the end of the log, and goes on from there.
async fn write_log(connection: &mut PgConnection, batch: &Batch<'_>) -> Result<()> {
    if batch.log.is_empty() {
        return Ok(());
    }
    let writing = failed("writing the audit log");
    let row = sqlx::query(concat!(select_head!(), " FOR UPDATE")).fetch_optional(&mut *connection).await;
    let mut head: AuditHead = sql::head(row.map_err(&writing)?.as_ref())?;
    let log = batch.log.iter();
    let entries: Vec<_> =
        log.map(|(task, kind, body)| Entry::behind(&mut head, batch.now(), *task, (kind, body))).collect();
    let mut query = sqlx::query(
        "WITH ended AS (UPDATE audit_head SET seq = $8, hash = $9 WHERE one = 1) \
         INSERT INTO audit (seq, at, task, kind, body, previous, hash) SELECT * FROM unnest($1::bigint[], $2::bigint[], \
         $3::bytea[], $4::text[], $5::text[], $6::bytea[], $7::bytea[])",
    );
    column!(query, entries, entry => entry.head.seq.cast_signed());
    column!(query, entries, entry => entry.at.0);
    column!(query, entries, entry => entry.task.0.0.as_slice());
    column!(query, entries, entry => escape(entry.kind));
    column!(query, entries, entry => entry.body);
    column!(query, entries, entry => entry.previous.0.as_slice());
    column!(query, entries, entry => entry.head.hash.0.as_slice());
    query = query.bind(head.seq.cast_signed()).bind(head.hash.0.as_slice());
    query.execute(connection).await.map(drop).map_err(writing)
}

async fn write_reports(connection: &mut PgConnection, batch: &Batch<'_>) -> Result<()> {
    if batch.reports.is_empty() {
        return Ok(());
    }
    let writing = failed("writing reports");
    let reports: Vec<_> = batch.reports.iter().collect();
    let mut query = sqlx::query(
        "WITH gone AS (DELETE FROM findings WHERE task = ANY($1)) \
         INSERT INTO reports (task, report) SELECT * FROM unnest($1::bytea[], $2::text[]) \
         ON CONFLICT (task) DO UPDATE SET report = excluded.report",
    );
    column!(query, reports, (task, _) => task.0.0.as_slice());
    column!(query, reports, (_, (_, text)) => *text);
    query.execute(&mut *connection).await.map_err(&writing)?;
    let mut findings = Vec::new();
    for (task, (report, _)) in &batch.reports {
        for (place, finding) in (0_i64..).zip(unique_findings(report)) {
            let (layer, detector) = (escape(&finding.layer_path), escape(&finding.detector));
            let tags = sql::to_json(&finding.tags)?;
            findings.push((task, place, layer, detector, tags, finding));
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    let mut query = sqlx::query(
        "INSERT INTO findings (task, id, place, layer_path, detector, byte_offset, masked_match, context, confidence, \
         raw_offset, tags, fingerprint) SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::text[], \
         $5::text[], $6::bigint[], $7::text[], $8::text[], $9::float8[], $10::bigint[], $11::text[], $12::text[])",
    );
    column!(query, findings, (task, ..) => task.0.0.as_slice());
    column!(query, findings, (_, _, layer, detector, _, finding) => {
        read::finding_key(layer, detector, finding.byte_offset)
    });
    column!(query, findings, (_, place, ..) => *place);
    column!(query, findings, (_, _, layer, ..) => layer.as_ref());
    column!(query, findings, (_, _, _, detector, ..) => detector.as_ref());
    column!(query, findings, (.., finding) => finding.byte_offset.cast_signed());
    column!(query, findings, (.., finding) => escape(&finding.masked_match));
    column!(query, findings, (.., finding) => escape(&finding.context));
    column!(query, findings, (.., finding) => finding.confidence);
    column!(query, findings, (.., finding) => finding.raw_offset.map(u64::cast_signed));
    column!(query, findings, (.., tags, _) => tags.as_str());
    column!(query, findings, (.., finding) => escape(&finding.fingerprint));
    query.execute(connection).await.map(drop).map_err(writing)
}

/// Gives the steps of tasks that are opened again their attempts, also those that the commit wrote with which the task
/// died, in the same batch. Nobody has written any since: the new lease is not given out yet.
async fn begin_anew(connection: &mut PgConnection, batch: &Batch<'_>) -> Result<()> {
    if batch.reopened.is_empty() {
        return Ok(());
    }
    let tasks = &batch.reopened;
    let mut query = sqlx::query(begin_anew!("= ANY($1)"));
    column!(query, tasks, task => task.0.0.as_slice());
    query.execute(connection).await.map(drop).map_err(failed("writing steps"))
}

async fn write_steps(connection: &mut PgConnection, batch: &Batch<'_>) -> Result<()> {
    let steps = &batch.steps;
    if steps.is_empty() {
        return Ok(());
    }
    let mut query = sqlx::query(
        "INSERT INTO steps (task, name, workflow, step, state, attempt, output, error, next_at, updated) \
         SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], \
         $8::text[], $9::bigint[], $10::bigint[]) ON CONFLICT (task, name) DO UPDATE SET state = excluded.state, \
         attempt = excluded.attempt, output = excluded.output, error = excluded.error, next_at = excluded.next_at, \
         updated = excluded.updated",
    );
    column!(query, steps, (task, ..) => task.0.0.as_slice());
    column!(query, steps, (_, step, _) => read::step_key(step));
    column!(query, steps, (_, step, _) => escape(&step.workflow));
    column!(query, steps, (_, step, _) => escape(&step.step));
    column!(query, steps, (_, step, _) => step.state.as_str());
    column!(query, steps, (_, step, _) => i64::from(step.attempt));
    column!(query, steps, (.., output) => *output);
    column!(query, steps, (_, step, _) => step.error.as_deref().map(escape));
    column!(query, steps, (_, step, _) => step.next_at.map(|at| at.0));
    column!(query, steps, (_, step, _) => step.updated.0);
    query.execute(connection).await.map(drop).map_err(failed("writing steps"))
}

/// Numbers only grow, so all that is `most` below the new one is the oldest, and finding it costs nothing. Entries that
/// were replaced leave gaps: then a few fewer are kept.
async fn write_cache(connection: &mut PgConnection, batch: &Batch<'_>, most: u32) -> Result<()> {
    let entries = &batch.cache;
    if entries.is_empty() {
        return Ok(());
    }
    let writing = failed("writing the verdict cache");
    let mut query = sqlx::query_scalar(
        "WITH written AS (INSERT INTO cache (key, report) SELECT * FROM unnest($1::bytea[], $2::text[]) \
         ON CONFLICT (key) DO UPDATE SET report = excluded.report, number = excluded.number RETURNING number) \
         SELECT max(number) FROM written",
    );
    column!(query, entries, (key, _) => key.as_slice());
    column!(query, entries, (_, text) => *text);
    let newest: i64 = query.fetch_one(&mut *connection).await.map_err(&writing)?;
    // What another process is just using is left to the next one.
    let sql = "DELETE FROM cache WHERE key IN (SELECT key FROM cache WHERE number <= $1 FOR UPDATE SKIP LOCKED)";
    let query = sqlx::query(sql).bind(newest - i64::from(most));
    query.execute(connection).await.map(drop).map_err(writing)
}

async fn write_tags(connection: &mut PgConnection, batch: &Batch<'_>) -> Result<()> {
    let writing = failed("writing tags");
    let mut all: Vec<_> = batch.tags.iter().map(|tags| (read::tags_key(tags.0), tags)).collect();
    // Everybody in the same order, and those of one key in the order in which they came.
    all.sort_by(|one, other| one.0.0.cmp(&other.0.0));
    for ((key, state), (object, tags, text)) in all {
        let versioned = object.version.is_some();
        // What a key without versions held before does not come back, and neither do its tags.
        sqlx::query("DELETE FROM tags WHERE object = $1 AND (id = $2 OR (NOT $3 AND NOT versioned))")
            .bind(key.clone())
            .bind(state.clone())
            .bind(versioned)
            .execute(&mut *connection)
            .await
            .map_err(&writing)?;
        if tags.is_empty() {
            continue;
        }
        sqlx::query(
            "INSERT INTO tags (id, object, versioned, about, tags) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET tags = excluded.tags",
        )
        .bind(state)
        .bind(key)
        .bind(versioned)
        .bind(sql::to_json(object)?)
        .bind(text.clone())
        .execute(&mut *connection)
        .await
        .map_err(&writing)?;
    }
    Ok(())
}

/// What became of each job.
async fn write_jobs(connection: &mut PgConnection, batch: &Batch<'_>) -> Result<Vec<Result<Option<JobState>>>> {
    let mut order: Vec<_> = batch.jobs.iter().enumerate().collect();
    // Everybody locks them in the same order, and those of one job are done in the order in which they came.
    order.sort_by_key(|(_, call)| call.id());
    let mut states: Vec<_> = batch.jobs.iter().map(|_| Ok(None)).collect();
    for (place, call) in order {
        states[place] = jobs::run(connection, call, batch.now()).await?;
    }
    Ok(states)
}
