//! The limit: a consumer with the worker's own fetch settings that only counts what comes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::progress::log_ends;
use super::{rate, rounded};
use crate::config::Settings;
use crate::usage::Usage;

const SILENCE_MAX: Duration = Duration::from_secs(30);

pub(crate) fn run(settings: &Settings) -> Result<Value> {
    tokio::task::block_in_place(|| count(settings))
}

fn count(settings: &Settings) -> Result<Value> {
    let ends = log_ends(&settings.kafka)?;
    let expected: i64 = ends.values().sum();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &settings.kafka.brokers)
        .set("client.id", "reckon-bench")
        .set("group.id", "reckon-bench-count")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in ends.keys() {
        list.add_partition_offset(&settings.kafka.topics.events, *partition, Offset::Beginning)?;
    }
    let before = Usage::of(std::process::id())?;
    let started = Instant::now();
    consumer.assign(&list)?;
    let (mut messages, mut bytes) = (0_u64, 0_u64);
    while i64::try_from(messages).is_ok_and(|messages| messages < expected) {
        match consumer.poll(SILENCE_MAX) {
            Some(message) => {
                messages += 1;
                bytes += message?.payload_len() as u64;
            }
            None => bail!("the log was silent for {SILENCE_MAX:?} after {messages} of {expected} messages"),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = Usage::of(std::process::id())?;
    Ok(json!({
        "line": "count",
        "events": messages,
        "seconds": rounded(seconds),
        "events_per_second": rate(messages, seconds),
        "bytes_per_second": rate(bytes, seconds),
        "cores": rounded((after.cpu_seconds() - before.cpu_seconds()) / seconds),
    }))
}
