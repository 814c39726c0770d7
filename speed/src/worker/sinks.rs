//! Where cells go. Each sink is a task that takes one batch at a time and repeats it until the store has acknowledged
//! all of it; what arrives meanwhile waits in the worker, which stops reading before that becomes too much.

mod cell_columns;
mod cell_order;
mod clickhouse;
mod history;
mod redis;
mod redis_cells;

use bytes::Bytes;
use reckon_schemas::time::EventTime;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

pub(crate) use self::cell_order::{Row, blocks};
pub(crate) use self::clickhouse::{ClickHouseSink, connect as connect_clickhouse};
pub(crate) use self::history::History;
pub(crate) use self::redis::RedisSink;

use super::lane::Reporter;
use super::windows::{Exception, FlushedTop, FreshCell, Overflow, PlanChange, Sink};
use crate::patience::Patience;

/// What a sink is handed at once.
#[derive(Debug)]
pub(crate) struct Flush {
    pub(crate) parts: Vec<PartitionFlush>,
    /// For ClickHouse only: the cells of all parts, as it takes them.
    pub(crate) blocks: Vec<Bytes>,
}

/// One partition's part of a batch.
#[derive(Debug)]
pub(crate) struct PartitionFlush {
    pub(crate) partition: i32,
    /// Which of this process's claims on the partition wrote it.
    pub(crate) claim: u64,
    /// The version of every cell in it: everything below this offset is counted in them.
    pub(crate) next_offset: i64,
    pub(crate) watermark: Option<EventTime>,
    pub(crate) log_time_ms: i64,
    /// Up to when everything that the log has received is below `next_offset`.
    pub(crate) caught_up_at_ms: i64,
    /// Up to where the sink said it has everything, if it ever did.
    pub(crate) acknowledged: Option<i64>,
    /// The sink lost the partition: the cells are all that are in memory.
    pub(crate) rebuild: Option<Rebuild>,
    /// For Redis only.
    pub(crate) cells: Vec<FreshCell>,
    pub(crate) tops: Vec<FlushedTop>,
    /// For ClickHouse only.
    pub(crate) exceptions: Vec<Exception>,
    /// For ClickHouse only.
    pub(crate) overflows: Vec<Overflow>,
    /// For ClickHouse only.
    pub(crate) plans: Vec<PlanChange>,
}

/// How a lost partition comes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rebuild {
    /// Whether there are cells that only ClickHouse remembers.
    pub(crate) from_history: bool,
}

/// What a task tells the worker.
#[derive(Debug)]
pub(crate) enum Report {
    /// A sink is done with a batch.
    Flushed { sink: Sink, parts: Vec<Flushed> },
    /// A snapshot is in the object store, or could not be written now.
    Saved { partition: i32, claim: u64, next_offset: i64, stored: bool },
}

/// What became of one partition's part of a batch.
#[derive(Debug)]
pub(crate) struct Flushed {
    pub(crate) partition: i32,
    pub(crate) claim: u64,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything below this offset is in the store.
    Acknowledged(i64),
    /// The store does not have what it had: give it everything.
    Lost,
}

impl PartitionFlush {
    fn done(&self, outcome: Outcome) -> Flushed {
        Flushed { partition: self.partition, claim: self.claim, outcome }
    }
}

/// Either store.
pub(crate) enum Writer {
    Redis(Box<RedisSink>),
    ClickHouse(Box<ClickHouseSink>),
}

/// Why a batch was not taken; it is repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    #[error("{0}")]
    Redis(#[from] ::redis::RedisError),
    #[error("{0}")]
    ClickHouse(#[from] ::clickhouse::error::Error),
}

impl Writer {
    /// Takes batches until there are no more, or until `stop`, which abandons the batch under way.
    pub(crate) async fn run(mut self, mut batches: Receiver<Flush>, reporter: Reporter, stop: CancellationToken) {
        let (sink, mut patience) = match self {
            Writer::Redis(_) => (Sink::Redis, Patience::with("redis")),
            Writer::ClickHouse(_) => (Sink::ClickHouse, Patience::with("clickhouse")),
        };
        while let Some(batch) = batches.recv().await {
            let Some(parts) = stop.run_until_cancelled(self.persist(&batch, &mut patience)).await else { return };
            if !reporter.tell(Report::Flushed { sink, parts }) {
                return;
            }
        }
    }

    async fn persist(&mut self, batch: &Flush, patience: &mut Patience) -> Vec<Flushed> {
        loop {
            let result = match self {
                Writer::Redis(redis) => redis.write(&batch.parts).await,
                Writer::ClickHouse(clickhouse) => clickhouse.write(batch).await,
            };
            match result {
                Ok(parts) => {
                    patience.answered();
                    return parts;
                }
                Err(error) => patience.wait_after(&error).await,
            }
        }
    }
}
