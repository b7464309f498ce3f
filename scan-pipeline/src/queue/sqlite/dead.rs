//! The dead letters.

use bytes::Bytes;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::write::{Ranks, insert, lane};
use crate::Result;
use crate::model::Timestamp;
use crate::queue::sql::BATCH;
use crate::queue::{DeadLetter, NewMessage, Which};
use crate::sql::sqlite::{failed, get};

const READING: &str = "reading the dead letters";
const WRITING: &str = "writing to the dead letters";

pub(super) async fn list(connection: &mut SqliteConnection, after: i64, most: usize) -> Result<Vec<DeadLetter>> {
    let rows =
        sqlx::query("SELECT id, tenant, lane, attempts, reason, died, body FROM dead WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
            .map_err(failed(READING))?;
    rows.iter().map(letter).collect()
}

fn letter(row: &SqliteRow) -> Result<DeadLetter> {
    Ok(DeadLetter {
        id: get::<i64>(row, 0)?.to_string(),
        body: Bytes::from(get::<Vec<u8>>(row, 6)?),
        tenant: get(row, 1)?,
        lane: lane(row, 2)?,
        attempts: get(row, 3)?,
        reason: get(row, 4)?,
        died: Some(Timestamp(get(row, 5)?)),
    })
}

pub(super) async fn redrive(connection: &mut SqliteConnection, which: &Which, most: usize, now: i64) -> Result<u64> {
    let ids = chosen(connection, which, most).await?;
    let mut ranks = Ranks::load(connection, true).await?;
    for id in &ids {
        let Some(letter) = list(connection, id - 1, 1).await?.pop() else { continue };
        let message = NewMessage::new(letter.body).tenant(letter.tenant).lane(letter.lane);
        let rank = ranks.next(connection, &message.tenant, message.lane).await?;
        insert(connection, &message, Some(rank), None, now).await?;
    }
    ranks.save(connection).await?;
    remove(connection, &ids).await
}

pub(super) async fn purge(connection: &mut SqliteConnection, which: &Which, most: usize) -> Result<u64> {
    let ids = chosen(connection, which, most).await?;
    remove(connection, &ids).await
}

/// The oldest of those that are meant.
async fn chosen(connection: &mut SqliteConnection, which: &Which, most: usize) -> Result<Vec<i64>> {
    let ids = (!which.ids.is_empty()).then(|| Value::from(which.ids.clone()).to_string());
    sqlx::query_scalar(
        "SELECT id FROM dead WHERE (?1 IS NULL OR CAST (id AS TEXT) IN (SELECT value FROM json_each(?1))) \
         AND (?2 IS NULL OR instr(reason, ?2) > 0) ORDER BY id LIMIT ?3",
    )
    .bind(ids)
    .bind(which.reason.clone())
    .bind(i64::try_from(most.min(BATCH)).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await
    .map_err(failed(READING))
}

async fn remove(connection: &mut SqliteConnection, ids: &[i64]) -> Result<u64> {
    let removed = sqlx::query("DELETE FROM dead WHERE id IN (SELECT value FROM json_each(?))")
        .bind(Value::from(ids.to_vec()).to_string())
        .execute(connection)
        .await;
    Ok(removed.map_err(failed(WRITING))?.rows_affected())
}
