CREATE TABLE IF NOT EXISTS backfills (
    tenant LowCardinality(String),
    rollup LowCardinality(String),
    day Date32,
    run_id String,
    -- The settlement that it adds to: with another one it is not visible.
    base_run_id String,
    lake_version UInt64,
    events UInt64,
    content_hash String,
    filled_at DateTime64(6, 'UTC'),
    manifest String
) ENGINE = ReplacingMergeTree
ORDER BY (tenant, rollup, day, base_run_id, filled_at, run_id);

CREATE OR REPLACE VIEW backfills_current AS
SELECT
    tenant, rollup, day,
    argMax(backfills.run_id, (backfills.filled_at, backfills.run_id)) AS run_id,
    argMax(backfills.content_hash, (backfills.filled_at, backfills.run_id)) AS content_hash,
    max(backfills.filled_at) AS last_filled_at
FROM backfills
WHERE (tenant, day, base_run_id) IN (SELECT tenant, day, run_id FROM settlements_current)
GROUP BY tenant, rollup, day;

CREATE OR REPLACE VIEW settled_cells AS
SELECT
    tenant, rollup, grain, window_start, window_end, event, dimensions, day, run_id, count, money, users_exact,
    CAST(users, 'AggregateFunction(uniqCombined64(14), UInt64)') AS users
FROM settled_cells_raw
WHERE (tenant, day, run_id) IN (SELECT tenant, day, run_id FROM settlements_current)
   OR (tenant, rollup, day, run_id) IN (SELECT tenant, rollup, day, run_id FROM backfills_current);

CREATE OR REPLACE VIEW changes AS
SELECT
    tenant, day, run_id, run_before, rollup, event, dimensions, measure, unit, before, after, after - before AS change,
    reason, changed_at
FROM changes_stored
WHERE (tenant, day, run_id) IN (SELECT tenant, day, run_id FROM settlements)
   OR (tenant, day, run_id) IN (SELECT tenant, day, run_id FROM backfills);
