//! The log, as a member of a consumer group of its own, whose committed offsets say what is in ClickHouse.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use reckon_schemas::stores::Kafka;

use super::tuning::Tuning;

/// How long one question to a broker may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long leaving the group may take.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// A consumer of the topic of events.
pub(crate) struct Group {
    consumer: BaseConsumer<Context>,
    topic: String,
    away: bool,
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

/// What is known of a partition before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) partition: i32,
    /// What the group says is in ClickHouse already.
    pub(crate) committed: Option<i64>,
    /// The first offset that the log has, and the one after the last.
    pub(crate) range: (i64, i64),
    /// The first record that is young enough to be kept.
    pub(crate) young: i64,
}

/// A decision of the group about this member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rebalance {
    Assigned(Vec<i32>),
    /// If they are lost, somebody else may have them already.
    Revoked {
        partitions: Vec<i32>,
        lost: bool,
    },
}

impl Group {
    /// Joins the group. Partitions come later, through [`Self::next_rebalance`].
    pub(crate) fn join(kafka: &Kafka, tuning: &Tuning) -> Result<Self, KafkaError> {
        let topic = kafka.topics.events.clone();
        let consumer: BaseConsumer<Context> = ClientConfig::new()
            .set("bootstrap.servers", &kafka.brokers)
            .set("client.id", "reckon-raw")
            .set("group.id", format!("{}.{topic}", tuning.group))
            .set("session.timeout.ms", tuning.session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (tuning.session_timeout / 4).as_millis().to_string())
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // The default silently goes on somewhere else.
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "32768")
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
        self.consumer.context().decisions().waiting.pop_front()
    }

    /// What the group and the log know of partitions; `since_ms` is when a record is young enough to be kept.
    pub(crate) fn look_up(&self, partitions: &[i32], since_ms: i64) -> Result<Vec<Known>, KafkaError> {
        let times: Vec<(i32, i64)> = partitions.iter().map(|partition| (*partition, since_ms)).collect();
        let committed = self.consumer.committed_offsets(self.partitions(partitions), ANSWER_TIMEOUT)?;
        let young = self.consumer.offsets_for_times(self.list(&times)?, ANSWER_TIMEOUT)?;
        let offset_in = |list: &TopicPartitionList, partition| -> Result<Option<i64>, KafkaError> {
            let Some(element) = list.find_partition(&self.topic, partition) else { return Ok(None) };
            element.error()?;
            Ok(if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None })
        };
        let know = |partition: &i32| {
            let range = self.consumer.fetch_watermarks(&self.topic, *partition, ANSWER_TIMEOUT)?;
            Ok(Known {
                partition: *partition,
                committed: offset_in(&committed, *partition)?,
                range,
                young: offset_in(&young, *partition)?.unwrap_or(range.1),
            })
        };
        partitions.iter().map(know).collect()
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

    /// Notes what is in ClickHouse. If that does not arrive, a successor reads more again than it would have to.
    pub(crate) fn commit(&self, offsets: &[(i32, i64)], mode: CommitMode) {
        let committed = self.list(offsets).and_then(|list| self.consumer.commit(&list, mode));
        if let Err(error) = committed {
            tracing::warn!(?offsets, %error, "what is in ClickHouse could not be noted; a restart reads it again");
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

    /// Notes what is in ClickHouse a last time and leaves the group. Bounded in time: brokers that do not answer will
    /// notice by themselves that this member is gone.
    pub(crate) fn leave(self, offsets: Vec<(i32, i64)>) {
        self.consumer.context().decisions().closing = true;
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
            if !offsets.is_empty() {
                self.commit(&offsets, CommitMode::Sync);
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

/// What the client calls back with, from within `poll`: decisions are noted, and answered after it.
#[derive(Debug, Default)]
struct Context(Mutex<Decisions>);

#[derive(Debug, Default)]
struct Decisions {
    waiting: VecDeque<Rebalance>,
    /// Nobody asks for decisions any more.
    closing: bool,
}

impl Context {
    fn decisions(&self) -> MutexGuard<'_, Decisions> {
        // A plain mutex: it is only ever locked by the one thread that polls, for a few instructions.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // What stops the work is also an error of `poll`, and is logged there once.
        tracing::debug!(%error, reason, "log client");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let mut decisions = self.decisions();
        if decisions.closing {
            let answered = if assigned { Ok(()) } else { consumer.incremental_unassign(list) };
            if let Err(error) = answered.or_else(|_| consumer.unassign()) {
                tracing::debug!(%error, "partitions were not given back");
            }
            return;
        }
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        decisions.waiting.push_back(if assigned {
            Rebalance::Assigned(partitions)
        } else {
            Rebalance::Revoked { partitions, lost: consumer.assignment_lost() }
        });
    }
}
