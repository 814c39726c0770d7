//! Partitions come and go as the group decides, and where reading of each begins.

use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use super::Reader;
use crate::member::{CaughtUp, End, Member, Rebalance};
use crate::patience::ask_patiently;
use crate::raw::Error;
use crate::raw::writer::Reached;

/// How long partitions that are handed over may take to come into ClickHouse.
const HANDOVER_MAX: Duration = Duration::from_secs(10);

/// What is known of a partition before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    partition: i32,
    /// What the group says is in ClickHouse already.
    committed: Option<i64>,
    /// The first offset that the log has, and the one after the last.
    range: (i64, i64),
    /// When the log was asked for them.
    asked_ms: i64,
    /// The first record that is young enough to be kept.
    young: i64,
}

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Owned {
    /// The next offset to read.
    pub(super) next: i64,
    /// Everything below it is in ClickHouse.
    pub(super) acknowledged: Option<i64>,
    /// The log's end when the partition was claimed.
    end: i64,
    /// It has been read to its end once.
    pub(super) at_end: bool,
    /// Up to when everything that the log has received was read.
    pub(super) caught_up: CaughtUp,
    /// The newest log time that was read.
    pub(super) log_time_ms: i64,
    /// The writer knows that it is read up to here.
    pub(super) told: Option<i64>,
}

impl Owned {
    fn new(known: &Known, next: i64) -> Self {
        let (_, high) = known.range;
        let end = End { partition: known.partition, high, readable: high, at_ms: known.asked_ms };
        let caught_up = CaughtUp::claimed(&end, next);
        Self { next, acknowledged: None, end: high, at_end: false, caught_up, log_time_ms: 0, told: None }
    }

    /// How far it is with everything that was read, to be told to the writer.
    pub(super) fn reached(&mut self, partition: i32) -> Reached {
        self.told = Some(self.next);
        Reached { partition, next_offset: self.next, caught_up_at_ms: self.caught_up.at_ms(self.log_time_ms) }
    }

    pub(super) fn is_at_end(&self) -> bool {
        // The last offsets may be holes, and then only the client knows that the end is reached.
        self.at_end || self.next >= self.end
    }
}

impl Reader {
    /// Does what the group decided.
    pub(super) fn answer_rebalances(&mut self) -> Result<(), Error> {
        while let Some(decision) = self.group.next_rebalance() {
            match decision {
                Rebalance::Assigned(partitions) => self.claim(&partitions)?,
                Rebalance::Revoked { partitions, lost } => self.release(&partitions, lost)?,
            }
        }
        Ok(())
    }

    pub(super) fn partitions(&self) -> Vec<i32> {
        self.progress.owned.keys().copied().collect()
    }

    fn claim(&mut self, partitions: &[i32]) -> Result<(), Error> {
        if partitions.is_empty() {
            // Who has given something back to a new member is told that it gets nothing for it. The log cannot be asked
            // about no partitions, but every decision is answered.
            return self.group.assign(&[]).map_err(Error::log);
        }
        let retention_ms = i64::try_from(self.tuning.retention.as_millis()).unwrap_or(i64::MAX);
        let since_ms = jiff::Timestamp::now().as_millisecond().saturating_sub(retention_ms).max(0);
        // The same where the answer is that nothing will be read.
        let asked = || look_up(&self.group, partitions, since_ms);
        let known = match ask_patiently(&self.runtime, &self.shutdown, asked).map_err(Error::log) {
            Ok(Some(known)) => known,
            unusable => {
                self.group.assign(&[]).map_err(Error::log)?;
                return unusable.map(|_| ());
            }
        };
        let offsets: Vec<(i32, i64)> = known.iter().map(|known| (known.partition, start(known))).collect();
        for (known, (partition, next)) in known.iter().zip(&offsets) {
            self.progress.owned.insert(*partition, Owned::new(known, *next));
        }
        tracing::info!(?offsets, "partitions assigned for raw events");
        self.group.assign(&offsets).map_err(Error::log)?;
        if self.progress.paused { self.group.pause(partitions).map_err(Error::log) } else { Ok(()) }
    }

    /// Hands partitions over with everything that was read of them in ClickHouse, unless they are lost or it takes too
    /// long: then their new owner reads and writes the same rows again, which makes no second event of them.
    fn release(&mut self, partitions: &[i32], lost: bool) -> Result<(), Error> {
        if lost {
            tracing::warn!(?partitions, "partitions lost; their new owner writes what is not noted as written");
        } else if !partitions.is_empty() {
            self.drain(Instant::now() + HANDOVER_MAX)?;
        }
        for partition in partitions {
            self.progress.owned.remove(partition);
        }
        self.group.unassign(partitions).map_err(Error::log)?;
        tracing::info!(?partitions, "partitions given back");
        Ok(())
    }
}

/// What the group and the log know of partitions; `since_ms` is when a record is young enough to be kept.
fn look_up(group: &Member, partitions: &[i32], since_ms: i64) -> Result<Vec<Known>, KafkaError> {
    let committed = group.committed(partitions)?;
    let young = group.first_since(partitions, since_ms)?;
    let know = |partition: &i32| {
        let (asked_ms, range) = (jiff::Timestamp::now().as_millisecond(), group.range(*partition)?);
        let young = young.of(*partition)?.unwrap_or(range.1);
        Ok(Known { partition: *partition, committed: committed.of(*partition)?, range, asked_ms, young })
    };
    partitions.iter().map(know).collect()
}

/// Where reading begins. Never somewhere else in silence: what is missing is said.
fn start(known: &Known) -> i64 {
    let Known { partition, committed, range: (low, high), young, .. } = *known;
    match committed {
        Some(next) if (low..=high).contains(&next) => next,
        Some(next) if next < low => {
            tracing::error!(
                partition,
                next,
                low,
                missing = low - next,
                "records were deleted from the log before they became raw events; going on with what it has"
            );
            low
        }
        Some(next) => {
            tracing::error!(partition, next, low, high, "the log is another one than it was; reading it as a new one");
            young.max(low)
        }
        None => {
            tracing::info!(partition, low, start = young.max(low), "not read before: starting at what is kept");
            young.max(low)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_where_it_ended_and_never_before_what_is_kept() {
        let start = |committed, low, high, young| {
            start(&Known { partition: 0, committed, range: (low, high), asked_ms: 0, young })
        };
        assert_eq!(start(Some(7), 5, 9, 5), 7);
        assert_eq!(start(Some(9), 5, 9, 5), 9);
        // Deleted, another log, not read before, nothing young enough.
        assert_eq!(start(Some(3), 5, 9, 8), 5);
        assert_eq!(start(Some(30), 5, 9, 8), 8);
        assert_eq!(start(None, 5, 9, 8), 8);
        assert_eq!(start(None, 5, 9, 0), 5);
        assert_eq!(start(None, 5, 9, 9), 9);
    }
}
