//! What the speed layer counted by, record by record.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

/// For each rollup (by its name) and summed property (by its unit): from which records on it was counted, and from which
/// not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plans {
    /// Of these partitions everything that is counted was written down. Of the others, which are an older build's,
    /// nothing; everything is taken to be counted there.
    known: HashSet<i32>,
    items: HashMap<String, Changes>,
}

/// By partition, then by the first record of the change.
type Changes = HashMap<i32, BTreeMap<i64, bool>>;

/// One rollup or summed property that was not always counted.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    known: &'a HashSet<i32>,
    changes: Option<&'a Changes>,
}

impl Plans {
    /// Notes that from a record on something is counted, or is not.
    pub fn note(&mut self, item: String, partition: i32, offset: i64, counted: bool) {
        self.known.insert(partition);
        self.items.entry(item).or_default().entry(partition).or_default().insert(offset, counted);
    }

    /// When something was counted; `None` if it always was, so that there is nothing to look up.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<Item<'_>> {
        let changes = self.items.get(name);
        let from_the_first_on = |partition: &i32| {
            let changes = changes.and_then(|changes| changes.get(partition));
            changes.is_some_and(|changes| changes.iter().all(|(offset, counted)| *counted && *offset == 0))
        };
        (!self.known.iter().all(from_the_first_on)).then_some(Item { known: &self.known, changes })
    }

    /// By partition: the first record from which on all of these are counted, and stay. Partitions where they always were
    /// are left out.
    #[must_use]
    pub fn plain_from(&self, names: &[String]) -> BTreeMap<i32, i64> {
        let from = |partition: &i32, name: &String| {
            let changes = self.items.get(name).and_then(|changes| changes.get(partition));
            match changes.and_then(|changes| changes.last_key_value()) {
                Some((offset, true)) => *offset,
                _ => i64::MAX,
            }
        };
        let from = self.known.iter().map(|partition| {
            let from = names.iter().map(|name| from(partition, name)).max();
            (*partition, from.unwrap_or(0))
        });
        from.filter(|(_, from)| *from > 0).collect()
    }

    /// Whether something was counted when the speed layer read a record.
    #[must_use]
    pub fn was_counted(&self, name: &str, partition: i32, offset: i64) -> bool {
        self.item(name).is_none_or(|item| item.was_counted(partition, offset))
    }
}

impl Item<'_> {
    /// Whether it was counted when the speed layer read a record.
    #[must_use]
    pub fn was_counted(self, partition: i32, offset: i64) -> bool {
        if !self.known.contains(&partition) {
            return true;
        }
        let Some(changes) = self.changes.and_then(|changes| changes.get(&partition)) else { return false };
        match changes.range(..=offset).next_back() {
            Some((_, counted)) => *counted,
            // Before the first change it was the other way round.
            None => changes.values().next().is_none_or(|first| !first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_judged_by_the_last_change_before_it() {
        let mut plans = Plans::default();
        plans.note("store".to_owned(), 0, 10, true);
        plans.note("store".to_owned(), 0, 20, false);
        plans.note("store".to_owned(), 0, 30, true);
        plans.note("store".to_owned(), 1, 5, false);
        assert_eq!(plans.plain_from(&["store".to_owned()]), [(0, 30), (1, i64::MAX)].into());
        let counted = |offset| plans.was_counted("store", 0, offset);
        assert_eq!([9, 10, 19, 20, 29, 30].map(counted), [false, true, true, false, false, true]);
        assert_eq!([4, 5].map(|offset| plans.was_counted("store", 1, offset)), [true, false]);
    }

    #[test]
    fn what_nobody_wrote_down_was_not_counted_where_anything_was_written_down() {
        let mut plans = Plans::default();
        assert!(plans.item("total").is_none() && plans.was_counted("total", 0, 0), "an older build wrote nothing down");
        plans.note("total".to_owned(), 0, 0, true);
        assert!(plans.item("total").is_none(), "from the first record on");
        assert_eq!(plans.plain_from(&["total".to_owned()]), BTreeMap::new());
        assert!(!plans.was_counted("store", 0, 99), "not yet, if ever");
        assert!(plans.was_counted("store", 1, 99), "of that partition nothing was written down");
        plans.note("total".to_owned(), 1, 7, true);
        assert!(plans.item("total").is_some() && !plans.was_counted("total", 1, 6) && plans.was_counted("total", 0, 6));
    }
}
