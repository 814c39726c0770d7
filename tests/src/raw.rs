//! What raw events must be, said by an oracle that reads the log with plain loops, and what ClickHouse says they are.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use clickhouse::Row;
use serde::Deserialize;
use serde_json::Value;

use crate::log::read_topic;
use crate::world::World;

/// One event as it was first delivered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Row)]
pub struct RawEvent {
    pub id: String,
    pub name: String,
    pub occurred_us: i64,
    pub received_us: i64,
    pub user: String,
    pub currency: String,
    pub amount_minor: Option<i64>,
    pub properties: Vec<(String, String)>,
    pub log_time_ms: i64,
    pub partition: i32,
    pub offset: u64,
}

/// The first delivery of every event of the world's tenant in the log, by the event's id.
pub async fn expected(world: &World) -> Result<BTreeMap<String, RawEvent>> {
    let mut events: BTreeMap<String, RawEvent> = BTreeMap::new();
    for logged in read_topic(&world.kafka.brokers, &world.kafka.topics.events).await? {
        let Ok(event) = serde_json::from_slice::<Value>(&logged.payload) else { continue };
        if event["tenant"] != world.tenant.as_str() {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let properties = event["properties"].as_object().cloned().unwrap_or_default();
        let mut properties: Vec<_> = properties.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        properties.sort();
        let found = RawEvent {
            id: text(&event["id"]),
            name: text(&event["name"]),
            occurred_us: event["occurred_at"].as_i64().context("occurred_at")?,
            received_us: event["received_at"].as_i64().context("received_at")?,
            user: text(&event["user"]),
            currency: text(&event["money"]["currency"]),
            amount_minor: event["money"]["minor"].as_i64(),
            properties,
            log_time_ms: logged.timestamp_ms.context("a record's time")?,
            partition: logged.partition,
            offset: u64::try_from(logged.offset)?,
        };
        let order = |event: &RawEvent| (event.log_time_ms, event.partition, event.offset);
        match events.get(&found.id) {
            Some(first) if order(first) <= order(&found) => {}
            _ => drop(events.insert(found.id.clone(), found)),
        }
    }
    Ok(events)
}

/// The rows of the view (`raw_events`) or of the table below it (`raw_events_stored`).
pub async fn rows(world: &World, table: &str) -> Result<Vec<RawEvent>> {
    let sql = format!(
        "SELECT event_id AS id, toString(name) AS name, toUnixTimestamp64Micro(occurred_at) AS occurred_us, \
         toUnixTimestamp64Micro(received_at) AS received_us, user_id AS user, toString(currency) AS currency, \
         amount_minor, arraySort(CAST(properties, 'Array(Tuple(String, String))')) AS properties, \
         toUnixTimestamp64Milli(log_time) AS log_time_ms, partition, offset \
         FROM {table} WHERE tenant = ? AND topic = ?"
    );
    let query = world.clickhouse_client().query(&sql).bind(&world.tenant).bind(&world.kafka.topics.events);
    Ok(query.fetch_all().await?)
}

/// How many rows the view or the table has.
pub async fn count(world: &World, table: &str) -> Result<u64> {
    Ok(world.clickhouse_client().query(&format!("SELECT count() FROM {table}")).fetch_one().await?)
}

/// Whether rows are the events expected, each once.
pub fn compare(rows: Vec<RawEvent>, expected: &BTreeMap<String, RawEvent>) -> Result<()> {
    let number = rows.len();
    let mut found = BTreeMap::new();
    for row in rows {
        ensure!(found.insert(row.id.clone(), row.clone()).is_none(), "event {} is there twice", row.id);
    }
    for (id, event) in expected {
        let row = found.get(id).with_context(|| format!("{event:?} is missing; there are {number} rows"))?;
        ensure!(row == event, "{row:?}\ninstead of\n{event:?}");
    }
    ensure!(number == expected.len(), "{number} rows for {} events", expected.len());
    Ok(())
}

/// The view against the log.
pub async fn assert_raw(world: &World) -> Result<()> {
    compare(rows(world, "raw_events").await?, &expected(world).await?)
}
