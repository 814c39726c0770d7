//! A lane: a thread that counts some of the partitions and keeps the stores up to date with them. It never waits for a
//! store, and never refuses a record: whoever reads for it looks how much waits, and stops reading.
//!
//! What it is told comes in one queue, so that records, decisions of the group and changes of the catalog stay in their
//! order, and a partition is only ever touched by its lane.

mod batch;
mod flushing;
mod outlets;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use reckon_schemas::time::EventTime;

pub(crate) use self::batch::Batch;
pub(crate) use self::outlets::{Outlet, Outlets};
pub(crate) use self::standing::{Census, Standing};
use super::Error;
use super::owned::Owned;
use super::sinks::Report;
use super::tuning::Tuning;
use super::windows::{PartitionState, Plan};
use crate::member::End;

/// The longest wait for a word, so that the census does not get old.
const IDLE_MAX: Duration = Duration::from_millis(250);

/// How long the stores may take for what was counted by the plan before.
const CHANGE_MAX: Duration = Duration::from_secs(2);

/// What a lane is told.
pub(crate) enum Word {
    /// Count these.
    Records(Batch),
    /// A partition is this lane's from now on.
    /// The end is the partition's, as it was then.
    Claim { end: End, claim: u64, state: Box<PartitionState> },
    /// This is where partitions ended when everything was read that came before in the queue, or earlier.
    Ends(Arc<[End]>),
    /// Partitions are not this lane's any more. What was counted of them goes to the stores and into snapshots until then;
    /// without a time they are lost, and nothing of them goes anywhere. Answered when that is done.
    Release { partitions: Vec<i32>, until: Option<Instant>, done: Sender<Result<(), Error>> },
    /// Count by this plan from the next record on.
    Plan(Arc<Plan>),
    /// A store has answered.
    Report(Report),
    /// Nobody reads for this lane any more.
    End,
}

/// What a lane says.
pub(crate) enum Said {
    /// A batch is counted, and its room can be used again.
    Counted { lane: usize, batch: Batch },
    /// A snapshot is in the object store.
    Saved { partition: i32, next_offset: i64 },
    /// The lane cannot go on.
    Failed(Error),
}

/// Where the stores' tasks leave their answers: in the lane's queue.
#[derive(Clone)]
pub(crate) struct Reporter(pub(crate) Sender<Word>);

impl Reporter {
    /// False if nobody is there any more.
    pub(crate) fn tell(&self, report: Report) -> bool {
        self.0.send(Word::Report(report)).is_ok()
    }
}

/// Everything that a lane works with.
pub(crate) struct Lane {
    pub(crate) number: usize,
    pub(crate) topic: String,
    /// Its bounds are this lane's share.
    pub(crate) tuning: Tuning,
    pub(crate) plan: Arc<Plan>,
    pub(crate) words: Receiver<Word>,
    pub(crate) says: Sender<Said>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) outlets: Outlets,
    pub(crate) owned: BTreeMap<i32, Owned>,
    /// When records came last.
    pub(crate) read_at: Instant,
    /// When the census was taken last.
    pub(crate) counted_at: Instant,
}

impl Lane {
    /// Works until nobody reads for it any more, or until it cannot go on.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.work() {
            // Nobody is left to hear it only if the worker ends anyway.
            let _ = self.says.send(Said::Failed(error));
        }
    }

    fn work(&mut self) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            let until = self.outlets.next_due(now).min(now + IDLE_MAX);
            match self.words.recv_timeout(until.saturating_duration_since(now)) {
                Ok(Word::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(word) => self.take(word)?,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.flush_due()?;
            self.save_captures();
            self.stand();
        }
    }

    fn take(&mut self, word: Word) -> Result<(), Error> {
        match word {
            Word::Records(batch) => self.count(batch)?,
            Word::Claim { end, claim, mut state } => {
                state.set_wall_time(EventTime::from_timestamp(jiff::Timestamp::now()));
                state.adopt(&self.plan);
                self.owned.insert(end.partition, Owned::new(end, claim, *state));
            }
            Word::Release { partitions, until, done } => {
                let drained = until.map_or(Ok(()), |until| self.drain(&partitions, until));
                partitions.iter().for_each(|partition| drop(self.owned.remove(partition)));
                // Whoever asked may have given up waiting.
                let _ = done.send(drained);
            }
            Word::Ends(ends) => {
                for end in &*ends {
                    if let Some(owned) = self.owned.get_mut(&end.partition) {
                        owned.note_end(end);
                    }
                }
            }
            Word::Plan(plan) => self.change_plan(plan)?,
            Word::Report(report) => self.take_report(report),
            // In the middle of something else.
            Word::End => return Err(Error::Stopped),
        }
        Ok(())
    }

    fn count(&mut self, batch: Batch) -> Result<(), Error> {
        self.read_at = Instant::now();
        for (partition, record) in batch.records() {
            let Some(owned) = self.owned.get_mut(&partition) else { continue };
            owned.state.apply(&self.plan, &record).map_err(|_| Error::SumOverflow {
                topic: self.topic.clone(),
                partition,
                offset: record.offset,
            })?;
        }
        self.fold_much()?;
        // Nobody is left to read only if the worker ends.
        let _ = self.says.send(Said::Counted { lane: self.number, batch });
        Ok(())
    }

    /// Windows that are open stay: cells of rollups that are not counted any more are kept until they expire.
    ///
    /// A replay that begins below this point counts by the newer catalog, and where it does, what was already written
    /// down of the change is wrong. So everything is brought into the stores and into snapshots first, as far as that can be
    /// done soon.
    fn change_plan(&mut self, plan: Arc<Plan>) -> Result<(), Error> {
        let partitions: Vec<i32> = self.owned.keys().copied().collect();
        self.drain(&partitions, Instant::now() + CHANGE_MAX)?;
        self.fold()?;
        for owned in self.owned.values_mut() {
            owned.state.plan_changed();
            owned.state.adopt(&plan);
        }
        self.plan = plan;
        Ok(())
    }
}
