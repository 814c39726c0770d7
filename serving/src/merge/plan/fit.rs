//! Whether settled days fit the windows that are asked for. A tenant's time zone can change, and what was settled by its
//! former days stays as it was: a window has a number only if these days have all of it, each instant once.

use std::ops::Range;

use reckon_schemas::time::EventTime;
use reckon_schemas::window::Window;

use super::{Plan, Settlements};

impl Settlements {
    /// For windows of a day: without the days that share an instant with them and are none of them. Their cells of a day,
    /// and their users, are of other hours.
    pub(super) fn of_days(mut self, windows: &[Window]) -> Self {
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return self };
        let (from, to) = (first.start, last.end);
        self.days.retain(|day| {
            let same_start = windows.binary_search_by_key(&day.start, |window| window.start);
            day.end <= from || to <= day.start || same_start.is_ok_and(|index| windows[index].end == day.end)
        });
        self
    }

    /// Whether these days, which share an instant with a window, have all of it. Before the first settled day there was
    /// nothing.
    pub(super) fn fit(&self, window: &Window, days: &Range<usize>) -> bool {
        let Some(since) = self.since.filter(|since| *since < window.end) else { return true };
        let days = &self.days[days.clone()];
        let (Some(first), Some(last)) = (days.first(), days.last()) else { return false };
        let they_meet = days.windows(2).all(|pair| pair[0].end == pair[1].start);
        they_meet && first.start <= window.start.max(since) && window.end <= last.end
    }
}

impl Plan {
    /// The parts of the range that settled days do not fit: what they are is not known.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = (EventTime, EventTime)> {
        let unknown = self.windows.iter().filter(|planned| !planned.is_known);
        unknown.map(|planned| (planned.window.start, planned.window.end))
    }

    /// The windows that a cell reaches into which is of none of them, such as a day of another zone: that in which it
    /// begins, and the next one.
    pub(crate) fn around(&self, start: EventTime) -> Option<(EventTime, EventTime)> {
        let next = self.windows.partition_point(|planned| planned.window.start <= start);
        self.span(next.saturating_sub(1)..(next + 1).min(self.windows.len()))
    }
}
