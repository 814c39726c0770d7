CREATE TABLE IF NOT EXISTS changes_stored (
    tenant LowCardinality(String),
    day Date32,
    run_id String,
    run_before String,
    rollup LowCardinality(String),
    event LowCardinality(String),
    dimensions Array(String),
    measure LowCardinality(String),
    unit LowCardinality(String),
    before Int128,
    after Int128,
    reason LowCardinality(String),
    changed_at DateTime64(6, 'UTC')
) ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant, day, run_id, rollup, event, dimensions, measure, unit);

CREATE OR REPLACE VIEW changes AS
SELECT
    tenant, day, run_id, run_before, rollup, event, dimensions, measure, unit, before, after, after - before AS change,
    reason, changed_at
FROM changes_stored
WHERE (tenant, day, run_id) IN (SELECT tenant, day, run_id FROM settlements);
