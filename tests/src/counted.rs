//! What the speed layer must have counted, said by an oracle that reads the log with plain loops, and what Redis and
//! ClickHouse say it did.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clickhouse::Row;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use reckon_schemas::redis_keys::{self, CellTotals};
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::Unit;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lake::log_ranges;
use crate::log::{Logged, read_topic};
use crate::purchases::{Purchase, Sums};
use crate::until;
use crate::world::World;

const SECOND_US: i64 = 1_000_000;
/// The worker's default, and what it allows for windows of one second then. Where a test configures another lateness, it
/// is that of every grain.
const DEFAULT_LATENESS: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(60));
/// The worker's default retention of windows of one second, in microseconds.
const SECONDS_KEPT_US: i64 = 600_000_000;
/// Windows of one second are in Redis for ten minutes after their end; younger ones than this have to be there.
const SECONDS_THERE: Duration = Duration::from_secs(8 * 60);
/// How far an event may be dated after its record: the worker's default.
const FUTURE_SKEW_US: i64 = 600_000_000;
/// More than any event may have.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Rollup, grain, start of the window in microseconds, dimension values.
pub type Cell = (String, String, i64, Vec<String>);

/// What was counted, and how many records were not, by reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Cells of the grains that both stores keep.
    pub cells: BTreeMap<Cell, Sums>,
    /// Cells of one second, which only Redis has.
    pub seconds: BTreeMap<Cell, Sums>,
    /// By reason.
    pub exceptions: BTreeMap<String, u64>,
    /// By reason and the coarsest grain that the event is missing from.
    pub missed: BTreeMap<(String, String), u64>,
}

/// How many exceptions there are for each reason.
fn by_reason(missed: &BTreeMap<(String, String), u64>) -> BTreeMap<String, u64> {
    let mut exceptions = BTreeMap::new();
    for ((reason, _), count) in missed {
        *exceptions.entry(reason.clone()).or_default() += count;
    }
    exceptions
}

/// Writes purchases into the log as the collector would, and returns when the broker has them.
pub async fn produce(world: &World, purchases: &[Purchase]) -> Result<()> {
    produce_at(world, purchases, None).await
}

/// The same with another log time, in milliseconds, than now.
pub async fn produce_at(world: &World, purchases: &[Purchase], log_time_ms: Option<i64>) -> Result<()> {
    let (brokers, topic) = (world.kafka.brokers.clone(), world.kafka.topics.events.clone());
    let messages: Vec<(String, String)> = purchases.iter().map(|purchase| message(&world.tenant, purchase)).collect();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        for (key, payload) in &messages {
            let mut record = BaseRecord::to(&topic).key(key).payload(payload);
            record.timestamp = log_time_ms;
            producer.send(record).map_err(|(error, _)| anyhow::Error::from(error))?;
            producer.poll(Duration::ZERO);
        }
        Ok(producer.flush(Duration::from_secs(30))?)
    })
    .await?
}

/// Key and payload of a purchase's record.
pub fn message(tenant: &str, purchase: &Purchase) -> (String, String) {
    let payload = json!({
        "v": 2, "tenant": tenant, "id": purchase.id, "name": "purchase",
        "occurred_at": purchase.at_us, "received_at": purchase.at_us, "user": purchase.user,
        "money": { "currency": "USD", "minor": purchase.cents },
        "properties": { "department": purchase.department, "store": purchase.store },
    });
    (format!("{tenant}\u{1f}{}", purchase.user), payload.to_string())
}

/// What the rules say about every record of the log: each partition by itself, in its order.
pub async fn oracle(world: &World, allowed_lateness: Duration) -> Result<Counted> {
    oracle_of(world, &world.tenant, allowed_lateness).await
}

/// The same, the cells being those of one of the world's tenants. Exceptions are those of all of them.
pub async fn oracle_of(world: &World, tenant: &str, allowed_lateness: Duration) -> Result<Counted> {
    let lateness = |grain: &str| {
        if grain == "1s" && allowed_lateness == DEFAULT_LATENESS.0 { DEFAULT_LATENESS.1 } else { allowed_lateness }
    };
    let lateness_us = |grain: &str| i64::try_from(lateness(grain).as_micros()).unwrap_or(i64::MAX);
    let mut partitions: BTreeMap<i32, Vec<Logged>> = BTreeMap::new();
    for logged in read_topic(&world.kafka.brokers, &world.kafka.topics.events).await? {
        partitions.entry(logged.partition).or_default().push(logged);
    }
    let mut counted = Counted::default();
    let mut users: HashMap<Cell, HashSet<String>> = HashMap::new();
    for records in partitions.values() {
        let (mut ids, mut watermark_us) = (HashSet::new(), i64::MIN);
        for record in records {
            let log_time_us = record.timestamp_ms.context("a record without a time")? * 1000;
            let event = readable(&record.payload);
            let at_us = event.as_ref().and_then(|event| event["occurred_at"].as_i64());
            let (Some(event), Some(at_us)) = (event, at_us) else {
                *counted.missed.entry(("unreadable".to_owned(), "1d".to_owned())).or_default() += 1;
                continue;
            };
            let windows = windows_at(at_us)?;
            // A coarser window does not end earlier, so what is too late for it is too late for the finer ones.
            let is_over = |(grain, _, end_us): &&Window| end_us.saturating_add(lateness_us(grain)) <= watermark_us;
            let over = windows.iter().take_while(is_over).count();
            let exception = if at_us > log_time_us + FUTURE_SKEW_US {
                Some(("future", "1d"))
            } else if !ids.insert((event["tenant"].to_string(), event["id"].to_string())) {
                Some(("duplicate", "1d"))
            } else {
                over.checked_sub(1).map(|last| ("late", windows[last].0)).filter(|(_, grain)| *grain != "1s")
            };
            if let Some((reason, missed)) = exception {
                *counted.missed.entry((reason.to_owned(), missed.to_owned())).or_default() += 1;
            }
            if exception.is_some_and(|(_, missed)| missed == "1d") {
                continue;
            }
            watermark_us = watermark_us.max(at_us);
            if event["tenant"] != tenant {
                continue;
            }
            // Seconds that Redis would not keep any more, by the log's time, are not counted.
            let is_forgotten = windows[0].2 + SECONDS_KEPT_US <= log_time_us;
            let first = if is_forgotten { over.max(1) } else { over };
            for cell in cells_of(&event, &windows[first..]) {
                users.entry(cell.clone()).or_default().insert(event["user"].to_string());
                let cells = if cell.1 == "1s" { &mut counted.seconds } else { &mut counted.cells };
                let sums = cells.entry(cell).or_default();
                sums.count += 1;
                let cents = i128::from(event["money"]["minor"].as_i64().context("minor")?);
                sums.cents = sums.cents.checked_add(cents).context("128 bits are enough")?;
            }
        }
    }
    for (cell, sums) in counted.cells.iter_mut().chain(&mut counted.seconds) {
        sums.users = users[cell].len() as u64;
    }
    counted.exceptions = by_reason(&counted.missed);
    Ok(counted)
}

/// The record as an event, if it may be one: JSON of bounded size and depth, without a NUL in its text.
fn readable(payload: &[u8]) -> Option<Value> {
    let event: Value = serde_json::from_slice(payload).ok().filter(|_| payload.len() <= MESSAGE_BYTES_MAX)?;
    let texts = ["tenant", "id", "name", "user"].map(|name| &event[name]);
    let nul = |text: &Value| text.as_str().is_some_and(|text| text.contains('\0'));
    let properties = event["properties"].as_object()?;
    let flat = properties.values().all(|value| !value.is_array() && !value.is_object() && !nul(value));
    (flat && !texts.into_iter().any(nul)).then_some(event)
}

/// Grain, start and end.
type Window = (&'static str, i64, i64);

/// The windows that an instant lies in, finest first, by arithmetic of the oracle's own.
fn windows_at(at_us: i64) -> Result<[Window; 5]> {
    let fixed = |grain, seconds: i64| {
        let start_us = at_us - at_us.rem_euclid(seconds * SECOND_US);
        (grain, start_us, start_us + seconds * SECOND_US)
    };
    let start = Timestamp::from_microsecond(at_us)?.to_zoned(TimeZone::get("America/New_York")?).start_of_day()?;
    let end = start.tomorrow()?.start_of_day()?;
    let day = ("1d", start.timestamp().as_microsecond(), end.timestamp().as_microsecond());
    Ok([fixed("1s", 1), fixed("1m", 60), fixed("5m", 300), fixed("1h", 3600), day])
}

/// The cells of the test tenant's rollups in these windows that an event belongs to.
fn cells_of(event: &Value, windows: &[Window]) -> Vec<Cell> {
    let value = |name: &str| event["properties"][name].as_str().unwrap_or_default().to_owned();
    let rollups = [("total", vec![]), ("department", vec![value("department")]), ("store", vec![value("store")])];
    let mut cells = Vec::new();
    for (grain, start_us, _) in windows {
        for (rollup, values) in &rollups {
            cells.push(((*rollup).to_owned(), (*grain).to_owned(), *start_us, values.clone()));
        }
    }
    cells
}

#[derive(Deserialize, Row)]
struct CellRow {
    rollup: String,
    grain: String,
    start_us: i64,
    dimensions: Vec<String>,
    count: u64,
    cents: i128,
    users: u64,
}

/// What the view over ClickHouse's cells says.
pub async fn in_clickhouse(world: &World) -> Result<Counted> {
    clickhouse_of(world, &world.tenant).await
}

/// The same, the cells being those of one of the world's tenants. Exceptions are those of all of them.
pub async fn clickhouse_of(world: &World, tenant: &str) -> Result<Counted> {
    let sql = "SELECT rollup, grain, toUnixTimestamp64Micro(window_start) AS start_us, dimensions, \
               sum(speed_cells.count) AS count, sum(money['USD']) AS cents, uniqCombined64Merge(14)(speed_cells.users) AS users \
               FROM speed_cells WHERE tenant = ? GROUP BY grain, rollup, window_start, dimensions";
    let client = world.clickhouse_client();
    let rows = client.query(sql).bind(tenant).fetch_all::<CellRow>().await?;
    let cells = rows.into_iter().map(|row| {
        let sums = Sums { count: row.count, cents: row.cents, users: row.users };
        ((row.rollup, row.grain, row.start_us, row.dimensions), sums)
    });
    let sql = "SELECT reason, missed, count() FROM speed_exceptions FINAL GROUP BY reason, missed";
    let missed = client.query(sql).fetch_all::<(String, String, u64)>().await?;
    let missed = missed.into_iter().map(|(reason, missed, count)| ((reason, missed), count)).collect();
    Ok(Counted { cells: cells.collect(), exceptions: by_reason(&missed), missed, ..Counted::default() })
}

/// What Redis says, of every cell that it has of the grains that both stores keep.
pub async fn in_redis(world: &World) -> Result<BTreeMap<Cell, Sums>> {
    redis_of(world, &world.tenant).await
}

/// The keys of a tenant's hashes of cells.
pub async fn cell_keys(connection: &mut MultiplexedConnection, tenant: &str) -> Result<Vec<String>> {
    let pattern = format!("rk:{{{tenant}}}:cells:*");
    let mut keys: Vec<String> = Vec::new();
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(10_000);
        let (next, found): (u64, Vec<String>) = scan.query_async(connection).await?;
        keys.extend(found);
        cursor = next;
        if cursor == 0 {
            // A scan may name a key twice.
            keys.sort_unstable();
            keys.dedup();
            return Ok(keys);
        }
    }
}

/// What Redis says of one of the world's tenants, of the grains that both stores keep.
pub async fn redis_of(world: &World, tenant: &str) -> Result<BTreeMap<Cell, Sums>> {
    let mut cells = all_in_redis(world, tenant).await?;
    cells.retain(|(_, grain, ..), _| grain != "1s");
    Ok(cells)
}

/// The cells of one second, of those that are in Redis and all the ones that have to be, against the oracle.
async fn compare_seconds(world: &World, tenant: &str, expected: &BTreeMap<Cell, Sums>) -> Result<()> {
    let there_from_us = (Timestamp::now() - SECONDS_THERE).as_microsecond();
    let mut found = all_in_redis(world, tenant).await?;
    found.retain(|(_, grain, ..), _| grain == "1s");
    let is_there = |cell: &Cell| cell.2 >= there_from_us || found.contains_key(cell);
    let expected = expected.iter().filter(|(cell, _)| is_there(cell));
    compare("Redis", &found, &expected.map(|(cell, sums)| (cell.clone(), sums.clone())).collect())
}

async fn all_in_redis(world: &World, tenant: &str) -> Result<BTreeMap<Cell, Sums>> {
    let mut connection = world.redis_connection().await?;
    let prefix = format!("rk:{{{tenant}}}:cells:");
    let mut cells: BTreeMap<Cell, Sums> = BTreeMap::new();
    let mut sketches: BTreeMap<Cell, (Vec<String>, Sketch)> = BTreeMap::new();
    for key in cell_keys(&mut connection, tenant).await? {
        let name: Vec<&str> = key[prefix.len()..].splitn(4, ':').collect();
        let [grain, start, rollup, _event] = name[..] else { anyhow::bail!("key {key}") };
        let start_us = start.parse::<i64>()? * 1_000_000;
        let fields: HashMap<String, String> = redis::cmd("HGETALL").arg(&key).query_async(&mut connection).await?;
        for (field, totals) in fields {
            let (partition, values) = redis_keys::parse_cell_field(&field).context("field")?;
            let totals = CellTotals::decode(&totals)?;
            let dimensions = values.values(usize::from(rollup != "total"));
            let cell = (rollup.to_owned(), grain.to_owned(), start_us, dimensions);
            let (keys, beside) = sketches.entry(cell.clone()).or_default();
            match &totals.users {
                Some(users) => beside.merge(users),
                None => keys.push(format!("{}:{partition}:{}", key.replacen(":cells:", ":users:", 1), values.as_str())),
            }
            let sums = cells.entry(cell).or_default();
            sums.count += totals.count;
            sums.cents += totals.sums.get("USD".parse::<Unit>()?);
        }
    }
    for (cell, (keys, mut users)) in sketches {
        let counted = if users.is_empty() {
            redis::cmd("PFCOUNT").arg(keys).query_async(&mut connection).await?
        } else {
            for key in keys {
                let bytes: Vec<u8> = redis::cmd("GET").arg(&key).query_async(&mut connection).await?;
                users.merge(&Sketch::from_redis(&bytes).with_context(|| key)?);
            }
            users.estimate()
        };
        cells.entry(cell).or_default().users = counted;
    }
    Ok(cells)
}

/// Compares cell by cell: counts and cents exactly, users within what the sketch promises.
pub fn compare(store: &str, found: &BTreeMap<Cell, Sums>, expected: &BTreeMap<Cell, Sums>) -> Result<()> {
    let near = |a: u64, b: u64| a.abs_diff(b) <= 2 + b * 3 / 100;
    let mut problems = Vec::new();
    for (cell, expected) in expected {
        match found.get(cell) {
            None => problems.push(format!("{cell:?} is missing: {expected:?}")),
            Some(found) if (found.count, found.cents) != (expected.count, expected.cents) => {
                problems.push(format!("{cell:?} is {found:?} instead of {expected:?}"));
            }
            Some(found) if !near(found.users, expected.users) => {
                problems.push(format!("{cell:?} has {} users instead of {}", found.users, expected.users));
            }
            Some(_) => {}
        }
    }
    problems
        .extend(found.keys().filter(|cell| !expected.contains_key(*cell)).map(|cell| format!("{cell:?} is too much")));
    let total = problems.len();
    problems.truncate(10);
    ensure!(problems.is_empty(), "{store}: {total} of {} cells are wrong:\n{}", expected.len(), problems.join("\n"));
    Ok(())
}

/// Both stores against the oracle. The purchases must be young enough for Redis to keep all of their cells.
pub async fn assert_counted(world: &World, allowed_lateness: Duration) -> Result<Counted> {
    assert_counted_of(world, &world.tenant, allowed_lateness).await
}

/// The same for one of the world's tenants.
pub async fn assert_counted_of(world: &World, tenant: &str, allowed_lateness: Duration) -> Result<Counted> {
    let expected = oracle_of(world, tenant, allowed_lateness).await?;
    let clickhouse = clickhouse_of(world, tenant).await?;
    compare("ClickHouse", &clickhouse.cells, &expected.cells)?;
    ensure!(clickhouse.missed == expected.missed, "{:?} instead of {:?}", clickhouse.missed, expected.missed);
    compare("Redis", &redis_of(world, tenant).await?, &expected.cells)?;
    compare_seconds(world, tenant, &expected.seconds).await?;
    Ok(expected)
}

/// Waits until both stores say that everything in the log is counted.
pub async fn until_counted(world: &World) -> Result<()> {
    let ends: BTreeMap<i32, i64> = log_ranges(world, &world.kafka.topics.events)
        .await?
        .into_iter()
        .map(|(partition, (_, high))| (partition, high))
        .collect();
    until("Redis and ClickHouse to have everything", Duration::from_secs(90), || async {
        Ok(progress_in_redis(world).await? == ends && progress_in_clickhouse(world).await? == ends)
    })
    .await
}

/// How far each partition is in Redis.
pub async fn progress_in_redis(world: &World) -> Result<BTreeMap<i32, i64>> {
    let mut connection = world.redis_connection().await?;
    let key = redis_keys::progress(&world.kafka.topics.events);
    let fields: HashMap<i32, String> = redis::cmd("HGETALL").arg(key).query_async(&mut connection).await?;
    let offset = |json: &str| anyhow::Ok(serde_json::from_str::<redis_keys::Progress>(json)?.next_offset);
    fields.iter().map(|(partition, json)| Ok((*partition, offset(json)?))).collect()
}

/// How far each partition is in ClickHouse.
pub async fn progress_in_clickhouse(world: &World) -> Result<BTreeMap<i32, i64>> {
    let sql = "SELECT partition, toInt64(next_offset) FROM speed_progress FINAL WHERE topic = ?";
    let query = world.clickhouse_client().query(sql).bind(&world.kafka.topics.events);
    Ok(query.fetch_all::<(i32, i64)>().await?.into_iter().collect())
}
