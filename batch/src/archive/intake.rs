//! Reading a topic from exactly where the table is: no consumer group, no offsets kept in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use reckon_schemas::stores;

use super::error::{Error, Interruption};

/// How long the log may take to answer a question about itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A consumer of all partitions of one topic.
pub(crate) struct Intake {
    consumer: Arc<StreamConsumer>,
    topic: String,
    partitions: i32,
}

impl Intake {
    /// Begins to read every partition at its progress, or at its first record where there is no progress.
    pub(crate) async fn open(
        kafka: &stores::Kafka,
        topic: &str,
        progress: &BTreeMap<i32, i64>,
    ) -> Result<Self, Interruption> {
        let consumer = Arc::new(consumer(kafka).map_err(Error::LogClient)?);
        let mut intake = Self { consumer, topic: topic.to_owned(), partitions: 0 };
        intake.partitions = intake.partition_count().await?;
        let gone = progress.range(intake.partitions..).next();
        if let Some((partition, expected)) = gone {
            let lost = "the partition no longer exists, the topic was made anew";
            return Err(intake.log_gone(*partition, *expected, (0, 0), lost).into());
        }
        intake.check_log(progress).await?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..intake.partitions {
            let offset = progress.get(&partition).map_or(Offset::Beginning, |next| Offset::Offset(*next));
            assignment.add_partition_offset(topic, partition, offset).map_err(Error::LogClient)?;
        }
        intake.consumer.assign(&assignment).map_err(Error::LogClient)?;
        Ok(intake)
    }

    /// The consumer, to read from.
    pub(crate) fn consumer(&self) -> &StreamConsumer {
        &self.consumer
    }

    /// How many partitions are read.
    pub(crate) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Whether the topic has partitions that are not read yet.
    pub(crate) async fn has_new_partitions(&self) -> bool {
        // While the log is away there is nothing to find; the consumer reports that by itself.
        self.partition_count().await.is_ok_and(|count| count > self.partitions)
    }

    /// Decides what an error of the consumer means: most pass, since the client connects again by itself.
    pub(crate) async fn judge(&self, error: &KafkaError, positions: &BTreeMap<i32, i64>) -> Result<(), Interruption> {
        match error {
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.check_log(positions).await?;
                Err(Interruption::LogAway("the log refused an offset that it has".to_owned()))
            }
            KafkaError::MessageConsumptionFatal(_) => Err(Interruption::LogAway(error.to_string())),
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic,
            ) => Err(Interruption::LogAway(error.to_string())),
            _ => Ok(()),
        }
    }

    /// Checks that the log still has the next record of every partition, or is about to write it.
    async fn check_log(&self, positions: &BTreeMap<i32, i64>) -> Result<(), Interruption> {
        let (consumer, topic) = (self.consumer.clone(), self.topic.clone());
        let asked: Vec<i32> = positions.keys().copied().collect();
        let ranges = ask(move || {
            let range = |partition| Ok((partition, consumer.fetch_watermarks(&topic, partition, ANSWER_LIMIT)?));
            asked.into_iter().map(range).collect::<Result<BTreeMap<i32, (i64, i64)>, KafkaError>>()
        })
        .await?;
        for (partition, expected) in positions {
            let Some(&(low, high)) = ranges.get(partition) else { continue };
            if *expected < low {
                let lost = "the records before its beginning were deleted before they were archived";
                return Err(self.log_gone(*partition, *expected, (low, high), lost).into());
            }
            if *expected > high {
                let lost = "records that were archived are no longer in it, it was cut or made anew";
                return Err(self.log_gone(*partition, *expected, (low, high), lost).into());
            }
        }
        Ok(())
    }

    async fn partition_count(&self) -> Result<i32, Interruption> {
        let (consumer, topic) = (self.consumer.clone(), self.topic.clone());
        let count = ask(move || {
            let metadata = consumer.fetch_metadata(Some(&topic), ANSWER_LIMIT)?;
            Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
        })
        .await?;
        match i32::try_from(count) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(Interruption::LogAway(format!("the topic {} does not exist", self.topic))),
        }
    }

    fn log_gone(&self, partition: i32, expected: i64, (low, high): (i64, i64), lost: &'static str) -> Error {
        Error::LogGone { topic: self.topic.clone(), partition, expected, low, high, lost }
    }
}

/// Asks the log something, off the runtime's threads: the client blocks until the answer is there.
async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, Interruption> {
    let answer = tokio::task::spawn_blocking(question).await;
    answer.expect("a question to the log does not panic").map_err(|error| Interruption::LogAway(error.to_string()))
}

fn consumer(kafka: &stores::Kafka) -> Result<StreamConsumer, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        // The client asks for a name here, but nothing is joined and nothing committed under it.
        .set("group.id", "reckon-archive")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // The default goes on elsewhere when the offset asked for is gone: records would be skipped in silence.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "false")
        // What the client reads ahead while a commit is under way.
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.wait.max.ms", "200")
        .create()
}
