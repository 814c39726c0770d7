//! From the states to the sinks and back: batches out, acknowledgements in, snapshots when both agree.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;

use super::outlets::Pace;
use super::{Lane, Said};
use crate::worker::Error;
use crate::worker::owned::Owned;
use crate::worker::sinks::{Flush, Report, Row, blocks};
use crate::worker::telemetry;
use crate::worker::windows::Sink;

/// What was counted for in the finest grain changes a cell of every grain at the next fold.
const GRAINS: usize = Grain::ALL.len();
/// What is pending is only an estimate of the cells that it will change, so it is folded before it is much.
const PENDING_SHARE: f64 = 0.25;
/// A lane that catches up flushes less often: every cell is then written fewer times on the way.
const CATCH_UP_PACE: [Pace; 2] = [Pace::Slow(Duration::from_secs(4)), Pace::Slow(Duration::from_secs(8))];
/// It does so while its newest record is so old, and others follow.
const BEHIND_MS: i64 = 10_000;
const FOLLOW_MAX: Duration = Duration::from_millis(500);
/// With so much of what may wait for a store, it flushes as soon as that is free.
const HURRY_AT: f64 = 0.8;

impl Lane {
    /// Hands each sink that is free and due what it does not have yet.
    pub(super) fn flush_due(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let is_behind = self.is_behind();
        for sink in Sink::ALL {
            let pace = match is_behind {
                _ if self.waiting(sink) >= HURRY_AT => Pace::Quick,
                true => CATCH_UP_PACE[sink.index()],
                false => Pace::Usual,
            };
            let outlet = self.outlets.of(sink);
            if outlet.is_gone() {
                return Err(Error::Stopped);
            }
            outlet.set_pace(pace);
            if outlet.is_due(now) {
                self.flush(sink, self.tuning.snapshot_interval)?;
            }
        }
        Ok(())
    }

    /// Hands captured states to the object store, as soon as both sinks have everything below them.
    pub(super) fn save_captures(&mut self) {
        for owned in self.owned.values_mut() {
            // A full channel only means that the state waits for its turn.
            let Ok(place) = self.outlets.captures.try_reserve() else { return };
            if let Some(capture) = owned.take_safe_capture() {
                place.send(capture);
            }
        }
    }

    /// Brings everything that was counted of these partitions into the sinks and into snapshots, or as much of it as can
    /// be done in time; the rest is read again by whoever comes next.
    pub(super) fn drain(&mut self, partitions: &[i32], deadline: Instant) -> Result<(), Error> {
        loop {
            for sink in Sink::ALL {
                if self.outlets.of(sink).is_free() {
                    self.flush(sink, Duration::ZERO)?;
                }
            }
            self.save_captures();
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
            match self.words.recv_timeout(Duration::from_millis(20)) {
                Ok(word) => self.take(word)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Stopped),
            }
        }
    }

    /// How much waits for the stores, 1 for as much as is allowed.
    pub(super) fn load(&self) -> f64 {
        let exceptions: usize = self.owned.values().map(|owned| owned.state.exceptions_len()).sum();
        let cells = Sink::ALL.map(|sink| self.waiting(sink)).into_iter().fold(0.0, f64::max);
        cells.max(ratio(exceptions, self.tuning.exceptions_max))
    }

    /// The cells that wait for a sink, 1 for as many as are allowed.
    fn waiting(&self, sink: Sink) -> f64 {
        let dirty: usize = self.owned.values().map(|owned| owned.state.dirty_len(sink)).sum();
        ratio(dirty + self.pending() * GRAINS, self.tuning.dirty_cells_max)
    }

    fn pending(&self) -> usize {
        self.owned.values().map(|owned| owned.state.pending_len()).sum()
    }

    /// Folds what is pending, if it is much.
    pub(super) fn fold_much(&mut self) -> Result<(), Error> {
        if ratio(self.pending() * GRAINS, self.tuning.dirty_cells_max) < PENDING_SHARE { Ok(()) } else { self.fold() }
    }

    pub(super) fn fold(&mut self) -> Result<(), Error> {
        self.owned.iter_mut().try_for_each(|(partition, owned)| {
            owned.state.fold(&self.plan).map_err(|_| Error::SumOverflow {
                topic: self.topic.clone(),
                partition: *partition,
                offset: owned.state.next_offset(),
            })
        })
    }

    /// Whether the newest record that was read is so old that nobody waits for it to be visible within the second, and it
    /// was not the last one.
    fn is_behind(&self) -> bool {
        if self.read_at.elapsed() > FOLLOW_MAX {
            return false;
        }
        let newest_ms = self.owned.values().map(|owned| owned.state.log_time_ms()).max();
        let age_ms = newest_ms.map_or(0, |newest_ms| jiff::Timestamp::now().as_millisecond() - newest_ms);
        age_ms > BEHIND_MS
    }

    fn flush(&mut self, sink: Sink, snapshot_interval: Duration) -> Result<(), Error> {
        self.fold()?;
        let now = Instant::now();
        let wall_time = EventTime::from_timestamp(jiff::Timestamp::now());
        let mut parts = Vec::new();
        for owned in self.owned.values_mut() {
            owned.state.set_wall_time(wall_time);
            parts.extend(owned.take_part(sink, now));
        }
        self.capture(snapshot_interval);
        let blocks = if sink == Sink::ClickHouse { self.take_blocks() } else { Vec::new() };
        self.outlets.of(sink).send(Flush { parts, blocks }, now).map_err(|_| Error::Stopped)
    }

    /// Notes states for snapshots: those that are due, the oldest first, and of them so few that every one has its turn.
    /// Noting one takes its time, and all of them at once would hold up what is counted in between.
    fn capture(&mut self, interval: Duration) {
        let mut due: Vec<&mut Owned> = self.owned.values_mut().filter(|owned| owned.is_capture_due(interval)).collect();
        due.sort_by_key(|owned| owned.saved_at());
        let turns = interval.as_millis() / self.tuning.flush_interval.as_millis().max(1);
        let at_once = due.len().div_ceil(usize::try_from(turns).unwrap_or(usize::MAX).max(1));
        due.into_iter().take(at_once).for_each(Owned::capture);
    }

    /// The cells that ClickHouse does not have yet, of all partitions together, as it takes them.
    fn take_blocks(&mut self) -> Vec<Bytes> {
        let mut rows = Vec::new();
        for (partition, owned) in &mut self.owned {
            let version = owned.state.next_offset();
            let changed = owned.state.changed(Sink::ClickHouse);
            rows.extend(changed.into_iter().map(|cell| Row { partition: *partition, version, cell }));
        }
        telemetry::report_flushed(Sink::ClickHouse, rows.len());
        blocks(&rows)
    }

    pub(super) fn take_report(&mut self, report: Report) {
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
                        // Nobody is left to note it only if the worker ends.
                        let _ = self.says.send(Said::Saved { partition, next_offset });
                    }
                }
            }
        }
    }
}

fn ratio(part: usize, limit: usize) -> f64 {
    part as f64 / limit.max(1) as f64
}
