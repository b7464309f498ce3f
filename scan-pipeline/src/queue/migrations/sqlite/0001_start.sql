-- Times are milliseconds since 1970.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A message is ready and has a rank, or waits and has a time: for its delay to pass, or for its lease to run out. Small
-- rows, so that leasing and extending rewrite little: bodies are elsewhere.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    lane TEXT NOT NULL CHECK (lane IN ('interactive', 'normal', 'bulk')),
    enqueued INTEGER NOT NULL,
    -- Deliveries, the lease under way included.
    attempt INTEGER NOT NULL DEFAULT 0,
    -- Higher with each lease. A receipt is the id and the fence of its lease, and is good while `leased` stands.
    fence INTEGER NOT NULL DEFAULT 0,
    leased INTEGER NOT NULL DEFAULT 0 CHECK (leased IN (0, 1)),
    rank INTEGER,
    due INTEGER,
    CHECK ((rank IS NULL) <> (due IS NULL))
) STRICT;

CREATE INDEX messages_ready ON messages (rank, id) WHERE rank IS NOT NULL;
CREATE INDEX messages_waiting ON messages (due, leased) WHERE rank IS NULL;

CREATE TABLE bodies (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TRIGGER a_body_goes_with_its_message AFTER DELETE ON messages
BEGIN DELETE FROM bodies WHERE id = OLD.id; END;

-- The last rank given to a flow: the messages of one tenant in one lane, and those of them that come again.
CREATE TABLE flows (
    tenant TEXT NOT NULL,
    lane TEXT NOT NULL,
    again INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (tenant, lane, again)
) STRICT, WITHOUT ROWID;

CREATE INDEX flows_by_last ON flows (last);

CREATE TABLE dedupe (
    key TEXT NOT NULL PRIMARY KEY,
    message INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX dedupe_by_time ON dedupe (until);

CREATE TABLE dead (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    lane TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    died INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
