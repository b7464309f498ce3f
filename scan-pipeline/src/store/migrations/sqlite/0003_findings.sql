-- Findings as detectors make them. The key stays: the task stands for bucket, key, and version or etag; layer, detector and
-- offset say the rest. Tags are a JSON list.
ALTER TABLE findings ADD COLUMN raw_offset INTEGER;
ALTER TABLE findings ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE findings ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
