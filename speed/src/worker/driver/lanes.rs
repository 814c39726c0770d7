//! The reader's ends of the lanes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::member::End;
use crate::worker::Error;
use crate::worker::lane::{Batch, Census, Said, Standing, Word};
use crate::worker::windows::{PartitionState, Plan, Record};

/// So many batches of a lane may be on their way to it; then reading waits until it has counted one. While a lane prepares
/// what it flushes, these are what the reader goes on with for the others. They are counted also if there is enough that
/// waits for a store.
const AHEAD_MAX: usize = 32;

/// One lane, seen from the reader.
pub(crate) struct LaneHandle {
    pub(crate) words: Sender<Word>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) thread: JoinHandle<()>,
    /// What is read for it and not handed over yet.
    pub(crate) filling: Batch,
    /// How many batches it has that it did not say anything about yet.
    pub(crate) ahead: usize,
}

/// All of them.
pub(crate) struct Lanes {
    lanes: Vec<LaneHandle>,
    said: Receiver<Said>,
    /// What was heard and is not taken yet.
    saved: Vec<(i32, i64)>,
    failed: Option<Error>,
    /// Batches that are counted, for their room.
    spare: Vec<Batch>,
}

impl Lanes {
    pub(crate) fn new(lanes: Vec<LaneHandle>, said: Receiver<Said>) -> Self {
        Self { lanes, said, saved: Vec::new(), failed: None, spare: Vec::new() }
    }

    /// The lane that counts a partition, always the same one.
    fn of(&mut self, partition: i32) -> &mut LaneHandle {
        let number = partition.unsigned_abs() as usize % self.lanes.len();
        &mut self.lanes[number]
    }

    /// Adds a record to what its lane is handed next. True if that is enough.
    pub(crate) fn push(&mut self, partition: i32, record: &Record<'_>) -> Result<bool, Error> {
        let lane = self.of(partition);
        lane.filling.push(partition, record);
        let is_full = lane.filling.is_full();
        if is_full {
            self.hand_over()?;
        }
        Ok(is_full && !self.have_room())
    }

    /// Hands every lane what was read for it.
    pub(crate) fn hand_over(&mut self) -> Result<(), Error> {
        for lane in self.lanes.iter_mut().filter(|lane| !lane.filling.is_empty()) {
            let batch = std::mem::replace(&mut lane.filling, self.spare.pop().unwrap_or_default());
            lane.ahead += 1;
            lane.words.send(Word::Records(batch)).map_err(|_| Error::Stopped)?;
        }
        Ok(())
    }

    /// Whether every lane can be handed another batch.
    pub(crate) fn have_room(&self) -> bool {
        self.lanes.iter().all(|lane| lane.ahead < AHEAD_MAX)
    }

    /// Waits for a lane to say something.
    pub(crate) fn listen(&mut self, at_most: Duration) {
        if let Ok(said) = self.said.recv_timeout(at_most) {
            self.hear(said);
        }
    }

    /// The snapshots that lanes have written since the last call: partitions and offsets.
    ///
    /// # Errors
    /// A lane cannot go on.
    pub(crate) fn take_saved(&mut self) -> Result<Vec<(i32, i64)>, Error> {
        // Asked first: whoever has ended has said why before.
        let one_ended = self.lanes.iter().any(|lane| lane.thread.is_finished());
        while let Ok(said) = self.said.try_recv() {
            self.hear(said);
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None if one_ended => Err(Error::Stopped),
            None => Ok(std::mem::take(&mut self.saved)),
        }
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Counted { lane, batch } => {
                self.lanes[lane].ahead -= 1;
                self.spare.push(batch.cleared());
            }
            Said::Saved { partition, next_offset } => self.saved.push((partition, next_offset)),
            Said::Failed(error) => self.failed = self.failed.take().or(Some(error)),
        }
    }

    /// Gives a partition to its lane.
    pub(crate) fn claim(&mut self, end: End, claim: u64, state: PartitionState) -> Result<(), Error> {
        let word = Word::Claim { end, claim, state: Box::new(state) };
        self.of(end.partition).words.send(word).map_err(|_| Error::Stopped)
    }

    /// Tells every lane where the log ends.
    pub(crate) fn note_ends(&self, ends: &Arc<[End]>) -> Result<(), Error> {
        let mut lanes = self.lanes.iter();
        lanes.try_for_each(|lane| lane.words.send(Word::Ends(Arc::clone(ends)))).map_err(|_| Error::Stopped)
    }

    /// Takes partitions from their lanes, all at the same time, and waits until that is done: at most until the time
    /// given and what a lane was about to do before.
    pub(crate) fn release(&mut self, partitions: &[i32], until: Option<Instant>) -> Result<(), Error> {
        let (done, ended) = channel();
        for lane in &self.lanes {
            let word = Word::Release { partitions: partitions.to_vec(), until, done: done.clone() };
            lane.words.send(word).map_err(|_| Error::Stopped)?;
        }
        drop(done);
        // A lane that ends without an answer shows as fewer answers.
        let answers: Vec<Result<(), Error>> = ended.iter().collect();
        let all = answers.len() == self.lanes.len();
        answers.into_iter().collect::<Result<(), Error>>()?;
        if all { Ok(()) } else { Err(Error::Stopped) }
    }

    /// From the next record on, every lane counts by this plan.
    pub(crate) fn change_plan(&mut self, plan: &Arc<Plan>) -> Result<(), Error> {
        let mut lanes = self.lanes.iter();
        lanes.try_for_each(|lane| lane.words.send(Word::Plan(Arc::clone(plan)))).map_err(|_| Error::Stopped)
    }

    /// How much waits for the stores in the lane where it is the most, 1 for as much as is allowed.
    pub(crate) fn load(&self) -> f64 {
        self.lanes.iter().map(|lane| lane.standing.load()).fold(0.0, f64::max)
    }

    /// What each lane has in its memory.
    pub(crate) fn censuses(&self) -> impl Iterator<Item = Census> {
        self.lanes.iter().map(|lane| lane.standing.census())
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // The stores' tasks have ends of the queues, too, so these would not end by themselves.
        for lane in &self.lanes {
            // One that is gone needs no word.
            let _ = lane.words.send(Word::End);
        }
    }
}
