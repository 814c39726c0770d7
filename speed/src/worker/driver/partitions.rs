//! Partitions come and go as the group decides.

use std::fmt::Display;
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;
use rdkafka::error::KafkaError;

use super::Driver;
use crate::member::{End, Rebalance};
use crate::patience::ask_patiently;
use crate::worker::Error;
use crate::worker::windows::PartitionState;

/// How long a partition that is handed over may take to come into the stores.
const HANDOVER_MAX: Duration = Duration::from_secs(10);

impl Driver {
    /// Does what the group decided.
    pub(super) fn answer_rebalances(&mut self) -> Result<(), Error> {
        while let Some(decision) = self.source.next_rebalance() {
            match decision {
                Rebalance::Assigned(partitions) => self.claim(&partitions)?,
                Rebalance::Revoked { partitions, lost } => self.release(&partitions, lost)?,
            }
        }
        Ok(())
    }

    /// Whether the log has the record at an offset, or will have it next.
    pub(super) fn check_range(&self, partition: i32, offset: i64, (low, high): (i64, i64)) -> Result<(), Error> {
        if (low..=high).contains(&offset) {
            return Ok(());
        }
        Err(Error::OutOfRange { topic: self.topic.clone(), partition, offset, low, high })
    }

    fn claim(&mut self, partitions: &[i32]) -> Result<(), Error> {
        let states = self.restore_all(partitions);
        // Every decision is answered, also where the answer is that nothing will be read.
        let states = match states {
            Ok(Some(states)) => states,
            unusable => {
                self.source.assign(&[]).map_err(Error::log)?;
                return unusable.map(|_| ());
            }
        };
        let offsets: Vec<(i32, i64)> = states.iter().map(|(end, state)| (end.partition, state.next_offset())).collect();
        for (end, state) in states {
            self.claims += 1;
            self.reading.insert(end.partition, state.next_offset());
            self.lanes.claim(end, self.claims, state)?;
        }
        tracing::info!(?offsets, "partitions assigned");
        self.source.assign(&offsets).map_err(Error::log)?;
        if self.paused { self.source.pause(partitions).map_err(Error::log) } else { Ok(()) }
    }

    /// Hands partitions over, flushed, unless they are lost: then somebody else may have them already.
    fn release(&mut self, partitions: &[i32], lost: bool) -> Result<(), Error> {
        if lost {
            tracing::warn!(?partitions, "partitions lost; what was not flushed is left to their new owner");
        }
        let drained = self.lanes.release(partitions, (!lost).then(|| Instant::now() + HANDOVER_MAX));
        let drained = drained.and_then(|()| self.hear());
        for partition in partitions {
            self.reading.remove(partition);
        }
        self.source.unassign(partitions).map_err(Error::log)?;
        tracing::info!(?partitions, "partitions given back");
        drained
    }

    /// Tells the group how far a partition's snapshot is. For people who watch the lag; nobody starts from it.
    pub(super) fn note(&self, partition: i32, next_offset: i64) {
        if let Err(error) = self.source.commit(&[(partition, next_offset)], CommitMode::Async) {
            tracing::debug!(partition, next_offset, %error, "offset was not committed");
        }
    }

    /// The newest states of partitions; `None` if the end came first.
    fn restore_all(&self, partitions: &[i32]) -> Result<Option<Vec<(End, PartitionState)>>, Error> {
        partitions.iter().map(|partition| self.restore(*partition)).collect()
    }

    /// Where a partition ends, and its newest state; `None` if the end came first.
    fn restore(&self, partition: i32) -> Result<Option<(End, PartitionState)>, Error> {
        let found = self.patiently(|| self.runtime.block_on(self.snapshots.load(partition)));
        let unreadable = |error| Error::Snapshots { partition, problem: format!("{error}") };
        let Some(found) = found.map_err(unreadable)? else { return Ok(None) };
        let range = || Ok::<_, KafkaError>((jiff::Timestamp::now().as_millisecond(), self.source.range(partition)?));
        let range = self.patiently(range);
        let Some((at_ms, (low, high))) = range.map_err(Error::log)? else { return Ok(None) };
        let end = End { partition, high, readable: high, at_ms };
        if let Some(state) = found.state {
            self.check_range(partition, state.next_offset(), (low, high))?;
            return Ok(Some((end, state)));
        }
        let counted = self.patiently(|| self.runtime.block_on(self.history.counted_up_to(&self.topic, partition)));
        let unanswered = |error| Error::History { partition, problem: format!("{error}") };
        let Some(counted) = counted.map_err(unanswered)? else { return Ok(None) };
        match counted {
            // A replay of the whole log leads to the same totals; one of its rest does not.
            Some(counted) if low > 0 => {
                return Err(Error::Forgotten { topic: self.topic.clone(), partition, counted, low });
            }
            Some(counted) => tracing::error!(
                partition,
                counted,
                damaged = found.damaged,
                "no snapshot can be used: counting the whole log again"
            ),
            None => tracing::info!(partition, low, "not counted before: counting from the beginning of the log"),
        }
        Ok(Some((end, PartitionState::starting_at(low))))
    }

    /// Repeats a question until it is answered, for a while; `None` if the end came first.
    fn patiently<T, E: Display>(&self, ask: impl Fn() -> Result<T, E>) -> Result<Option<T>, E> {
        ask_patiently(&self.runtime, &self.shutdown, ask)
    }
}
