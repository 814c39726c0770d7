CREATE TABLE IF NOT EXISTS conflicts (
    tenant LowCardinality(String),
    run_id String,
    event_id String,
    day Date32,
    first_partition Int32,
    first_offset UInt64,
    first_content String,
    other_partition Int32,
    other_offset UInt64,
    other_content String
) ENGINE = MergeTree
ORDER BY (tenant, run_id, day, event_id, other_partition, other_offset);
