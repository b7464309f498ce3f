//! Bringing the tables of one part (the store, the queue) to this program's version.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::error::failed;
use crate::{Error, ErrorKind, Result};

/// "ScnP": the advisory lock under which everybody migrates.
const LOCK: i64 = 0x5363_6e50;

/// The tables of a part. Each migration brings them from the version of its place to the next, in one transaction, so one
/// that was interrupted begins again. What was released never changes. Tables are named without their schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) migrations: &'static [&'static str],
}

/// Does one migration, if there is one to do, and says whether there may be more.
pub(super) async fn step(connection: &mut PgConnection, schema: &str, part: Part) -> Result<bool> {
    // Without a lock first: mostly there is nothing to do.
    if version(connection, schema, part).await? == Some(part.migrations.len()) {
        return Ok(false);
    }
    execute(connection, String::from(super::BEGIN)).await?;
    execute(connection, format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    // Again, with the lock: another process may have been faster.
    let from = match version(connection, schema, part).await? {
        Some(from) => from,
        None => prepare(connection, schema).await?,
    };
    if let Some(sql) = part.migrations.get(from) {
        execute(connection, String::from(*sql)).await?;
        let number = from + 1;
        let stamp = format!(
            "INSERT INTO scan_pipeline_versions VALUES ('{}', {number}) \
             ON CONFLICT (part) DO UPDATE SET version = excluded.version",
            part.name
        );
        execute(connection, stamp).await?;
    }
    execute(connection, String::from("COMMIT")).await?;
    Ok(true)
}

/// The version of a part's tables, which is at most ours; 0 for none, and `None` for a schema that we have not been in.
pub(super) async fn version(connection: &mut PgConnection, schema: &str, part: Part) -> Result<Option<usize>> {
    let reading = failed("reading the version of the tables");
    let ours = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'scan_pipeline_versions')";
    if !sqlx::query_scalar(ours).bind(schema.to_owned()).fetch_one(&mut *connection).await.map_err(&reading)? {
        return Ok(None);
    }
    let found = sqlx::query_scalar::<_, i32>("SELECT version FROM scan_pipeline_versions WHERE part = $1")
        .bind(part.name)
        .fetch_optional(connection)
        .await
        .map_err(&reading)?
        .unwrap_or(0);
    let known = part.migrations.len();
    match usize::try_from(found) {
        Ok(version) if version <= known => Ok(Some(version)),
        _ => {
            let what = part.name;
            let message = format!(
                "the tables of the {what} in schema {schema} are of version {found}, and this program knows versions up \
                 to {known}: use a newer program"
            );
            Err(Error::new(ErrorKind::Corrupt, message))
        }
    }
}

/// Makes the schema ours. One that holds somebody else's tables is left alone.
async fn prepare(connection: &mut PgConnection, schema: &str) -> Result<usize> {
    let reading = failed("looking at the schema");
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema.to_owned())
        .fetch_one(&mut *connection)
        .await
        .map_err(&reading)?;
    if there {
        let table: Option<String> = sqlx::query_scalar(
            "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 ORDER BY 1 LIMIT 1",
        )
        .bind(schema.to_owned())
        .fetch_optional(&mut *connection)
        .await
        .map_err(&reading)?;
        if let Some(table) = table {
            let message = format!(
                "the schema {schema} is another program's, which has {table} there, and is left alone: choose another \
                 schema"
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
    } else {
        // Not `IF NOT EXISTS`, which asks for the privilege even where there is nothing to make.
        execute(connection, format!("CREATE SCHEMA \"{schema}\"")).await?;
    }
    let table = "CREATE TABLE scan_pipeline_versions (part text PRIMARY KEY, version integer NOT NULL)";
    execute(connection, String::from(table)).await?;
    Ok(0)
}

async fn execute(connection: &mut PgConnection, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop).map_err(failed("migrating the database"))
}
