ALTER TABLE speed_exceptions ADD COLUMN IF NOT EXISTS missed LowCardinality(String) DEFAULT '1d';

CREATE OR REPLACE VIEW speed_exception_counts AS
SELECT tenant, event, toStartOfMinute(occurred_at) AS window_start, reason, missed, count() AS deliveries
FROM speed_exceptions FINAL
GROUP BY tenant, event, window_start, reason, missed;

CREATE TABLE IF NOT EXISTS speed_overflows (
    topic LowCardinality(String),
    partition Int32,
    offset UInt64,
    tenant LowCardinality(String),
    occurred_at DateTime64(6, 'UTC'),
    dimensions Array(LowCardinality(String))
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant, occurred_at, topic, partition, offset);
