//! What the two layers did with each delivery, at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use reckon_schemas::settlement::Reason;

use super::Plans;

/// What the speed layer did with one delivery, as far as a cell is concerned that it falls into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It counted it.
    Accepted,
    /// It counted it in another cell: under `__other__`, because a dimension had too many values.
    Elsewhere,
    /// It read it and did not count it.
    Refused(Reason),
    /// It has not read it yet.
    NotYetSeen,
}

impl Fate {
    /// The same as far as something is concerned that was not in the catalog when the delivery was read.
    #[must_use]
    pub fn without(self) -> Self {
        match self {
            Fate::Accepted | Fate::Elsewhere => Fate::Refused(Reason::NotCountedThen),
            fate => fate,
        }
    }
}

/// What the batch layer did with one delivery, as far as a cell is concerned that the speed layer may have
/// counted it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It counted it: the first delivery of an event.
    Here,
    /// It counted it in the cell of its own values; this one is that of `__other__`.
    Elsewhere,
    /// It did not count it: a later delivery.
    Not,
}

/// How far the speed layer had read, and what of that it refused. Whatever lies below and was not refused, it counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Per partition the first offset that was not read.
    pub next_offsets: BTreeMap<i32, i64>,
    /// By partition and offset.
    pub refused: HashMap<(i32, i64), Reason>,
    /// By partition and offset: the dimensions under whose `__other__` it was counted.
    pub overflowed: HashMap<(i32, i64), Arc<[String]>>,
    /// What it counted by, when.
    pub plans: Plans,
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

    /// The dimensions under whose `__other__` an accepted delivery was counted; mostly none.
    #[must_use]
    pub fn overflowed(&self, partition: i32, offset: i64) -> &[String] {
        self.overflowed.get(&(partition, offset)).map_or(&[], |dimensions| dimensions)
    }
}
