//! The log's writing end: an idempotent producer that is believed only when every replica has acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use reckon_schemas::kafka::{TRACEPARENT_HEADER, Topics};
use reckon_schemas::stores::Kafka;
use reckon_schemas::time::EventTime;
use tokio_util::sync::CancellationToken;

use super::{Error, Tuning};

/// How long a probe waits for the log's answer.
const PROBE_TIME_MAX: Duration = Duration::from_secs(2);

/// Which of the two topics a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    Events,
    Rejected,
}

/// A message that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: Topic,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// Why records were not acknowledged. Some of them may be in the log nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// The log does not answer.
    Away,
    /// Too many messages wait for the log already.
    QueueFull,
}

/// The two topics, as one place to write to.
pub(crate) struct EventLog {
    /// Replaced when the client is beyond repair, see [`Self::replace_broken`].
    producer: RwLock<FutureProducer<Quiet>>,
    config: ClientConfig,
    topics: Topics,
    reachable: AtomicBool,
}

impl EventLog {
    /// Makes the client; it connects on its own, now or when the log is there.
    pub(crate) fn open(kafka: &Kafka, tuning: &Tuning) -> Result<Self, Error> {
        let config = client_config(kafka, tuning);
        let producer = config
            .create_with_context(Quiet)
            .map_err(|error: KafkaError| Error::Configuration { key: "kafka.brokers", reason: error.to_string() })?;
        let topics = kafka.topics.clone();
        // Until the first probe says otherwise: a request that is too early waits for its delivery.
        Ok(Self { producer: RwLock::new(producer), config, topics, reachable: AtomicBool::new(true) })
    }

    /// Whether the log answered last time.
    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Writes all records, or says that not all of them are known to be written.
    pub(crate) async fn write(
        &self,
        records: &[Record],
        traceparent: &str,
        received_at: EventTime,
    ) -> Result<(), Unwritten> {
        if !self.is_reachable() {
            return Err(Unwritten::Away);
        }
        // All of them are queued before the first one is waited for, so that they share requests to the log.
        for delivery in self.queue(records, traceparent, received_at.0.div_euclid(1000))? {
            let delivered = delivery.await.map_err(|_| Unwritten::Away)?;
            delivered.map_err(|(error, _)| self.failed(&error))?;
        }
        Ok(())
    }

    /// Asks the log now and then whether it is there, until shutdown.
    pub(crate) async fn watch(self: Arc<Self>, interval: Duration, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let log = self.clone();
            match tokio::task::spawn_blocking(move || log.probe()).await {
                Ok(Ok(())) => self.set_reachable(None),
                Ok(Err(error)) => self.set_reachable(Some(&error)),
                Err(_) => return,
            }
        }
    }

    /// Waits until nothing is under way any more, within a time.
    pub(crate) async fn flush(&self, time_max: Duration) {
        let producer = self.producer();
        let flushed = tokio::task::spawn_blocking(move || producer.flush(time_max)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            // Nobody was told that these were accepted.
            tracing::warn!("messages that were under way at shutdown are not acknowledged");
        }
    }

    fn queue(
        &self,
        records: &[Record],
        traceparent: &str,
        timestamp_ms: i64,
    ) -> Result<Vec<DeliveryFuture>, Unwritten> {
        let producer = self.producer();
        let header = Header { key: TRACEPARENT_HEADER, value: Some(traceparent) };
        let headers = OwnedHeaders::new_with_capacity(1).insert(header);
        let queued = records.iter().map(|record| {
            let topic = match record.topic {
                Topic::Events => &self.topics.events,
                Topic::Rejected => &self.topics.rejected,
            };
            let message = FutureRecord::to(topic)
                .key(&record.key)
                .payload(&record.payload)
                .timestamp(timestamp_ms)
                .headers(headers.clone());
            producer.send_result(message).map_err(|(error, _)| self.failed(&error))
        });
        queued.collect()
    }

    fn probe(&self) -> Result<(), KafkaError> {
        let producer = self.producer();
        for topic in [&self.topics.events, &self.topics.rejected] {
            let metadata = producer.client().fetch_metadata(Some(topic), PROBE_TIME_MAX)?;
            if let Some(error) = metadata.topics().iter().find_map(|topic| topic.error()) {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
        }
        Ok(())
    }

    fn failed(&self, error: &KafkaError) -> Unwritten {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => return Unwritten::QueueFull,
            Some(RDKafkaErrorCode::Fatal) => self.replace_broken(),
            _ => {}
        }
        self.set_reachable(Some(error));
        Unwritten::Away
    }

    /// An idempotent producer that cannot prove any more that it writes once refuses everything from then on; a new one
    /// begins a new sequence. What was under way is not acknowledged, so clients send it again.
    fn replace_broken(&self) {
        let mut producer = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        let Some((_, reason)) = producer.client().fatal_error() else { return };
        match self.config.create_with_context(Quiet) {
            Ok(new) => {
                tracing::error!(reason, "the log's client is broken and replaced by a new one");
                let broken = std::mem::replace(&mut *producer, new);
                // Dropping it waits for its thread.
                tokio::task::spawn_blocking(move || drop(broken));
            }
            Err(error) => tracing::error!(reason, %error, "the log's client is broken and cannot be replaced"),
        }
    }

    fn producer(&self) -> FutureProducer<Quiet> {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_reachable(&self, error: Option<&KafkaError>) {
        let was_reachable = self.reachable.swap(error.is_none(), Ordering::Relaxed);
        match error {
            Some(error) if was_reachable => tracing::warn!(%error, "the log is away: clients are told to come back"),
            None if !was_reachable => tracing::info!("the log is there again"),
            _ => {}
        }
    }
}

fn client_config(kafka: &Kafka, tuning: &Tuning) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "reckon-collect")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", tuning.delivery_timeout.as_millis().to_string())
        .set("linger.ms", tuning.linger.as_millis().to_string())
        .set("queue.buffering.max.messages", tuning.queue_messages_max.to_string())
        .set("queue.buffering.max.kbytes", (tuning.queue_bytes_max / 1024).max(1).to_string())
        .set("compression.codec", "zstd")
        .set("compression.level", "1")
        // The partitioner of the Java client: whoever else writes events puts a user into the same partition.
        .set("partitioner", "murmur2_random")
        // A log that comes back is found within a second, not within the ten that are the default.
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true")
        .set("log.connection.close", "false");
    config
}

/// The client's own logs are for debugging; what they mean for requests is logged where it is known.
#[derive(Clone, Copy, Debug)]
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}
