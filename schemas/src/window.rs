//! Tumbling windows of event time: half-open intervals `[start, end)` of one grain.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::{EventTime, MICROS_PER_SECOND, Zone};

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grain {
    /// One minute, the finest grain that is kept.
    #[serde(rename = "1m")]
    Minute,
    /// One hour of universal time.
    #[serde(rename = "1h")]
    Hour,
    /// One calendar day in the tenant's time zone: 23 to 25 hours.
    #[serde(rename = "1d")]
    Day,
}

/// The grain's name is not one of `1m`, `1h`, `1d`.
#[derive(Debug, thiserror::Error)]
#[error("unknown grain {0:?}: one of 1m, 1h, 1d")]
pub struct UnknownGrain(pub String);

impl Grain {
    /// Every grain, finest first.
    pub const ALL: [Grain; 3] = [Grain::Minute, Grain::Hour, Grain::Day];

    /// The grain that an event is counted in; all coarser windows are unions of its windows.
    pub const FINEST: Grain = Grain::Minute;

    /// The name used in every format: `1m`, `1h`, `1d`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Grain::Minute => "1m",
            Grain::Hour => "1h",
            Grain::Day => "1d",
        }
    }

    /// The length in microseconds, where it does not depend on the calendar.
    #[must_use]
    pub const fn fixed_length_us(self) -> Option<i64> {
        match self {
            Grain::Minute => Some(60 * MICROS_PER_SECOND),
            Grain::Hour => Some(3600 * MICROS_PER_SECOND),
            Grain::Day => None,
        }
    }

    /// The window of this grain that contains an instant.
    #[must_use]
    pub fn window_at(self, at: EventTime, zone: &Zone) -> Window {
        match self.fixed_length_us() {
            Some(length_us) => {
                let start = at.0 - at.0.rem_euclid(length_us);
                Window { grain: self, start: EventTime(start), end: EventTime(start + length_us) }
            }
            None => {
                let day = zone.day_of(at);
                Window { grain: self, start: zone.day_start(day), end: zone.day_end(day) }
            }
        }
    }

    /// The windows that together cover `[from, to)`: the first contains `from`, the last the instant before `to`.
    /// Empty if `to <= from`.
    pub fn windows_over(self, from: EventTime, to: EventTime, zone: &Zone) -> impl Iterator<Item = Window> {
        let zone = zone.clone();
        let first = (from < to).then(|| self.window_at(from, &zone));
        std::iter::successors(first, move |window| (window.end < to).then(|| self.window_at(window.end, &zone)))
    }
}

impl fmt::Display for Grain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Grain {
    type Err = UnknownGrain;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Grain::ALL.into_iter().find(|grain| grain.name() == name).ok_or_else(|| UnknownGrain(name.to_owned()))
    }
}

/// A half-open interval of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Which grain it is a window of.
    pub grain: Grain,
    /// The first instant inside.
    pub start: EventTime,
    /// The first instant after it.
    pub end: EventTime,
}

impl Window {
    /// Whether an instant lies inside.
    #[must_use]
    pub fn contains(&self, at: EventTime) -> bool {
        self.start <= at && at < self.end
    }
}

/// Finds the window of consecutive instants without asking the calendar again while they stay in the same window.
#[derive(Clone, Debug)]
pub struct WindowCursor {
    zone: Zone,
    last: Window,
}

impl WindowCursor {
    /// A cursor over windows of one grain in one zone.
    #[must_use]
    pub fn new(grain: Grain, zone: Zone) -> Self {
        let last = grain.window_at(EventTime(0), &zone);
        Self { zone, last }
    }

    /// The window that contains an instant.
    pub fn window_at(&mut self, at: EventTime) -> Window {
        if !self.last.contains(at) {
            self.last = self.last.grain.window_at(at, &self.zone);
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> EventTime {
        EventTime::from_timestamp(text.parse().expect("a timestamp"))
    }

    #[test]
    fn windows_before_1970_contain_their_instants() {
        let window = Grain::Minute.window_at(EventTime(-1), &Zone::UTC);
        assert_eq!((window.start, window.end), (EventTime(-60_000_000), EventTime(0)));
    }

    #[test]
    fn days_have_23_and_25_hours_at_clock_changes() {
        let zone = Zone::parse("Europe/Berlin").expect("known");
        let hours = |text| {
            let day = Grain::Day.window_at(at(text), &zone);
            (day.end.0 - day.start.0) / 3_600_000_000
        };
        assert_eq!(hours("2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours("2026-10-25T12:00:00Z"), 25);
        assert_eq!(hours("2024-02-29T12:00:00Z"), 24);
    }

    #[test]
    fn an_empty_range_has_no_windows() {
        assert_eq!(Grain::Hour.windows_over(EventTime(5), EventTime(5), &Zone::UTC).count(), 0);
        assert_eq!(Grain::Hour.windows_over(EventTime(5), EventTime(6), &Zone::UTC).count(), 1);
    }

    #[test]
    fn names_round_trip() {
        for grain in Grain::ALL {
            assert_eq!(grain.name().parse::<Grain>().expect("its own name"), grain);
        }
        assert!("1w".parse::<Grain>().is_err());
    }
}
