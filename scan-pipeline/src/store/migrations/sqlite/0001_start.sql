-- Times are milliseconds since 1970; ids and hashes are their 32 bytes; JSON is text.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Small rows, so that a heartbeat rewrites little: reports are elsewhere.
CREATE TABLE tasks (
    id BLOB NOT NULL PRIMARY KEY,
    object TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'scanning', 'handling', 'done', 'superseded', 'gone', 'dead')),
    attempts INTEGER NOT NULL,
    workflow TEXT,
    place TEXT NOT NULL,
    next_at INTEGER,
    error TEXT,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    lease_owner TEXT,
    lease_until INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX tasks_by_state ON tasks (state, id);

-- Without the findings.
CREATE TABLE reports (
    task BLOB NOT NULL PRIMARY KEY REFERENCES tasks (id),
    report TEXT NOT NULL
) STRICT;

CREATE TABLE findings (
    task BLOB NOT NULL REFERENCES tasks (id),
    layer_path TEXT NOT NULL,
    detector TEXT NOT NULL,
    byte_offset INTEGER NOT NULL,
    place INTEGER NOT NULL,
    masked_match TEXT NOT NULL,
    context TEXT NOT NULL,
    confidence REAL NOT NULL,
    PRIMARY KEY (task, layer_path, detector, byte_offset)
) STRICT, WITHOUT ROWID;

-- The number is the order in which steps began.
CREATE TABLE steps (
    number INTEGER PRIMARY KEY,
    task BLOB NOT NULL REFERENCES tasks (id),
    workflow TEXT NOT NULL,
    step TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'waiting', 'done', 'failed')),
    attempt INTEGER NOT NULL,
    output TEXT,
    error TEXT,
    next_at INTEGER,
    updated INTEGER NOT NULL,
    UNIQUE (task, workflow, step)
) STRICT;

-- The lowest numbers are the oldest.
CREATE TABLE cache (
    number INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL,
    generation TEXT NOT NULL,
    settings TEXT NOT NULL,
    report TEXT NOT NULL,
    UNIQUE (sha256, generation, settings)
) STRICT;

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    task BLOB NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- Against mistakes, not against somebody who means it: for them there is the chain of hashes.
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE (ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit
BEGIN SELECT RAISE (ABORT, 'the audit log only grows'); END;

CREATE TABLE audit_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, zeroblob(32));

-- The pin is the version or the etag. One state of a key without versions has tags: the latest that was tagged.
CREATE TABLE tags (
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    pin TEXT NOT NULL,
    tags TEXT NOT NULL,
    PRIMARY KEY (bucket, key, pin)
) STRICT, WITHOUT ROWID;
