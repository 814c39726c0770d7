CREATE TABLE IF NOT EXISTS settled_tops_raw (
    tenant LowCardinality(String),
    property LowCardinality(String),
    grain LowCardinality(String),
    window_start DateTime64(6, 'UTC'),
    window_end DateTime64(6, 'UTC'),
    event LowCardinality(String),
    day Date32,
    run_id String,
    total UInt64,
    listed Array(String),
    counts Array(UInt64),
    -- No value that is not listed occurred more often.
    bound UInt64
) ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant, property, grain, window_start, event, run_id);

CREATE OR REPLACE VIEW settled_tops AS
SELECT tenant, property, grain, window_start, window_end, event, day, run_id, value, count
FROM settled_tops_raw ARRAY JOIN listed AS value, counts AS count
WHERE (tenant, day, run_id) IN (SELECT tenant, day, run_id FROM settlements_current);
