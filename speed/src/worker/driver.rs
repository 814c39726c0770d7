//! The loop of the worker, on a thread of its own: read records into the partitions' states, hand what changed to the
//! sinks, note what they acknowledged. Nothing in it waits for a store; it stops reading instead.

mod catalog;
mod flushing;
mod outlets;
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

pub(crate) use self::outlets::{Outlet, Outlets};
pub(crate) use self::report::Watch;
use super::Error;
use super::owned::Owned;
use super::sinks::History;
use super::snapshots::Snapshots;
use super::tuning::Tuning;
use super::windows::{Plan, Record};
use crate::member::{Broken, Member, Read};

/// The longest wait for a record, so that acknowledgements and the end are noticed soon.
const POLL_MAX: Duration = Duration::from_millis(25);
/// The most records read between two looks at how much waits for the stores.
const READ_MAX: usize = 1000;
/// How long the log's client is not asked before its partitions are paused: a stuck store, not a slow one.
const PAUSE_AFTER: Duration = Duration::from_secs(3);
/// A worker that catches up flushes less often: every cell is then written fewer times on the way.
const CATCH_UP_PACE: u32 = 8;
const BEHIND_MS: i64 = 10_000;
/// With so much of what may wait, it flushes as soon as the stores are free.
const HURRY_AT: f64 = 0.8;
/// How long the end may take to bring everything into the stores.
const DRAIN_MAX: Duration = Duration::from_secs(6);

/// Everything that the loop works with.
pub(crate) struct Driver {
    pub(crate) source: Member,
    pub(crate) topic: String,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) tuning: Tuning,
    pub(crate) snapshots: Snapshots,
    pub(crate) history: History,
    pub(crate) outlets: Outlets,
    pub(crate) runtime: Handle,
    pub(crate) shutdown: CancellationToken,
    pub(crate) owned: BTreeMap<i32, Owned>,
    pub(crate) claims: u64,
    /// How many intervals lie between two flushes.
    pub(crate) pace: u32,
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
            let partitions: Vec<i32> = self.owned.keys().copied().collect();
            self.drain(&partitions, Instant::now() + DRAIN_MAX)?;
        }
        self.source.leave(Vec::new());
        result
    }

    fn work(&mut self) -> Result<(), Error> {
        while !self.shutdown.is_cancelled() {
            self.answer_rebalances()?;
            self.follow_catalog()?;
            self.read()?;
            self.take_reports()?;
            self.flush_due()?;
            self.save_captures()?;
            self.regulate()?;
            self.report();
        }
        Ok(())
    }

    /// Reads some records: as many as are there, or the first one that comes before the next flush is due. Reads none
    /// while too much waits for a store: looks what the stores have to say instead.
    fn read(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let until = self.outlets.next_due(now, self.pace).min(now + POLL_MAX);
        if self.full_since.is_some() && !self.paused {
            return self.await_report(until.saturating_duration_since(now));
        }
        for count in 0..READ_MAX {
            let wait = if count == 0 { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let message = match self.source.poll(wait) {
                Ok(Read::Record(message)) => message,
                Ok(Read::Nothing | Read::End(_)) => return Ok(()),
                Err(broken) => return Err(self.explain(broken)),
            };
            let (partition, offset) = (message.partition(), message.offset());
            let Some(owned) = self.owned.get_mut(&partition) else { continue };
            if offset < owned.state.next_offset() {
                tracing::warn!(partition, offset, "the log gave a record again; it is passed over");
                continue;
            }
            let record = Record {
                offset,
                // Only records of the oldest formats have no time; they are taken for future ones.
                log_time_ms: message.timestamp().to_millis().unwrap_or(0),
                payload: message.payload().unwrap_or_default(),
            };
            owned.state.apply(&self.plan, &record).map_err(|_| Error::SumOverflow {
                topic: self.topic.clone(),
                partition,
                offset,
            })?;
        }
        Ok(())
    }

    /// Stops reading while too much waits for a store, and goes on when that has become less. For a while it just does
    /// not ask the log's client: pausing would throw away what that has read ahead. Later it pauses, and asks, so that
    /// the group does not take this worker for stuck.
    fn regulate(&mut self) -> Result<(), Error> {
        let load = self.load();
        self.pace = if load < HURRY_AT && self.is_behind() { CATCH_UP_PACE } else { 1 };
        match self.full_since {
            None if load >= 1.0 => self.full_since = Some(Instant::now()),
            Some(since) if !self.paused && load > 0.5 && since.elapsed() >= PAUSE_AFTER => {
                tracing::warn!("reading pauses until the stores have taken what waits");
                self.paused = true;
                let partitions: Vec<i32> = self.owned.keys().copied().collect();
                self.source.pause(&partitions).map_err(|error| Error::Log(error.to_string()))?;
            }
            Some(_) if load <= 0.5 => {
                self.full_since = None;
                if std::mem::take(&mut self.paused) {
                    tracing::info!("reading goes on");
                    let partitions: Vec<i32> = self.owned.keys().copied().collect();
                    self.source.resume(&partitions).map_err(|error| Error::Log(error.to_string()))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the newest record that was read is so old that nobody waits for it to be visible within the second.
    fn is_behind(&self) -> bool {
        let newest_ms = self.owned.values().map(|owned| owned.state.log_time_ms()).max();
        let age_ms = newest_ms.map_or(0, |newest_ms| jiff::Timestamp::now().as_millisecond() - newest_ms);
        age_ms > BEHIND_MS
    }

    fn explain(&self, broken: Broken) -> Error {
        match broken {
            Broken::Fatal(problem) => Error::Log(problem),
            Broken::OutOfRange => {
                let missing = self.owned.iter().find_map(|(partition, owned)| {
                    let (low, high) = self.source.range(*partition).ok()?;
                    self.check_range(*partition, owned.state.next_offset(), (low, high)).err()
                });
                missing.unwrap_or_else(|| Error::Log("an offset is not in the log any more".to_owned()))
            }
        }
    }
}
