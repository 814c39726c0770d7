//! Many small records, kept apart by a hash, so that each part fits into the processor's cache when its turn comes.
//!
//! Records are numbers of fixed width. They are collected by several threads, each with a [`Collector`] of its own, and
//! taken out part by part, by any thread. What does not fit into the [`Budget`] of all collectors together waits in a
//! file without a name, which is gone when the process is, however it ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Into how many parts records are divided, by the highest bits of their hash.
pub(crate) const PARTS: usize = 256;
/// Records of a block: large enough to be read back in one go, small enough that 256 started ones are no burden.
const BLOCK_RECORDS: usize = 512;

/// How much memory the blocks of some collectors may take together.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    bytes: AtomicUsize,
    spilled: AtomicUsize,
}

impl Budget {
    /// So many bytes. Blocks that are being filled are not counted; they are at most `PARTS` for each collector.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, bytes: AtomicUsize::new(0), spilled: AtomicUsize::new(0) })
    }

    /// How many bytes had to go to disk so far.
    pub(crate) fn spilled_bytes(&self) -> usize {
        self.spilled.load(Ordering::Relaxed)
    }

    /// Takes the bytes; false if they are more than what is left.
    fn take(&self, bytes: usize) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        before + bytes <= self.bytes_max
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A block in memory, counted in a budget as long as it is there.
#[derive(Debug)]
struct Block<const W: usize> {
    records: Vec<[u64; W]>,
    budget: Arc<Budget>,
}

impl<const W: usize> Block<W> {
    const BYTES: usize = BLOCK_RECORDS * W * size_of::<u64>();
}

impl<const W: usize> Drop for Block<W> {
    fn drop(&mut self) {
        self.budget.give_back(Self::BYTES);
    }
}

/// The records of one part.
#[derive(Debug)]
struct Part<const W: usize> {
    filling: Vec<[u64; W]>,
    full: Vec<Block<W>>,
    /// Where blocks of `BLOCK_RECORDS` records begin in the collector's file.
    spilled: Vec<u64>,
}

impl<const W: usize> Default for Part<W> {
    fn default() -> Self {
        Self { filling: Vec::new(), full: Vec::new(), spilled: Vec::new() }
    }
}

/// Collects records of `W` words.
#[derive(Debug)]
pub(crate) struct Collector<const W: usize> {
    parts: Vec<Part<W>>,
    budget: Arc<Budget>,
    file: Option<Spill>,
}

#[derive(Debug)]
struct Spill {
    file: File,
    end: u64,
}

impl<const W: usize> Collector<W> {
    /// Nothing collected yet.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self { parts: (0..PARTS).map(|_| Part::default()).collect(), budget: Arc::clone(budget), file: None }
    }

    /// Takes a record into the part that the highest bits of `hash` name.
    ///
    /// # Errors
    /// If memory is short and the disk does not take it.
    #[inline]
    pub(crate) fn push(&mut self, hash: u64, record: [u64; W]) -> io::Result<()> {
        let part = &mut self.parts[part_of(hash)];
        part.filling.push(record);
        if part.filling.len() < BLOCK_RECORDS { Ok(()) } else { self.put_away(part_of(hash)) }
    }

    /// Begins a new block in a part.
    fn put_away(&mut self, part: usize) -> io::Result<()> {
        let part = &mut self.parts[part];
        // Where one block was filled another one will be.
        let records = std::mem::replace(&mut part.filling, Vec::with_capacity(BLOCK_RECORDS));
        let fits = self.budget.take(Block::<W>::BYTES);
        part.full.push(Block { records, budget: Arc::clone(&self.budget) });
        if fits { Ok(()) } else { self.spill() }
    }

    /// Brings every full block to disk.
    fn spill(&mut self) -> io::Result<()> {
        let spill = match &mut self.file {
            Some(spill) => spill,
            None => self.file.insert(Spill { file: tempfile::tempfile()?, end: 0 }),
        };
        let mut bytes = Vec::with_capacity(Block::<W>::BYTES);
        for part in &mut self.parts {
            for block in part.full.drain(..) {
                bytes.clear();
                bytes.extend(block.records.iter().flatten().flat_map(|word| word.to_le_bytes()));
                spill.file.write_all(&bytes)?;
                part.spilled.push(spill.end);
                spill.end += bytes.len() as u64;
                self.budget.spilled.fetch_add(bytes.len(), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Nothing more comes: the parts, to be read one by one.
    pub(crate) fn finish(self) -> Vec<Collected<W>> {
        let file = self.file.map(|spill| Arc::new(spill.file));
        self.parts.into_iter().map(|part| Collected { part, file: file.clone() }).collect()
    }
}

/// The part that a hash belongs to.
#[expect(clippy::cast_possible_truncation, reason = "eight bits")]
const fn part_of(hash: u64) -> usize {
    (hash >> (u64::BITS - PARTS.ilog2())) as usize
}

/// One part of what a collector has collected.
#[derive(Debug)]
pub(crate) struct Collected<const W: usize> {
    part: Part<W>,
    file: Option<Arc<File>>,
}

impl<const W: usize> Collected<W> {
    /// Hands over every record, in no order.
    ///
    /// # Errors
    /// If what went to disk cannot be read.
    pub(crate) fn take(self, mut receive: impl FnMut([u64; W])) -> io::Result<()> {
        let Part { filling, full, spilled } = self.part;
        let mut bytes = vec![0; if spilled.is_empty() { 0 } else { Block::<W>::BYTES }];
        for start in spilled {
            let file = self.file.as_ref().expect("blocks were spilled into it");
            file.read_exact_at(&mut bytes, start)?;
            for record in bytes.chunks_exact(W * size_of::<u64>()) {
                let word = |index: usize| record[index * 8..index * 8 + 8].try_into().expect("8 bytes");
                receive(std::array::from_fn(|index| u64::from_le_bytes(word(index))));
            }
        }
        for block in full {
            block.records.iter().for_each(|record| receive(*record));
        }
        filling.into_iter().for_each(receive);
        Ok(())
    }
}

/// Gives every item to one of `threads` threads, each of which has a state of its own that it begins with, and returns
/// the states.
///
/// # Errors
/// The first one that `work` returns.
pub(crate) fn on_threads<T: Send, S: Send, E: Send>(
    threads: usize,
    items: Vec<T>,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Result<(), E> + Sync,
) -> Result<Vec<S>, E> {
    let items = std::sync::Mutex::new(items.into_iter());
    let next = || items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        let run = || {
            let mut state = begin();
            while let Some(item) = next() {
                work(&mut state, item)?;
            }
            Ok(state)
        };
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("the work does not panic")).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<[u64; 3]> {
        let mix = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..600_000).map(|number| [mix(number), number, !number]).collect()
    }

    #[test]
    fn what_comes_out_is_what_went_in_with_and_without_a_disk() {
        for bytes_max in [usize::MAX, 1_000_000, 0] {
            let budget = Budget::new(bytes_max);
            let mut collectors = [Collector::new(&budget), Collector::new(&budget)];
            for (index, record) in records().into_iter().enumerate() {
                collectors[index % 2].push(record[0], record).expect("there is a disk");
            }
            assert_eq!(budget.spilled_bytes() > 0, bytes_max != usize::MAX);
            let mut found = Vec::new();
            for collector in collectors {
                for (index, part) in collector.finish().into_iter().enumerate() {
                    part.take(|record| {
                        assert_eq!(part_of(record[0]), index);
                        found.push(record);
                    })
                    .expect("readable");
                }
            }
            assert_eq!(budget.bytes.load(Ordering::Relaxed), 0, "everything was given back");
            let mut expected = records();
            expected.sort_unstable();
            found.sort_unstable();
            assert!(found == expected, "{} records, {bytes_max}", found.len());
        }
    }

    #[test]
    fn threads_share_the_work_and_one_failure_fails_all() {
        let items: Vec<u64> = (0..1000).collect();
        let add = |sum: &mut u64, item: u64| {
            *sum += item;
            if item == 1000 { Err(item) } else { Ok(()) }
        };
        let sums = on_threads(2, items.clone(), || 0, add).expect("no failure");
        assert_eq!((sums.len(), sums.iter().sum::<u64>()), (2, 499_500));
        assert_eq!(on_threads(2, [items, vec![1000]].concat(), || 0, add), Err(1000));
    }
}
