CREATE TABLE IF NOT EXISTS settled_cells_raw (
    tenant LowCardinality(String),
    rollup LowCardinality(String),
    grain LowCardinality(String),
    window_start DateTime64(6, 'UTC'),
    window_end DateTime64(6, 'UTC'),
    event LowCardinality(String),
    dimensions Array(String),
    day Date32,
    run_id String,
    count UInt64,
    money Map(String, Int128),
    users_exact UInt64,
    users String
) ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant, rollup, grain, window_start, event, dimensions, run_id);

CREATE TABLE IF NOT EXISTS settled_users (
    tenant LowCardinality(String),
    rollup LowCardinality(String),
    event LowCardinality(String),
    dimensions Array(String),
    day Date32,
    run_id String,
    user_key UInt128
) ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant, rollup, event, dimensions, day, run_id);

CREATE TABLE IF NOT EXISTS drift (
    tenant LowCardinality(String),
    run_id String,
    day Date32,
    rollup LowCardinality(String),
    event LowCardinality(String),
    dimensions Array(String),
    measure LowCardinality(String),
    currency LowCardinality(String),
    speed Int128,
    batch Int128,
    reasons Map(String, Int128),
    residual Int128,
    error_bound UInt64
) ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (tenant, run_id, day, rollup, event, dimensions, measure, currency);

CREATE TABLE IF NOT EXISTS settlements (
    tenant LowCardinality(String),
    day Date32,
    run_id String,
    state LowCardinality(String),
    window_start DateTime64(6, 'UTC'),
    window_end DateTime64(6, 'UTC'),
    deliveries UInt64,
    events UInt64,
    lake_version UInt64,
    content_hash String,
    residual_cells UInt64,
    settled_at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree
ORDER BY (tenant, day, settled_at, run_id);

CREATE OR REPLACE VIEW settlements_current AS
SELECT
    tenant, day,
    argMax(settlements.run_id, (settlements.settled_at, settlements.run_id)) AS run_id,
    argMax(settlements.state, (settlements.settled_at, settlements.run_id)) AS state,
    argMax(settlements.window_start, (settlements.settled_at, settlements.run_id)) AS window_start,
    argMax(settlements.window_end, (settlements.settled_at, settlements.run_id)) AS window_end,
    argMax(settlements.deliveries, (settlements.settled_at, settlements.run_id)) AS deliveries,
    argMax(settlements.events, (settlements.settled_at, settlements.run_id)) AS events,
    argMax(settlements.lake_version, (settlements.settled_at, settlements.run_id)) AS lake_version,
    argMax(settlements.content_hash, (settlements.settled_at, settlements.run_id)) AS content_hash,
    argMax(settlements.residual_cells, (settlements.settled_at, settlements.run_id)) AS residual_cells,
    max(settlements.settled_at) AS last_settled_at
FROM settlements
GROUP BY tenant, day;

CREATE OR REPLACE VIEW settled_cells AS
SELECT
    tenant, rollup, grain, window_start, window_end, event, dimensions, day, run_id, count, money, users_exact,
    CAST(users, 'AggregateFunction(uniqCombined64(14), UInt64)') AS users
FROM settled_cells_raw
WHERE (tenant, day, run_id) IN (SELECT tenant, day, run_id FROM settlements_current);
