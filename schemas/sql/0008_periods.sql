ALTER TABLE settlements ADD COLUMN IF NOT EXISTS generation UInt32 DEFAULT 0;

ALTER TABLE settlements ADD COLUMN IF NOT EXISTS manifest String DEFAULT '';

CREATE OR REPLACE VIEW settlements_current AS
SELECT
    tenant, day,
    argMax(settlements.run_id, (settlements.generation, settlements.settled_at, settlements.run_id)) AS run_id,
    argMax(settlements.state, (settlements.generation, settlements.settled_at, settlements.run_id)) AS state,
    argMax(settlements.window_start, (settlements.generation, settlements.settled_at, settlements.run_id)) AS window_start,
    argMax(settlements.window_end, (settlements.generation, settlements.settled_at, settlements.run_id)) AS window_end,
    argMax(settlements.deliveries, (settlements.generation, settlements.settled_at, settlements.run_id)) AS deliveries,
    argMax(settlements.events, (settlements.generation, settlements.settled_at, settlements.run_id)) AS events,
    argMax(settlements.lake_version, (settlements.generation, settlements.settled_at, settlements.run_id)) AS lake_version,
    argMax(settlements.content_hash, (settlements.generation, settlements.settled_at, settlements.run_id)) AS content_hash,
    argMax(settlements.residual_cells, (settlements.generation, settlements.settled_at, settlements.run_id)) AS residual_cells,
    argMax(settlements.settled_at, (settlements.generation, settlements.settled_at, settlements.run_id)) AS last_settled_at,
    max(settlements.generation) AS last_generation
FROM settlements
GROUP BY tenant, day;

CREATE TABLE IF NOT EXISTS periods (
    tenant LowCardinality(String),
    period LowCardinality(String),
    generation UInt32,
    action LowCardinality(String),
    at DateTime64(6, 'UTC'),
    signed_by String,
    reason String,
    first_day Date32,
    last_day Date32,
    lake_version UInt64,
    next_offsets Map(Int32, Int64),
    deliveries UInt64,
    content_hash String,
    manifest String
) ENGINE = MergeTree
ORDER BY (tenant, period, generation, at);

CREATE OR REPLACE VIEW periods_closed AS
SELECT
    tenant, period, generation,
    argMaxIf(periods.at, periods.at, action = 'closed') AS closed_at,
    argMaxIf(periods.signed_by, periods.at, action = 'closed') AS closed_by,
    argMaxIf(periods.content_hash, periods.at, action = 'closed') AS closed_hash,
    argMaxIf(periods.manifest, periods.at, action = 'closed') AS closed_manifest,
    argMaxIf(periods.first_day, periods.at, action = 'closed') AS from_day,
    argMaxIf(periods.last_day, periods.at, action = 'closed') AS to_day,
    argMaxIf(periods.next_offsets, periods.at, action = 'closed') AS closed_offsets,
    argMax(periods.deliveries, periods.at) AS known_deliveries
FROM periods
WHERE action IN ('closed', 'adjusted')
  AND (tenant, last_day, generation) IN
      (SELECT tenant, day, last_generation FROM settlements_current WHERE state = 'closed')
GROUP BY tenant, period, generation;

CREATE TABLE IF NOT EXISTS adjustments_stored (
    tenant LowCardinality(String),
    period LowCardinality(String),
    generation UInt32,
    event_key UInt128,
    event_id String,
    rollup LowCardinality(String),
    event LowCardinality(String),
    dimensions Array(String),
    day Date32,
    occurred_at DateTime64(6, 'UTC'),
    partition Int32,
    offset Int64,
    count UInt64,
    money Map(String, Int128),
    user_key UInt128,
    posted_day Date32,
    posted_at DateTime64(6, 'UTC'),
    run_id String,
    -- Highest for the first posting: an event that is posted again keeps its date.
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(posted_at)))
) ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, period, generation, event_key, rollup);

CREATE OR REPLACE VIEW adjustments AS
SELECT
    tenant, period, generation, event_key, event_id, rollup, event, dimensions, day, occurred_at, partition, offset,
    count, money, user_key, posted_day, posted_at, run_id,
    (tenant, period, generation) IN (SELECT tenant, period, generation FROM periods_closed) AS in_force
FROM adjustments_stored FINAL;
