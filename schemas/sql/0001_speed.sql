CREATE TABLE IF NOT EXISTS migrations (
    version UInt32,
    name String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY version;

CREATE TABLE IF NOT EXISTS speed_cells_raw (
    tenant LowCardinality(String),
    rollup LowCardinality(String),
    grain LowCardinality(String),
    window_start DateTime64(6, 'UTC'),
    window_end DateTime64(6, 'UTC'),
    event LowCardinality(String),
    dimensions Array(String),
    partition Int32,
    version UInt64,
    count UInt64,
    money Map(String, Int128),
    users String
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (tenant, rollup, grain, window_start, event, dimensions, partition);

CREATE OR REPLACE VIEW speed_cells AS
SELECT
    tenant, rollup, grain, window_start, any(window_end) AS window_end, event, dimensions,
    sum(count) AS count, sumMap(money) AS money,
    uniqCombined64MergeState(14)(CAST(users, 'AggregateFunction(uniqCombined64(14), UInt64)')) AS users
FROM speed_cells_raw FINAL
GROUP BY tenant, rollup, grain, window_start, event, dimensions;

CREATE TABLE IF NOT EXISTS speed_exceptions (
    topic LowCardinality(String),
    partition Int32,
    offset UInt64,
    tenant LowCardinality(String),
    event_id String,
    event LowCardinality(String),
    occurred_at DateTime64(6, 'UTC'),
    reason LowCardinality(String)
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant, occurred_at, topic, partition, offset);

CREATE OR REPLACE VIEW speed_exception_counts AS
SELECT tenant, event, toStartOfMinute(occurred_at) AS window_start, reason, count() AS deliveries
FROM speed_exceptions FINAL
GROUP BY tenant, event, window_start, reason;

CREATE TABLE IF NOT EXISTS speed_progress (
    topic LowCardinality(String),
    partition Int32,
    next_offset UInt64,
    watermark Nullable(DateTime64(6, 'UTC')),
    written_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (topic, partition);
