//! What the speed layer did with each delivery, at one moment.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use reckon_schemas::settlement::Reason;

/// What the speed layer did with one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It counted it.
    Accepted,
    /// It read it and did not count it.
    Refused(Reason),
    /// It has not read it yet.
    NotYetSeen,
}

/// How far the speed layer had read, and what of that it refused. Whatever lies below and was not refused, it counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Per partition the first offset that was not read.
    pub next_offsets: BTreeMap<i32, i64>,
    /// By partition and offset.
    pub refused: HashMap<(i32, i64), Reason>,
}

impl Fates {
    /// What happened to a delivery.
    #[must_use]
    pub fn of(&self, partition: i32, offset: i64) -> Fate {
        match self.next_offsets.get(&partition) {
            Some(next) if offset < *next => {
                self.refused.get(&(partition, offset)).map_or(Fate::Accepted, |reason| Fate::Refused(*reason))
            }
            _ => Fate::NotYetSeen,
        }
    }
}
