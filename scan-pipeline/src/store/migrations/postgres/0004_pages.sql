-- The page of a listing whose chunks may not all be in the queue yet, as JSON.
ALTER TABLE job_shards ADD COLUMN open text;
