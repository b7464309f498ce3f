-- Findings as detectors make them, and their key: the task stands for bucket, key, and version or etag; layer, detector and
-- offset say the rest. Layers have names of any length, so the three stand here by their hash: each part with its length
-- before it. Tags are a JSON list.
ALTER TABLE findings
    ADD COLUMN id bytea,
    ADD COLUMN raw_offset bigint,
    ADD COLUMN tags text NOT NULL DEFAULT '[]',
    ADD COLUMN fingerprint text NOT NULL DEFAULT '';

UPDATE findings SET id = sha256(
    int8send(octet_length(convert_to(layer_path, 'UTF8'))::bigint) || convert_to(layer_path, 'UTF8')
    || int8send(octet_length(convert_to(detector, 'UTF8'))::bigint) || convert_to(detector, 'UTF8')
    || int8send(8) || int8send(byte_offset)
);

ALTER TABLE findings DROP CONSTRAINT findings_pkey;
ALTER TABLE findings ALTER COLUMN id SET NOT NULL, ADD PRIMARY KEY (task, id);
