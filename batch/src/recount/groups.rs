//! Small numbers for (rollup, event name, dimension values), so that cells are found without comparing text.

use hashbrown::HashMap;
use reckon_schemas::cell::{DimensionValues, Rollup};

/// What a group number stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The position of its rollup among the tenant's.
    pub rollup: usize,
    /// The event's name.
    pub event: String,
    /// The values of the rollup's dimensions.
    pub values: DimensionValues,
}

/// Every group met so far.
#[derive(Debug)]
pub struct Groups {
    rollups: Vec<Rollup>,
    events: HashMap<String, usize>,
    /// By rollup, then by event: values -> group.
    numbers: Vec<Vec<HashMap<String, u32>>>,
    groups: Vec<Group>,
    buffer: String,
}

impl Groups {
    /// No groups yet, of these rollups.
    #[must_use]
    pub fn new(rollups: Vec<Rollup>) -> Self {
        let numbers = vec![Vec::new(); rollups.len()];
        Self { rollups, events: HashMap::new(), numbers, groups: Vec::new(), buffer: String::new() }
    }

    /// The rollups, in the order that [`Group::rollup`] counts.
    #[must_use]
    pub fn rollups(&self) -> &[Rollup] {
        &self.rollups
    }

    /// How many groups there are; their numbers lie below.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.groups.len()).expect("groups are of capped cardinality, far below 2^32")
    }

    /// What a number stands for.
    ///
    /// # Panics
    /// If the number was not given by this table.
    #[must_use]
    pub fn get(&self, group: u32) -> &Group {
        &self.groups[group as usize]
    }

    /// The rollup of a group.
    ///
    /// # Panics
    /// If the number was not given by this table.
    #[must_use]
    pub fn rollup_of(&self, group: u32) -> &Rollup {
        &self.rollups[self.get(group).rollup]
    }

    /// The dimension values of a group, one by one.
    ///
    /// # Panics
    /// If the number was not given by this table.
    #[must_use]
    pub fn values_of(&self, group: u32) -> Vec<String> {
        self.get(group).values.values(self.rollup_of(group).dimensions().len())
    }

    /// The groups that an event falls into, one for each rollup, in their order; `found` is cleared first.
    pub fn of_event<'a>(&mut self, name: &str, property: impl Fn(&str) -> Option<&'a str>, found: &mut Vec<u32>) {
        found.clear();
        let event = self.event_number(name);
        let mut values = std::mem::take(&mut self.buffer);
        for rollup in 0..self.rollups.len() {
            values.clear();
            self.rollups[rollup].encode_properties(&property, &mut values);
            found.push(self.number(rollup, event, name, &values));
        }
        self.buffer = values;
    }

    /// The group of a cell that was counted elsewhere.
    pub fn of_cell(&mut self, rollup: usize, event: &str, values: &DimensionValues) -> u32 {
        let number = self.event_number(event);
        self.number(rollup, number, event, values.as_str())
    }

    /// For every group its place in the order of (rollup's name, event, values), which does not depend on the order
    /// in which they were met.
    #[must_use]
    pub fn ranks(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_unstable_by_key(|index| {
            let group = &self.groups[*index];
            (self.rollups[group.rollup].name(), group.event.as_str(), group.values.as_str())
        });
        let mut ranks = vec![0; order.len()];
        for (rank, index) in order.into_iter().enumerate() {
            ranks[index] = rank;
        }
        ranks
    }

    fn event_number(&mut self, name: &str) -> usize {
        if let Some(number) = self.events.get(name) {
            return *number;
        }
        let number = self.events.len();
        self.events.insert(name.to_owned(), number);
        for by_event in &mut self.numbers {
            by_event.push(HashMap::new());
        }
        number
    }

    fn number(&mut self, rollup: usize, event: usize, name: &str, values: &str) -> u32 {
        if let Some(number) = self.numbers[rollup][event].get(values) {
            return *number;
        }
        let number = self.count();
        self.numbers[rollup][event].insert(values.to_owned(), number);
        let values = DimensionValues::from_encoded(values);
        self.groups.push(Group { rollup, event: name.to_owned(), values });
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_and_a_cell_of_the_same_values_meet_in_one_group() {
        let rollups = ["total", "store", "store,department"].map(|name| name.parse().expect("a rollup"));
        let mut groups = Groups::new(rollups.to_vec());
        let mut found = Vec::new();
        let property = |name: &str| (name == "store").then_some("a\\b");
        groups.of_event("sale", property, &mut found);
        assert_eq!(found, [0, 1, 2]);
        groups.of_event("refund", property, &mut found);
        assert_eq!(found, [3, 4, 5]);
        assert_eq!(groups.of_cell(2, "sale", &DimensionValues::new(&["a\\b", ""])), 2);
        assert_eq!(groups.values_of(2), ["a\\b", ""]);
        assert_eq!(groups.of_cell(2, "sale", &DimensionValues::new(&["", "a\\b"])), 6);
        assert_eq!(groups.rollup_of(6).name(), "store,department");
        // By rollup's name, event, values: store/refund, store/sale, store,department/refund, two of sale, total.
        assert_eq!(groups.ranks(), [6, 1, 4, 5, 0, 2, 3]);
    }
}
