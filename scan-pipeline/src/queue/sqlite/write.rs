//! What is written to the messages, call by call, within the transaction of a batch.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::Result;
use crate::model::Timestamp;
use crate::queue::sql::{BATCH, DEDUPE, Ticket, beyond, cost, millis};
use crate::queue::{Delivery, Held, Lane, MessageId, NewMessage, Settle};
use crate::sql::sqlite::{failed, get};
use crate::sql::word;

const WRITING: &str = "writing to the queue";

/// The ranks of a batch: each flow is read once and written once.
pub(super) struct Ranks {
    front: i64,
    flows: HashMap<(String, Lane), i64>,
    /// They come again: another set of flows.
    again: bool,
}

impl Ranks {
    pub(super) async fn load(connection: &mut SqliteConnection, again: bool) -> Result<Self> {
        // What is not ahead of the front says no more than the front does.
        let front = sqlx::query_scalar::<_, i64>(
            "SELECT coalesce((SELECT rank FROM messages WHERE rank IS NOT NULL ORDER BY rank LIMIT 1), \
             (SELECT max(last) FROM flows), 0)",
        )
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(WRITING))?;
        let stale = sqlx::query("DELETE FROM flows WHERE last <= ?").bind(front).execute(connection).await;
        stale.map_err(failed(WRITING))?;
        Ok(Self { front, flows: HashMap::new(), again })
    }

    /// The rank of the next message of this flow.
    pub(super) async fn next(&mut self, connection: &mut SqliteConnection, tenant: &str, lane: Lane) -> Result<i64> {
        let flow = (tenant.to_owned(), lane);
        let last = match self.flows.get(&flow) {
            Some(last) => *last,
            None => sqlx::query_scalar("SELECT last FROM flows WHERE tenant = ? AND lane = ? AND again = ?")
                .bind(tenant.to_owned())
                .bind(lane.as_str())
                .bind(self.again)
                .fetch_optional(connection)
                .await
                .map_err(failed(WRITING))?
                .unwrap_or(self.front),
        };
        let rank = last.max(self.front).saturating_add(cost(lane));
        self.flows.insert(flow, rank);
        Ok(rank)
    }

    pub(super) async fn save(self, connection: &mut SqliteConnection) -> Result<()> {
        for ((tenant, lane), last) in self.flows {
            sqlx::query("INSERT OR REPLACE INTO flows (tenant, lane, again, last) VALUES (?, ?, ?, ?)")
                .bind(tenant)
                .bind(lane.as_str())
                .bind(self.again)
                .bind(last)
                .execute(&mut *connection)
                .await
                .map_err(failed(WRITING))?;
        }
        Ok(())
    }
}

pub(super) async fn enqueue(
    connection: &mut SqliteConnection,
    messages: &[NewMessage],
    now: i64,
) -> Result<Vec<MessageId>> {
    let mut ranks = Ranks::load(connection, false).await?;
    let mut ids = Vec::with_capacity(messages.len());
    if messages.iter().any(|message| message.dedupe.is_some()) {
        forget(connection, now).await?;
    }
    for message in messages {
        if let Some(key) = &message.dedupe
            && let Some(first) = known(connection, key, now).await?
        {
            ids.push(MessageId(first.to_string()));
            continue;
        }
        let (mut rank, mut due) = (None, None);
        if message.delay.is_zero() {
            rank = Some(ranks.next(connection, &message.tenant, message.lane).await?);
        } else {
            due = Some(now.saturating_add(millis(message.delay)));
        }
        let id = insert(connection, message, rank, due, now).await?;
        if let Some(key) = &message.dedupe {
            sqlx::query("INSERT OR REPLACE INTO dedupe (key, message, until) VALUES (?, ?, ?)")
                .bind(key.clone())
                .bind(id)
                .bind(now.saturating_add(millis(DEDUPE)))
                .execute(&mut *connection)
                .await
                .map_err(failed(WRITING))?;
        }
        ids.push(MessageId(id.to_string()));
    }
    ranks.save(connection).await?;
    Ok(ids)
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    message: &NewMessage,
    rank: Option<i64>,
    due: Option<i64>,
    now: i64,
) -> Result<i64> {
    let inserted = sqlx::query(
        "INSERT INTO messages (tenant, lane, enqueued, rank, due) VALUES (?1, ?2, ?3, ?4, ?5); \
         INSERT INTO bodies (id, body) VALUES (last_insert_rowid(), ?6)",
    )
    .bind(message.tenant.clone())
    .bind(message.lane.as_str())
    .bind(now)
    .bind(rank)
    .bind(due)
    .bind(message.body.to_vec())
    .execute(connection)
    .await
    .map_err(failed(WRITING))?;
    // Both rows have it.
    Ok(inserted.last_insert_rowid())
}

/// The message that has this key already.
async fn known(connection: &mut SqliteConnection, key: &str, now: i64) -> Result<Option<i64>> {
    sqlx::query_scalar("SELECT message FROM dedupe WHERE key = ? AND until > ? AND until <= ?")
        .bind(key.to_owned())
        .bind(now)
        .bind(beyond(now))
        .fetch_optional(connection)
        .await
        .map_err(failed(WRITING))
}

/// Makes room for new keys; a batch brings no more than this takes away.
async fn forget(connection: &mut SqliteConnection, now: i64) -> Result<()> {
    let old = sqlx::query(
        "DELETE FROM dedupe WHERE key IN (SELECT key FROM dedupe WHERE until <= ?1 ORDER BY until LIMIT ?2)",
    );
    let most = i64::try_from(2 * BATCH).unwrap_or(i64::MAX);
    old.bind(now).bind(most).execute(connection).await.map(drop).map_err(failed(WRITING))
}

/// Messages whose time has come are ready. A batch of them at a time: the rest comes with the next lease.
async fn wake(connection: &mut SqliteConnection, most: usize, now: i64) -> Result<()> {
    let rows = sqlx::query(
        "SELECT * FROM (SELECT id, tenant, lane FROM messages WHERE rank IS NULL AND due <= ?1 ORDER BY due LIMIT ?3) \
         UNION ALL \
         SELECT * FROM (SELECT id, tenant, lane FROM messages WHERE rank IS NULL AND due > ?2 ORDER BY due LIMIT ?3)",
    )
    .bind(now)
    .bind(beyond(now))
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await
    .map_err(failed(WRITING))?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut ranks = Ranks::load(connection, true).await?;
    let mut ranked = Vec::with_capacity(rows.len());
    for row in &rows {
        let rank = ranks.next(connection, get(row, 1)?, lane(row, 2)?).await?;
        ranked.push(json!([get::<i64>(row, 0)?, rank]));
    }
    ranks.save(connection).await?;
    sqlx::query(
        "UPDATE messages SET rank = v.value ->> 1, due = NULL FROM json_each(?) AS v WHERE messages.id = v.value ->> 0",
    )
    .bind(Value::from(ranked).to_string())
    .execute(connection)
    .await
    .map(drop)
    .map_err(failed(WRITING))
}

pub(super) async fn lease(
    connection: &mut SqliteConnection,
    most: usize,
    ttl: i64,
    now: i64,
) -> Result<Vec<(Ticket, Delivery)>> {
    wake(connection, BATCH.max(most), now).await?;
    // The second statement takes the same rows: nobody else writes meanwhile. It gives none back, because their order
    // would be lost.
    let rows = sqlx::query(
        "SELECT m.id, m.tenant, m.lane, m.enqueued, m.attempt + 1, m.fence + 1, b.body FROM messages AS m \
         JOIN bodies AS b ON b.id = m.id WHERE m.rank IS NOT NULL ORDER BY m.rank, m.id LIMIT ?1; \
         UPDATE messages SET rank = NULL, due = ?2, attempt = attempt + 1, fence = fence + 1, leased = 1 WHERE id IN \
         (SELECT id FROM messages WHERE rank IS NOT NULL ORDER BY rank, id LIMIT ?1)",
    )
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .bind(now.saturating_add(ttl))
    .fetch_all(connection)
    .await
    .map_err(failed(WRITING))?;
    rows.iter().map(delivery).collect()
}

fn delivery(row: &SqliteRow) -> Result<(Ticket, Delivery)> {
    let ticket = Ticket { id: get(row, 0)?, fence: get(row, 5)? };
    let delivery = Delivery {
        id: MessageId(ticket.id.to_string()),
        body: get::<Vec<u8>>(row, 6)?.into(),
        receipt: ticket.receipt(),
        attempt: get(row, 4)?,
        tenant: get(row, 1)?,
        lane: lane(row, 2)?,
        enqueued: Some(Timestamp(get(row, 3)?)),
    };
    Ok((ticket, delivery))
}

pub(super) fn lane(row: &SqliteRow, column: usize) -> Result<Lane> {
    word(row, column, &Lane::ALL, Lane::as_str)
}

/// A lease that ran out, and that nobody else has got since, holds again.
pub(super) async fn extend(connection: &mut SqliteConnection, leases: &[(Ticket, i64)], now: i64) -> Result<Vec<Held>> {
    let list = leases.iter().map(|(ticket, ttl)| json!([ticket.id, ticket.fence, now.saturating_add(*ttl)]));
    let held = changed(
        connection,
        "UPDATE messages SET rank = NULL, due = v.value ->> 2 FROM json_each(?) AS v \
         WHERE messages.id = v.value ->> 0 AND fence = v.value ->> 1 AND leased RETURNING messages.id, fence",
        list.collect(),
    )
    .await?;
    Ok(leases.iter().map(|(ticket, _)| if held.contains(ticket) { Held::Held } else { Held::Lost }).collect())
}

pub(super) async fn settle(
    connection: &mut SqliteConnection,
    messages: &[(Ticket, Settle)],
    now: i64,
) -> Result<Vec<Held>> {
    let (mut done, mut retried, mut dead) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = HashSet::with_capacity(messages.len());
    // The first word counts.
    let firsts: Vec<_> = messages.iter().map(|(ticket, _)| seen.insert(*ticket)).collect();
    for ((ticket, settle), _) in messages.iter().zip(&firsts).filter(|(_, first)| **first) {
        match settle {
            Settle::Done => done.push(json!([ticket.id, ticket.fence])),
            Settle::Retry { after } => {
                retried.push(json!([ticket.id, ticket.fence, now.saturating_add(millis(*after))]));
            }
            Settle::Dead { reason } => dead.push(json!([ticket.id, ticket.fence, reason])),
        }
    }
    // What is dead is kept before it leaves the queue.
    if !dead.is_empty() {
        done.extend(dead.iter().map(|one| json!([one[0], one[1]])));
        sqlx::query(
            "INSERT INTO dead (tenant, lane, attempts, reason, died, body) \
             SELECT m.tenant, m.lane, m.attempt, v.value ->> 2, ?2, b.body FROM json_each(?1) AS v \
             CROSS JOIN messages AS m ON m.id = v.value ->> 0 AND m.fence = v.value ->> 1 AND m.leased \
             JOIN bodies AS b ON b.id = m.id ORDER BY v.key",
        )
        .bind(Value::from(dead).to_string())
        .bind(now)
        .execute(&mut *connection)
        .await
        .map_err(failed(WRITING))?;
    }
    let mut held = changed(
        connection,
        "UPDATE messages SET rank = NULL, due = v.value ->> 2, leased = 0 FROM json_each(?) AS v \
         WHERE messages.id = v.value ->> 0 AND fence = v.value ->> 1 AND leased RETURNING messages.id, fence",
        retried,
    )
    .await?;
    held.extend(
        changed(
            connection,
            "DELETE FROM messages WHERE id IN (SELECT m.id FROM json_each(?) AS v CROSS JOIN messages AS m \
             ON m.id = v.value ->> 0 AND m.fence = v.value ->> 1 AND m.leased) RETURNING id, fence",
            done,
        )
        .await?,
    );
    let answer =
        |(ticket, first): (Ticket, bool)| if first && held.contains(&ticket) { Held::Held } else { Held::Lost };
    Ok(messages.iter().map(|(ticket, _)| *ticket).zip(firsts).map(answer).collect())
}

/// Undoes a delivery that reached nobody.
pub(super) async fn give_back(connection: &mut SqliteConnection, tickets: &[Ticket], now: i64) -> Result<u64> {
    let list = tickets.iter().map(|ticket| json!([ticket.id, ticket.fence, now]));
    let back = changed(
        connection,
        "UPDATE messages SET rank = NULL, due = v.value ->> 2, leased = 0, attempt = attempt - 1 \
         FROM json_each(?) AS v WHERE messages.id = v.value ->> 0 AND fence = v.value ->> 1 AND leased \
         RETURNING messages.id, fence",
        list.collect(),
    );
    Ok(back.await?.len() as u64)
}

/// The leases on which such a statement did something.
async fn changed(connection: &mut SqliteConnection, sql: &'static str, list: Vec<Value>) -> Result<HashSet<Ticket>> {
    if list.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query(sql).bind(Value::from(list).to_string()).fetch_all(connection).await;
    let ticket = |row: &SqliteRow| Ok(Ticket { id: get(row, 0)?, fence: get(row, 1)? });
    rows.map_err(failed(WRITING))?.iter().map(ticket).collect()
}
