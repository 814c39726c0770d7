//! Oracle A: which offsets of the log are in the lake, and whether each is there exactly once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use deltalake::arrow::array::AsArray;
use deltalake::arrow::datatypes::{Int32Type, Int64Type};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::until;
use crate::world::World;

/// The offsets of every partition of a lake table, as often as they occur.
pub async fn archived_offsets(world: &World, table: &str) -> Result<BTreeMap<i32, Vec<i64>>> {
    let url = format!("{}/{table}", world.lake.url);
    let url = url.parse().with_context(|| format!("the URL {url}"))?;
    let table = deltalake::open_table(url).await?;
    let context = datafusion::prelude::SessionContext::new();
    let provider = table.table_provider().await?;
    let batches = context.read_table(provider)?.select_columns(&["partition", "offset"])?.collect().await?;
    let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for batch in batches {
        let partitions = batch.column(0).as_primitive::<Int32Type>();
        let numbers = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            offsets.entry(partitions.value(row)).or_default().push(numbers.value(row));
        }
    }
    offsets.values_mut().for_each(|offsets| offsets.sort_unstable());
    Ok(offsets)
}

/// The offsets that the log holds, per partition: the first, and the first after the last.
pub async fn log_ranges(world: &World, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>> {
    let (brokers, topic) = (world.kafka.brokers.clone(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &brokers).create()?;
        let limit = Duration::from_secs(10);
        let metadata = consumer.fetch_metadata(Some(&topic), limit)?;
        let topic_metadata = metadata.topics().first().context("the topic")?;
        let mut ranges = BTreeMap::new();
        for partition in topic_metadata.partitions() {
            ranges.insert(partition.id(), consumer.fetch_watermarks(&topic, partition.id(), limit)?);
        }
        Ok(ranges)
    })
    .await?
}

/// Law 4: every offset of every partition is in the lake exactly once.
pub async fn assert_conserved(world: &World) -> Result<()> {
    let archived = archived_offsets(world, reckon_schemas::lake::EVENTS_TABLE).await?;
    for (partition, (low, high)) in log_ranges(world, &world.kafka.topics.events).await? {
        let expected: Vec<i64> = (low..high).collect();
        let found = archived.get(&partition).cloned().unwrap_or_default();
        ensure!(
            found == expected,
            "partition {partition}: the log has {low}..{high}, the lake {} offsets",
            found.len()
        );
    }
    Ok(())
}

/// Waits until [`assert_conserved`] holds, and says what is wrong if that takes too long.
pub async fn until_conserved(world: &World) -> Result<()> {
    let limit = Duration::from_secs(90);
    let waited = until("the lake to hold the log", limit, || async { Ok(assert_conserved(world).await.is_ok()) }).await;
    assert_conserved(world).await?;
    waited
}
