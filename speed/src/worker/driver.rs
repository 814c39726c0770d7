//! The loop of the worker, on a thread of its own: read records, hand them to the lanes that count them, answer what the
//! group decides. It never waits for a store; while a lane has too much that waits for one, it stops reading.

mod catalog;
mod lanes;
mod partitions;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use reckon_schemas::catalog::Catalog;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::lanes::{LaneHandle, Lanes};
pub(crate) use self::report::Watch;
use super::Error;
use super::sinks::History;
use super::snapshots::Snapshots;
use super::telemetry;
use super::tuning::Tuning;
use super::windows::Record;
use crate::member::{Broken, Member, Read};

/// The longest wait for a record, so that what lanes say and the end are noticed soon.
const POLL_MAX: Duration = Duration::from_millis(25);
/// The longest wait for a lane that has enough, before looking how much waits for the stores.
const FULL_MAX: Duration = Duration::from_millis(5);
/// The most records read between two looks at everything else.
const READ_MAX: usize = 1000;
/// How long the log's client is not asked before its partitions are paused: a stuck store, not a slow one.
const PAUSE_AFTER: Duration = Duration::from_secs(3);
/// How long the end may take to bring everything into the stores.
const DRAIN_MAX: Duration = Duration::from_secs(6);

/// Everything that the loop works with.
pub(crate) struct Driver {
    pub(crate) source: Member,
    pub(crate) topic: String,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) tuning: Tuning,
    pub(crate) snapshots: Snapshots,
    pub(crate) history: History,
    pub(crate) lanes: Lanes,
    pub(crate) runtime: Handle,
    pub(crate) shutdown: CancellationToken,
    /// The partitions that this worker has, and the next offset to be read of each.
    pub(crate) reading: BTreeMap<i32, i64>,
    pub(crate) claims: u64,
    /// Since when too much waits for a store.
    pub(crate) full_since: Option<Instant>,
    pub(crate) paused: bool,
    pub(crate) watch: Watch,
}

impl Driver {
    /// Works until shutdown, then brings everything that was read into the stores and leaves the group.
    ///
    /// # Errors
    /// What makes going on impossible or wrong.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let result = self.work();
        if result.is_ok() {
            self.lanes.release(&self.partitions(), Some(Instant::now() + DRAIN_MAX))?;
            self.hear()?;
        }
        self.source.leave(Vec::new());
        result
    }

    fn work(&mut self) -> Result<(), Error> {
        while !self.shutdown.is_cancelled() {
            self.answer_rebalances()?;
            self.follow_catalog()?;
            self.read()?;
            self.hear()?;
            self.note_ends()?;
            self.regulate()?;
            self.report();
        }
        Ok(())
    }

    /// Reads some records, as many as are there, or waits a little for the first one. Reads none while a lane has
    /// enough: waits for what the lanes have to say instead.
    fn read(&mut self) -> Result<(), Error> {
        if (self.full_since.is_some() && !self.paused) || !self.lanes.have_room() {
            self.lanes.listen(FULL_MAX);
            return Ok(());
        }
        for count in 0..READ_MAX {
            let message = match self.source.poll(if count == 0 { POLL_MAX } else { Duration::ZERO }) {
                Ok(Read::Record(message)) => message,
                Ok(Read::Nothing | Read::End(_)) => break,
                Err(broken) => return Err(self.explain(broken)),
            };
            let (partition, offset) = (message.partition(), message.offset());
            let Some(next_offset) = self.reading.get_mut(&partition) else { continue };
            if offset < *next_offset {
                tracing::warn!(partition, offset, "the log gave a record again; it is passed over");
                continue;
            }
            *next_offset = offset + 1;
            let record = Record {
                offset,
                // Only records of the oldest formats have no time; they are taken for future ones.
                log_time_ms: message.timestamp().to_millis().unwrap_or(0),
                payload: message.payload().unwrap_or_default(),
            };
            if self.lanes.push(partition, &record)? {
                break;
            }
        }
        self.lanes.hand_over()
    }

    /// Tells the lanes where the log ends, behind everything that was read until then.
    fn note_ends(&mut self) -> Result<(), Error> {
        let Some(ends) = self.source.take_ends() else { return Ok(()) };
        for end in &ends {
            if let Some(next_offset) = self.reading.get(&end.partition) {
                telemetry::report_lag(end.partition, (end.readable - next_offset).max(0));
            }
        }
        self.lanes.note_ends(&ends.into())
    }

    /// Takes what the lanes have said, without waiting for it.
    fn hear(&mut self) -> Result<(), Error> {
        for (partition, next_offset) in self.lanes.take_saved()? {
            self.note(partition, next_offset);
        }
        Ok(())
    }

    /// Stops reading while too much waits for a store, and goes on when that has become less. For a while it just does
    /// not ask the log's client: pausing would throw away what that has read ahead. Later it pauses, and asks, so that
    /// the group does not take this worker for stuck.
    fn regulate(&mut self) -> Result<(), Error> {
        let load = self.lanes.load();
        match self.full_since {
            None if load >= 1.0 => self.full_since = Some(Instant::now()),
            Some(since) if !self.paused && load > 0.5 && since.elapsed() >= PAUSE_AFTER => {
                tracing::warn!("reading pauses until the stores have taken what waits");
                self.paused = true;
                self.source.pause(&self.partitions()).map_err(Error::log)?;
            }
            Some(_) if load <= 0.5 => {
                self.full_since = None;
                if std::mem::take(&mut self.paused) {
                    tracing::info!("reading goes on");
                    self.source.resume(&self.partitions()).map_err(Error::log)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn partitions(&self) -> Vec<i32> {
        self.reading.keys().copied().collect()
    }

    fn explain(&self, broken: Broken) -> Error {
        match broken {
            Broken::Fatal(problem) => Error::Log(problem),
            Broken::OutOfRange => {
                let missing = self.reading.iter().find_map(|(partition, next_offset)| {
                    let (low, high) = self.source.range(*partition).ok()?;
                    self.check_range(*partition, *next_offset, (low, high)).err()
                });
                missing.unwrap_or_else(|| Error::Log("an offset is not in the log any more".to_owned()))
            }
        }
    }
}
