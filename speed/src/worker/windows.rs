//! The pure core: from the records of one partition to absolute totals of cells. No I/O and no clock, time is in the
//! records, so that the same records always lead to the same decisions and the same totals.

mod admitted;
mod changed;
mod evict;
mod fold;
mod items;
mod numbers;
mod partition;
mod pending;
mod plan;
mod recent;
mod saved;
mod series;
#[cfg(test)]
mod simulation;
mod tops;
mod totals;

pub(crate) use self::changed::{ChangedCell, FreshCell, FreshUsers};
pub(crate) use self::items::PlanChange;
pub(crate) use self::partition::{Exception, FlushedTop, Overflow, PartitionState, Record, Tallies};
pub(crate) use self::plan::{Plan, Rules, micros};
pub(crate) use self::saved::Unreadable;
pub(crate) use self::series::Series;

/// The two stores that cells go to. Each has its own pace, so each has its own list of what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Redis,
    ClickHouse,
}

impl Sink {
    pub(crate) const ALL: [Sink; 2] = [Sink::Redis, Sink::ClickHouse];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Sink::Redis => "redis",
            Sink::ClickHouse => "clickhouse",
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Sink::Redis => 0,
            Sink::ClickHouse => 1,
        }
    }
}
