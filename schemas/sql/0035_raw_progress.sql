-- How far the raw events of each partition are, and up to when everything is there that the log had received by then.
CREATE TABLE IF NOT EXISTS raw_progress (
    topic LowCardinality(String),
    partition Int32,
    next_offset UInt64,
    caught_up_at DateTime64(3, 'UTC'),
    written_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(written_at)
ORDER BY (topic, partition);
