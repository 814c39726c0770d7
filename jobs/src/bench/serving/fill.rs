//! Rollup rows as the other layers would have written them, made where they are kept.

use anyhow::{Context, Result};
use jiff::Timestamp;
use reckon_schemas::cell::DimensionValues;
use reckon_schemas::redis_keys::{self, CellTotals, Progress};
use reckon_schemas::sums::{Sums, Unit};
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::Grain;

use super::super::events::tenant;
use super::super::scene::Scene;

/// The event that everything is about.
pub(super) const EVENT: &str = "click";
const PARTITIONS: i64 = 12;
/// Values of the dimension `country`.
const COUNTRIES: i64 = 8;
/// Days that only the speed layer has counted, and days that are settled before these.
const SPEED_DAYS: i64 = 2;
const SETTLED_DAYS: i64 = 52;
const RUN: &str = "bench-run";
const DAY_US: i64 = 86_400_000_000;
/// The newest windows, which Redis has in a newer version.
const FRESH_MINUTES: i64 = 60;

const SPEED: &str = "
    INSERT INTO speed_cells_raw
    SELECT {tenant:String}, {rollup:String}, {grain:String}, fromUnixTimestamp64Micro(start),
           fromUnixTimestamp64Micro(start + {step:Int64}), {event:String},
           if({rollup:String} = 'total', [], [concat('C', toString(intDiv(number, 12) % {values:Int64}))]),
           toInt32(number % 12), 1, 1 + number % 97, map('USD', toInt128(number % 9973)),
           (SELECT toString(uniqCombined64State(14)(number)) FROM numbers(20))
    FROM (SELECT number, {from:Int64} + toInt64(intDiv(number, 12 * {values:Int64})) * {step:Int64} AS start
          FROM numbers(toUInt64({windows:Int64} * 12 * {values:Int64})))
    SETTINGS max_partitions_per_insert_block = 1000";

const SETTLED: &str = "
    INSERT INTO settled_cells_raw
    SELECT {tenant:String}, {rollup:String}, {grain:String}, fromUnixTimestamp64Micro(start),
           fromUnixTimestamp64Micro(start + {step:Int64}), {event:String},
           if({rollup:String} = 'total', [], [concat('C', toString(number % {values:Int64}))]),
           toDate32(fromUnixTimestamp64Micro(start, 'UTC')), {run:String}, 1 + number % 97,
           map('USD', toInt128(number % 9973)), 20,
           (SELECT toString(uniqCombined64State(14)(number)) FROM numbers(20))
    FROM (SELECT number, {from:Int64} + toInt64(intDiv(number, {values:Int64})) * {step:Int64} AS start
          FROM numbers(toUInt64({windows:Int64} * {values:Int64})))
    SETTINGS max_partitions_per_insert_block = 1000";

const SETTLEMENTS: &str = "
    INSERT INTO settlements (tenant, day, run_id, state, window_start, window_end, deliveries, events, lake_version,
                             content_hash, residual_cells, settled_at)
    SELECT {tenant:String}, toDate32(fromUnixTimestamp64Micro(start, 'UTC')), {run:String}, 'settled',
           fromUnixTimestamp64Micro(start), fromUnixTimestamp64Micro(start + 86400000000), 1, 1, 1, 'hash', 0, now64(6)
    FROM (SELECT {from:Int64} + toInt64(number) * 86400000000 AS start FROM numbers(toUInt64({days:Int64})))";

const PROGRESS: &str = "
    INSERT INTO speed_progress (topic, partition, next_offset, watermark, written_at)
    SELECT {topic:String}, toInt32(number), 1000, now64(6), now64(3) FROM numbers(12)";

/// Fills both layers' tables, and the newest windows in Redis; how many rows there are then.
pub(super) async fn cells(scene: &Scene, tenants: usize) -> Result<u64> {
    let clickhouse = scene.clickhouse();
    let today_us = Timestamp::now().as_microsecond().div_euclid(DAY_US) * DAY_US;
    let speed_from = today_us - (SPEED_DAYS - 1) * DAY_US;
    let settled_from = speed_from - SETTLED_DAYS * DAY_US;
    for index in 0..tenants {
        let tenant = tenant(index);
        for (sql, from, days) in [(SPEED, speed_from, SPEED_DAYS), (SETTLED, settled_from, SETTLED_DAYS)] {
            for (rollup, values) in [("total", 1), ("country", COUNTRIES)] {
                for (grain, step) in [(Grain::Minute, 60_000_000), (Grain::Hour, 3_600_000_000)] {
                    let query = clickhouse.query(sql).param("tenant", &tenant).param("rollup", rollup);
                    let query = query.param("grain", grain.name()).param("event", EVENT).param("values", values);
                    let query = query.param("from", from).param("step", step).param("windows", days * DAY_US / step);
                    query.param("run", RUN).execute().await.context("filling cells")?;
                }
            }
        }
        let query = clickhouse.query(SETTLEMENTS).param("tenant", &tenant).param("run", RUN);
        query.param("from", settled_from).param("days", SETTLED_DAYS).execute().await.context("settling")?;
        fresh(scene, &tenant).await?;
    }
    progress(scene).await?;
    let count = "SELECT count() FROM (SELECT 1 FROM speed_cells_raw UNION ALL SELECT 1 FROM settled_cells_raw)";
    clickhouse.query(count).fetch_one::<u64>().await.context("counting rows")
}

/// The newest windows of a tenant in Redis.
async fn fresh(scene: &Scene, tenant: &str) -> Result<()> {
    let now = EventTime::from_timestamp(Timestamp::now());
    let mut write = redis::pipe();
    for minute in 0..FRESH_MINUTES {
        let window = Grain::Minute.window_at(now.plus_micros(-minute * 60_000_000), &Zone::UTC);
        put(&mut write, tenant, &window, 2, 50)?;
    }
    Ok(write.query_async::<()>(&mut scene.redis().await?).await?)
}

/// One window's total in every partition.
pub(super) fn put(
    write: &mut redis::Pipeline,
    tenant: &str,
    window: &reckon_schemas::window::Window,
    version: i64,
    count: u64,
) -> Result<()> {
    let mut sums = Sums::new();
    sums.add("USD".parse::<Unit>()?, 1_234)?;
    let totals = CellTotals { version, count, sums, users: None }.encode();
    for partition in 0..i32::try_from(PARTITIONS)? {
        let field = redis_keys::cell_field(partition, &DimensionValues::default());
        write.hset(redis_keys::cells(tenant, window, "total", EVENT), field, &totals).ignore();
    }
    Ok(())
}

/// Every partition has been counted up to now.
pub(super) async fn progress(scene: &Scene) -> Result<()> {
    let topic = &scene.settings.kafka.topics.events;
    scene.clickhouse().query(PROGRESS).param("topic", topic).execute().await.context("noting the progress")?;
    let now = Timestamp::now();
    let progress = Progress {
        next_offset: 1_001,
        watermark: Some(EventTime::from_timestamp(now)),
        written_at_ms: now.as_millisecond(),
        log_time_ms: now.as_millisecond(),
        caught_up_at_ms: Some(now.as_millisecond()),
    };
    let mut write = redis::pipe();
    for partition in 0..PARTITIONS {
        write.hset(redis_keys::progress(topic), partition, serde_json::to_string(&progress)?).ignore();
    }
    Ok(write.query_async::<()>(&mut scene.redis().await?).await?)
}

/// How many SELECTs the engine has run, for whoever.
pub(super) async fn selects(scene: &Scene) -> Result<u64> {
    let count = "SELECT sum(value) FROM system.events WHERE event = 'SelectQuery'";
    scene.clickhouse().query(count).fetch_one::<u64>().await.context("counting SELECTs")
}
