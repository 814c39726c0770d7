CREATE TABLE IF NOT EXISTS settlement_cuts (
    tenant LowCardinality(String),
    run_id String,
    topic LowCardinality(String),
    partition Int32,
    next_offset UInt64
) ENGINE = ReplacingMergeTree
ORDER BY (tenant, run_id, topic, partition);
