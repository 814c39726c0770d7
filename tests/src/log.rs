//! Everything that is in a topic, read by a consumer of its own; and records of any bytes into it.

use std::time::Duration;

use anyhow::Result;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// One message of the log.
#[derive(Clone, Debug)]
pub struct Logged {
    pub partition: i32,
    pub offset: i64,
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    pub timestamp_ms: Option<i64>,
    pub traceparent: Option<String>,
}

/// Every message of a topic up to its end at the time of the call, by partition and offset.
pub async fn read_topic(brokers: &str, topic: &str) -> Result<Vec<Logged>> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_to_end(&brokers, &topic)).await?
}

fn read_to_end(brokers: &str, topic: &str) -> Result<Vec<Logged>> {
    let limit = Duration::from_secs(20);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("reader-{}", uuid::Uuid::new_v4().simple()))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), limit)?;
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let (mut messages, mut at_end) = (Vec::new(), 0);
    while at_end < assignment.count() {
        match consumer.poll(limit) {
            None => anyhow::bail!("{topic}: no message and no end within {limit:?}"),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => at_end += 1,
            Some(message) => messages.push(logged(&message?)),
        }
    }
    messages.sort_by_key(|message| (message.partition, message.offset));
    Ok(messages)
}

fn logged(message: &impl Message) -> Logged {
    let traceparent = message.headers().and_then(|headers| {
        let header = headers.iter().find(|header| header.key == reckon_schemas::kafka::TRACEPARENT_HEADER)?;
        Some(String::from_utf8_lossy(header.value?).into_owned())
    });
    Logged {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_vec(),
        payload: message.payload().unwrap_or_default().to_vec(),
        timestamp_ms: message.timestamp().to_millis(),
        traceparent,
    }
}

/// A record as it is, whatever it is.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    /// Where it goes; by its key if nothing is said.
    pub partition: Option<i32>,
    pub key: Vec<u8>,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The record's time; that of sending it if nothing is said.
    pub timestamp_ms: Option<i64>,
}

/// A producer that waits for a broker that is away, and writes nothing twice.
pub fn producer(brokers: &str) -> Result<FutureProducer> {
    let producer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "120000")
        .set("message.max.bytes", "20000000")
        .set("linger.ms", "5")
        .create()?;
    Ok(producer)
}

/// Writes records one batch at a time, and returns where the broker says that they are.
pub async fn send(producer: &FutureProducer, topic: &str, records: &[Raw]) -> Result<Vec<(i32, i64)>> {
    let sent = records.iter().map(|raw| async move {
        let record = FutureRecord { payload: raw.payload.as_ref(), ..FutureRecord::to(topic).key(&raw.key) };
        let record = FutureRecord { partition: raw.partition, timestamp: raw.timestamp_ms, ..record };
        let delivery = producer.send(record, Duration::from_secs(120)).await.map_err(|(error, _)| error)?;
        anyhow::Ok((delivery.partition, delivery.offset))
    });
    futures::future::try_join_all(sent).await
}

/// A client for changes to topics.
pub fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", brokers).create()?)
}
