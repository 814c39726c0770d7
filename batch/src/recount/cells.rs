//! The exact cells of a few days, at every grain that is asked for.

use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::ids::key_halves;
use reckon_schemas::sums::SumOverflow;
use reckon_schemas::time::Zone;
use reckon_schemas::window::{Grain, Window};

use super::distinct::{Distinct, Places, Translation};
use super::partitions::{PARTS, on_threads};
use super::tally::{Tallied, Tally};
use super::timeline::{Slot, Timeline};
use super::{Exact, RecountError};

/// One exact cell: what happened in a window on one calendar day of the tenant.
///
/// The day matters where a window of universal time lies in two of them, as an hour does in a zone that is half an hour
/// off: such a window has one cell for each day, so that settling a day never touches the day beside it. Counts, sums
/// and sketches of the two unite; exact numbers of users do not add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The number of its group, see [`super::Groups`].
    pub group: u32,
    /// The day that it is settled with.
    pub day: Date,
    /// Its window.
    pub window: Window,
    /// What was counted.
    pub exact: Exact,
}

/// What is wanted of a count.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The grains, finest first.
    pub(crate) grains: Vec<Grain>,
    /// Where days begin and end.
    pub(crate) zone: Zone,
    /// Whether cells get the sketch of their users, and days the list of them.
    pub(crate) users: bool,
    /// How many threads may work.
    pub(crate) threads: usize,
}

/// The cells of a few days.
#[derive(Debug, Default)]
pub struct Cells {
    cells: Vec<Cell>,
    of_days: HashMap<(u32, Date), u32>,
    users_of_days: Vec<(u32, [u64; 2])>,
}

impl Cells {
    /// Adds up what was counted, by any number of threads whose groups have the same numbers.
    ///
    /// # Errors
    /// [`RecountError::Overflow`] if a sum leaves 128 bits, [`RecountError::Disk`] if what did not fit into memory
    /// cannot be read back.
    pub(crate) fn of(tallies: Vec<Tally>, wanted: &Wanted) -> Result<Self, RecountError> {
        let tallied: Vec<Tallied> = tallies.into_iter().map(Tally::finish).collect();
        let slots: Vec<Slot> = tallied.iter().flat_map(|tallied| tallied.slots.iter().copied()).collect();
        let timeline = Timeline::new(slots, &wanted.grains, &wanted.zone);
        let mut adding = Adding { timeline: &timeline, cells: Self::default(), numbers: HashMap::new() };
        let mut combinations: Vec<Box<[u32]>> = Vec::new();
        let mut known: HashMap<Box<[u32]>, u32> = HashMap::new();
        let mut translations = Vec::with_capacity(tallied.len());
        let mut visits: Vec<_> = (0..PARTS).map(|_| Vec::with_capacity(tallied.len())).collect();
        for (thread, tallied) in tallied.into_iter().enumerate() {
            let own = tallied.combinations.iter().map(|groups| {
                *known.entry(groups.clone()).or_insert_with(|| {
                    combinations.push(groups.clone());
                    u32::try_from(combinations.len() - 1).expect("combinations are of capped cardinality")
                })
            });
            let own = own.collect();
            let translation = Translation { combinations: own, slots: timeline.places(&tallied.slots) };
            adding.add(&tallied, &translation)?;
            translations.push(translation);
            visits.iter_mut().zip(tallied.visits).for_each(|(part, own)| part.push((thread, own)));
        }
        let Adding { mut cells, numbers, .. } = adding;
        let places = Places {
            translations: &translations,
            combinations: &combinations,
            windows: timeline.by_slot(),
            cells: &numbers,
            sketches: wanted.users,
            listed_grain: wanted.grains.iter().position(|grain| wanted.users && *grain == Grain::Day),
        };
        let begin = || Distinct::new(cells.cells.len());
        let found = on_threads(wanted.threads, visits, begin, |found, part| found.take(&places, part))?;
        for distinct in found {
            cells.take_users(distinct);
        }
        Ok(cells)
    }

    /// Cells that were counted elsewhere, and for those of grain `1d`, given by number, the keys of their users.
    pub(crate) fn counted(cells: Vec<Cell>, users_of_days: Vec<(u32, u128)>) -> Self {
        let number = |index: usize| u32::try_from(index).expect("a chunk of days has far fewer than 2^32 cells");
        let days = cells.iter().enumerate().filter(|(_, cell)| cell.window.grain == Grain::Day);
        let of_days = days.map(|(index, cell)| ((cell.group, cell.day), number(index))).collect();
        let halves = |key: u128| {
            let (high, low) = key_halves(key);
            [high.cast_unsigned(), low.cast_unsigned()]
        };
        let users_of_days = users_of_days.into_iter().map(|(number, user)| (number, halves(user))).collect();
        Self { cells, of_days, users_of_days }
    }

    /// All cells, in no order.
    #[must_use]
    pub fn all(&self) -> &[Cell] {
        &self.cells
    }

    /// The cell of a group and a whole day.
    #[must_use]
    pub fn of_day(&self, group: u32, day: Date) -> Option<&Cell> {
        self.of_days.get(&(group, day)).map(|number| &self.cells[*number as usize])
    }

    /// The exact users of every cell of grain `1d`, each once, in no order.
    pub fn users_of_days(&self) -> impl Iterator<Item = (&Cell, u128)> {
        let key = |[high, low]: [u64; 2]| u128::from(high) << 64 | u128::from(low);
        self.users_of_days.iter().map(move |(number, user)| (&self.cells[*number as usize], key(*user)))
    }

    fn take_users(&mut self, distinct: Distinct) {
        for (cell, users) in self.cells.iter_mut().zip(distinct.users) {
            cell.exact.users_exact += u64::from(users);
        }
        for (number, sketch) in distinct.sketches {
            self.cells[number as usize].exact.users.merge(&sketch);
        }
        self.users_of_days.extend(distinct.listed);
    }
}

/// Cells while counts are added up.
struct Adding<'a> {
    timeline: &'a Timeline,
    cells: Cells,
    /// By group and window.
    numbers: HashMap<(u32, u32), u32>,
}

impl Adding<'_> {
    fn add(&mut self, tallied: &Tallied, translation: &Translation) -> Result<(), SumOverflow> {
        let timeline = self.timeline;
        let slot_of = |slot: u32| translation.slots[slot as usize] as usize;
        for ((combination, slot), entry) in &tallied.entries {
            let (slot, entry) = (slot_of(*slot), *entry as usize);
            for group in &tallied.combinations[*combination as usize] {
                for windows in timeline.by_slot() {
                    let exact = self.exact(*group, windows[slot]);
                    exact.count += tallied.counts[entry];
                    for (unit, sums) in tallied.units.iter().zip(&tallied.sums) {
                        if let Some(Some(sum)) = sums.get(entry) {
                            exact.sums.add(unit, *sum)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn exact(&mut self, group: u32, window: u32) -> &mut Exact {
        let number = *self.numbers.entry((group, window)).or_insert_with(|| {
            let number = u32::try_from(self.cells.cells.len()).expect("a chunk of days has far fewer than 2^32 cells");
            let (window, day) = self.timeline.window(window);
            if window.grain == Grain::Day {
                self.cells.of_days.insert((group, day), number);
            }
            self.cells.cells.push(Cell { group, day, window, exact: Exact::default() });
            number
        });
        &mut self.cells.cells[number as usize].exact
    }
}

#[cfg(test)]
mod tests;
