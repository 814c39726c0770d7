//! A series: what a cell is apart from its window. Kept once, numbered, and shared by all of its windows.

use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use reckon_schemas::cell::{DimensionValues, Rollup};
use reckon_schemas::ids::TenantId;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::numbers::NumberHasher;

/// Tenant, rollup, event name and dimension values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) tenant: TenantId,
    pub(crate) rollup: String,
    pub(crate) event: String,
    pub(crate) values: DimensionValues,
}

impl Series {
    /// How many dimensions it has.
    pub(crate) fn dimensions(&self) -> usize {
        if self.rollup == Rollup::TOTAL { 0 } else { self.rollup.split(',').count() }
    }

    pub(super) fn borrowed(&self) -> SeriesRef<'_> {
        SeriesRef { tenant: &self.tenant, rollup: &self.rollup, event: &self.event, values: self.values.as_str() }
    }
}

/// The same, borrowed from an event: a known series is found without an allocation.
#[derive(Clone, Copy)]
pub(super) struct SeriesRef<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rollup: &'a str,
    pub(super) event: &'a str,
    pub(super) values: &'a str,
}

/// A series' number in its partition.
pub(super) type SeriesId = u32;

/// The series that have cells, by number and by name.
#[derive(Debug)]
pub(super) struct SeriesTable {
    numbers: HashMap<u128, SeriesId, BuildHasherDefault<NumberHasher>>,
    places: Vec<Place>,
    free: Vec<SeriesId>,
    /// A name is known by 128 bits of a hash that nobody outside can foresee: comparing names costs more.
    seed: u64,
    name: String,
}

#[derive(Debug)]
struct Place {
    series: Arc<Series>,
    key: u128,
    /// How many cells there are of it, pending ones included.
    cells: u32,
}

impl Default for SeriesTable {
    fn default() -> Self {
        let seed = DefaultHashBuilder::default().hash_one(0);
        Self { numbers: HashMap::default(), places: Vec::new(), free: Vec::new(), seed, name: String::new() }
    }
}

impl SeriesTable {
    /// The number of a series; a new one is free to go until it has a cell.
    pub(super) fn number(&mut self, name: SeriesRef<'_>) -> SeriesId {
        let key = self.key(name);
        if let Some(known) = self.numbers.get(&key) {
            return *known;
        }
        let series = Series {
            tenant: name.tenant.clone(),
            rollup: name.rollup.to_owned(),
            event: name.event.to_owned(),
            values: DimensionValues::from_encoded(name.values),
        };
        self.insert(key, Arc::new(series))
    }

    /// The number of a series that was read from a snapshot.
    pub(super) fn number_owned(&mut self, series: Arc<Series>) -> SeriesId {
        let key = self.key(series.borrowed());
        self.insert(key, series)
    }

    pub(super) fn get(&self, number: SeriesId) -> &Arc<Series> {
        &self.places[number as usize].series
    }

    /// One more cell of a series.
    pub(super) fn hold(&mut self, number: SeriesId) {
        self.places[number as usize].cells += 1;
    }

    /// One cell less; with the last one the series goes, and its number is given to another.
    pub(super) fn release(&mut self, number: SeriesId) {
        let place = &mut self.places[number as usize];
        place.cells -= 1;
        if place.cells == 0 && self.numbers.get(&place.key) == Some(&number) {
            self.numbers.remove(&place.key);
            self.free.push(number);
        }
    }

    fn key(&mut self, SeriesRef { tenant, rollup, event, values }: SeriesRef<'_>) -> u128 {
        self.name.clear();
        for part in [tenant.as_str(), rollup, event] {
            self.name.push_str(part);
            // None of the three has a control character.
            self.name.push('\0');
        }
        self.name.push_str(values);
        xxh3_128_with_seed(self.name.as_bytes(), self.seed)
    }

    fn insert(&mut self, key: u128, series: Arc<Series>) -> SeriesId {
        let place = Place { series, key, cells: 0 };
        let number = match self.free.pop() {
            Some(number) => {
                self.places[number as usize] = place;
                number
            }
            None => {
                self.places.push(place);
                u32::try_from(self.places.len() - 1).expect("memory ends long before 2^32 series")
            }
        };
        self.numbers.insert(key, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name<'a>(tenant: &'a TenantId, values: &'a str) -> SeriesRef<'a> {
        SeriesRef { tenant, rollup: "a,b", event: "buy", values }
    }

    #[test]
    fn a_series_keeps_its_number_while_it_has_cells() {
        let tenant: TenantId = "acme".parse().expect("valid");
        let (x, y) = (DimensionValues::new(&["x", ""]), DimensionValues::new(&["y", ""]));
        let mut table = SeriesTable::default();
        let first = table.number(name(&tenant, x.as_str()));
        table.hold(first);
        table.hold(first);
        assert_eq!(table.number(name(&tenant, x.as_str())), first);
        let second = table.number(name(&tenant, y.as_str()));
        table.hold(second);
        assert_ne!(first, second);
        assert_eq!(table.get(first).dimensions(), 2);
        table.release(first);
        assert_eq!(table.number(name(&tenant, x.as_str())), first);
        table.release(first);
        let again = table.number(name(&tenant, "z"));
        assert_eq!((again, table.get(again).values.as_str()), (first, "z"), "its number was free");
        assert_eq!(table.number_owned(Arc::clone(table.get(second))), 2, "read from a snapshot into a new place");
    }
}
