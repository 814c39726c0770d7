//! Partitions come and go as the group decides.

use std::fmt::Display;
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;
use rdkafka::error::KafkaError;

use super::Driver;
use crate::member::{End, Rebalance};
use crate::worker::Error;
use crate::worker::windows::PartitionState;

/// How long the store of snapshots or the log may be away before a claim is given up.
const CLAIM_MAX: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
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
                self.answer(self.source.assign(&[]))?;
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
        self.answer(self.source.assign(&offsets))?;
        if self.paused { self.answer(self.source.pause(partitions)) } else { Ok(()) }
    }

    fn answer(&self, answered: Result<(), impl Display>) -> Result<(), Error> {
        answered.map_err(|error| Error::Log(error.to_string()))
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
        self.answer(self.source.unassign(partitions))?;
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
        let unreadable = |problem| Error::Snapshots { partition, problem };
        let Some(found) = self.patiently(|| self.runtime.block_on(self.snapshots.load(partition)), unreadable)? else {
            return Ok(None);
        };
        let range = || Ok::<_, KafkaError>((jiff::Timestamp::now().as_millisecond(), self.source.range(partition)?));
        let Some((at_ms, (low, high))) = self.patiently(range, Error::Log)? else {
            return Ok(None);
        };
        let end = End { partition, high, readable: high, at_ms };
        if let Some(state) = found.state {
            self.check_range(partition, state.next_offset(), (low, high))?;
            return Ok(Some((end, state)));
        }
        let asked = || self.runtime.block_on(self.history.counted_up_to(&self.topic, partition));
        let Some(counted) = self.patiently(asked, |problem| Error::History { partition, problem })? else {
            return Ok(None);
        };
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
    fn patiently<T, E: Display>(
        &self,
        ask: impl Fn() -> Result<T, E>,
        give_up: impl Fn(String) -> Error,
    ) -> Result<Option<T>, Error> {
        let started = Instant::now();
        let mut warned = false;
        while !self.shutdown.is_cancelled() {
            match ask() {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) if started.elapsed() >= CLAIM_MAX => return Err(give_up(error.to_string())),
                Err(error) if !warned => {
                    tracing::warn!(%error, "cannot take a partition over yet; trying again");
                    warned = true;
                }
                Err(_) => {}
            }
            let pause = async { tokio::time::timeout(RETRY_INTERVAL, self.shutdown.cancelled()).await };
            // Either the time is over or the end has come; the loop looks which.
            let _ = self.runtime.block_on(pause);
        }
        Ok(None)
    }
}
