CREATE TABLE IF NOT EXISTS speed_plans (
    topic LowCardinality(String),
    partition Int32,
    tenant LowCardinality(String),
    -- A rollup's name, or a summed property as its unit is written: '#quantity'.
    item String,
    offset UInt64,
    counted UInt8
) ENGINE = ReplacingMergeTree
ORDER BY (tenant, topic, item, partition, offset);
