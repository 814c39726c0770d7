//! The lateness curve: which share of a day's deliveries has arrived when the day has a certain age.

use std::collections::BTreeMap;

use jiff::civil::Date;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, WindowCursor};

/// Ages of deliveries by the day they are dated on. An age is the time from the day's end until the delivery arrived,
/// in microseconds, negative while the day is not over.
#[derive(Debug)]
pub(super) struct Arrivals {
    zone: Zone,
    cursor: WindowCursor,
    ages_us: BTreeMap<EventTime, Vec<i64>>,
}

impl Arrivals {
    pub(super) fn new(zone: &Zone) -> Self {
        Self { zone: zone.clone(), cursor: WindowCursor::new(Grain::Day, zone.clone()), ages_us: BTreeMap::new() }
    }

    pub(super) fn take(&mut self, occurred_at: EventTime, logged_at: EventTime) {
        let day = self.cursor.window_at(occurred_at);
        self.ages_us.entry(day.start).or_default().push(logged_at.0.saturating_sub(day.end.0));
    }

    pub(super) fn count(&self, day: Date) -> u64 {
        self.ages_us.get(&self.zone.day_start(day)).map_or(0, |ages| ages.len() as u64)
    }

    /// The ages of every day between two that has any.
    pub(super) fn of_days(self, first: Date, last: Date) -> Vec<Vec<i64>> {
        let span = self.zone.day_start(first)..self.zone.day_end(last);
        self.ages_us.into_iter().filter(|(start, _)| span.contains(start)).map(|(_, ages)| ages).collect()
    }
}

/// The share that had arrived, over several days.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) mean: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

/// Days to learn from, each with the ages of its deliveries in order.
#[derive(Debug)]
pub(super) struct Curve(Vec<Vec<i64>>);

impl Curve {
    pub(super) fn new(mut days: Vec<Vec<i64>>) -> Self {
        days.retain(|ages| !ages.is_empty());
        days.iter_mut().for_each(|ages| ages.sort_unstable());
        Self(days)
    }

    pub(super) fn days(&self) -> u64 {
        self.0.len() as u64
    }

    /// The share that these days had when they were so old; `None` if there are none.
    pub(super) fn share_at(&self, age_us: i64) -> Option<Share> {
        let shares: Vec<f64> =
            self.0.iter().map(|ages| ratio(ages.partition_point(|age| *age <= age_us), ages.len())).collect();
        if shares.is_empty() {
            return None;
        }
        Some(Share {
            mean: shares.iter().sum::<f64>() / ratio(shares.len(), 1),
            lowest: shares.iter().copied().fold(f64::INFINITY, f64::min),
            highest: shares.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    /// The age at which the slowest of these days had such a share; `None` if there are none.
    pub(super) fn age_of(&self, share: f64) -> Option<i64> {
        let age = |ages: &Vec<i64>| {
            let reached = |index: &usize| ratio(index + 1, ages.len()) >= share;
            (0..ages.len()).find(reached).map(|index| ages[index])
        };
        self.0.iter().filter_map(age).max()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share, for an estimate")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// What a count becomes when it is only this share of all.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
pub(super) fn scaled(count: u64, share: f64) -> u64 {
    if share > 0.0 { (count as f64 / share).round() as u64 } else { count }
}
