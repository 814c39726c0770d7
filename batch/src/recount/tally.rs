//! Counting events, one after the other: what one thread keeps of them until all are read.
//!
//! An event is counted once, in the finest window and under all of its groups together (a combination). What coarser
//! windows and single groups hold is added up at the end, from far fewer numbers than there are events. Users are
//! collected as they come, divided by their keys, and told apart at the end as well, see [`super::distinct`].

use std::sync::Arc;

use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::ids::key_halves;
use reckon_schemas::sums::{SumOverflow, Unit};
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::Grain;

use super::partitions::{Budget, Collected, Collector};
use super::timeline::{Slot, Slots};
use super::{RecountError, User};

/// A user's visit as a record: the two halves of the key, the hash, the combination and the slot.
pub(super) const VISIT_WORDS: usize = 4;

/// The groups that an event falls into, one for each rollup.
type Combination = Box<[u32]>;

/// What one thread has counted.
#[derive(Debug)]
pub(crate) struct Tally {
    combinations: HashMap<Combination, u32>,
    slots: Slots,
    /// By combination and slot: the number of its entry.
    entries: HashMap<(u32, u32), u32>,
    /// By entry.
    counts: Vec<u64>,
    units: Vec<Unit>,
    /// By unit, then by entry, as far as there are entries that have it.
    sums: Vec<Vec<Option<i128>>>,
    visits: Collector<VISIT_WORDS>,
}

/// What a thread has counted, when it has counted everything.
pub(super) struct Tallied {
    /// By number.
    pub(super) combinations: Vec<Combination>,
    /// By number.
    pub(super) slots: Vec<Slot>,
    /// The combination and slot of each entry, and its number.
    pub(super) entries: HashMap<(u32, u32), u32>,
    /// By entry.
    pub(super) counts: Vec<u64>,
    /// By number.
    pub(super) units: Vec<Unit>,
    /// By unit, then by entry.
    pub(super) sums: Vec<Vec<Option<i128>>>,
    /// By part.
    pub(super) visits: Vec<Collected<VISIT_WORDS>>,
}

impl Tally {
    /// Nothing counted yet; `finest` is the finest grain that will be asked for.
    pub(crate) fn new(finest: Grain, zone: &Zone, budget: &Arc<Budget>) -> Self {
        Self {
            combinations: HashMap::new(),
            slots: Slots::new(finest, zone),
            entries: HashMap::new(),
            counts: Vec::new(),
            units: Vec::new(),
            sums: Vec::new(),
            visits: Collector::new(budget),
        }
    }

    /// Counts one event, which no other delivery was counted for. `groups` has one group for each rollup.
    ///
    /// # Errors
    /// [`RecountError::Overflow`] if a sum leaves 128 bits, [`RecountError::Disk`] if memory is short and the disk does
    /// not take what is too much.
    pub(crate) fn count(
        &mut self,
        at: EventTime,
        day: Date,
        groups: &[u32],
        amounts: &[(Unit, i64)],
        user: Option<User>,
    ) -> Result<(), RecountError> {
        let combination = self.combination(groups);
        self.count_in(combination, at, day, amounts, user)
    }

    /// The number of a combination of groups, for [`Self::count_in`].
    #[inline]
    pub(crate) fn combination(&mut self, groups: &[u32]) -> u32 {
        if let Some(number) = self.combinations.get(groups) {
            return *number;
        }
        let number = u32::try_from(self.combinations.len()).expect("combinations are of capped cardinality");
        self.combinations.insert(groups.into(), number);
        number
    }

    /// [`Self::count`], for whoever knows the combination.
    ///
    /// # Errors
    /// As [`Self::count`].
    #[inline]
    pub(crate) fn count_in(
        &mut self,
        combination: u32,
        at: EventTime,
        day: Date,
        amounts: &[(Unit, i64)],
        user: Option<User>,
    ) -> Result<(), RecountError> {
        let slot = self.slots.of(at, day);
        let entry = *self.entries.entry((combination, slot)).or_insert_with(|| {
            self.counts.push(0);
            u32::try_from(self.counts.len() - 1).expect("a chunk of days has far fewer than 2^32 cells")
        });
        let entry = entry as usize;
        self.counts[entry] += 1;
        for (unit, amount) in amounts {
            let unit = self.unit(unit);
            let sums = &mut self.sums[unit];
            if sums.len() <= entry {
                sums.resize(self.counts.len(), None);
            }
            let sum = sums[entry].unwrap_or(0).checked_add(i128::from(*amount)).ok_or(SumOverflow)?;
            sums[entry] = Some(sum);
        }
        if let Some(User { key, hash }) = user {
            let place = u64::from(combination) << 32 | u64::from(slot);
            let (high, low) = key_halves(key);
            let (high, low) = (high.cast_unsigned(), low.cast_unsigned());
            self.visits.push(high, [high, low, hash, place])?;
        }
        Ok(())
    }

    /// Gives every group another number: those of another table of groups.
    pub(crate) fn renumber(&mut self, numbers: &[u32]) {
        let combinations = std::mem::take(&mut self.combinations).into_iter();
        self.combinations = combinations
            .map(|(groups, number)| (groups.iter().map(|group| numbers[*group as usize]).collect(), number))
            .collect();
    }

    pub(super) fn finish(self) -> Tallied {
        let mut combinations: Vec<(u32, Combination)> =
            self.combinations.into_iter().map(|(groups, number)| (number, groups)).collect();
        combinations.sort_unstable_by_key(|(number, _)| *number);
        Tallied {
            combinations: combinations.into_iter().map(|(_, groups)| groups).collect(),
            slots: self.slots.all().to_vec(),
            entries: self.entries,
            counts: self.counts,
            units: self.units,
            sums: self.sums,
            visits: self.visits.finish(),
        }
    }

    #[inline]
    fn unit(&mut self, unit: &Unit) -> usize {
        // A handful: money in a few currencies and a few properties.
        self.units.iter().position(|known| known == unit).unwrap_or_else(|| {
            self.units.push(unit.clone());
            self.sums.push(Vec::new());
            self.units.len() - 1
        })
    }
}
