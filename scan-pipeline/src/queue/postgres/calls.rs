//! The calls, each on a connection of its own.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Decode, Postgres, Row as _, Type};

use super::statements as sql;
use crate::Result;
use crate::model::Timestamp;
use crate::queue::sql::{BATCH, BEYOND, DEDUPE, Ticket, millis, number, whole};
use crate::queue::{DeadLetter, Delivery, Depth, Held, Lane, MessageId, NewMessage, Settle, Which};
use crate::sql::postgres::{BEGIN, failed};

const READING: &str = "reading the queue";
const WRITING: &str = "writing to the queue";

fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, column: usize) -> Result<T> {
    row.try_get(column).map_err(failed("reading a row"))
}

fn lane(row: &PgRow, column: usize) -> Result<Lane> {
    let word: &str = get(row, column)?;
    Lane::ALL
        .into_iter()
        .find(|lane| lane.as_str() == word)
        .ok_or_else(|| failed("reading a row")(sqlx::Error::Decode(format!("there is no lane {word:?}").into())))
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// Those with a key are written in one transaction with the keys.
pub(super) async fn enqueue(
    connection: &mut PgConnection,
    messages: &[NewMessage],
    offset: i64,
) -> Result<Vec<MessageId>> {
    let mut keys: Vec<&str> = messages.iter().filter_map(|message| message.dedupe.as_deref()).collect();
    if keys.is_empty() {
        let all: Vec<_> = messages.iter().map(|message| (None, message)).collect();
        return Ok(insert(connection, &all, offset).await?.into_iter().map(named).collect());
    }
    keys.sort_unstable();
    keys.dedup();
    execute(connection, BEGIN).await?;
    let new = sqlx::query(sql::KEYS)
        .bind(offset)
        .bind(&keys)
        .bind(millis(DEDUPE))
        .bind(whole(BEYOND))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(WRITING))?;
    let mut new = numbers(&new)?;
    keys.retain(|key| !new.contains_key(*key));
    let known = sqlx::query(sql::KNOWN).bind(&keys).fetch_all(&mut *connection).await.map_err(failed(WRITING))?;
    let mut known = numbers(&known)?;
    // The first message of a key that is new is the one.
    let mut fresh = Vec::with_capacity(messages.len());
    let mut ids = Vec::with_capacity(messages.len());
    for message in messages {
        let Some(key) = &message.dedupe else {
            ids.push(None);
            fresh.push((None, message));
            continue;
        };
        if let Some(id) = new.remove(key.as_str()) {
            fresh.push((Some(id), message));
            known.insert(key.clone(), id);
        }
        ids.push(known.get(key).copied());
    }
    // What has no number yet gets one, in order.
    let given = insert(connection, &fresh, offset).await?;
    let mut given = given.into_iter().zip(&fresh).filter(|(_, (had, _))| had.is_none()).map(|(id, _)| id);
    execute(connection, "COMMIT").await?;
    Ok(ids.into_iter().filter_map(|id| id.or_else(|| given.next())).map(named).collect())
}

fn named(id: i64) -> MessageId {
    MessageId(id.to_string())
}

fn numbers(rows: &[PgRow]) -> Result<HashMap<String, i64>> {
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

async fn insert(
    connection: &mut PgConnection,
    messages: &[(Option<i64>, &NewMessage)],
    offset: i64,
) -> Result<Vec<i64>> {
    let all = messages.iter().map(|(_, message)| message);
    sqlx::query_scalar(sql::ENQUEUE)
        .bind(offset)
        .bind(messages.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(all.clone().map(|message| message.tenant.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|message| message.lane.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|message| &message.body[..]).collect::<Vec<_>>())
        .bind(all.map(|message| millis(message.delay)).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .map_err(failed(WRITING))
}

/// What is ready, and then what has become so.
pub(super) async fn lease(
    connection: &mut PgConnection,
    most: usize,
    ttl: i64,
    offset: i64,
) -> Result<Vec<(Ticket, Delivery)>> {
    let (mut leased, late) = take(connection, most, ttl, offset).await?;
    if late {
        let ours: Vec<_> = leased.iter().map(|(ticket, _)| ticket.id).collect();
        let woken = sqlx::query(sql::WAKE).bind(offset).bind(limit(BATCH.max(most))).bind(whole(BEYOND)).bind(ours);
        woken.execute(&mut *connection).await.map_err(failed(WRITING))?;
        if leased.len() < most {
            leased.extend(take(connection, most - leased.len(), ttl, offset).await?.0);
        }
    }
    Ok(leased)
}

async fn take(
    connection: &mut PgConnection,
    most: usize,
    ttl: i64,
    offset: i64,
) -> Result<(Vec<(Ticket, Delivery)>, bool)> {
    let rows = sqlx::query(sql::LEASE)
        .bind(offset)
        .bind(limit(most))
        .bind(ttl)
        .bind(whole(BEYOND))
        .fetch_all(connection)
        .await
        .map_err(failed(WRITING))?;
    let late = rows.first().map_or(Ok(false), |row| get(row, 0))?;
    let mut leased = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(id) = get::<Option<i64>>(row, 1)? {
            leased.push(delivery(row, id)?);
        }
    }
    Ok((leased, late))
}

fn delivery(row: &PgRow, id: i64) -> Result<(Ticket, Delivery)> {
    let ticket = Ticket { id, fence: get(row, 6)? };
    let delivery = Delivery {
        id: named(id),
        body: get::<Vec<u8>>(row, 7)?.into(),
        receipt: ticket.receipt(),
        attempt: count(row, 5)?,
        tenant: get(row, 2)?,
        lane: lane(row, 3)?,
        enqueued: Some(Timestamp(get(row, 4)?)),
    };
    Ok((ticket, delivery))
}

fn count(row: &PgRow, column: usize) -> Result<u32> {
    get::<i64>(row, column).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn apart<'a>(tickets: impl Iterator<Item = &'a Ticket>) -> (Vec<i64>, Vec<i64>) {
    tickets.map(|ticket| (ticket.id, ticket.fence)).unzip()
}

fn held(rows: &[PgRow]) -> Result<HashSet<Ticket>> {
    rows.iter().map(|row| Ok(Ticket { id: get(row, 0)?, fence: get(row, 1)? })).collect()
}

pub(super) async fn extend(connection: &mut PgConnection, leases: &[(Ticket, i64)], offset: i64) -> Result<Vec<Held>> {
    let mut sorted: Vec<_> = leases.iter().collect();
    sorted.sort_unstable_by_key(|(ticket, _)| ticket.id);
    let (ids, fences) = apart(sorted.iter().map(|(ticket, _)| ticket));
    let rows = sqlx::query(sql::EXTEND)
        .bind(offset)
        .bind(ids)
        .bind(fences)
        .bind(sorted.iter().map(|(_, ttl)| *ttl).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .map_err(failed(WRITING))?;
    let held = held(&rows)?;
    Ok(leases.iter().map(|(ticket, _)| if held.contains(ticket) { Held::Held } else { Held::Lost }).collect())
}

pub(super) async fn settle(
    connection: &mut PgConnection,
    messages: &[(Ticket, Settle)],
    offset: i64,
) -> Result<Vec<Held>> {
    let mut seen = HashSet::with_capacity(messages.len());
    // The first word counts.
    let firsts: Vec<_> = messages.iter().map(|(ticket, _)| seen.insert(*ticket)).collect();
    let asked: Vec<_> = messages.iter().zip(&firsts).filter(|(_, first)| **first).map(|(message, _)| message).collect();
    let (ids, fences) = apart(asked.iter().map(|(ticket, _)| ticket));
    let rows = if asked.iter().all(|(_, settle)| matches!(settle, Settle::Done)) {
        sqlx::query(sql::DONE).bind(ids).bind(fences).fetch_all(connection).await
    } else {
        settle_each(connection, &asked, (ids, fences), offset).await
    };
    let held = held(&rows.map_err(failed(WRITING))?)?;
    let answer =
        |(ticket, first): (&Ticket, bool)| if first && held.contains(ticket) { Held::Held } else { Held::Lost };
    Ok(messages.iter().map(|(ticket, _)| ticket).zip(firsts).map(answer).collect())
}

async fn settle_each(
    connection: &mut PgConnection,
    asked: &[&(Ticket, Settle)],
    (ids, fences): (Vec<i64>, Vec<i64>),
    offset: i64,
) -> sqlx::Result<Vec<PgRow>> {
    let (mut what, mut after, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for (_, settle) in asked {
        let (word, wait, reason) = match settle {
            Settle::Done => ("done", 0, None),
            Settle::Retry { after } => ("retry", millis(*after), None),
            // The one character that PostgreSQL cannot keep.
            Settle::Dead { reason } => ("dead", 0, Some(reason.replace('\0', "\u{fffd}"))),
        };
        what.push(word);
        after.push(wait);
        reasons.push(reason);
    }
    let rows = sqlx::query(sql::SETTLE).bind(offset).bind(ids).bind(fences).bind(what).bind(after).bind(reasons);
    rows.fetch_all(connection).await
}

pub(super) async fn give_back(connection: &mut PgConnection, tickets: &[Ticket], offset: i64) -> Result<()> {
    let (ids, fences) = apart(tickets.iter());
    let back = sqlx::query(sql::GIVE_BACK).bind(offset).bind(ids).bind(fences).execute(connection).await;
    back.map(drop).map_err(failed(WRITING))
}

/// In milliseconds.
pub(super) async fn next(connection: &mut PgConnection, offset: i64) -> Result<Option<i64>> {
    let next = sqlx::query_scalar(sql::NEXT).bind(offset).bind(whole(BEYOND)).fetch_one(connection).await;
    next.map_err(failed(READING))
}

pub(super) async fn depth(connection: &mut PgConnection, offset: i64) -> Result<Depth> {
    let row = sqlx::query(sql::DEPTH).bind(offset).bind(whole(BEYOND)).fetch_one(connection).await;
    let row = row.map_err(failed(READING))?;
    let count = |column| get::<i64>(&row, column).map(i64::cast_unsigned);
    Ok(Depth { ready: count(0)?, delayed: count(1)?, leased: count(2)?, dead: count(3)?, approximate: false })
}

pub(super) async fn tidy(connection: &mut PgConnection, offset: i64) -> Result<()> {
    let tidied = sqlx::query(sql::TIDY).bind(offset).bind(limit(BATCH)).execute(connection).await;
    tidied.map(drop).map_err(failed(WRITING))
}

pub(super) async fn list(connection: &mut PgConnection, after: i64, most: usize) -> Result<Vec<DeadLetter>> {
    let rows = sqlx::query(sql::LIST).bind(after).bind(limit(most)).fetch_all(connection).await;
    let letter = |row: &PgRow| {
        Ok(DeadLetter {
            id: get::<i64>(row, 0)?.to_string(),
            body: get::<Vec<u8>>(row, 6)?.into(),
            tenant: get(row, 1)?,
            lane: lane(row, 2)?,
            attempts: count(row, 3)?,
            reason: get(row, 4)?,
            died: Some(Timestamp(get(row, 5)?)),
        })
    };
    rows.map_err(failed(READING))?.iter().map(letter).collect()
}

pub(super) async fn redrive(connection: &mut PgConnection, which: &Which, most: usize, offset: i64) -> Result<u64> {
    chosen(connection, sql::REDRIVE, which, most, offset).await
}

pub(super) async fn purge(connection: &mut PgConnection, which: &Which, most: usize, offset: i64) -> Result<u64> {
    chosen(connection, sql::PURGE, which, most, offset).await
}

async fn chosen(
    connection: &mut PgConnection,
    sql: &'static str,
    which: &Which,
    most: usize,
    offset: i64,
) -> Result<u64> {
    let ids = (!which.ids.is_empty()).then(|| which.ids.iter().filter_map(|id| number(id)).collect::<Vec<_>>());
    let count = sqlx::query_scalar::<_, i64>(sql)
        .bind(offset)
        .bind(ids)
        // No reason has it.
        .bind(which.reason.as_ref().map(|reason| reason.replace('\0', "\u{fffd}")))
        .bind(limit(most.min(BATCH)))
        .fetch_one(connection)
        .await;
    count.map(i64::cast_unsigned).map_err(failed(WRITING))
}

async fn execute(connection: &mut PgConnection, sql: &'static str) -> Result<()> {
    sqlx::query(sql).execute(connection).await.map(drop).map_err(failed(WRITING))
}
