//! A set of offsets, kept as ranges.

use std::collections::BTreeMap;

use serde::Serialize;

/// Offsets from the first one up to, but not including, the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Range {
    /// The first offset.
    pub from: i64,
    /// The first offset after the last.
    pub to: i64,
}

impl Range {
    /// How many offsets it holds.
    #[must_use]
    pub fn len(self) -> u64 {
        u64::try_from(self.to.saturating_sub(self.from)).unwrap_or(0)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.to <= self.from
    }

    /// What lies in both.
    #[must_use]
    pub fn within(self, from: i64, to: i64) -> Range {
        Range { from: self.from.max(from), to: self.to.min(to) }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

/// Offsets and how many of them came more than once. Memory is that of the ranges, not of the offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// Start -> end; no two of them touch.
    ranges: BTreeMap<i64, i64>,
    doubled: BTreeMap<i64, u64>,
}

impl Offsets {
    /// Takes an offset in.
    pub fn insert(&mut self, offset: i64) {
        let before = self.ranges.range(..=offset).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| offset < end) {
            *self.doubled.entry(offset).or_insert(1) += 1;
            return;
        }
        let next = offset.saturating_add(1);
        let end = self.ranges.remove(&next).unwrap_or(next);
        match before {
            Some((start, known_end)) if known_end == offset => self.ranges.insert(start, end),
            _ => self.ranges.insert(offset, end),
        };
    }

    /// Takes a range in. What of it is there already is not counted as doubled.
    pub fn insert_range(&mut self, range: Range) {
        for hole in self.holes(range) {
            let mut hole = hole;
            if let Some((start, end)) = self.ranges.range(..=hole.from).next_back().map(|(start, end)| (*start, *end))
                && end == hole.from
            {
                hole.from = start;
            }
            if let Some(end) = self.ranges.remove(&hole.to) {
                hole.to = end;
            }
            self.ranges.insert(hole.from, hole.to);
        }
    }

    /// What is in both or either, each once.
    #[must_use]
    pub fn united(&self, other: &Self) -> Self {
        let mut united = Self { ranges: self.ranges.clone(), doubled: BTreeMap::new() };
        other.ranges().for_each(|range| united.insert_range(range));
        united
    }

    /// Whether an offset is in it.
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        self.ranges.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// The ranges, in order, with a gap between any two.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = Range> + '_ {
        self.ranges.iter().map(|(from, to)| Range { from: *from, to: *to })
    }

    /// Offsets that came more than once, and how often.
    #[must_use]
    pub fn doubled(&self) -> &BTreeMap<i64, u64> {
        &self.doubled
    }

    /// What of a range is not in the set, in order.
    #[must_use]
    pub fn holes(&self, within: Range) -> Vec<Range> {
        let (mut holes, mut from) = (Vec::new(), within.from);
        for range in self.ranges() {
            holes.push(Range { from, to: range.from }.within(within.from, within.to));
            from = from.max(range.to);
        }
        holes.push(Range { from, to: within.to });
        holes.retain(|hole| !hole.is_empty());
        holes
    }
}

impl FromIterator<i64> for Offsets {
    fn from_iter<I: IntoIterator<Item = i64>>(offsets: I) -> Self {
        let mut set = Self::default();
        offsets.into_iter().for_each(|offset| set.insert(offset));
        set
    }
}
