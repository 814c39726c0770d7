//! Calendar days as ClickHouse's `Date32` keeps them.

use jiff::civil::{Date, date};
use jiff::{ToSpan, Unit};

const EPOCH: Date = date(1970, 1, 1);

/// Days since 1970-01-01.
pub(crate) fn day_number(day: Date) -> i32 {
    day.since((Unit::Day, EPOCH)).map_or(0, |span| span.get_days())
}

/// The day so many days after 1970-01-01; the first or last of the calendar if it lies beyond.
pub(crate) fn day_of_number(number: i32) -> Date {
    EPOCH.saturating_add(i64::from(number).days())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_round_trip() {
        for (day, number) in [(date(1970, 1, 1), 0), (date(1969, 12, 31), -1), (date(2026, 3, 1), 20_513)] {
            assert_eq!((day_number(day), day_of_number(number)), (number, day));
        }
    }
}
