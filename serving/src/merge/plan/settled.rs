//! What is settled, and by which runs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::settlement::{self, State};
use reckon_schemas::time::EventTime;

/// One settled day, as the newest settlement row says.
#[derive(Clone, Debug)]
pub(crate) struct SettledDay {
    pub(crate) day: Date,
    pub(crate) start: EventTime,
    pub(crate) end: EventTime,
    pub(crate) run_id: Arc<str>,
    pub(crate) state: State,
    pub(crate) settled_at: Timestamp,
    /// How many deliveries it was counted from.
    pub(crate) deliveries: u64,
    /// The version of the lake that it was counted from.
    pub(crate) lake_version: u64,
}

/// Everything that is settled for a tenant, read at one moment: all that is read afterwards for the same answer is
/// pinned to these runs, so that a settlement landing in between cannot mix two runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settlements {
    pub(super) days: Vec<SettledDay>,
    /// Where the first of all settled days begins.
    pub(super) since: Option<EventTime>,
    pub(super) horizon: Option<EventTime>,
}

impl Settlements {
    pub(crate) fn new(mut days: Vec<SettledDay>) -> Self {
        days.sort_unstable_by_key(|day| day.start);
        let since = days.first().map(|day| day.start);
        // As it was settled, whatever zone the tenant's days are in since.
        let last = settlement::last_settled_day(days.iter().map(|day| day.day));
        let horizon = days.iter().find(|day| Some(day.day) == last).map(|day| day.end);
        Self { days, since, horizon }
    }

    pub(crate) fn horizon(&self) -> Option<EventTime> {
        self.horizon
    }

    /// Gives days, as far as they are settled by the run that is named, another run to be read from: the one that has
    /// filled a rollup since, and when.
    pub(crate) fn fill(&mut self, filled: Vec<(Date, String, String, Timestamp)>) {
        let filled = filled.into_iter().map(|(date, base, run_id, at)| ((date, base), (run_id, at)));
        let mut filled: BTreeMap<(Date, String), (String, Timestamp)> = filled.collect();
        for day in &mut self.days {
            if let Some((run_id, at)) = filled.remove(&(day.day, day.run_id.to_string())) {
                (day.run_id, day.settled_at) = (Arc::from(run_id), at);
            }
        }
    }

    /// The same as if nothing were settled from an instant on: batch has not counted there what is asked for.
    pub(crate) fn before(mut self, instant: EventTime) -> Self {
        self.days.truncate(self.days.partition_point(|day| day.start < instant));
        self.horizon = self.horizon.map(|horizon| horizon.min(instant));
        self
    }

    /// The days that share an instant with a range.
    pub(crate) fn days_in(&self, from: EventTime, to: EventTime) -> &[SettledDay] {
        &self.days[self.overlapping(from, to)]
    }

    /// The same as positions.
    pub(super) fn overlapping(&self, from: EventTime, to: EventTime) -> Range<usize> {
        let first = self.days.partition_point(|day| day.end <= from);
        let last = self.days.partition_point(|day| day.start < to);
        first..last.max(first)
    }

    /// 128 bits of what is settled of a range: how far, by which runs, in which state. Two are equal only if no
    /// settlement, restatement, close or reopening has touched the range in between.
    pub(crate) fn fingerprint(&self, from: EventTime, to: EventTime) -> String {
        let days = self.days_in(from, to);
        let days: Vec<_> = days.iter().map(|day| (day.day, &day.run_id, day.state, day.settled_at)).collect();
        let horizon = self.horizon.map(|horizon| horizon.min(to));
        crate::cache::entry::hash(format!("{horizon:?} {days:?}").as_bytes())
    }
}
