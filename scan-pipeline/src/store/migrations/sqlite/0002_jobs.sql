-- Bulk jobs. Keys, as cursors and bounds, are JSON texts: a key may hold any character.

CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    source TEXT NOT NULL,
    rescan TEXT NOT NULL CHECK (rescan IN ('never', 'outdated', 'always')),
    chunk INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'done', 'cancelled', 'failed')),
    error TEXT,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE job_shards (
    job TEXT NOT NULL REFERENCES jobs (id),
    shard INTEGER NOT NULL,
    range TEXT NOT NULL,
    cursor TEXT,
    listed INTEGER NOT NULL,
    bad INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (job, shard)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_chunks (
    job TEXT NOT NULL,
    shard INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    clean INTEGER NOT NULL,
    infected INTEGER NOT NULL,
    unscannable INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    gone INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (job, shard, chunk),
    FOREIGN KEY (job, shard) REFERENCES job_shards (job, shard)
) STRICT, WITHOUT ROWID;
