//! The log: a member of a consumer group that is told where to start by whoever reads, never by the group.

mod caught_up;
mod context;

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use reckon_schemas::stores::Kafka;

pub(crate) use self::caught_up::CaughtUp;
use self::context::{Context, TELL_INTERVAL};
pub(crate) use self::context::{End, Rebalance};

/// How long one question to a broker may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long leaving the group may take.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// A consumer of the topic of events.
pub(crate) struct Member {
    consumer: BaseConsumer<Context>,
    topic: String,
    away: bool,
}

/// How a member appears in its group.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) client_id: &'static str,
    /// The group's name; each topic has a group of its own under it.
    pub(crate) group: String,
    pub(crate) session_timeout: Duration,
    /// After how long without a look at the log the group takes the member for stuck.
    pub(crate) max_poll_interval: Duration,
    /// Whether reading tells where a partition ends at the moment.
    pub(crate) tells_ends: bool,
}

/// What reading brings.
pub(crate) enum Read<'a> {
    Record(BorrowedMessage<'a>),
    /// Nothing came in time.
    Nothing,
    /// A partition has nothing more at the moment.
    End(i32),
}

/// Why reading cannot go on.
#[derive(Debug)]
pub(crate) enum Broken {
    /// An offset that was asked for is not in the log.
    OutOfRange,
    /// The client gave up.
    Fatal(String),
}

impl Member {
    /// Joins the group. Partitions come later, through [`Self::next_rebalance`].
    pub(crate) fn join(kafka: &Kafka, membership: &Membership) -> Result<Self, KafkaError> {
        let topic = kafka.topics.events.clone();
        let Membership { client_id, group, session_timeout, max_poll_interval, tells_ends } = membership;
        let consumer: BaseConsumer<Context> = ClientConfig::new()
            .set("bootstrap.servers", &kafka.brokers)
            .set("client.id", *client_id)
            .set("group.id", format!("{group}.{topic}"))
            .set("session.timeout.ms", session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (*session_timeout / 4).as_millis().to_string())
            .set("max.poll.interval.ms", max_poll_interval.as_millis().to_string())
            .set("statistics.interval.ms", TELL_INTERVAL.as_millis().to_string())
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", if *tells_ends { "true" } else { "false" })
            // The default silently goes on somewhere else.
            .set("auto.offset.reset", "error")
            // A busy log is read in pieces that are worth the way, a quiet one soon.
            .set("fetch.min.bytes", "65536")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "32768")
            // A full queue is looked at again soon: the default of a second leaves a fast reader without records.
            .set("fetch.queue.backoff.ms", "5")
            .create_with_context(Context::default())?;
        consumer.subscribe(&[&topic])?;
        Ok(Self { consumer, topic, away: false })
    }

    /// The next record, if one comes in time.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Result<Read<'_>, Broken> {
        let error = match self.consumer.poll(timeout) {
            None => return Ok(Read::Nothing),
            Some(Ok(message)) => {
                if std::mem::take(&mut self.away) {
                    tracing::info!(topic = self.topic, "the log is back");
                }
                return Ok(Read::Record(message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => return Ok(Read::End(partition)),
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
                Ok(Read::Nothing)
            }
        }
    }

    /// What the group decided, if it did. Each decision must be answered by [`Self::assign`] or [`Self::unassign`].
    pub(crate) fn next_rebalance(&self) -> Option<Rebalance> {
        self.consumer.context().next_rebalance()
    }

    /// Where partitions end, as far as the client knows; `None` if it has told nothing since the last call.
    pub(crate) fn take_ends(&self) -> Option<Vec<End>> {
        self.consumer.context().take_ends()
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

    /// What the group has noted of partitions.
    pub(crate) fn committed(&self, partitions: &[i32]) -> Result<Offsets<'_>, KafkaError> {
        let list = self.consumer.committed_offsets(self.partitions(partitions), ANSWER_TIMEOUT)?;
        Ok(Offsets { list, topic: &self.topic })
    }

    /// The first records of partitions that are not older than a time in the log, in milliseconds.
    pub(crate) fn first_since(&self, partitions: &[i32], since_ms: i64) -> Result<Offsets<'_>, KafkaError> {
        let times: Vec<(i32, i64)> = partitions.iter().map(|partition| (*partition, since_ms)).collect();
        let list = self.consumer.offsets_for_times(self.list(&times)?, ANSWER_TIMEOUT)?;
        Ok(Offsets { list, topic: &self.topic })
    }

    /// Notes offsets in the group.
    pub(crate) fn commit(&self, offsets: &[(i32, i64)], mode: CommitMode) -> Result<(), KafkaError> {
        self.consumer.commit(&self.list(offsets)?, mode)
    }

    /// Stops reading without leaving the group.
    pub(crate) fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.consumer.pause(&self.partitions(partitions))
    }

    /// Goes on reading after [`Self::pause`].
    pub(crate) fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        self.consumer.resume(&self.partitions(partitions))
    }

    /// Notes offsets a last time and leaves the group; what is still assigned is given back at once. Bounded in time:
    /// brokers that do not answer will notice by themselves that this member is gone.
    pub(crate) fn leave(self, offsets: Vec<(i32, i64)>) {
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
        std::thread::spawn(move || {
            if !offsets.is_empty()
                && let Err(error) = self.commit(&offsets, CommitMode::Sync)
            {
                tracing::warn!(?offsets, %error, "what was done could not be noted; a restart does it again");
            }
            drop(self);
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

/// Offsets by partition.
pub(crate) struct Offsets<'a> {
    list: TopicPartitionList,
    topic: &'a str,
}

impl Offsets<'_> {
    /// The offset of a partition, if it has one.
    pub(crate) fn of(&self, partition: i32) -> Result<Option<i64>, KafkaError> {
        let Some(element) = self.list.find_partition(self.topic, partition) else { return Ok(None) };
        element.error()?;
        Ok(if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None })
    }
}
