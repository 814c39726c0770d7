//! Fills a topic: events of one day, made by two threads, sent in order by a third.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use jiff::{Timestamp, ToSpan};
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use reckon_schemas::time::{EventTime, Zone};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::events::{Day, Message, Population};
use super::expected::{Counting, Recount};
use super::progress::log_ends;
use super::{rate, rounded};
use crate::config::Settings;
use crate::prepare;

const THREADS: u64 = 2;
const BLOCK: u64 = 1000;
const BLOCKS_AHEAD: usize = 8;
const FLUSH_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many deliveries; one in a hundred repeats an earlier one.
    #[arg(long, default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    events: u64,
    /// The same seed makes the same events.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The first instant of the events' day; by default that of the last day (UTC) that ended at least 25 hours ago, so
    /// that what Redis keeps for a day is over.
    #[arg(long)]
    day_start: Option<Timestamp>,
}

/// Fills the topic and writes the exact count beside it.
pub(crate) async fn run(settings: &Settings, dir: &Path, arguments: &Arguments) -> Result<Value> {
    let start = arguments.day_start.map_or_else(default_day, |start| Ok(EventTime::from_timestamp(start)))?;
    let day = Day { population: Population::new()?, seed: arguments.seed, start, deliveries: arguments.events };
    prepare::everything(settings, &CancellationToken::new()).await?;
    let found: i64 = tokio::task::block_in_place(|| log_ends(&settings.kafka))?.values().sum();
    ensure!(found == 0, "the topic {:?} holds {found} records: fill an empty one", settings.kafka.topics.events);
    let sink = Sink::new(&settings.kafka.brokers, &settings.kafka.topics.events)?;
    let filled = tokio::task::block_in_place(|| fill(&day, &sink))?;
    let written: i64 = tokio::task::block_in_place(|| log_ends(&settings.kafka))?.values().sum();
    ensure!(u64::try_from(written) == Ok(day.deliveries), "{written} of {} records are in the log", day.deliveries);
    filled.recount.save(&dir.join(RECOUNT_FILE))?;
    Ok(json!({
        "line": "fill",
        "events": day.deliveries,
        "repeated": day.repeated(),
        "seconds": rounded(filled.seconds),
        "events_per_second": rate(day.deliveries, filled.seconds),
        "bytes_per_event": filled.bytes / day.deliveries.max(1),
        "day_start": start.to_string(),
        "seed": day.seed,
    }))
}

/// Where the exact count lies.
pub(crate) const RECOUNT_FILE: &str = "recount.json";

struct Filled {
    recount: Recount,
    seconds: f64,
    bytes: u64,
}

fn fill(day: &Day, sink: &Sink) -> Result<Filled> {
    let started = Instant::now();
    std::thread::scope(|scope| {
        let mut blocks: Vec<Receiver<Vec<Message>>> = Vec::new();
        let mut makers = Vec::new();
        for thread in 0..THREADS {
            let (sender, receiver) = sync_channel(BLOCKS_AHEAD);
            blocks.push(receiver);
            makers.push(scope.spawn(move || make(day, thread, &sender)));
        }
        let mut bytes = 0;
        // The threads take turns, so the log has the order of the places.
        'all: loop {
            for receiver in &blocks {
                let Ok(block) = receiver.recv() else { break 'all };
                for message in &block {
                    bytes += message.payload.len() as u64;
                    sink.send(message)?;
                }
            }
        }
        sink.finish()?;
        let seconds = started.elapsed().as_secs_f64();
        let mut counting = Counting::new();
        for maker in makers {
            counting.merge(&maker.join().map_err(|_| anyhow::anyhow!("a thread that makes events panicked"))?);
        }
        let recount = counting.finish(day.start, day.deliveries, day.repeated())?;
        Ok(Filled { recount, seconds, bytes })
    })
}

/// Makes every other block and counts what is in it. Ends early when nobody takes blocks any more.
fn make(day: &Day, thread: u64, blocks: &SyncSender<Vec<Message>>) -> Counting {
    let mut counting = Counting::new();
    let mut first = thread * BLOCK;
    while first < day.deliveries {
        let block = (first..(first + BLOCK).min(day.deliveries)).map(|place| {
            let original = day.original(place);
            let (made, occurred_at) = day.event(original);
            if original == place {
                counting.add(&made, occurred_at.0 - day.start.0);
            }
            day.message(place, original, &made, occurred_at)
        });
        if blocks.send(block.collect()).is_err() {
            break;
        }
        first += THREADS * BLOCK;
    }
    counting
}

/// The topic's writing end: the collector's producer, with more patience for the sake of large batches.
pub(crate) struct Sink {
    producer: BaseProducer,
    topic: String,
}

impl Sink {
    pub(crate) fn new(brokers: &str, topic: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("client.id", "reckon-bench")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "50")
            .set("batch.size", "900000")
            .set("queue.buffering.max.messages", "400000")
            .set("queue.buffering.max.kbytes", "262144")
            .set("compression.codec", "zstd")
            .set("compression.level", "1")
            .set("partitioner", "murmur2_random");
        Ok(Self { producer: BaseProducer::from_config(&config)?, topic: topic.to_owned() })
    }

    /// Queues a message; waits while the queue is full.
    pub(crate) fn send(&self, message: &Message) -> Result<()> {
        let mut record =
            BaseRecord::to(&self.topic).key(&message.key).payload(&message.payload).timestamp(message.timestamp_ms);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    self.producer.poll(Duration::from_millis(10));
                    record = refused;
                }
                Err((error, _)) => return Err(error).context("writing to the topic"),
            }
        }
    }

    /// Waits until the log has everything.
    pub(crate) fn finish(&self) -> Result<()> {
        self.producer.flush(FLUSH_MAX).context("the log did not take everything")?;
        if let Some((_, reason)) = self.producer.client().fatal_error() {
            bail!("the producer gave up: {reason}");
        }
        Ok(())
    }
}

fn default_day() -> Result<EventTime> {
    let long_ago = Timestamp::now().checked_sub(25.hours())?;
    let day = Zone::UTC.day_of(EventTime::from_timestamp(long_ago));
    Ok(Zone::UTC.day_start(day.yesterday()?))
}
