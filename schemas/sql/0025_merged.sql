-- The instant up to which every window of a tenant is settled: the end of the last day before the first gap.
CREATE OR REPLACE VIEW horizons AS
SELECT tenant, max(window_end) AS horizon
FROM (
    SELECT
        tenant, window_end,
        toInt32(day) - min(toInt32(day)) OVER (PARTITION BY tenant) AS days_after_first,
        toInt32(row_number() OVER (PARTITION BY tenant ORDER BY day)) - 1 AS place
    FROM settlements_current
)
WHERE days_after_first = place
GROUP BY tenant;

-- Every cell by the one layer that answers for its window, for tools that speak SQL.
CREATE OR REPLACE VIEW cells AS
SELECT
    settled.tenant AS tenant, settled.rollup AS `rollup`, settled.grain AS grain, settled.window_start AS window_start,
    settled.window_end AS window_end, settled.event AS event, settled.dimensions AS dimensions, settled.count AS count,
    settled.money AS money, settled.users AS users, toNullable(settled.users_exact) AS users_exact, 'batch' AS layer,
    days.state AS state, settled.run_id AS run_id
FROM settled_cells AS settled
INNER JOIN (SELECT tenant, day, state FROM settlements_current) AS days
    ON settled.tenant = days.tenant AND settled.day = days.day
INNER JOIN horizons ON settled.tenant = horizons.tenant
WHERE settled.window_end <= horizons.horizon
UNION ALL
SELECT
    fresh.tenant, fresh.`rollup`, fresh.grain, fresh.window_start, fresh.window_end, fresh.event, fresh.dimensions,
    fresh.count, fresh.money, fresh.users, CAST(NULL, 'Nullable(UInt64)'), 'speed', 'provisional', ''
FROM speed_cells AS fresh
-- Without a settled day the horizon is the beginning of time.
LEFT JOIN horizons ON fresh.tenant = horizons.tenant
WHERE fresh.window_end > horizons.horizon;
