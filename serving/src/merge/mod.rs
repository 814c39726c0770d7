//! One answer out of two counts. Pure: what was read comes in, what is said goes out.
//!
//! A window is answered by batch or by speed, never by a sum of both ([`plan`]). Counts and money are added over
//! windows and groups; distinct users are united, or were counted for the very set that is asked for ([`tally`]).

pub(crate) mod fresh;
pub(crate) mod plan;
pub(crate) mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use plan::{Layer, Place, Plan};
use reckon_schemas::time::EventTime;
use tally::Tally;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MergeError {
    /// Sums are never wrapped.
    #[error("a sum left the range of 128 bits")]
    Overflow,
    /// A union was asked for of sets of which only the size was read: a mistake in the reading, not in the data.
    #[error("sets of users cannot be united without their sketches")]
    Incomplete,
}

/// The values of the dimensions that are grouped by.
pub(crate) type Key = Vec<String>;

/// What one layer counted for one group in one window.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) window_start: EventTime,
    pub(crate) key: Key,
    pub(crate) tally: Tally,
}

/// Tallies of unions, by piece of the plan (`None`: the whole range) and group (`None`: all groups).
pub(crate) type Unions = HashMap<(Option<usize>, Option<Key>), Tally>;

/// Everything that was read for one answer.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    /// The cells of each layer.
    pub(crate) layers: Vec<(Layer, Vec<Cell>)>,
    /// The unions that were made where the data is; they take precedence over adding up.
    pub(crate) unions: Unions,
    /// What nothing is.
    pub(crate) zero: Tally,
}

impl Counted {
    /// How many numbers were read.
    pub(crate) fn len(&self) -> usize {
        self.layers.iter().map(|(_, cells)| cells.len()).sum::<usize>() + self.unions.len()
    }
}

/// One group of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) key: Key,
    pub(crate) total: Tally,
    /// One for each piece of the plan.
    pub(crate) parts: Vec<Tally>,
    /// The windows that have a cell, by their position in the plan.
    pub(crate) points: BTreeMap<usize, Tally>,
}

/// The merged numbers, without their names.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    pub(crate) total: Tally,
    /// One for each piece of the plan.
    pub(crate) parts: Vec<Tally>,
    /// The largest first.
    pub(crate) groups: Vec<Group>,
    /// Where cells begin that are of none of the plan's windows: they are in no number.
    pub(crate) unplaced: BTreeSet<EventTime>,
}

/// Merges what the layers counted. Cells of windows that the plan gives to another layer are left out.
///
/// # Errors
/// [`MergeError`].
pub(crate) fn merge(plan: &Plan, counted: Counted) -> Result<Merged, MergeError> {
    let Counted { layers, unions, zero } = counted;
    let mut points: BTreeMap<Key, BTreeMap<usize, Tally>> = BTreeMap::new();
    let mut unplaced = BTreeSet::new();
    for (layer, cell) in layers.into_iter().flat_map(|(layer, cells)| cells.into_iter().map(move |cell| (layer, cell)))
    {
        let position = match plan.place(cell.window_start, layer) {
            Place::Window(position) => position,
            Place::LeftOut => continue,
            Place::Nowhere => {
                unplaced.insert(cell.window_start);
                continue;
            }
        };
        match points.entry(cell.key).or_default().entry(position) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(cell.tally);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().add(&cell.tally)?,
        }
    }
    let united = |piece: Option<usize>, key: Option<&Key>| unions.get(&(piece, key.cloned())).cloned();
    let mut groups = Vec::with_capacity(points.len());
    for (key, points) in points {
        let mut parts = Vec::with_capacity(plan.pieces().len());
        for (index, piece) in plan.pieces().iter().enumerate() {
            let part = match united(Some(index), Some(&key)) {
                Some(union) => union,
                None => tally::sum(points.range(piece.windows.clone()).map(|(_, tally)| tally), &zero)?,
            };
            parts.push(part);
        }
        let total = match united(None, Some(&key)) {
            Some(union) => union,
            None => tally::sum(parts.iter(), &zero)?,
        };
        groups.push(Group { key, total, parts, points });
    }
    let mut parts = Vec::with_capacity(plan.pieces().len());
    for index in 0..plan.pieces().len() {
        let part = match united(Some(index), None) {
            Some(union) => union,
            None => tally::sum(groups.iter().map(|group| &group.parts[index]), &zero)?,
        };
        parts.push(part);
    }
    let total = match united(None, None) {
        Some(union) => union,
        None => tally::sum(parts.iter(), &zero)?,
    };
    groups.sort_by(|a, b| b.total.size().cmp(&a.total.size()).then_with(|| a.key.cmp(&b.key)));
    Ok(Merged { total, parts, groups, unplaced })
}

/// Which groups of an answer are named.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// Every group.
    All,
    /// So many of the largest.
    Largest(usize),
    /// These, as far as they are there.
    These(Vec<Key>),
}

impl Merged {
    /// Keeps some of the groups; the others come back, the largest first.
    pub(crate) fn keep(&mut self, kept: &Kept) -> Vec<Group> {
        match kept {
            Kept::All => Vec::new(),
            Kept::Largest(count) => self.groups.split_off((*count).min(self.groups.len())),
            Kept::These(keys) => self.groups.extract_if(.., |group| !keys.contains(&group.key)).collect(),
        }
    }
}

/// Groups as one without values, if they can be added up.
pub(crate) fn add_up(groups: Vec<Group>) -> Option<Group> {
    let mut groups = groups.into_iter();
    let mut sum = Group { key: Key::new(), ..groups.next()? };
    for group in groups {
        sum.total.add(&group.total).ok()?;
        for (part, more) in sum.parts.iter_mut().zip(&group.parts) {
            part.add(more).ok()?;
        }
        for (position, tally) in group.points {
            match sum.points.entry(position) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(tally);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().add(&tally).ok()?,
            }
        }
    }
    Some(sum)
}
