CREATE TABLE IF NOT EXISTS ledger_breaks_stored (
    tenant LowCardinality(String),
    ledger LowCardinality(String),
    reference String,
    currency LowCardinality(String),
    kind LowCardinality(String),
    day Date32,
    ours Nullable(Int128),
    theirs Nullable(Int128),
    state LowCardinality(String),
    run_id String,
    recorded_at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(recorded_at)
ORDER BY (tenant, ledger, reference, currency);

CREATE OR REPLACE VIEW ledger_breaks AS
SELECT
    tenant, ledger, reference, currency, kind, day, ours, theirs, state, run_id, recorded_at
FROM ledger_breaks_stored FINAL;
