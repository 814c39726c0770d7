//! The period that finance closes: a calendar month.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// A calendar month, written `2026-10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    first_day: Date,
}

/// The text is no month.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no period: write a month as 2026-10")]
pub struct InvalidPeriod(pub String);

impl Period {
    /// The month that a day lies in.
    #[must_use]
    pub fn of(day: Date) -> Self {
        Self { first_day: day.first_of_month() }
    }

    /// Its first day.
    #[must_use]
    pub fn first_day(self) -> Date {
        self.first_day
    }

    /// Its last day.
    #[must_use]
    pub fn last_day(self) -> Date {
        self.first_day.last_of_month()
    }

    /// Its days, in order.
    pub fn days(self) -> impl Iterator<Item = Date> {
        let last = self.last_day();
        std::iter::successors(Some(self.first_day), |day| day.tomorrow().ok()).take_while(move |day| *day <= last)
    }

    /// Whether a day lies in it.
    #[must_use]
    pub fn contains(self, day: Date) -> bool {
        Self::of(day) == self
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.first_day.year(), self.first_day.month())
    }
}

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first_day = || {
            let (year, month) = text.split_once('-')?;
            let digits = |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(year, 4) || !digits(month, 2) {
                return None;
            }
            Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()
        };
        first_day().map(|first_day| Self { first_day }).ok_or_else(|| InvalidPeriod(text.chars().take(80).collect()))
    }
}

impl Serialize for Period {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_month_has_its_days_and_no_others() {
        let february: Period = "2024-02".parse().expect("a month");
        assert_eq!((february.first_day(), february.last_day()), (date(2024, 2, 1), date(2024, 2, 29)));
        assert_eq!(february.days().count(), 29);
        assert!(february.contains(date(2024, 2, 29)) && !february.contains(date(2024, 3, 1)));
        assert_eq!(Period::of(date(2024, 2, 11)).to_string(), "2024-02");
        for text in ["2024", "2024-13", "2024-00", "24-02", "2024-2", "2024-02-01", "+024-02", ""] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
