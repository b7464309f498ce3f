-- Bulk jobs. Keys, as cursors and bounds, are JSON texts: a key may hold any character. Whoever writes about a job locks its
-- row first.

CREATE TABLE jobs (
    id text COLLATE "C" PRIMARY KEY,
    source text NOT NULL,
    rescan text NOT NULL CHECK (rescan IN ('never', 'outdated', 'always')),
    chunk bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'done', 'cancelled', 'failed')),
    error text,
    created bigint NOT NULL,
    updated bigint NOT NULL
);

CREATE TABLE job_shards (
    job text COLLATE "C" NOT NULL,
    shard bigint NOT NULL,
    range text NOT NULL,
    cursor text,
    listed bigint NOT NULL,
    bad bigint NOT NULL,
    chunks bigint NOT NULL,
    counted bigint NOT NULL,
    ended bigint NOT NULL,
    updated bigint NOT NULL,
    PRIMARY KEY (job, shard)
) WITH (fillfactor = 50);

CREATE TABLE job_chunks (
    job text COLLATE "C" NOT NULL,
    shard bigint NOT NULL,
    chunk bigint NOT NULL,
    clean bigint NOT NULL,
    infected bigint NOT NULL,
    unscannable bigint NOT NULL,
    skipped bigint NOT NULL,
    gone bigint NOT NULL,
    failed bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (job, shard, chunk)
);
