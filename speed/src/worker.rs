//! The worker: counts the log's events into cells and keeps Redis and ClickHouse up to date with them.
//!
//! | room | what it does |
//! |---|---|
//! | `windows` | the pure core: records in, absolute totals and exceptions out |
//! | `sinks` | Redis and ClickHouse, each a task that repeats a batch until it is acknowledged |
//! | `snapshots` | the states in the object store |
//! | `lane` | a thread that counts some of the partitions, and the loop between the three above |
//! | `driver` | the reader: from the log to the lanes, and what the group decides |
//!
//! A cell's totals depend on the records of its partition alone. So a worker that dies is replaced by one that reads
//! the newest snapshot and the records after it, and writes the same totals under the same versions again.

mod driver;
mod lane;
mod owned;
mod sinks;
mod snapshots;
mod telemetry;
mod tuning;
mod windows;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use reckon_schemas::catalog::Catalog;
use reckon_schemas::stores::{ClickHouse, Kafka, Lake, Redis};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use self::tuning::Tuning;

use self::driver::{Driver, LaneHandle, Lanes};
use self::lane::{Batch, Lane, Outlet, Outlets, Reporter, Said, Standing};
use self::sinks::{ClickHouseSink, History, RedisSink, Writer, connect_clickhouse};
use self::snapshots::Snapshots;
use self::windows::Plan;
use crate::member::Member;
use crate::own_thread::{self, Ended};

/// What the worker needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The log it reads.
    pub kafka: Kafka,
    /// Where fresh cells go.
    pub redis: Redis,
    /// Where all cells go.
    pub clickhouse: ClickHouse,
    /// Where snapshots go.
    pub lake: Lake,
    /// For whom what is counted; followed while the worker runs.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// How it is counted.
    pub tuning: Tuning,
}

/// Why the worker stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address in the configuration cannot be used: correct it.
    #[error("the address {address:?} of {store} cannot be used: {problem}")]
    Address {
        /// Which store.
        store: &'static str,
        /// The address as configured.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The client of the log gave up: look at the brokers, then start again.
    #[error("the log cannot be read: {0}")]
    Log(String),
    /// Records were deleted before they were counted, or the log is another one. Nothing is skipped silently.
    #[error(
        "partition {partition} of {topic:?}: the next record to count is at offset {offset}, but the log has {low} to \
         {high}. Bring the log back, or, to count from what it has, remove snapshots/{topic}/{partition} in the lake"
    )]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that is needed next.
        offset: i64,
        /// The first offset that the log has.
        low: i64,
        /// The offset after the last one.
        high: i64,
    },
    /// The stores have counts of a partition, and what they were counted from is gone. Nothing is overwritten.
    #[error(
        "partition {partition} of {topic:?} was counted up to offset {counted}, but no snapshot of it can be read and the \
         log begins at {low}: counting from there would overwrite what was counted of open windows with less. Bring a \
         snapshot back to snapshots/{topic}/{partition} in the lake, or, to give up what was counted of open windows, \
         delete the partition's row of speed_progress"
    )]
    Forgotten {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset up to which it was counted.
        counted: i64,
        /// The first offset that the log has.
        low: i64,
    },
    /// A sum left the range of 128 bits. Nothing of it was written.
    #[error("partition {partition} of {topic:?}: a sum left the range of 128 bits at or before offset {offset}")]
    SumOverflow {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset at which it was noticed.
        offset: i64,
    },
    /// The snapshots of a partition cannot be read: look at the object store, then start again.
    #[error("the snapshots of partition {partition} cannot be read: {problem}")]
    Snapshots {
        /// The partition.
        partition: i32,
        /// What the store said.
        problem: String,
    },
    /// ClickHouse cannot say how far a partition was counted: look at ClickHouse, then start again.
    #[error("ClickHouse does not say how far partition {partition} was counted: {problem}")]
    History {
        /// The partition.
        partition: i32,
        /// What ClickHouse, or the way to it, said.
        problem: String,
    },
    /// A part of the worker ended by itself, which is a defect; its log says more.
    #[error("a part of the worker ended unexpectedly")]
    Stopped,
}

impl Error {
    fn log(error: impl Display) -> Self {
        Self::Log(error.to_string())
    }
}

/// Counts until `shutdown`, then flushes, writes snapshots and leaves the group, in at most 10 s. Stores that are away
/// are waited for; reading pauses before too much waits for them.
///
/// # Errors
/// [`Error`]: what makes going on impossible or wrong.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    // Sinks outlive the shutdown's begin, because the last flush needs them.
    let stop = CancellationToken::new();
    let _stop_on_return = stop.clone().drop_guard();
    let driver = assemble(&config, shutdown.clone(), &stop)?;
    let ended = own_thread::work("reckon-speed", &shutdown, move || driver.run()).await;
    match ended.map_err(|error| Error::Log(format!("no thread for the worker: {error}")))? {
        Ended::With(result) => result,
        Ended::Died => Err(Error::Stopped),
        Ended::NotInTime => {
            tracing::warn!("the worker did not end in time; what is not in the stores will be read again");
            Ok(())
        }
    }
}

fn assemble(config: &Config, shutdown: CancellationToken, stop: &CancellationToken) -> Result<Driver, Error> {
    let Config { kafka, redis, clickhouse, lake, catalog, tuning } = config;
    let topic = kafka.topics.events.clone();
    let mut catalog = catalog.clone();
    let plan = Plan::new(&catalog.borrow_and_update(), tuning.rules());
    let wrong = |store, address: &str, problem: String| Error::Address { store, address: address.to_owned(), problem };
    let client =
        ::redis::Client::open(redis.url.as_str()).map_err(|error| wrong("redis", &redis.url, error.to_string()))?;
    let snapshots = Snapshots::open(lake, &topic).map_err(|problem| wrong("the lake", &lake.url, problem))?;
    let clickhouse = connect_clickhouse(clickhouse);
    let history = History::new(clickhouse.clone());

    let (says, said) = std::sync::mpsc::channel();
    let threads = tuning.threads();
    let workshop = Workshop {
        topic: &topic,
        tuning: tuning.share(threads),
        plan: Arc::new(plan),
        redis: client,
        clickhouse,
        history: &history,
        snapshots: &snapshots,
        stop,
    };
    let lanes = (0..threads).map(|number| workshop.open_lane(number, says.clone())).collect::<Result<_, _>>()?;
    let lanes = Lanes::new(lanes, said);
    let source =
        Member::join(kafka, &tuning.membership()).map_err(|error| wrong("kafka", &kafka.brokers, error.to_string()))?;
    Ok(Driver {
        source,
        topic,
        catalog,
        tuning: tuning.clone(),
        snapshots,
        history,
        lanes,
        runtime: tokio::runtime::Handle::current(),
        shutdown,
        reading: BTreeMap::new(),
        claims: 0,
        full_since: None,
        paused: false,
        watch: driver::Watch::default(),
    })
}

/// What lanes are made from.
struct Workshop<'a> {
    topic: &'a str,
    tuning: Tuning,
    plan: Arc<Plan>,
    redis: ::redis::Client,
    clickhouse: ::clickhouse::Client,
    history: &'a History,
    snapshots: &'a Snapshots,
    stop: &'a CancellationToken,
}

impl Workshop<'_> {
    /// Starts a lane: its thread, and the tasks that write for it, which end with it.
    fn open_lane(&self, number: usize, says: std::sync::mpsc::Sender<Said>) -> Result<LaneHandle, Error> {
        let (words, heard) = std::sync::mpsc::channel();
        let standing = Arc::new(Standing::default());
        let lane = Lane {
            number,
            topic: self.topic.to_owned(),
            tuning: self.tuning.clone(),
            plan: Arc::clone(&self.plan),
            words: heard,
            says,
            standing: Arc::clone(&standing),
            outlets: self.open_outlets(&Reporter(words.clone())),
            owned: BTreeMap::new(),
            read_at: Instant::now(),
            counted_at: Instant::now(),
        };
        let thread = std::thread::Builder::new().name(format!("reckon-lane-{number}"));
        let thread = thread.spawn(move || lane.run());
        let thread = thread.map_err(|error| Error::Log(format!("no thread for the worker: {error}")))?;
        Ok(LaneHandle { words, standing, thread, filling: Batch::default(), ahead: 0 })
    }

    fn open_outlets(&self, reporter: &Reporter) -> Outlets {
        let open = |writer: Writer, interval| {
            let (batches, taken) = mpsc::channel(1);
            tokio::spawn(writer.run(taken, reporter.clone(), self.stop.clone()));
            Outlet::new(batches, interval)
        };
        let (topic, retention) = (self.topic.to_owned(), self.tuning.redis_retention);
        let redis = RedisSink::new(self.redis.clone(), self.history.clone(), topic.clone(), retention);
        let clickhouse = ClickHouseSink::new(self.clickhouse.clone(), topic);
        let (captures, captured) = mpsc::channel(1);
        tokio::spawn(self.snapshots.clone().run(captured, reporter.clone(), self.stop.clone()));
        Outlets {
            redis: open(Writer::Redis(Box::new(redis)), self.tuning.flush_interval),
            clickhouse: open(Writer::ClickHouse(Box::new(clickhouse)), self.tuning.clickhouse_interval),
            captures,
        }
    }
}
