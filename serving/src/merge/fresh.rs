//! The newest totals of each Kafka partition, whichever of the two stores has them.

use std::collections::BTreeMap;

use reckon_schemas::time::EventTime;

use super::tally::Tally;
use super::{Cell, MergeError};

/// One partition's share of one cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share {
    pub(crate) window_start: EventTime,
    pub(crate) event: String,
    /// The values of all of the rollup's dimensions.
    pub(crate) dimensions: Vec<String>,
    pub(crate) partition: i32,
}

/// The shares of cells. Both stores hold the same absolute, versioned totals, so one of them replaces the other and
/// they are never added.
#[derive(Debug, Default)]
pub(crate) struct FreshShares(BTreeMap<Share, (i64, Tally)>);

impl FreshShares {
    /// Whether totals of this version would be news.
    pub(crate) fn is_newer(&self, share: &Share, version: i64) -> bool {
        self.0.get(share).is_none_or(|(known, _)| *known < version)
    }

    /// Takes totals, unless the same or newer ones are there.
    pub(crate) fn offer(&mut self, share: Share, version: i64, tally: Tally) {
        if self.is_newer(&share, version) {
            self.0.insert(share, (version, tally));
        }
    }

    /// The cells, grouped by some of the dimensions (positions in the rollup).
    pub(crate) fn into_cells(self, by: &[usize]) -> Result<Vec<Cell>, MergeError> {
        let mut cells: BTreeMap<(EventTime, Vec<String>), Tally> = BTreeMap::new();
        for (share, (_, tally)) in self.0 {
            let key = by.iter().filter_map(|index| share.dimensions.get(*index).cloned()).collect();
            match cells.entry((share.window_start, key)) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(tally);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().add(&tally)?,
            }
        }
        Ok(cells.into_iter().map(|((window_start, key), tally)| Cell { window_start, key, tally }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(department: &str, partition: i32) -> Share {
        let dimensions = vec![department.to_owned(), "7".to_owned()];
        Share { window_start: EventTime(0), event: "buy".to_owned(), dimensions, partition }
    }

    #[test]
    fn the_higher_version_wins_in_any_order() {
        for order in [[(5, 50), (9, 90)], [(9, 90), (5, 50)]] {
            let mut shares = FreshShares::default();
            for (version, count) in order {
                shares.offer(share("a", 0), version, Tally::Sum(count));
            }
            shares.offer(share("a", 1), 1, Tally::Sum(1));
            shares.offer(share("b", 0), 1, Tally::Sum(7));
            let cells = shares.into_cells(&[0]).expect("fits");
            let numbers: Vec<_> = cells.iter().map(|cell| (cell.key[0].as_str(), cell.tally.size())).collect();
            assert_eq!(numbers, [("a", 91), ("b", 7)]);
        }
    }

    #[test]
    fn events_of_another_name_are_other_cells() {
        let mut shares = FreshShares::default();
        shares.offer(share("a", 0), 9, Tally::Sum(1));
        shares.offer(Share { event: "refund".to_owned(), ..share("a", 0) }, 3, Tally::Sum(5));
        assert_eq!(shares.into_cells(&[0]).expect("fits")[0].tally.size(), 6);
    }

    #[test]
    fn an_equal_version_is_no_news() {
        let mut shares = FreshShares::default();
        shares.offer(share("a", 0), 3, Tally::Sum(1));
        assert!(!shares.is_newer(&share("a", 0), 3));
        assert!(shares.is_newer(&share("a", 0), 4));
        assert!(shares.is_newer(&share("a", 1), 0));
    }
}
