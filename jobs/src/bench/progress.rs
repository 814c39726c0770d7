//! How long the log is, and how far the stores are.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use clickhouse::Row;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use reckon_schemas::redis_keys;
use reckon_schemas::stores::Kafka;
use serde::Deserialize;

use super::scene::Scene;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The offset after the last record of each partition of the topic of events.
pub(crate) fn log_ends(kafka: &Kafka) -> Result<BTreeMap<i32, i64>> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create()?;
    let topic = &kafka.topics.events;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT).context("asking for the topic")?;
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id());
    partitions
        .map(|partition| Ok((partition, consumer.fetch_watermarks(topic, partition, ANSWER_TIMEOUT)?.1)))
        .collect::<Result<_>>()
        .with_context(|| format!("asking for the ends of {topic:?}"))
}

/// Whether Redis and ClickHouse have acknowledged everything below these offsets.
pub(crate) async fn is_acknowledged(
    scene: &Scene,
    redis: &mut redis::aio::MultiplexedConnection,
    ends: &BTreeMap<i32, i64>,
) -> Result<bool> {
    let reached = |progress: &BTreeMap<i32, i64>| {
        ends.iter().all(|(partition, end)| *end == 0 || progress.get(partition).is_some_and(|next| next >= end))
    };
    Ok(reached(&in_redis(scene, redis).await?) && reached(&in_clickhouse(scene).await?))
}

async fn in_redis(scene: &Scene, redis: &mut redis::aio::MultiplexedConnection) -> Result<BTreeMap<i32, i64>> {
    let key = redis_keys::progress(&scene.settings.kafka.topics.events);
    let written: BTreeMap<i32, String> = redis::cmd("HGETALL").arg(key).query_async(redis).await?;
    written
        .into_iter()
        .map(|(partition, text)| {
            let progress: redis_keys::Progress = serde_json::from_str(&text)?;
            Ok((partition, progress.next_offset))
        })
        .collect()
}

async fn in_clickhouse(scene: &Scene) -> Result<BTreeMap<i32, i64>> {
    #[derive(Row, Deserialize)]
    struct Reached {
        partition: i32,
        next_offset: i64,
    }
    let query = "SELECT partition, toInt64(max(next_offset)) AS next_offset FROM speed_progress WHERE topic = ? GROUP BY partition";
    let rows: Vec<Reached> =
        scene.clickhouse().query(query).bind(&scene.settings.kafka.topics.events).fetch_all().await?;
    Ok(rows.into_iter().map(|row| (row.partition, row.next_offset)).collect())
}
