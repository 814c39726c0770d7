//! Tumbling windows of event time: half-open intervals `[start, end)` of one grain.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{EventTime, MICROS_PER_SECOND, Zone};

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grain {
    /// One second, the finest grain. Only the speed layer counts it, and only for a few minutes.
    #[serde(rename = "1s")]
    Second,
    /// One minute, the finest grain that is kept.
    #[serde(rename = "1m")]
    Minute,
    /// Five minutes.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// One hour of universal time.
    #[serde(rename = "1h")]
    Hour,
    /// One calendar day in the tenant's time zone: 23 to 25 hours.
    #[serde(rename = "1d")]
    Day,
}

/// The grain's name is not one of `1s`, `1m`, `5m`, `1h`, `1d`.
#[derive(Debug, thiserror::Error)]
#[error("unknown grain {0:?}: one of 1s, 1m, 5m, 1h, 1d")]
pub struct UnknownGrain(pub String);

impl Grain {
    /// Every grain, finest first. A window of each lies in one window of the next.
    pub const ALL: [Grain; 5] = [Grain::Second, Grain::Minute, Grain::FiveMinutes, Grain::Hour, Grain::Day];

    /// The grains that ClickHouse keeps and the batch layer settles, finest first.
    pub const KEPT: [Grain; 4] = [Grain::Minute, Grain::FiveMinutes, Grain::Hour, Grain::Day];

    /// The name used in every format: `1s`, `1m`, `5m`, `1h`, `1d`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Grain::Second => "1s",
            Grain::Minute => "1m",
            Grain::FiveMinutes => "5m",
            Grain::Hour => "1h",
            Grain::Day => "1d",
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Grain::Second => 0,
            Grain::Minute => 1,
            Grain::FiveMinutes => 2,
            Grain::Hour => 3,
            Grain::Day => 4,
        }
    }

    /// The length in microseconds, where it does not depend on the calendar.
    #[must_use]
    pub const fn fixed_length_us(self) -> Option<i64> {
        match self {
            Grain::Second => Some(MICROS_PER_SECOND),
            Grain::Minute => Some(60 * MICROS_PER_SECOND),
            Grain::FiveMinutes => Some(300 * MICROS_PER_SECOND),
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

/// A duration for each grain: an allowed lateness, a retention. A coarser grain never has less than a finer one.
///
/// In a configuration file a table (`{ minute = "1h", day = "6h" }`), or one duration for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerGrain([Duration; 5]);

/// Durations that get shorter towards coarser grains: what has left a coarser window could not enter a finer one.
#[derive(Debug, thiserror::Error)]
#[error("{coarser} has less than {finer}: give a coarser grain at least as much as a finer one")]
pub struct NotAscending {
    finer: Grain,
    coarser: Grain,
}

impl PerGrain {
    /// Durations in the order of [`Grain::ALL`].
    ///
    /// # Errors
    /// [`NotAscending`].
    pub fn new(durations: [Duration; 5]) -> Result<Self, NotAscending> {
        for (finer, coarser) in Grain::ALL.into_iter().zip(Grain::ALL.into_iter().skip(1)) {
            if durations[finer.index()] > durations[coarser.index()] {
                return Err(NotAscending { finer, coarser });
            }
        }
        Ok(Self(durations))
    }

    /// The same for every grain.
    #[must_use]
    pub const fn all(duration: Duration) -> Self {
        Self([duration; 5])
    }

    /// The duration of a grain.
    #[must_use]
    pub const fn of(&self, grain: Grain) -> Duration {
        self.0[grain.index()]
    }

    /// The duration of a grain in microseconds; what exceeds 292,000 years is that.
    #[must_use]
    pub fn micros_of(&self, grain: Grain) -> i64 {
        i64::try_from(self.of(grain).as_micros()).unwrap_or(i64::MAX)
    }
}

/// The two ways to write it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenPerGrain {
    All(#[serde(with = "humantime_serde")] Duration),
    Each(EachGrain),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EachGrain {
    #[serde(with = "humantime_serde")]
    second: Duration,
    #[serde(with = "humantime_serde")]
    minute: Duration,
    #[serde(with = "humantime_serde")]
    five_minutes: Duration,
    #[serde(with = "humantime_serde")]
    hour: Duration,
    #[serde(with = "humantime_serde")]
    day: Duration,
}

impl Serialize for PerGrain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [second, minute, five_minutes, hour, day] = self.0;
        EachGrain { second, minute, five_minutes, hour, day }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PerGrain {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match WrittenPerGrain::deserialize(deserializer)? {
            WrittenPerGrain::All(duration) => Ok(Self::all(duration)),
            WrittenPerGrain::Each(EachGrain { second, minute, five_minutes, hour, day }) => {
                Self::new([second, minute, five_minutes, hour, day]).map_err(serde::de::Error::custom)
            }
        }
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
        for (index, grain) in Grain::ALL.into_iter().enumerate() {
            assert_eq!(grain.index(), index);
        }
    }

    #[test]
    fn durations_per_grain_are_one_or_ascending() {
        let read = |text: &str| serde_json::from_str::<PerGrain>(text);
        assert_eq!(read("\"20m\"").expect("one"), PerGrain::all(Duration::from_secs(1200)));
        let each = r#"{"second":"1s","minute":"1m","five_minutes":"1m","hour":"2h","day":"1d"}"#;
        let durations = read(each).expect("ascending");
        assert_eq!(durations.micros_of(Grain::Hour), 7_200_000_000);
        assert_eq!(read(&serde_json::to_string(&durations).expect("plain data")).expect("as written"), durations);
        assert!(read(&each.replace("2h", "1s")).is_err());
    }
}
