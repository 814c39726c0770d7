//! Instants of event time and the calendar they are read in.

use std::fmt;

use jiff::civil::{Date, DateTime, date};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit};
use serde::{Deserialize, Serialize};

/// Microseconds in one second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;
/// Microseconds in one day of universal time.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// The day that days are counted from.
const EPOCH: Date = date(1970, 1, 1);

/// Days since 1970-01-01: how ClickHouse's `Date32`, Parquet and Delta keep a day.
#[must_use]
pub fn day_number(day: Date) -> i32 {
    day.since((Unit::Day, EPOCH)).map_or(0, |span| span.get_days())
}

/// The day so many days after 1970-01-01; the first or last of the calendar if it lies beyond.
#[must_use]
pub fn day_of_number(number: i32) -> Date {
    let beyond = if number < 0 { Date::MIN } else { Date::MAX };
    Span::new().try_days(number).map_or(beyond, |days| EPOCH.saturating_add(days))
}

/// An instant of event time: microseconds since 1970-01-01T00:00:00Z, negative before it.
///
/// Microseconds because that is what Parquet and Delta keep; finer input is floored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

impl EventTime {
    /// The earliest instant that the calendar arithmetic supports (-9999-01-02T00:00:00Z).
    pub const MIN: EventTime = EventTime(-377_705_023_200_000_000);

    /// From an instant of the wall clock, floored to microseconds.
    #[must_use]
    pub fn from_timestamp(at: Timestamp) -> Self {
        // `as_microsecond` truncates toward zero, so a negative instant with a sub-microsecond part needs the floor.
        let micros = at.as_microsecond();
        Self(if at.as_nanosecond() < i128::from(micros) * 1000 { micros - 1 } else { micros })
    }

    /// From Kafka's milliseconds.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// As an instant of the wall clock; instants outside of the calendar (years beyond ±9999) are clamped into it.
    #[must_use]
    pub fn to_timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
    }

    /// The number of the day of universal time that it lies on, see [`day_number`]: what rows of the lake are filed under.
    #[must_use]
    pub fn utc_day_number(self) -> i32 {
        i32::try_from(self.0.div_euclid(MICROS_PER_DAY)).expect("64 bits of microseconds are 107 million days")
    }

    /// This instant moved by a number of microseconds, saturating.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_timestamp().fmt(f)
    }
}

/// A tenant's IANA time zone, in which its calendar days begin and end.
///
/// The zone rules are compiled in, so that the same build settles the same days on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// The name is not in the IANA time zone database.
#[derive(Debug, thiserror::Error)]
#[error("unknown time zone {0:?}: give an IANA name such as \"Europe/Berlin\" or \"UTC\"")]
pub struct UnknownZone(pub String);

impl Zone {
    /// Universal time.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// Looks a zone up by its IANA name.
    ///
    /// # Errors
    /// [`UnknownZone`] if the database has no such name.
    pub fn parse(name: &str) -> Result<Self, UnknownZone> {
        TimeZone::get(name).map(Self).map_err(|_| UnknownZone(name.to_owned()))
    }

    /// The IANA name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The calendar day that contains an instant.
    #[must_use]
    pub fn day_of(&self, at: EventTime) -> Date {
        self.0.to_datetime(at.to_timestamp()).date()
    }

    /// The date and time that a clock in this zone shows at an instant.
    #[must_use]
    pub fn shown_at(&self, at: EventTime) -> DateTime {
        self.0.to_datetime(at.to_timestamp())
    }

    /// The same without the date: `09:30`.
    #[must_use]
    pub fn time_of_day(&self, at: EventTime) -> String {
        let time = self.shown_at(at).time();
        format!("{:02}:{:02}", time.hour(), time.minute())
    }

    /// The instant at which a clock in this zone shows a date and time; of an hour that a clock change repeats, the
    /// first one, of one that it skips, as much later.
    #[must_use]
    pub fn instant_of(&self, shown: DateTime) -> EventTime {
        match self.0.to_timestamp(shown) {
            Ok(instant) => EventTime::from_timestamp(instant),
            // Only reachable within a day of years ±9999.
            Err(_) => EventTime::from_timestamp(if shown.year() < 0 { Timestamp::MIN } else { Timestamp::MAX }),
        }
    }

    /// The first instant of a calendar day; where a clock change skips midnight, the first instant after the gap.
    #[must_use]
    pub fn day_start(&self, day: Date) -> EventTime {
        match day.to_zoned(self.0.clone()).and_then(|zoned| zoned.start_of_day()) {
            Ok(start) => EventTime::from_timestamp(start.timestamp()),
            // Only reachable within a day of years ±9999.
            Err(_) => EventTime::from_timestamp(if day.year() < 0 { Timestamp::MIN } else { Timestamp::MAX }),
        }
    }

    /// The instant at which a calendar day ends, which is where the next one starts.
    #[must_use]
    pub fn day_end(&self, day: Date) -> EventTime {
        self.day_start(day.checked_add(1.day()).unwrap_or(Date::MAX))
    }
}

impl Serialize for Zone {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Zone::parse(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_floored_also_before_1970() {
        let at = Timestamp::from_nanosecond(-1).expect("in range");
        assert_eq!(EventTime::from_timestamp(at), EventTime(-1));
        let at = Timestamp::from_nanosecond(1_999).expect("in range");
        assert_eq!(EventTime::from_timestamp(at), EventTime(1));
    }

    #[test]
    fn days_are_numbers_and_back() {
        for (day, number) in [(date(1970, 1, 1), 0), (date(1969, 12, 31), -1), (date(2026, 3, 1), 20_513)] {
            assert_eq!((day_number(day), day_of_number(number)), (number, day));
            assert_eq!(Zone::UTC.day_start(day).utc_day_number(), number);
            assert_eq!(Zone::UTC.day_end(day).plus_micros(-1).utc_day_number(), number);
        }
        assert_eq!(EventTime(i64::MAX).utc_day_number(), 106_751_991);
        assert_eq!((day_of_number(i32::MIN), day_of_number(i32::MAX)), (Date::MIN, Date::MAX));
    }

    #[test]
    fn a_day_without_midnight_starts_after_the_gap() {
        // Clocks in Sao Paulo went from 2018-11-03 23:59:59 to 2018-11-04 01:00:00.
        let zone = Zone::parse("America/Sao_Paulo").expect("known");
        let day = jiff::civil::date(2018, 11, 4);
        assert_eq!(zone.day_start(day).to_string(), "2018-11-04T03:00:00Z");
        assert_eq!(zone.day_end(day.yesterday().expect("in range")), zone.day_start(day));
    }

    #[test]
    fn zone_names_are_checked() {
        assert!(Zone::parse("Mars/Olympus").is_err());
        assert_eq!(Zone::parse("Asia/Kolkata").expect("known").name(), "Asia/Kolkata");
    }
}
