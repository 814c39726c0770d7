//! Waiting until the archive has passed a point of the log.

use std::collections::BTreeMap;
use std::time::Duration;

use deltalake::DeltaTable;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use reckon_schemas::stores;
use tokio::time::Instant;

use super::Tuning;
use crate::Error;
use crate::lake::{self, Lake};

const POLL: Duration = Duration::from_millis(500);
const BROKER_TIMEOUT: Duration = Duration::from_secs(20);

/// The archive as a nightly sees it: how far it is.
pub(super) struct Archive<'a> {
    lake: &'a Lake,
    kafka: &'a stores::Kafka,
    wait: Duration,
}

impl<'a> Archive<'a> {
    pub(super) fn new(lake: &'a Lake, kafka: &'a stores::Kafka, tuning: &Tuning) -> Self {
        Self { lake, kafka, wait: tuning.archive_wait }
    }

    /// The end of every partition of the topic of events that holds records.
    pub(super) async fn log_end(&self) -> Result<BTreeMap<i32, i64>, Error> {
        let (brokers, topic) = (self.kafka.brokers.clone(), self.kafka.topics.events.clone());
        let asked = tokio::task::spawn_blocking(move || fetch_log_end(&brokers, &topic)).await;
        asked.map_err(|error| Error::Retryable(error.to_string()))?
    }

    /// The table of events as it is now, with the archive's progress in it.
    pub(super) async fn table(&self) -> Result<(DeltaTable, BTreeMap<i32, i64>), Error> {
        let table = self.lake.events().await?;
        let progress = lake::progress(&table, &self.kafka.topics.events).await?;
        Ok((table, progress))
    }

    /// Waits until everything below these offsets is in the lake and returns the table that holds it.
    pub(super) async fn wait_for(&self, next_offsets: &BTreeMap<i32, i64>) -> Result<DeltaTable, Error> {
        let deadline = Instant::now() + self.wait;
        let mut told = false;
        loop {
            let (table, progress) = self.table().await?;
            let behind = missing(&progress, next_offsets);
            if behind.is_empty() {
                return Ok(table);
            }
            if !told {
                tracing::info!(records = behind.values().sum::<i64>(), "waiting for the archive");
                told = true;
            }
            if Instant::now() >= deadline {
                return Err(Error::NotYetFinal(format!(
                    "the archive did not pass the end of {} within {:?}; records missing by partition: {behind:?}. Is \
                     it running?",
                    self.kafka.topics.events, self.wait
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// How many records are missing, by partition.
fn missing(progress: &BTreeMap<i32, i64>, next_offsets: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
    let missing = |(partition, next): (&i32, &i64)| {
        let left = next - progress.get(partition).copied().unwrap_or(0);
        (left > 0).then_some((*partition, left))
    };
    next_offsets.iter().filter_map(missing).collect()
}

fn fetch_log_end(brokers: &str, topic: &str) -> Result<BTreeMap<i32, i64>, Error> {
    let away = |error: rdkafka::error::KafkaError| Error::Retryable(format!("Kafka at {brokers}: {error}"));
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().map_err(away)?;
    let metadata = client.fetch_metadata(Some(topic), BROKER_TIMEOUT).map_err(away)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
    let found = found.ok_or_else(|| Error::Retryable(format!("Kafka at {brokers} has no topic {topic}")))?;
    let mut ends = BTreeMap::new();
    for partition in found.partitions() {
        let (low, high) = client.fetch_watermarks(topic, partition.id(), BROKER_TIMEOUT).map_err(away)?;
        // An empty partition has nothing that could be archived, wherever its offsets stand.
        if low < high {
            ends.insert(partition.id(), high);
        }
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_is_ahead_or_has_other_partitions_is_not_behind() {
        let progress = BTreeMap::from([(0, 10), (1, 5), (7, 3)]);
        assert_eq!(missing(&progress, &BTreeMap::from([(0, 9), (1, 5)])), BTreeMap::new());
        assert_eq!(missing(&progress, &BTreeMap::from([(1, 6), (2, 4)])), BTreeMap::from([(1, 1), (2, 4)]));
    }
}
