//! What the log has: its ends, and the records at single offsets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{Offsets, Range};
use crate::Error;

const BROKER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long one hole may stay without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A reader that sees what the archive sees: records of aborted transactions are none.
pub(crate) struct Log {
    brokers: String,
    consumer: BaseConsumer,
}

impl Log {
    pub(crate) fn open(brokers: &str) -> Result<Self, Error> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            // Never joined: partitions are assigned by hand, and nothing is committed.
            .set("group.id", "reckon-conservation")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .create();
        let consumer = consumer.map_err(|error| away(brokers, &error))?;
        Ok(Self { brokers: brokers.to_owned(), consumer })
    }

    /// The first offset and the end of every partition of a topic.
    pub(crate) fn ranges(&self, topic: &str) -> Result<BTreeMap<i32, Range>, Error> {
        let failed = |error: KafkaError| away(&self.brokers, &error);
        let metadata = self.consumer.fetch_metadata(Some(topic), BROKER_TIMEOUT).map_err(failed)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let missing = || Error::Retryable(format!("Kafka at {} has no topic {topic}", self.brokers));
        let mut ranges = BTreeMap::new();
        for partition in found.ok_or_else(missing)?.partitions() {
            let (from, to) = self.consumer.fetch_watermarks(topic, partition.id(), BROKER_TIMEOUT).map_err(failed)?;
            ranges.insert(partition.id(), Range { from, to });
        }
        Ok(ranges)
    }

    /// The offsets in a range at which there are records.
    pub(super) fn records(&self, topic: &str, partition: i32, asked: Range, found: &mut Offsets) -> Result<(), Error> {
        self.read(topic, partition, asked, |message| {
            found.insert(message.offset());
            Ok(())
        })
    }

    /// Hands over the records in a range of offsets, in order.
    pub(crate) fn read(
        &self,
        topic: &str,
        partition: i32,
        asked: Range,
        mut receive: impl FnMut(&BorrowedMessage<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |error: KafkaError| away(&self.brokers, &error);
        let mut place = TopicPartitionList::new();
        place.add_partition_offset(topic, partition, Offset::Offset(asked.from)).map_err(failed)?;
        self.consumer.assign(&place).map_err(failed)?;
        let mut heard = Instant::now();
        loop {
            match self.consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) if message.offset() < asked.to => {
                    receive(&message)?;
                    heard = Instant::now();
                }
                Some(Ok(_)) | Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => return Err(failed(error)),
                None if heard.elapsed() > SILENCE_MAX => {
                    let problem =
                        format!("no answer about {topic} partition {partition} {asked} within {SILENCE_MAX:?}");
                    return Err(Error::Retryable(format!("Kafka at {}: {problem}", self.brokers)));
                }
                None => {}
            }
        }
        self.consumer.unassign().map_err(failed)
    }
}

fn away(brokers: &str, error: &KafkaError) -> Error {
    Error::Retryable(format!("Kafka at {brokers}: {error}"))
}
