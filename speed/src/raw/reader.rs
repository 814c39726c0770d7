//! The loop, on a thread of its own: records into the block that is being filled, full blocks to the writer, offsets to
//! the group once the writer says that they are in ClickHouse. With every block, and from time to time without one, the
//! writer is told how far each partition is.

mod partitions;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::CommitMode;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use self::partitions::Owned;
use super::block::{Filling, Span};
use super::columns::Place;
use super::tuning::Tuning;
use super::writer::Batch;
use super::{Error, Summary};
use crate::member::{Broken, Member, Read};

/// The longest wait for a record, so that acknowledgements and the end are noticed soon.
const POLL_MAX: Duration = Duration::from_millis(25);
/// The most records read between two looks at everything else.
const READ_MAX: usize = 4096;
/// With two blocks full, reading simply waits so long; after it, partitions are paused, so that the group can be
/// answered. Not at once: a pause throws away what the client has read ahead.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is told how far partitions are in which nothing happens, so that readers can tell quiet from stuck.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
/// How long the end may take to bring the last block into ClickHouse.
const DRAIN_MAX: Duration = Duration::from_secs(6);

/// Everything that the loop works with.
pub(super) struct Reader {
    pub(super) group: Member,
    pub(super) topic: String,
    pub(super) tuning: Tuning,
    pub(super) filling: Filling,
    pub(super) batches: Sender<Batch>,
    pub(super) acknowledged: Receiver<()>,
    pub(super) runtime: Handle,
    pub(super) shutdown: CancellationToken,
    /// Ends when every partition has been read to its end.
    pub(super) to_end: bool,
    pub(super) progress: Progress,
}

/// What the loop has done so far.
#[derive(Default)]
pub(super) struct Progress {
    owned: BTreeMap<i32, Owned>,
    /// The records and rows of the block that the writer has.
    under_way: Option<(BTreeMap<i32, Span>, u64)>,
    full_since: Option<Instant>,
    paused: bool,
    /// When the writer was last told how far partitions are.
    told_at: Option<Instant>,
    began: Option<Instant>,
    summary: Summary,
}

impl Reader {
    /// Works until shutdown or the end, then brings what was read into ClickHouse and leaves the group.
    pub(super) fn run(mut self) -> Result<Summary, Error> {
        let result = self.work();
        if result.is_ok() {
            self.drain(Instant::now() + DRAIN_MAX)?;
        }
        let noted: Vec<(i32, i64)> = self
            .progress
            .owned
            .iter()
            .filter_map(|(partition, owned)| Some((*partition, owned.acknowledged?)))
            .collect();
        self.group.leave(noted);
        result.map(|()| self.progress.summary)
    }

    fn work(&mut self) -> Result<(), Error> {
        while !self.shutdown.is_cancelled() {
            self.answer_rebalances()?;
            self.note_ends();
            self.take_acknowledgement()?;
            self.hand_over_if_due()?;
            if self.to_end && self.at_end() {
                return self.drain(Instant::now() + Duration::from_secs(600));
            }
            if self.filling.is_full() {
                self.wait_for_room()?;
            } else {
                self.read()?;
            }
        }
        Ok(())
    }

    /// Reads some records: until the block is full, or nothing came for a while.
    fn read(&mut self) -> Result<(), Error> {
        for _ in 0..READ_MAX {
            if self.filling.is_full() || !self.read_one(POLL_MAX)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether a record came.
    fn read_one(&mut self, wait: Duration) -> Result<bool, Error> {
        let message = match self.group.poll(wait) {
            Ok(Read::Record(message)) => message,
            Ok(Read::Nothing) => return Ok(false),
            Ok(Read::End(partition)) => {
                if let Some(owned) = self.progress.owned.get_mut(&partition) {
                    owned.at_end = true;
                }
                return Ok(true);
            }
            Err(Broken::Fatal(problem)) => return Err(Error::Log(problem)),
            Err(Broken::OutOfRange) => return Err(Error::OutOfRange { topic: self.topic.clone() }),
        };
        let (partition, offset) = (message.partition(), message.offset());
        let Some(owned) = self.progress.owned.get_mut(&partition) else { return Ok(true) };
        if offset < owned.next {
            tracing::warn!(partition, offset, "the log gave a record again; it is passed over");
            return Ok(true);
        }
        owned.next = offset + 1;
        let log_time_ms = message.timestamp().to_millis().unwrap_or(0);
        owned.log_time_ms = owned.log_time_ms.max(log_time_ms);
        let place = Place { topic: &self.topic, partition, offset, log_time_ms };
        self.filling.push(place, message.payload().unwrap_or_default());
        self.progress.summary.records += 1;
        self.progress.began.get_or_insert_with(Instant::now);
        Ok(true)
    }

    /// Takes notice of where partitions end. Of paused ones nothing is asked, so nothing is known.
    fn note_ends(&mut self) {
        let ends = self.group.take_ends().filter(|_| !self.progress.paused);
        for end in ends.into_iter().flatten() {
            if let Some(owned) = self.progress.owned.get_mut(&end.partition) {
                owned.caught_up.note_end(&end, owned.next);
            }
        }
    }

    /// Gives the block to the writer, if it is full or old enough and the writer has none; or tells it that there is none.
    fn hand_over_if_due(&mut self) -> Result<(), Error> {
        let is_due = match self.filling.first_at() {
            Some(first) => first.elapsed() >= self.tuning.interval || self.filling.is_full(),
            None => self.progress.told_at.is_none_or(|told| told.elapsed() >= TELL_INTERVAL),
        };
        if is_due { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        let has_nothing = self.filling.first_at().is_none() && self.progress.owned.is_empty();
        if has_nothing || self.progress.under_way.is_some() {
            return Ok(());
        }
        let (block, spans) = self.filling.take(&self.topic).unzip();
        if self.progress.full_since.take().is_some() && std::mem::take(&mut self.progress.paused) {
            tracing::info!("reading raw events goes on");
            self.group.resume(&self.partitions()).map_err(Error::log)?;
        }
        let rows = block.as_ref().map_or(0, |block| block.rows);
        self.progress.under_way = Some((spans.unwrap_or_default(), rows));
        self.progress.told_at = Some(Instant::now());
        let reached = self.progress.owned.iter_mut().map(|(partition, owned)| owned.reached(*partition)).collect();
        self.batches.try_send(Batch { block, reached }).map_err(|_| Error::Stopped)
    }

    /// Both blocks are full: waits for the writer, and stays in the group meanwhile.
    fn wait_for_room(&mut self) -> Result<(), Error> {
        let since = *self.progress.full_since.get_or_insert_with(Instant::now);
        if !self.progress.paused && since.elapsed() >= PATIENCE {
            tracing::warn!("reading raw events pauses until ClickHouse has taken a block");
            self.group.pause(&self.partitions()).map_err(Error::log)?;
            self.progress.paused = true;
        }
        if self.progress.paused {
            self.read_one(POLL_MAX)?;
        }
        self.wait_for_acknowledgement(POLL_MAX)
    }

    fn take_acknowledgement(&mut self) -> Result<(), Error> {
        self.wait_for_acknowledgement(Duration::ZERO)
    }

    fn wait_for_acknowledgement(&mut self, wait: Duration) -> Result<(), Error> {
        if self.progress.under_way.is_none() {
            return Ok(());
        }
        match self.acknowledged.recv_timeout(wait) {
            Ok(()) => self.note_acknowledgement(),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Stopped),
        }
    }

    /// The block under way is in ClickHouse: only now may a successor begin behind it.
    fn note_acknowledgement(&mut self) -> Result<(), Error> {
        let Some((spans, rows)) = self.progress.under_way.take() else { return Ok(()) };
        let mut offsets = Vec::with_capacity(spans.len());
        for (partition, span) in spans {
            // Partitions that were given back meanwhile are their new owner's.
            if let Some(owned) = self.progress.owned.get_mut(&partition) {
                owned.acknowledged = Some(span.next);
                offsets.push((partition, span.next));
            }
        }
        if !offsets.is_empty() {
            // If it does not arrive, a successor reads more again than it would have to.
            if let Err(error) = self.group.commit(&offsets, CommitMode::Async) {
                tracing::warn!(?offsets, %error, "what is in ClickHouse could not be noted; a restart reads it again");
            }
        }
        let summary = &mut self.progress.summary;
        summary.rows += rows;
        summary.blocks += u64::from(rows > 0);
        if rows > 0 {
            summary.took = self.progress.began.map_or(Duration::ZERO, |began| began.elapsed());
            tracing::debug!(rows, ?offsets, "raw events are in ClickHouse");
        }
        Ok(())
    }

    /// Brings everything that was read into ClickHouse, if it takes it in time; otherwise it will be read again.
    fn drain(&mut self, deadline: Instant) -> Result<(), Error> {
        loop {
            let is_told = self.progress.owned.values().all(|owned| owned.told == Some(owned.next));
            if self.progress.under_way.is_none() && self.filling.first_at().is_none() && is_told {
                return Ok(());
            }
            self.hand_over()?;
            if Instant::now() >= deadline {
                tracing::warn!("ClickHouse did not take the last raw events in time; they will be read again");
                return Ok(());
            }
            self.wait_for_acknowledgement(POLL_MAX)?;
        }
    }

    fn at_end(&self) -> bool {
        !self.progress.owned.is_empty() && self.progress.owned.values().all(Owned::is_at_end)
    }
}
