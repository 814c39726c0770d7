//! Funnels: how many users take several steps one after the other, within a time limit from the first.
//!
//! A user reaches step *n* if there are events of the user for the steps 1 to *n*, each later than the one before, the
//! last one at most the limit after the first. Events of the same instant (a microsecond) are not one after the other.
//! One event may be a step of several of a user's attempts, but only one step of each. All events lie in the range.
//!
//! A user belongs to one segment: the value that the user's earliest event for the first step has, so that segments add
//! up. Both engines answer by these words: ClickHouse what lies in the last days, DataFusion what lies before.

pub(crate) mod answer;
pub(crate) mod question;
pub(crate) mod walk;

use std::collections::BTreeMap;

/// How many users came how far, by segment: at position *n* those who reached step *n + 1* and no further.
pub(crate) type Reached = BTreeMap<String, Vec<u64>>;

/// The most steps.
pub(crate) const STEPS_MAX: usize = 10;

/// Adds users who came so far.
pub(crate) fn add(reached: &mut Reached, segment: String, steps: usize, level: usize, users: u64) {
    let levels = reached.entry(segment).or_insert_with(|| vec![0; steps]);
    if let Some(count) = level.checked_sub(1).and_then(|position| levels.get_mut(position)) {
        *count += users;
    }
}
