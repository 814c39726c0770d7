//! Telling users apart: in how many cells each was, exactly.
//!
//! Visits come divided by their users' keys, so that all of a user's are in one part, and a part fits into the
//! processor's cache. Within it every user gets a small number; sorted by (group, user, slot), the first visit of a
//! user in a window is where the window differs from that of the visit before, at every grain in one pass.

use hashbrown::HashMap;
use reckon_schemas::sketch::Sketch;

use super::RecountError;
use super::partitions::Collected;
use super::tally::VISIT_WORDS;

/// How the numbers of one thread's tally read in the whole.
pub(super) struct Translation {
    pub(super) combinations: Vec<u32>,
    pub(super) slots: Vec<u32>,
}

/// What visits are counted into.
pub(super) struct Places<'a> {
    /// By thread that counted.
    pub(super) translations: &'a [Translation],
    /// By combination, then by rollup: the group.
    pub(super) combinations: &'a [Box<[u32]>],
    /// By grain, then by slot: the window.
    pub(super) windows: &'a [Vec<u32>],
    /// By group and window: the cell.
    pub(super) cells: &'a HashMap<(u32, u32), u32>,
    /// Whether sketches are wanted too.
    pub(super) sketches: bool,
    /// The place among the grains of the one whose users are to be listed.
    pub(super) listed_grain: Option<usize>,
}

/// What one thread has found.
pub(super) struct Distinct {
    /// By cell.
    pub(super) users: Vec<u32>,
    /// By cell, where there are users and sketches are wanted.
    pub(super) sketches: HashMap<u32, Sketch>,
    /// Cell and key, each pair once.
    pub(super) listed: Vec<(u32, [u64; 2])>,
    part: Part,
}

/// The visits of one part; reused from part to part.
#[derive(Default)]
struct Part {
    visits: Vec<Visit>,
    /// By number: key and hash.
    users: Vec<([u64; 2], u64)>,
    /// Open addressing by the key's low half: the number of the user.
    table: Vec<u32>,
    sorted: Vec<u128>,
    sorted_narrow: Vec<u64>,
}

struct Visit {
    user: u32,
    combination: u32,
    slot: u32,
}

const EMPTY: u32 = u32::MAX;

impl Distinct {
    pub(super) fn new(cells: usize) -> Self {
        let part = Part::default();
        Self { users: vec![0; cells], sketches: HashMap::new(), listed: Vec::new(), part }
    }

    /// Takes one part of every thread's visits, given with the thread's number.
    pub(super) fn take(
        &mut self,
        places: &Places<'_>,
        visits: Vec<(usize, Collected<VISIT_WORDS>)>,
    ) -> Result<(), RecountError> {
        let mut part = std::mem::take(&mut self.part);
        part.read(places.translations, visits)?;
        let rollups = places.combinations.first().map_or(0, |groups| groups.len());
        for rollup in 0..rollups {
            self.take_rollup(places, &mut part, rollup);
        }
        self.part = part;
        Ok(())
    }

    fn take_rollup(&mut self, places: &Places<'_>, part: &mut Part, rollup: usize) {
        let group_of = |visit: &Visit| places.combinations[visit.combination as usize][rollup];
        let slots = places.windows.first().map_or(0, Vec::len);
        let (user_bits, slot_bits) = (bits(part.users.len()), bits(slots));
        let groups = part.visits.iter().map(group_of).max().map_or(0, |group| group as usize + 1);
        // Most parts fit into 64 bits, which are sorted twice as fast.
        if bits(groups) + user_bits + slot_bits <= u64::BITS {
            let mut sorted = std::mem::take(&mut part.sorted_narrow);
            sorted.clear();
            sorted.extend(part.visits.iter().map(|visit| {
                let pair = u64::from(group_of(visit)) << user_bits | u64::from(visit.user);
                pair << slot_bits | u64::from(visit.slot)
            }));
            sorted.sort_unstable();
            #[expect(clippy::cast_possible_truncation, reason = "as it was packed")]
            let unpack = |packed: &u64| {
                let low = |number: u64, bits: u32| (number & ((1 << bits) - 1)) as u32;
                let group = (packed >> (user_bits + slot_bits)) as u32;
                (group, low(packed >> slot_bits, user_bits), low(*packed, slot_bits))
            };
            self.take_sorted(places, &part.users, sorted.iter().map(unpack));
            part.sorted_narrow = sorted;
        } else {
            let mut sorted = std::mem::take(&mut part.sorted);
            sorted.clear();
            sorted.extend(part.visits.iter().map(|visit| {
                u128::from(group_of(visit)) << 64 | u128::from(visit.user) << 32 | u128::from(visit.slot)
            }));
            sorted.sort_unstable();
            #[expect(clippy::cast_possible_truncation, reason = "as it was packed")]
            let unpack = |packed: &u128| ((packed >> 64) as u32, (packed >> 32) as u32, *packed as u32);
            self.take_sorted(places, &part.users, sorted.iter().map(unpack));
            part.sorted = sorted;
        }
    }

    /// Visits as (group, user, slot), in order.
    fn take_sorted(
        &mut self,
        places: &Places<'_>,
        users: &[([u64; 2], u64)],
        visits: impl Iterator<Item = (u32, u32, u32)>,
    ) {
        let mut last = None;
        for (group, user, slot) in visits {
            let before = last.replace((group, user, slot));
            if before == last {
                continue;
            }
            let before = before.filter(|(last_group, last_user, _)| (*last_group, *last_user) == (group, user));
            for (grain, windows) in places.windows.iter().enumerate() {
                let window = windows[slot as usize];
                if before.is_some_and(|(_, _, slot)| windows[slot as usize] == window) {
                    // Nor is it new in any coarser window.
                    break;
                }
                let cell = places.cells[&(group, window)];
                self.users[cell as usize] += 1;
                let (key, hash) = users[user as usize];
                if places.sketches {
                    self.sketches.entry(cell).or_default().insert_hash(hash);
                }
                if places.listed_grain == Some(grain) {
                    self.listed.push((cell, key));
                }
            }
        }
    }
}

impl Part {
    fn read(
        &mut self,
        translations: &[Translation],
        visits: Vec<(usize, Collected<VISIT_WORDS>)>,
    ) -> Result<(), RecountError> {
        self.visits.clear();
        self.users.clear();
        self.table.clear();
        self.table.resize(1 << 12, EMPTY);
        for (thread, visits) in visits {
            let translation = &translations[thread];
            visits.take(|[high, low, hash, place]| {
                #[expect(clippy::cast_possible_truncation, reason = "as it was packed")]
                let (combination, slot) = ((place >> 32) as usize, place as u32 as usize);
                let user = self.user([high, low], hash);
                let (combination, slot) = (translation.combinations[combination], translation.slots[slot]);
                self.visits.push(Visit { user, combination, slot });
            })?;
        }
        Ok(())
    }

    fn user(&mut self, key: [u64; 2], hash: u64) -> u32 {
        if self.users.len() * 2 >= self.table.len() {
            self.table.clear();
            self.table.resize(self.users.len() * 4, EMPTY);
            for number in 0..self.users.len() {
                let slot = self.slot(self.users[number].0);
                self.table[slot] = u32::try_from(number).expect("a 256th of all users is far below 2^32");
            }
        }
        let slot = self.slot(key);
        if self.table[slot] == EMPTY {
            self.table[slot] = u32::try_from(self.users.len()).expect("a 256th of all users is far below 2^32");
            self.users.push((key, hash));
        }
        self.table[slot]
    }

    fn slot(&self, key: [u64; 2]) -> usize {
        let mask = self.table.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "the mask takes the lowest bits anyway")]
        let mut slot = key[1] as usize & mask;
        while self.table[slot] != EMPTY && self.users[self.table[slot] as usize].0 != key {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// How many bits numbers below `count` take.
fn bits(count: usize) -> u32 {
    usize::BITS - count.saturating_sub(1).leading_zeros()
}
