//! Fills a lake in a folder with the events of a day, by the archive's own code, without a log in between.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use jiff::Timestamp;
use reckon_batch::archive::{Loader, Tuning};
use reckon_batch::lake::{self, Lake};
use reckon_schemas::stores;
use reckon_schemas::time::EventTime;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::events::{Day, Message, Population};
use super::{rate, rounded};

const TOPIC: &str = "events";
const PARTITIONS: usize = 12;
const THREADS: u64 = 2;
const BLOCK: u64 = 1000;
const BLOCKS_AHEAD: usize = 8;
/// As large as compaction makes the files of a lake, more or less: nobody would measure thousands of small ones.
const COMMIT_ROWS: usize = 1_000_000;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many deliveries; one in a hundred repeats an earlier one.
    #[arg(long, default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(100..))]
    events: u64,
    /// The same seed makes the same events.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The first instant of the events' day.
    #[arg(long, default_value = "2026-01-01T00:00:00Z")]
    day_start: Timestamp,
}

/// The lake of a benchmark's folder.
pub(super) fn store(dir: &Path) -> stores::Lake {
    stores::Lake::at(format!("file://{}", dir.display()))
}

/// Fills an empty lake.
pub(crate) async fn run(dir: &Path, arguments: &Arguments) -> Result<Value> {
    let lake = Lake::open(&store(dir)).await?;
    let table = lake.events().await?;
    ensure!(lake::version(&table) == 0, "the lake in {} is filled already", dir.display());
    let tuning = Tuning { commit_rows: COMMIT_ROWS, commit_bytes: usize::MAX, ..Tuning::default() };
    let mut loader = Loader::open(&lake, TOPIC, &tuning).await?;
    let start = EventTime::from_timestamp(arguments.day_start);
    let (seed, deliveries) = (arguments.seed, arguments.events);
    let started = Instant::now();
    let mut makers: Vec<Receiver<Vec<Message>>> = Vec::new();
    for thread in 0..THREADS {
        let day = Day { population: Population::new()?, seed, start, deliveries };
        let (blocks, receiver) = channel(BLOCKS_AHEAD);
        std::thread::spawn(move || make(&day, thread, &blocks));
        makers.push(receiver);
    }
    let mut offsets = [0_i64; PARTITIONS];
    let mut place = 0;
    // The threads take turns, so the lake has the order of the places.
    'all: loop {
        for maker in &mut makers {
            let Some(block) = maker.recv().await else { break 'all };
            for message in block {
                let partition = place % PARTITIONS;
                let (log_time, offset) = (EventTime::from_millis(message.timestamp_ms), offsets[partition]);
                loader.push(i32::try_from(partition)?, offset, log_time, &message.payload).await?;
                offsets[partition] += 1;
                place += 1;
            }
        }
    }
    loader.commit().await?;
    ensure!(u64::try_from(place)? == deliveries, "only {place} of {deliveries} events were made");
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({
        "line": "lake",
        "events": deliveries,
        "seconds": rounded(seconds),
        "events_per_second": rate(deliveries, seconds),
        "seed": seed,
    }))
}

/// Makes every other block. Ends early when nobody takes blocks any more.
fn make(day: &Day, thread: u64, blocks: &Sender<Vec<Message>>) {
    let mut first = thread * BLOCK;
    while first < day.deliveries {
        let block = (first..(first + BLOCK).min(day.deliveries)).map(|place| {
            let original = day.original(place);
            let (made, occurred_at) = day.event(original);
            day.message(place, original, &made, occurred_at)
        });
        if blocks.blocking_send(block.collect()).is_err() {
            break;
        }
        first += THREADS * BLOCK;
    }
}
