//! From the states to the sinks and back: batches out, acknowledgements in, snapshots when both agree.

use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;

use super::Driver;
use crate::worker::Error;
use crate::worker::sinks::Report;
use crate::worker::telemetry;
use crate::worker::windows::Sink;

/// What was counted for in the finest grain changes a cell of every grain at the next fold.
const GRAINS: usize = Grain::ALL.len();

impl Driver {
    /// Takes what the sinks and the snapshots have to say, without waiting for it.
    pub(super) fn take_reports(&mut self) -> Result<(), Error> {
        loop {
            match self.outlets.reports.try_recv() {
                Ok(report) => self.take_report(report),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Error::Stopped),
            }
        }
    }

    /// Waits for a sink or the snapshots to say something.
    pub(super) fn await_report(&mut self, at_most: Duration) -> Result<(), Error> {
        match self.outlets.reports.recv_timeout(at_most) {
            Ok(report) => self.take_report(report),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Stopped),
        }
        Ok(())
    }

    /// Hands each sink that is free and due what it does not have yet.
    pub(super) fn flush_due(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        for sink in Sink::ALL {
            if self.outlets.of(sink).is_gone() {
                return Err(Error::Stopped);
            }
            if self.outlets.of(sink).is_due(now, self.pace) {
                self.flush(sink, self.tuning.snapshot_interval)?;
            }
        }
        Ok(())
    }

    /// Hands captured states to the object store, as soon as both sinks have everything below them.
    pub(super) fn save_captures(&mut self) -> Result<(), Error> {
        for owned in self.owned.values_mut() {
            // A full channel only means that the state waits for its turn.
            let Ok(place) = self.outlets.captures.try_reserve() else { return Ok(()) };
            if let Some(capture) = owned.take_safe_capture() {
                place.send(capture);
            }
        }
        Ok(())
    }

    /// Brings everything that was read of these partitions into the sinks and into snapshots, or as much of it as can
    /// be done in time; the rest is read again by whoever comes next.
    pub(super) fn drain(&mut self, partitions: &[i32], deadline: Instant) -> Result<(), Error> {
        loop {
            self.take_reports()?;
            for sink in Sink::ALL {
                if self.outlets.of(sink).is_free() {
                    self.flush(sink, Duration::ZERO)?;
                }
            }
            self.save_captures()?;
            let open = partitions
                .iter()
                .filter(|partition| self.owned.get(*partition).is_some_and(|owned| !owned.is_settled()));
            let open: Vec<i32> = open.copied().collect();
            if open.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                tracing::warn!(?open, "partitions are left before the stores have everything; it will be read again");
                return Ok(());
            }
            self.await_report(Duration::from_millis(20))?;
        }
    }

    /// How much waits for the stores, 1 for as much as is allowed.
    pub(super) fn load(&self) -> f64 {
        let ratio = |part: usize, limit: usize| part as f64 / limit.max(1) as f64;
        let states = || self.owned.values().map(|owned| &owned.state);
        let pending: usize = states().map(|state| state.pending_len() * GRAINS).sum();
        let cells = Sink::ALL.into_iter().map(|sink| states().map(|state| state.dirty_len(sink)).sum::<usize>());
        let exceptions = states().map(|state| state.exceptions_len()).sum();
        ratio(pending + cells.max().unwrap_or(0), self.tuning.dirty_cells_max)
            .max(ratio(exceptions, self.tuning.exceptions_max))
    }

    fn flush(&mut self, sink: Sink, snapshot_interval: Duration) -> Result<(), Error> {
        let now = Instant::now();
        let wall_time = EventTime::from_timestamp(jiff::Timestamp::now());
        let mut batch = Vec::new();
        for (partition, owned) in &mut self.owned {
            owned.state.fold(&self.plan).map_err(|_| Error::SumOverflow {
                topic: self.topic.clone(),
                partition: *partition,
                offset: owned.state.next_offset(),
            })?;
            owned.state.set_wall_time(wall_time);
            batch.extend(owned.take_part(sink, now));
            if sink == Sink::ClickHouse {
                owned.capture(snapshot_interval);
            }
        }
        self.outlets.of(sink).send(batch, now).map_err(|_| Error::Stopped)
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Flushed { sink, parts } => {
                telemetry::report_flush(sink, self.outlets.of(sink).answered());
                for part in parts {
                    // An answer to an earlier claim says nothing about the present one.
                    let owned = self.owned.get_mut(&part.partition).filter(|owned| owned.claim == part.claim);
                    let Some(owned) = owned else { continue };
                    if owned.take_outcome(sink, part.outcome) {
                        tracing::warn!(partition = part.partition, ?sink, "store lost what it had; rebuilding it");
                        self.outlets.of(sink).hurry();
                    }
                    owned.state.evict(&self.plan);
                }
            }
            Report::Saved { partition, claim, next_offset, stored } => {
                let owned = self.owned.get_mut(&partition).filter(|owned| owned.claim == claim);
                if let Some(owned) = owned {
                    owned.saved(next_offset, stored);
                    if stored {
                        self.note(partition, next_offset);
                    }
                }
            }
        }
    }

    /// Tells the group how far a partition's snapshot is. For people who watch the lag; nobody starts from it.
    fn note(&self, partition: i32, next_offset: i64) {
        if let Err(error) = self.source.commit(&[(partition, next_offset)], CommitMode::Async) {
            tracing::debug!(partition, next_offset, %error, "offset was not committed");
        }
    }
}
