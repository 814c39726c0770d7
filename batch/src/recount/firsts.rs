//! Which delivery of an event counts: the first one. And which of the others contradict it.
//!
//! The first is the one with the lowest (log time, partition, offset) in the whole lake, which no later delivery can
//! change. The whole lake, because an event may come again with another `occurred_at`: it must not count on two days.
//! Keys are 128 bits wide; they are compared part by part of their hash, each of which fits into the processor's cache.

use std::io;
use std::sync::Arc;

use hashbrown::HashSet;

use super::RecountError;
use super::partitions::{Budget, Collected, Collector, on_threads};
use super::places::{Place, Places};

/// A delivery as far as its event's identity is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// The key of its event, high half first.
    pub(crate) key: [u64; 2],
    /// When the broker took it, in microseconds.
    pub(crate) log_time_us: i64,
    /// Where it is.
    pub(crate) place: Place,
    /// The key of what it says.
    pub(crate) content: [u64; 2],
}

/// A sighting as a record.
const WORDS: usize = 6;

impl Sighting {
    #[inline]
    fn record(&self) -> [u64; WORDS] {
        let Self { key, log_time_us, place, content } = *self;
        [key[0], key[1], log_time_us.cast_unsigned(), place.0, content[0], content[1]]
    }

    fn of_record([high, low, log_time_us, place, content_high, content_low]: [u64; WORDS]) -> Self {
        Self {
            key: [high, low],
            log_time_us: log_time_us.cast_signed(),
            place: Place(place),
            content: [content_high, content_low],
        }
    }

    fn is_before(&self, other: &Self) -> bool {
        (self.log_time_us, self.place) < (other.log_time_us, other.place)
    }
}

/// Two deliveries of one event that do not say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Contradiction {
    /// The first delivery, which counts.
    pub(crate) first: Place,
    /// The other one.
    pub(crate) other: Place,
}

/// For every event of a few days, its first delivery in the whole lake.
#[derive(Debug, Default)]
pub(crate) struct FirstDeliveries {
    /// The deliveries of these days that are not the first of their event: few.
    pub(super) later: Places,
    /// The deliveries of these days whose event was delivered with different contents.
    pub(super) conflicting: Places,
    /// In the order of the log.
    pub(super) contradictions: Vec<Contradiction>,
}

impl FirstDeliveries {
    /// Whether a delivery of these days is the first one of its event.
    #[inline]
    pub(crate) fn is_first(&self, place: Place) -> bool {
        !self.later.contains(place)
    }

    /// Whether the event of a delivery of these days was delivered with different contents.
    pub(crate) fn is_conflicting(&self, place: Place) -> bool {
        self.conflicting.contains(place)
    }

    /// Enters a delivery of an event that has others.
    pub(super) fn enter(&mut self, place: Place, is_later: bool, is_conflicting: bool) {
        if is_later {
            self.later.insert(place);
        }
        if is_conflicting {
            self.conflicting.insert(place);
        }
    }

    /// Enters contradictions, in any order: [`Self::sort`] is for the end.
    pub(super) fn add_contradictions(&mut self, found: impl Iterator<Item = Contradiction>) {
        self.contradictions.extend(found);
    }

    /// Brings the contradictions into the order of the log.
    pub(super) fn sort(&mut self) {
        self.contradictions.sort_unstable();
    }

    /// Every delivery that contradicts its event's first one, of the events that have a delivery on these days.
    pub(crate) fn contradictions(&self) -> &[Contradiction] {
        &self.contradictions
    }
}

/// Takes deliveries in: one for each thread that reads.
#[derive(Debug)]
pub(crate) struct Sightings(Collector<WORDS>);

impl Sightings {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self(Collector::new(budget))
    }

    /// Takes a delivery.
    ///
    /// # Errors
    /// If memory is short and the disk does not take it.
    #[inline]
    pub(crate) fn push(&mut self, sighting: &Sighting) -> io::Result<()> {
        self.0.push(sighting.key[0], sighting.record())
    }
}

/// Finds the first delivery of every event of which one is `here`; those `elsewhere` matter only if they are of such an
/// event.
///
/// # Errors
/// [`RecountError::Disk`] if what did not fit into memory cannot be read back.
pub(crate) fn find_firsts(
    here: Vec<Sightings>,
    elsewhere: Vec<Sightings>,
    threads: usize,
) -> Result<FirstDeliveries, RecountError> {
    let parts = by_part(here).into_iter().zip(by_part(elsewhere)).collect();
    let found = on_threads(threads, parts, Finding::default, |finding: &mut Finding, (here, elsewhere)| {
        finding.resolve(here, elsewhere)
    })?;
    let mut firsts = FirstDeliveries::default();
    for finding in found {
        firsts.later.extend(finding.later);
        firsts.conflicting.extend(finding.conflicting);
        firsts.contradictions.extend(finding.contradictions);
    }
    firsts.contradictions.sort_unstable();
    Ok(firsts)
}

/// The same part of every collector, part after part.
fn by_part(sightings: Vec<Sightings>) -> Vec<Vec<Collected<WORDS>>> {
    let mut parts: Vec<Vec<Collected<WORDS>>> = (0..super::partitions::PARTS).map(|_| Vec::new()).collect();
    for collector in sightings {
        parts.iter_mut().zip(collector.0.finish()).for_each(|(part, collected)| part.push(collected));
    }
    parts
}

/// What one thread has found, and places that it reuses from part to part.
#[derive(Debug, Default)]
struct Finding {
    later: Places,
    conflicting: Places,
    contradictions: Vec<Contradiction>,
    records: Vec<[u64; WORDS]>,
    /// Open addressing by the key's low half: the number of the record that is its event's first so far.
    table: Vec<u32>,
    /// The numbers of the records that are not.
    repeats: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

impl Finding {
    fn resolve(&mut self, here: Vec<Collected<WORDS>>, elsewhere: Vec<Collected<WORDS>>) -> Result<(), RecountError> {
        self.records.clear();
        self.repeats.clear();
        for part in here {
            part.take(|record| self.records.push(record))?;
        }
        let here = self.records.len();
        self.table.clear();
        self.table.resize((here * 2).next_power_of_two(), EMPTY);
        for number in 0..here {
            self.enter(number);
        }
        for part in elsewhere {
            part.take(|record| {
                // An event that has no delivery here is not in question.
                if self.table[self.slot(&record)] != EMPTY {
                    self.records.push(record);
                    self.enter(self.records.len() - 1);
                }
            })?;
        }
        let mut contradicted = HashSet::new();
        for repeat in &self.repeats {
            let (other, first) = self.with_first(*repeat);
            if (*repeat as usize) < here {
                self.later.insert(other.place);
            }
            if first.content != other.content {
                contradicted.insert(first.place);
                self.contradictions.push(Contradiction { first: first.place, other: other.place });
            }
        }
        if !contradicted.is_empty() {
            // Those too that say the same as the first: the event is in doubt, not the single delivery.
            for number in 0..u32::try_from(here).expect("checked as they were entered") {
                let (delivery, first) = self.with_first(number);
                if contradicted.contains(&first.place) {
                    self.conflicting.insert(delivery.place);
                }
            }
        }
        Ok(())
    }

    /// A delivery, and the first one of its event.
    fn with_first(&self, number: u32) -> (Sighting, Sighting) {
        let record = self.records[number as usize];
        let first = self.table[self.slot(&record)];
        (Sighting::of_record(record), Sighting::of_record(self.records[first as usize]))
    }

    fn enter(&mut self, number: usize) {
        let record = self.records[number];
        let slot = self.slot(&record);
        let number = u32::try_from(number).expect("a 256th of all deliveries is far below 2^32");
        let known = self.table[slot];
        if known == EMPTY {
            self.table[slot] = number;
        } else if Sighting::of_record(record).is_before(&Sighting::of_record(self.records[known as usize])) {
            self.table[slot] = number;
            self.repeats.push(known);
        } else {
            self.repeats.push(number);
        }
    }

    /// Where the event of a record is in the table, or would be. Half of the table is always empty.
    fn slot(&self, record: &[u64; WORDS]) -> usize {
        let mask = self.table.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "the mask takes the lowest bits anyway")]
        let mut slot = record[1] as usize & mask;
        loop {
            match self.table[slot] {
                EMPTY => return slot,
                number if self.records[number as usize][..2] == record[..2] => return slot,
                _ => slot = (slot + 1) & mask,
            }
        }
    }
}

/// Which keys may be among some, with one error in some fifty: what is not in it need not be kept.
#[derive(Clone, Debug)]
pub(crate) struct KeyFilter {
    words: Vec<u64>,
}

impl KeyFilter {
    /// A filter for so many keys, 16 bits each.
    pub(crate) fn for_keys(keys: u64) -> Self {
        let words = (keys.max(64) / 4).next_power_of_two();
        Self { words: vec![0; usize::try_from(words).expect("as many words as fit into memory")] }
    }

    pub(crate) fn insert(&mut self, key: [u64; 2]) {
        let (word, bits) = self.bits(key);
        self.words[word] |= bits;
    }

    #[inline]
    pub(crate) fn may_contain(&self, key: [u64; 2]) -> bool {
        let (word, bits) = self.bits(key);
        self.words[word] & bits == bits
    }

    /// Takes the keys of a filter of the same size in.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, more)| *word |= more);
    }

    /// Three bits of one word, by bits of the key that have nothing to do with each other.
    fn bits(&self, [high, low]: [u64; 2]) -> (usize, u64) {
        #[expect(clippy::cast_possible_truncation, reason = "the mask takes the lowest bits anyway")]
        let word = (high as usize) & (self.words.len() - 1);
        (word, 1 << (low >> 58) | 1 << (low >> 52 & 63) | 1 << (low >> 46 & 63))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use reckon_schemas::ids::event_key;

    use super::*;

    fn sighting(id: u32, log_time_us: i64, place: u64, content: u64) -> Sighting {
        let key = event_key("t", &id.to_string());
        #[expect(clippy::cast_possible_truncation, reason = "halves")]
        Sighting { key: [(key >> 64) as u64, key as u64], log_time_us, place: Place(place), content: [content, 0] }
    }

    fn collected(budget: &Arc<Budget>, sightings: &[Sighting]) -> Vec<Sightings> {
        let mut threads = vec![Sightings::new(budget), Sightings::new(budget)];
        for (index, sighting) in sightings.iter().enumerate() {
            threads[index % 2].push(sighting).expect("there is a disk");
        }
        threads
    }

    proptest! {
        /// Against sorting and comparing everything with everything.
        #[test]
        fn the_first_delivery_wins_and_contradictions_are_named(
            deliveries in prop::collection::vec((0..60_u32, 0..5_i64, any::<bool>(), 0..2_u64), 0..300),
            bytes_max in prop_oneof![Just(0_usize), Just(usize::MAX)],
        ) {
            let all: Vec<(bool, Sighting)> = (0_u64..).zip(&deliveries)
                .map(|(place, (id, at, here, content))| (*here, sighting(*id, *at, place * 7919 % 1009, *content)))
                .collect();
            let of = |wanted: bool| -> Vec<Sighting> {
                all.iter().filter(|(here, _)| *here == wanted).map(|(_, sighting)| *sighting).collect()
            };
            let budget = Budget::new(bytes_max);
            let firsts = find_firsts(collected(&budget, &of(true)), collected(&budget, &of(false)), 2).expect("found");
            let mut events = BTreeMap::<[u64; 2], Vec<_>>::new();
            for (here, sighting) in &all {
                let deliveries = events.entry(sighting.key).or_default();
                deliveries.push((sighting.log_time_us, sighting.place, *here, sighting.content));
            }
            let mut contradictions = BTreeSet::new();
            for deliveries in events.values_mut().filter(|deliveries| deliveries.iter().any(|(_, _, here, _)| *here)) {
                deliveries.sort_unstable();
                let (_, first, _, content) = deliveries[0];
                let conflicting = deliveries.iter().any(|(.., said)| *said != content);
                for (_, place, here, said) in deliveries.iter() {
                    if *here {
                        prop_assert_eq!(firsts.is_conflicting(*place), conflicting);
                        prop_assert_eq!(firsts.is_first(*place), *place == first);
                    }
                    if *said != content {
                        contradictions.insert(Contradiction { first, other: *place });
                    }
                }
            }
            prop_assert_eq!(firsts.contradictions(), contradictions.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn memory_that_is_short_changes_nothing() {
        let sightings: Vec<Sighting> =
            (0..400_000_u32).map(|number| sighting(number % 300_000, i64::from(number), number.into(), 0)).collect();
        let later = |bytes_max: usize| {
            let budget = Budget::new(bytes_max);
            let firsts = find_firsts(collected(&budget, &sightings), Vec::new(), 2).expect("found");
            (firsts.later.count(), budget.spilled_bytes() > 0)
        };
        assert_eq!(later(usize::MAX), (100_000, false));
        assert_eq!(later(1_000_000), (100_000, true));
    }

    #[test]
    fn a_filter_knows_its_keys_and_few_others() {
        let mut filter = KeyFilter::for_keys(10_000);
        let key = |id: u32| sighting(id, 0, 0, 0).key;
        (0..10_000).for_each(|id| filter.insert(key(id)));
        assert!((0..10_000).all(|id| filter.may_contain(key(id))));
        let wrong = (10_000..110_000).filter(|id| filter.may_contain(key(*id))).count();
        assert!(wrong < 3_000, "{wrong} of 100,000");
    }
}
