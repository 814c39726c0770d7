CREATE TABLE IF NOT EXISTS speed_tops_raw (
    tenant LowCardinality(String),
    property LowCardinality(String),
    grain LowCardinality(String),
    window_start DateTime64(6, 'UTC'),
    window_end DateTime64(6, 'UTC'),
    event LowCardinality(String),
    partition Int32,
    version UInt64,
    sketch String
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (tenant, property, grain, window_start, event, partition);
