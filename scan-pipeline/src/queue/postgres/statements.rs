//! The SQL. One statement a call where that is possible: each is a way to the server and back, and a transaction of its
//! own.
//!
//! Rows that others hold are skipped or taken in one order, so that nobody waits in a circle: keys, then messages, then
//! flows, each sorted.

/// `now (at)`: the server's clock, with what a test adds as `$1`.
macro_rules! now {
    () => {
        "now AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $1 AS at)"
    };
}

/// `ranked (id, rank)` out of `fresh (id, tenant, lane, place)`: the ranks of messages that become ready, in the order of
/// their places. Each flow is moved by the costs of its messages, from where it is or from the front.
macro_rules! ranked {
    ($again:literal) => {
        concat!(
            "front AS MATERIALIZED (SELECT coalesce((SELECT rank FROM queue_messages WHERE rank IS NOT NULL ORDER BY rank \
             LIMIT 1), (SELECT max(last) FROM queue_flows), 0) AS at), \
             costs (lane, cost) AS (VALUES ('interactive', 1), ('normal', 4), ('bulk', 16)), \
             moved AS (INSERT INTO queue_flows AS f (tenant, lane, again, last) \
             SELECT tenant, lane, ",
            $again,
            ", front.at + count(*) * cost FROM fresh JOIN costs USING (lane), front \
             GROUP BY tenant, lane, cost, front.at ORDER BY tenant, lane \
             ON CONFLICT (tenant, lane, again) DO UPDATE \
             SET last = greatest(f.last, (SELECT at FROM front)) + excluded.last - (SELECT at FROM front) \
             RETURNING tenant, lane, last), \
             ranked AS (SELECT id, last - cost * (count(*) OVER (PARTITION BY tenant, lane) \
             - row_number() OVER (PARTITION BY tenant, lane ORDER BY place, id)) AS rank \
             FROM fresh JOIN costs USING (lane) JOIN moved USING (tenant, lane))"
        )
    };
}

/// `rung`: tells those who wait, where the rest of the statement asks for it. The server has one lock for all who tell.
macro_rules! rung {
    ($rest:literal) => {
        concat!("rung AS (SELECT pg_notify('scan_pipeline_queue', current_schema()) ", $rest, ")")
    };
}

/// Offset, keys in order, for how long they are known, and how far away no time can be. Gives the keys that are new, with
/// the numbers of their messages; the others are locked.
pub(super) const KEYS: &str = concat!(
    "WITH ",
    now!(),
    " INSERT INTO queue_keys AS k (key, message, until) \
     SELECT key, nextval('queue_messages_id_seq'), now.at + $3 FROM unnest($2::text[]) AS i (key), now ORDER BY key \
     ON CONFLICT (key) DO UPDATE SET message = excluded.message, until = excluded.until \
     WHERE k.until <= (SELECT at FROM now) OR k.until > (SELECT at FROM now) + $4 RETURNING key, message"
);

/// Keys. Gives them with their messages.
pub(super) const KNOWN: &str = "SELECT key, message FROM queue_keys WHERE key = ANY ($1)";

/// Offset; numbers or NULL, tenants, lanes, bodies and delays. Gives the numbers. Whoever waits for messages does so while
/// there are none, so the first tells them, and nobody else has to.
pub(super) const ENQUEUE: &str = concat!(
    "WITH ",
    now!(),
    ", input AS MATERIALIZED (SELECT coalesce(id, nextval('queue_messages_id_seq')) AS id, tenant, lane, body, delay, place \
     FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::bigint[]) \
     WITH ORDINALITY AS i (id, tenant, lane, body, delay, place)), \
     fresh AS (SELECT id, tenant, lane, place FROM input WHERE delay = 0), ",
    ranked!("false"),
    ", written AS (INSERT INTO queue_messages (id, tenant, lane, enqueued, rank, due, body) \
     SELECT id, tenant, lane, now.at, rank, CASE WHEN delay > 0 THEN now.at + delay END, body \
     FROM input LEFT JOIN ranked USING (id), now), ",
    rung!("WHERE NOT EXISTS (SELECT FROM queue_messages WHERE rank IS NOT NULL)"),
    " SELECT id, (SELECT count(*) FROM rung) FROM input ORDER BY place"
);

/// Offset, how many, for how long, and how far away no time can be. The first column says whether there are messages to
/// wake; where nothing was leased the rest is NULL.
pub(super) const LEASE: &str = concat!(
    "WITH ",
    now!(),
    ", ready AS MATERIALIZED (SELECT id, rank FROM queue_messages WHERE rank IS NOT NULL ORDER BY rank, id LIMIT $2 \
     FOR UPDATE SKIP LOCKED), \
     taken AS (UPDATE queue_messages AS m SET rank = NULL, due = (SELECT at FROM now) + $3, attempt = m.attempt + 1, \
     fence = m.fence + 1, leased = true FROM ready WHERE m.id = ready.id \
     RETURNING m.id, m.tenant, m.lane, m.enqueued, m.attempt, m.fence, m.body, ready.rank) \
     SELECT late, id, tenant, lane, enqueued, attempt, fence, body FROM (SELECT \
     EXISTS (SELECT FROM queue_messages WHERE rank IS NULL AND due <= (SELECT at FROM now)) OR \
     EXISTS (SELECT FROM queue_messages WHERE rank IS NULL AND due > (SELECT at FROM now) + $4) AS late) AS one \
     LEFT JOIN taken ON true ORDER BY rank, id"
);

/// Offset, how many, how far away no time can be, and which not: they were leased a moment ago. Messages whose time has
/// come are ready.
pub(super) const WAKE: &str = concat!(
    "WITH ",
    now!(),
    ", found AS ((SELECT id FROM queue_messages WHERE rank IS NULL AND due <= (SELECT at FROM now) ORDER BY due LIMIT $2) \
     UNION ALL (SELECT id FROM queue_messages WHERE rank IS NULL AND due > (SELECT at FROM now) + $3 ORDER BY due \
     LIMIT $2)), \
     fresh AS MATERIALIZED (SELECT m.id, m.tenant, m.lane, m.due AS place FROM queue_messages AS m JOIN found USING (id) \
     WHERE m.rank IS NULL AND (m.due <= (SELECT at FROM now) OR m.due > (SELECT at FROM now) + $3) \
     AND m.id <> ALL ($4) FOR UPDATE OF m SKIP LOCKED), ",
    ranked!("true"),
    " UPDATE queue_messages AS m SET rank = ranked.rank, due = NULL FROM ranked WHERE m.id = ranked.id"
);

/// Offset; numbers, fences, what becomes of each, after how long, and for which reason. Gives the leases that held. What
/// is dead is kept in the same transaction.
pub(super) const SETTLE: &str = concat!(
    "WITH ",
    now!(),
    ", input AS MATERIALIZED (SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[]) \
     WITH ORDINALITY AS i (id, fence, what, after, reason, place)), \
     gone AS (DELETE FROM queue_messages AS m USING input AS i WHERE m.id = i.id AND m.fence = i.fence AND m.leased \
     AND i.what <> 'retry' RETURNING m.id, m.fence, m.tenant, m.lane, m.attempt, m.body, i.what, i.reason, i.place), \
     kept AS (INSERT INTO queue_dead (tenant, lane, attempts, reason, died, body) \
     SELECT tenant, lane, attempt, reason, now.at, body FROM gone, now WHERE what = 'dead' ORDER BY place), \
     later AS (UPDATE queue_messages AS m SET rank = NULL, due = now.at + i.after, leased = false FROM input AS i, now \
     WHERE m.id = i.id AND m.fence = i.fence AND m.leased AND i.what = 'retry' RETURNING m.id, m.fence), ",
    rung!("FROM later LIMIT 1"),
    " SELECT id, fence, (SELECT count(*) FROM rung) FROM (SELECT id, fence FROM gone UNION ALL SELECT id, fence FROM later) \
     AS held"
);

/// The same for what is done, the most frequent by far: numbers and fences. The other one takes the server three times as
/// long to plan.
pub(super) const DONE: &str = "DELETE FROM queue_messages AS m USING unnest($1::bigint[], $2::bigint[]) AS i (id, fence) \
     WHERE m.id = i.id AND m.fence = i.fence AND m.leased RETURNING m.id, m.fence";

/// Offset; numbers, fences, and for how long. Gives the leases that held. One that ran out, and that nobody else has got
/// since, holds again.
pub(super) const EXTEND: &str = concat!(
    "WITH ",
    now!(),
    " UPDATE queue_messages AS m SET rank = NULL, due = now.at + i.ttl \
     FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS i (id, fence, ttl), now \
     WHERE m.id = i.id AND m.fence = i.fence AND m.leased RETURNING m.id, m.fence"
);

/// Offset; numbers and fences. Undoes a delivery that reached nobody.
pub(super) const GIVE_BACK: &str = concat!(
    "WITH ",
    now!(),
    ", back AS (UPDATE queue_messages AS m SET rank = NULL, due = now.at, leased = false, attempt = m.attempt - 1 \
     FROM unnest($2::bigint[], $3::bigint[]) AS i (id, fence), now \
     WHERE m.id = i.id AND m.fence = i.fence AND m.leased RETURNING m.id), ",
    rung!("FROM back LIMIT 1"),
    " SELECT count(*) FROM rung"
);

/// Offset, and how far away no time can be. How many milliseconds until something is ready; NULL if nothing waits.
pub(super) const NEXT: &str = concat!(
    "WITH ",
    now!(),
    " SELECT CASE WHEN EXISTS (SELECT FROM queue_messages WHERE rank IS NOT NULL) \
     OR EXISTS (SELECT FROM queue_messages WHERE rank IS NULL AND due > (SELECT at FROM now) + $2) THEN 0 ELSE \
     greatest(0, (SELECT min(due) FROM queue_messages WHERE rank IS NULL) - (SELECT at FROM now)) END"
);

/// Offset, and how far away no time can be.
pub(super) const DEPTH: &str = concat!(
    "WITH ",
    now!(),
    " SELECT (SELECT count(*) FROM queue_messages WHERE rank IS NOT NULL) \
     + count(*) FILTER (WHERE due <= at OR due > at + $2), \
     count(*) FILTER (WHERE due > at AND due <= at + $2 AND NOT leased), \
     count(*) FILTER (WHERE due > at AND due <= at + $2 AND leased), (SELECT count(*) FROM queue_dead) \
     FROM now LEFT JOIN queue_messages ON rank IS NULL"
);

/// Offset, and how many. What says no more than the front does, and keys that nobody knows any more.
pub(super) const TIDY: &str = concat!(
    "WITH ",
    now!(),
    ", flows AS (DELETE FROM queue_flows WHERE (tenant, lane, again) IN (SELECT tenant, lane, again FROM queue_flows \
     WHERE last <= coalesce((SELECT rank FROM queue_messages WHERE rank IS NOT NULL ORDER BY rank LIMIT 1), \
     (SELECT max(last) - 1 FROM queue_flows)) ORDER BY last LIMIT $2 FOR UPDATE SKIP LOCKED)) \
     DELETE FROM queue_keys WHERE key IN (SELECT key FROM queue_keys WHERE until <= (SELECT at FROM now) ORDER BY until \
     LIMIT $2 FOR UPDATE SKIP LOCKED)"
);

/// Behind which number, and how many.
pub(super) const LIST: &str =
    "SELECT id, tenant, lane, attempts, reason, died, body FROM queue_dead WHERE id > $1 ORDER BY id LIMIT $2";

/// The oldest that are meant: of these numbers or NULL, with this in the reason or NULL, and how many.
macro_rules! chosen {
    () => {
        "chosen AS MATERIALIZED (SELECT * FROM queue_dead WHERE ($2::bigint[] IS NULL OR id = ANY ($2)) \
         AND ($3::text IS NULL OR strpos(reason, $3) > 0) ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED), \
         gone AS (DELETE FROM queue_dead AS d USING chosen WHERE d.id = chosen.id)"
    };
}

/// Offset, and what `chosen` takes. Gives how many.
pub(super) const PURGE: &str = concat!("WITH ", now!(), ", ", chosen!(), " SELECT count(*) FROM chosen, now");

/// The same.
pub(super) const REDRIVE: &str = concat!(
    "WITH ",
    now!(),
    ", ",
    chosen!(),
    ", fresh AS MATERIALIZED (SELECT nextval('queue_messages_id_seq') AS id, id AS place, tenant, lane, body FROM chosen \
     ORDER BY place), ",
    ranked!("true"),
    ", written AS (INSERT INTO queue_messages (id, tenant, lane, enqueued, rank, body) \
     SELECT id, tenant, lane, now.at, rank, body FROM fresh JOIN ranked USING (id), now), ",
    rung!("FROM (SELECT FROM chosen LIMIT 1) AS one"),
    " SELECT count(*), (SELECT count(*) FROM rung) FROM chosen"
);
