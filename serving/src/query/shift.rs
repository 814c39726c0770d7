//! From a range to the one before it, as a calendar goes: a month before March is February, a day before a day of 23
//! hours has 24.

use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, SpanRound, ToSpan, Unit};
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::Window;

use crate::problem::Problem;

/// How far back the other range lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Back {
    /// As far as the range is long, so that it ends where this one begins.
    Length,
    /// So many months; a year has twelve.
    Months(i32),
    /// So many days; a week has seven.
    Days(i32),
    /// So many seconds, whatever a clock shows.
    Seconds(i64),
}

/// A half-open range of event time.
pub(super) type Reach = (EventTime, EventTime);

/// What tells a window from the others of its range, and is the same for the window that it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// So many microseconds after the range began.
    After(i64),
    /// The day of the range, what a clock shows, and whether it shows it for the second time.
    Shown { day: i32, time: Time, again: bool },
}

impl FromStr for Back {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let refused = || {
            let detail = "write `previous`, or how far back: `7d`, `4w`, `1mo`, `1y`, `36h`; calendar units and hours are \
                          not mixed, and 20 years are the most";
            Problem::invalid_parameter("compare", detail)
        };
        if text == "previous" {
            return Ok(Back::Length);
        }
        let span: Span = text.parse().map_err(|_| refused())?;
        let months =
            i32::from(span.get_years()).checked_mul(12).and_then(|months| months.checked_add(span.get_months()));
        let days = span.get_weeks().checked_mul(7).and_then(|days| days.checked_add(span.get_days()));
        let (months, days) = months.zip(days).ok_or_else(refused)?;
        let rest = span.years(0).months(0).weeks(0).days(0);
        let whole = SpanRound::new().largest(Unit::Second).smallest(Unit::Second);
        let seconds = rest.round(whole).map_err(|_| refused())?.get_seconds();
        let back = match (months, days, seconds) {
            (1..=240, 0, 0) => Back::Months(months),
            (0, 1..=7305, 0) => Back::Days(days),
            (0, 0, 1..=631_152_000) => Back::Seconds(seconds),
            _ => return Err(refused()),
        };
        Ok(back)
    }
}

impl Back {
    /// The other range.
    ///
    /// # Errors
    /// 422 if the calendar has no such range.
    pub(super) fn apply(self, (from, to): Reach, zone: &Zone) -> Result<(Reach, Back), Problem> {
        let back = if self == Back::Length { length((from, to), zone) } else { self };
        let moved = |at: EventTime| match back {
            Back::Seconds(seconds) => seconds.checked_mul(-1_000_000).map(|micros| at.plus_micros(micros)),
            Back::Days(days) => earlier(at, zone, days.days()),
            Back::Months(months) => earlier(at, zone, months.months()),
            Back::Length => None,
        };
        match (moved(from), moved(to)) {
            (Some(from), Some(to)) if from < to => Ok(((from, to), back)),
            _ => Err(Problem::not_answerable("compare", "the calendar has no such range that much earlier")),
        }
    }

    /// The place of a window in its range.
    pub(super) fn place(self, window: &Window, from: EventTime, zone: &Zone) -> Place {
        match self {
            Back::Seconds(_) | Back::Length => Place::After(window.start.0.saturating_sub(from.0)),
            Back::Days(_) | Back::Months(_) => {
                let shown = zone.shown_at(window.start);
                let day = days_between(zone.shown_at(from).date(), shown.date());
                Place::Shown { day, time: shown.time(), again: zone.instant_of(shown) != window.start }
            }
        }
    }
}

/// How long a range is: in months or days if it begins and ends with them.
fn length((from, to): Reach, zone: &Zone) -> Back {
    let (first, last) = (zone.shown_at(from), zone.shown_at(to));
    let is_day_start = |at: EventTime, shown: DateTime| zone.day_start(shown.date()) == at;
    if !is_day_start(from, first) || !is_day_start(to, last) {
        return Back::Seconds((to.0 - from.0) / 1_000_000);
    }
    if first.day() == 1 && last.day() == 1 {
        let months = |shown: DateTime| i32::from(shown.year()) * 12 + i32::from(shown.month());
        return Back::Months(months(last) - months(first));
    }
    Back::Days(days_between(first.date(), last.date()))
}

fn earlier(at: EventTime, zone: &Zone, span: Span) -> Option<EventTime> {
    let shown = zone.shown_at(at);
    if zone.day_start(shown.date()) == at {
        // A day may begin later than at midnight.
        return Some(zone.day_start(shown.date().checked_sub(span).ok()?));
    }
    Some(zone.instant_of(shown.checked_sub(span).ok()?))
}

fn days_between(from: Date, to: Date) -> i32 {
    from.until(to).map_or(0, |span| span.get_days())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reckon_schemas::window::Grain;

    fn at(text: &str) -> EventTime {
        EventTime::from_timestamp(text.parse().expect("valid"))
    }

    fn before(back: &str, from: &str, to: &str) -> Result<(String, String), u16> {
        let zone = Zone::parse("Europe/Berlin").expect("known");
        let day = |text: &str| zone.day_start(text.parse().expect("a date"));
        let back: Back = back.parse().map_err(|problem: Problem| problem.status)?;
        let ((from, to), _) = back.apply((day(from), day(to)), &zone).map_err(|problem| problem.status)?;
        Ok((zone.shown_at(from).to_string(), zone.shown_at(to).to_string()))
    }

    #[test]
    fn the_range_before_follows_the_calendar() {
        let dates = |from: &str, to: &str| Ok((format!("{from}T00:00:00"), format!("{to}T00:00:00")));
        assert_eq!(before("previous", "2026-03-01", "2026-04-01"), dates("2026-02-01", "2026-03-01"));
        assert_eq!(before("previous", "2026-01-01", "2027-01-01"), dates("2025-01-01", "2026-01-01"));
        // The clocks go forward on 2026-03-29.
        assert_eq!(before("previous", "2026-03-29", "2026-04-05"), dates("2026-03-22", "2026-03-29"));
        assert_eq!(before("7d", "2026-03-29", "2026-03-30"), dates("2026-03-22", "2026-03-23"));
        assert_eq!(before("1y", "2026-03-29", "2026-03-30"), dates("2025-03-29", "2025-03-30"));
        assert_eq!(before("P1M", "2026-03-15", "2026-03-16"), dates("2026-02-15", "2026-02-16"));
        // There is no 30th of February.
        assert_eq!(before("1mo", "2026-03-30", "2026-03-31"), Err(422));
        let hours = before("24h", "2026-03-29", "2026-03-30").expect("a range");
        assert_eq!(hours, ("2026-03-28T00:00:00".to_owned(), "2026-03-28T23:00:00".to_owned()));
        for text in ["", "soon", "0d", "-7d", "1d 1h", "1mo 1d", "21y", "99999999d"] {
            assert_eq!(text.parse::<Back>().map_err(|problem| problem.parameter), Err(Some("compare")), "{text}");
        }
    }

    #[test]
    fn an_hour_that_is_there_twice_or_not_at_all_has_no_wrong_partner() {
        let zone = Zone::parse("Europe/Berlin").expect("known");
        let places = |day: &str| {
            let day: Date = day.parse().expect("a date");
            let (from, to) = (zone.day_start(day), zone.day_end(day));
            let windows = Grain::Hour.windows_over(from, to, &zone);
            windows.map(|window| Back::Days(7).place(&window, from, &zone)).collect::<Vec<_>>()
        };
        let (usual, short, long) = (places("2026-03-22"), places("2026-03-29"), places("2026-10-25"));
        assert_eq!((usual.len(), short.len(), long.len()), (24, 23, 25));
        let only_usual: Vec<_> = usual.iter().filter(|place| !short.contains(place)).collect();
        assert_eq!(only_usual, [&Place::Shown { day: 0, time: jiff::civil::time(2, 0, 0, 0), again: false }]);
        let only_long: Vec<_> = long.iter().filter(|place| !usual.contains(place)).collect();
        assert_eq!(only_long, [&Place::Shown { day: 0, time: jiff::civil::time(2, 0, 0, 0), again: true }]);
    }

    proptest! {
        #[test]
        fn a_place_is_one_windows_own(start_h in 0_i64..20_000, hours in 1_i64..200, days in 1_i32..400) {
            let zone = Zone::parse("America/New_York").expect("known");
            let from = at("2026-01-01T05:00:00Z").plus_micros(start_h * 3_600_000_000);
            let to = from.plus_micros(hours * 3_600_000_000);
            for back in [Back::Days(days), Back::Length] {
                let Ok(((base_from, base_to), back)) = back.apply((from, to), &zone) else { continue };
                prop_assert!(base_to <= from || back != Back::Seconds(hours * 3600));
                for (from, to) in [(from, to), (base_from, base_to)] {
                    let windows: Vec<Window> = Grain::Hour.windows_over(from, to, &zone).collect();
                    let mut places: Vec<Place> = windows.iter().map(|window| back.place(window, from, &zone)).collect();
                    let count = places.len();
                    places.sort_unstable();
                    places.dedup();
                    prop_assert_eq!(places.len(), count);
                }
            }
        }
    }
}
