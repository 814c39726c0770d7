//! Raw events: every event of the last days in ClickHouse, once, for questions that nobody thought of before.
//!
//! | room | what it does |
//! |---|---|
//! | `columns`, `block` | records into the columns of a block, which has a name |
//! | `writer` | one block at a time into ClickHouse, repeated until it is acknowledged, and how far that is |
//! | `reader` | the loop between them |
//!
//! It has nothing in common with the worker, so that neither waits for the other. Offsets are noted once ClickHouse has
//! acknowledged their rows: a crash leads to rows that are written again, never to missing ones. A row written again,
//! and an event delivered again, have the key of the first one, and the table keeps one row of a key. A block whose
//! answer was lost is repeated byte by byte under the same name, and not stored a second time.

mod block;
mod columns;
mod reader;
mod tuning;
mod writer;

use std::fmt::Display;
use std::time::Duration;

use reckon_schemas::stores::{ClickHouse, Kafka};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::tuning::Tuning;

use self::block::Filling;
use self::reader::{Progress, Reader};
use self::writer::Writer;
use crate::member::Member;
use crate::own_thread::{self, Ended};

/// What the part needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The log it reads.
    pub kafka: Kafka,
    /// Where raw events go.
    pub clickhouse: ClickHouse,
    /// How it is done.
    pub tuning: Tuning,
}

/// What was brought into ClickHouse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records read.
    pub records: u64,
    /// Rows that ClickHouse acknowledged.
    pub rows: u64,
    /// In so many blocks.
    pub blocks: u64,
    /// From the first record to the last acknowledgement.
    pub took: Duration,
}

/// Why the part stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client of the log could not be made: correct the configuration.
    #[error("the address {address:?} of kafka cannot be used: {problem}")]
    Address {
        /// The address as configured.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The client of the log gave up: look at the brokers, then start again.
    #[error("the log cannot be read: {0}")]
    Log(String),
    /// Records were deleted before they were read, or the log is another one.
    #[error(
        "records of {topic:?} were deleted before they became raw events, or the log is another one. Nothing was \
         skipped so far; started again, this part goes on with what the log has and says what is missing"
    )]
    OutOfRange {
        /// The topic.
        topic: String,
    },
    /// A piece of the part ended by itself, which is a defect; its log says more.
    #[error("a piece of the part ended unexpectedly")]
    Stopped,
}

impl Error {
    fn log(error: impl Display) -> Self {
        Self::Log(error.to_string())
    }
}

/// Keeps raw events until `shutdown`, then brings the last block in and leaves the group, in at most 10 s. While
/// ClickHouse is away, at most two blocks wait for it, and the log holds the rest. Switched off, it only waits.
///
/// # Errors
/// [`Error`]: what makes going on impossible or wrong.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    if !config.tuning.enabled {
        tracing::info!("raw events are switched off (raw.enabled)");
        shutdown.cancelled().await;
        return Ok(());
    }
    work(&config, false, shutdown).await.map(|_| ())
}

/// Brings in what the log has and ends there: at the end that each partition had when it was taken over. For measuring,
/// as the only member of its group.
///
/// # Errors
/// [`Error`]: what makes going on impossible or wrong.
pub async fn run_to_end(config: Config, shutdown: CancellationToken) -> Result<Summary, Error> {
    work(&config, true, shutdown).await
}

async fn work(config: &Config, to_end: bool, shutdown: CancellationToken) -> Result<Summary, Error> {
    // The writer outlives the shutdown's begin, because the last block needs it.
    let stop = CancellationToken::new();
    let _stop_on_return = stop.clone().drop_guard();
    let reader = assemble(config, to_end, shutdown.clone(), &stop)?;
    let ended = own_thread::work("reckon-raw", &shutdown, move || reader.run()).await;
    match ended.map_err(|error| Error::Log(format!("no thread for raw events: {error}")))? {
        Ended::With(result) => result,
        Ended::Died => Err(Error::Stopped),
        Ended::NotInTime => {
            tracing::warn!("raw events did not end in time; what is not in ClickHouse will be read again");
            Ok(Summary::default())
        }
    }
}

fn assemble(
    config: &Config,
    to_end: bool,
    shutdown: CancellationToken,
    stop: &CancellationToken,
) -> Result<Reader, Error> {
    let Config { kafka, clickhouse, tuning } = config;
    let group = Member::join(kafka, &tuning.membership())
        .map_err(|error| Error::Address { address: kafka.brokers.clone(), problem: error.to_string() })?;
    let topic = kafka.topics.events.clone();
    let (batches, taken) = mpsc::channel(1);
    let (acknowledge, acknowledged) = std::sync::mpsc::channel();
    tokio::spawn(Writer::new(clickhouse, topic.clone(), tuning.deduplicate).run(taken, acknowledge, stop.clone()));
    Ok(Reader {
        group,
        topic,
        filling: Filling::new(tuning),
        tuning: tuning.clone(),
        batches,
        acknowledged,
        runtime: tokio::runtime::Handle::current(),
        shutdown,
        to_end,
        progress: Progress::default(),
    })
}
