CREATE TABLE IF NOT EXISTS raw_events_stored (
    tenant LowCardinality(String),
    name LowCardinality(String),
    occurred_at DateTime64(6, 'UTC'),
    received_at DateTime64(6, 'UTC'),
    log_time DateTime64(3, 'UTC'),
    event_id String,
    event_key UInt128,
    user_id String,
    currency LowCardinality(String),
    amount_minor Nullable(Int64),
    properties Map(LowCardinality(String), String),
    source LowCardinality(String),
    topic LowCardinality(String),
    partition Int32,
    offset UInt64,
    -- Highest for the first delivery: the one with the lowest (log time, partition, offset), as in the recount.
    version UInt128 MATERIALIZED bitNot(
        bitShiftLeft(toUInt128(toUnixTimestamp64Milli(log_time)), 80)
        + bitShiftLeft(toUInt128(partition), 48)
        + toUInt128(offset))
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toDate(log_time)
ORDER BY (tenant, event_key)
TTL toDateTime(log_time) + toIntervalSecond(604800)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1;

CREATE OR REPLACE VIEW raw_events AS
SELECT
    tenant, name, occurred_at, received_at, log_time, event_id, event_key, user_id, currency, amount_minor, properties,
    source, topic, partition, offset
FROM raw_events_stored FINAL
SETTINGS do_not_merge_across_partitions_select_final = 0;
