//! First deliveries that were found elsewhere, as a list of those that are none.

use hashbrown::HashSet;

use super::firsts::{Contradiction, FirstDeliveries};
use super::places::Place;

/// A delivery of an event that had one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// Where it is.
    pub(crate) place: Place,
    /// Where the first one is.
    pub(crate) first: Place,
    /// Whether it is filed under the days in question.
    pub(crate) here: bool,
    /// Whether it says something else than the first one.
    pub(crate) differs: bool,
}

impl FirstDeliveries {
    /// From the repeats here, and those elsewhere that contradict the first delivery of an event that has one here.
    pub(crate) fn of_repeats(repeats: &[Repeat]) -> Self {
        let mut firsts = Self::default();
        let differing = || repeats.iter().filter(|repeat| repeat.differs);
        let contradicted: HashSet<Place> = differing().map(|repeat| repeat.first).collect();
        firsts.contradictions =
            differing().map(|repeat| Contradiction { first: repeat.first, other: repeat.place }).collect();
        firsts.contradictions.sort_unstable();
        for repeat in repeats {
            if repeat.here {
                firsts.later.insert(repeat.place);
            }
            // Those too that say the same as the first: the event is in doubt, not the single delivery.
            if contradicted.contains(&repeat.first) {
                firsts.conflicting.insert(repeat.first);
                firsts.conflicting.insert(repeat.place);
            }
        }
        firsts
    }
}
