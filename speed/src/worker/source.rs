//! The log: a member of the consumer group that is told where to start by the snapshots, never by the group.

mod context;

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use reckon_schemas::stores::Kafka;

use self::context::Context;
pub(crate) use self::context::Rebalance;
use super::tuning::Tuning;

/// How long one question to a broker may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long leaving the group may take.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// A consumer of the topic of events.
pub(crate) struct Source {
    consumer: BaseConsumer<Context>,
    topic: String,
    away: bool,
}

/// Why reading cannot go on.
#[derive(Debug)]
pub(crate) enum Broken {
    /// An offset that was asked for is not in the log.
    OutOfRange,
    /// The client gave up.
    Fatal(String),
}

impl Source {
    /// Joins the group. Partitions come later, through [`Self::next_rebalance`].
    pub(crate) fn join(kafka: &Kafka, tuning: &Tuning) -> Result<Self, KafkaError> {
        let topic = kafka.topics.events.clone();
        let consumer: BaseConsumer<Context> = ClientConfig::new()
            .set("bootstrap.servers", &kafka.brokers)
            .set("client.id", "reckon-speed")
            .set("group.id", format!("{}.{topic}", tuning.group))
            .set("session.timeout.ms", tuning.session_timeout.as_millis().to_string())
            .set("max.poll.interval.ms", tuning.max_poll_interval.as_millis().to_string())
            .set("heartbeat.interval.ms", (tuning.session_timeout / 4).as_millis().to_string())
            .set("max.poll.interval.ms", tuning.max_poll_interval.as_millis().to_string())
            .set("statistics.interval.ms", "1000")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // The default silently goes on somewhere else.
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "32768")
            // A full queue is looked at again soon: the default of a second leaves a fast reader without records.
            .set("fetch.queue.backoff.ms", "5")
            .create_with_context(Context::default())?;
        consumer.subscribe(&[&topic])?;
        Ok(Self { consumer, topic, away: false })
    }

    /// The next record, if one comes in time.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Result<Option<BorrowedMessage<'_>>, Broken> {
        let error = match self.consumer.poll(timeout) {
            None => return Ok(None),
            Some(Ok(message)) => {
                if std::mem::take(&mut self.away) {
                    tracing::info!(topic = self.topic, "the log is back");
                }
                return Ok(Some(message));
            }
            Some(Err(error)) => error,
        };
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Err(Broken::OutOfRange),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Err(Broken::Fatal(error.to_string())),
            _ => {
                // The client goes on trying by itself.
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(topic = self.topic, %error, "the log does not answer");
                }
                Ok(None)
            }
        }
    }

    /// What the group decided, if it did. Each decision must be answered by [`Self::assign`] or [`Self::unassign`].
    pub(crate) fn next_rebalance(&self) -> Option<Rebalance> {
        self.consumer.context().next_rebalance()
    }

    /// The offsets after the last ones in the log, by partition, as far as the client knows them.
    pub(crate) fn ends(&self) -> Vec<(i32, i64)> {
        self.consumer.context().ends()
    }

    /// Begins to read partitions, each at its offset.
    pub(crate) fn assign(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        let list = self.list(offsets)?;
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.consumer.assign(&list),
        }
    }

    /// Gives partitions back.
    pub(crate) fn unassign(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_unassign(&self.partitions(partitions)),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.consumer.unassign(),
        }
    }

    /// The first offset that a partition still has, and the one after its last.
    pub(crate) fn range(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.consumer.fetch_watermarks(&self.topic, partition, ANSWER_TIMEOUT)
    }

    /// Tells the group how far a partition's snapshot is. For people who watch the lag; nobody starts from it.
    pub(crate) fn commit(&self, partition: i32, next_offset: i64) {
        let committed = self.list(&[(partition, next_offset)]);
        let committed = committed.and_then(|list| self.consumer.commit(&list, CommitMode::Async));
        if let Err(error) = committed {
            tracing::debug!(partition, next_offset, %error, "offset was not committed");
        }
    }

    /// Stops reading without leaving the group.
    pub(crate) fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.consumer.pause(&self.partitions(partitions))
    }

    /// Goes on reading after [`Self::pause`].
    pub(crate) fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.consumer.resume(&self.partitions(partitions))
    }

    /// Leaves the group; what is still assigned is given back at once. Bounded in time: brokers that do not answer
    /// will notice by themselves that this member is gone.
    pub(crate) fn leave(self) {
        self.consumer.context().close();
        // The client waits for an answer to each decision before it can close.
        while let Some(decision) = self.next_rebalance() {
            let answered = match decision {
                Rebalance::Assigned(_) => self.assign(&[]),
                Rebalance::Revoked { partitions, .. } => self.unassign(&partitions),
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "a decision of the group was not answered");
            }
        }
        let (left, waiting) = std::sync::mpsc::channel();
        let consumer = self.consumer;
        std::thread::spawn(move || {
            drop(consumer);
            // Nobody is left to hear it only if it took too long.
            let _ = left.send(());
        });
        if waiting.recv_timeout(LEAVE_MAX).is_err() {
            tracing::warn!("the group was not left in time; it will notice");
        }
    }

    fn partitions(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }

    fn list(&self, offsets: &[(i32, i64)]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        Ok(list)
    }
}
