//! The range that a question is about, and its pages.

use std::time::Duration;

use jiff::civil::Date;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window};

use crate::problem::Problem;

/// Without `from`, this much time before `to` is answered.
const DEFAULT_SPAN_US: i64 = 24 * 3600 * 1_000_000;
/// The same for windows of one second, which are gone after a few minutes.
const DEFAULT_SPAN_OF_SECONDS_US: i64 = 300 * 1_000_000;

/// From when to when, as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Range {
    pub(super) from: Option<Moment>,
    pub(super) to: Option<Moment>,
    /// Answer so many windows at once, and say where the next page begins.
    pub(super) page: Option<usize>,
}

/// A border of the range, as it was written: a date means its first instant in the tenant's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Moment {
    Instant(EventTime),
    Day(Date),
}

/// What bounds the windows of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most windows.
    pub(crate) windows_max: usize,
    /// For how long windows of one second are there.
    pub(crate) seconds_kept: Duration,
}

impl Range {
    /// Reads the borders. A cursor stands for both.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(super) fn parse(
        from: Option<&str>,
        to: Option<&str>,
        page: Option<usize>,
        cursor: Option<&str>,
    ) -> Result<Self, Problem> {
        if page == Some(0) {
            return Err(Problem::invalid_parameter("page", "a page has at least one window"));
        }
        let Some(cursor) = cursor else {
            let from = from.map(|text| moment("from", text)).transpose()?;
            return Ok(Self { from, to: to.map(|text| moment("to", text)).transpose()?, page });
        };
        if from.is_some() || to.is_some() {
            return Err(Problem::invalid_parameter("cursor", "it stands for `from` and `to`: leave them out"));
        }
        let (from, to) = cursor
            .split_once('/')
            .ok_or_else(|| Problem::invalid_parameter("cursor", "give the `next` of the page before, as it is"))?;
        Ok(Self { from: Some(moment("cursor", from)?), to: Some(moment("cursor", to)?), page })
    }

    /// Between two instants.
    pub(super) const fn between(from: EventTime, to: EventTime) -> Self {
        Self { from: Some(Moment::Instant(from)), to: Some(Moment::Instant(to)), page: None }
    }

    /// Both borders.
    ///
    /// # Errors
    /// 400 if there is nothing between them.
    pub(super) fn borders(&self, grain: Grain, now: EventTime, zone: &Zone) -> Result<(EventTime, EventTime), Problem> {
        let to = self.to.map_or(now.plus_micros(1), |to| to.at(zone));
        let default_us = if grain == Grain::Second { DEFAULT_SPAN_OF_SECONDS_US } else { DEFAULT_SPAN_US };
        let from = self.from.map_or(to.plus_micros(-default_us), |from| from.at(zone));
        if from >= to {
            return Err(Problem::invalid_parameter("from", format!("{from} is not before `to`, which is {to}")));
        }
        Ok((from, to))
    }

    /// The windows of this page: whole ones, without a gap, at least one and at most `windows_max`.
    ///
    /// # Errors
    /// 400 if the range is empty, 422 if it has too many windows, or begins with seconds that are gone.
    pub(super) fn windows(
        &self,
        grain: Grain,
        now: EventTime,
        zone: &Zone,
        bounds: Bounds,
    ) -> Result<Vec<Window>, Problem> {
        let Bounds { windows_max, seconds_kept } = bounds;
        let (from, to) = self.borders(grain, now, zone)?;
        let count = self.page.unwrap_or(windows_max + 1);
        let windows: Vec<Window> = grain.windows_over(from, to, zone).take(count.min(windows_max + 1)).collect();
        if windows.len() > windows_max {
            let detail = format!(
                "more than {windows_max} windows: ask for a shorter range, a coarser grain, or in pages (`page`)"
            );
            return Err(Problem::not_answerable("from", detail));
        }
        let kept_from = now.plus_micros(-i64::try_from(seconds_kept.as_micros()).unwrap_or(i64::MAX));
        if grain == Grain::Second && from < kept_from {
            let detail = format!(
                "windows of 1s are kept for {} s: begin at {kept_from} or later, or ask for windows of 1m",
                seconds_kept.as_secs()
            );
            return Err(Problem::not_answerable("from", detail));
        }
        Ok(windows)
    }

    /// What to give as the cursor of the next page, if there is one.
    ///
    /// Its borders are instants: what arrives between two pages changes numbers, and never moves, repeats or skips a
    /// window; and the range ends where it ended for the first page.
    pub(super) fn next(&self, windows: &[Window], grain: Grain, now: EventTime, zone: &Zone) -> Option<String> {
        self.page?;
        let (_, to) = self.borders(grain, now, zone).ok()?;
        let end = windows.last()?.end;
        (end < to).then(|| format!("{end}/{to}"))
    }
}

/// A range as a body gives it, not widened to windows.
///
/// # Errors
/// 400 that names the field.
pub(crate) fn parse(
    from: Option<&str>,
    to: Option<&str>,
    now: EventTime,
    zone: &Zone,
) -> Result<(EventTime, EventTime), Problem> {
    Range::parse(from, to, None, None)?.borders(Grain::Hour, now, zone)
}

impl Moment {
    pub(super) fn at(self, zone: &Zone) -> EventTime {
        match self {
            Moment::Instant(at) => at,
            Moment::Day(day) => zone.day_start(day),
        }
    }

    /// Away from the ends of the calendar, where windows would be cut short.
    fn is_plausible(&self) -> bool {
        let year = match self {
            Moment::Instant(at) => Zone::UTC.day_of(*at).year(),
            Moment::Day(day) => day.year(),
        };
        (1900..=9998).contains(&year)
    }
}

fn moment(name: &'static str, text: &str) -> Result<Moment, Problem> {
    let moment = match text.parse::<Date>() {
        Ok(day) if text.len() == "2026-01-31".len() => Some(Moment::Day(day)),
        _ => text.parse().ok().map(|at| Moment::Instant(EventTime::from_timestamp(at))),
    };
    moment.filter(Moment::is_plausible).ok_or_else(|| {
        let detail = "write a date (2026-01-31) or an instant (2026-01-31T12:00:00Z) of the years 1900 to 9998; \
                      a `+` in an offset is written %2B";
        Problem::invalid_parameter(name, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { windows_max: 100, seconds_kept: Duration::from_secs(600) };

    fn range(from: &str, to: &str) -> Range {
        let (from, to) = ((!from.is_empty()).then_some(from), (!to.is_empty()).then_some(to));
        Range::parse(from, to, None, None).expect("readable")
    }

    fn span(range: Range, grain: Grain, zone: &str) -> (usize, String, String) {
        let now = EventTime::from_timestamp("2026-03-30T10:30:30Z".parse().expect("valid"));
        let zone = Zone::parse(zone).expect("known");
        let windows = range.windows(grain, now, &zone, BOUNDS).expect("answerable");
        (windows.len(), windows[0].start.to_string(), windows[windows.len() - 1].end.to_string())
    }

    #[test]
    fn ranges_are_widened_to_whole_windows() {
        let hours = span(Range::default(), Grain::Hour, "UTC");
        assert_eq!(hours, (25, "2026-03-29T10:00:00Z".to_owned(), "2026-03-30T11:00:00Z".to_owned()));
        // The clocks go forward on 2026-03-29, so that day has 23 hours.
        let days = span(range("2026-03-29", "2026-03-30"), Grain::Day, "Europe/Berlin");
        assert_eq!(days, (1, "2026-03-28T23:00:00Z".to_owned(), "2026-03-29T22:00:00Z".to_owned()));
        let minute = span(range("2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z"), Grain::Minute, "UTC");
        assert_eq!(minute, (1, "2026-01-01T00:00:00Z".to_owned(), "2026-01-01T00:01:00Z".to_owned()));
    }

    #[test]
    fn ranges_are_bounded() {
        let windows = |range: Range, grain| range.windows(grain, EventTime(0), &Zone::UTC, BOUNDS);
        let status = |from, to, grain| windows(range(from, to), grain).expect_err("refused").status;
        assert_eq!(status("1900-01-01", "9998-01-01", Grain::Minute), 422);
        assert_eq!(status("2026-01-02", "2026-01-01", Grain::Hour), 400);
        assert_eq!(status("2026-01-01", "2026-01-01", Grain::Hour), 400);
        let seconds = |from: &str| range(&format!("1969-12-31T23:{from}Z"), "1970-01-01T00:00:00Z");
        assert_eq!(windows(seconds("58:21"), Grain::Second).expect("kept").len(), 99);
        let bounds = Bounds { windows_max: 1000, ..BOUNDS };
        let windows = |range: Range| range.windows(Grain::Second, EventTime(0), &Zone::UTC, bounds);
        assert_eq!(windows(seconds("50:00")).expect("kept").len(), 600);
        let gone = windows(seconds("49:59")).expect_err("gone");
        assert_eq!((gone.status, gone.parameter), (422, Some("from")));
        assert!(gone.detail.contains("1969-12-31T23:50:00Z") && gone.detail.contains("1m"), "{}", gone.detail);
        assert_eq!(windows(Range::default()).expect("the default").len(), 301);
    }

    #[test]
    fn a_cursor_stands_for_the_range_and_nothing_else() {
        let parse = |from, cursor| Range::parse(from, None, Some(5), Some(cursor)).map_err(|problem| problem.parameter);
        assert!(parse(None, "2026-01-01T00:00:00Z/2026-02-01T00:00:00Z").is_ok());
        assert_eq!(parse(Some("2026-01-01"), "2026-01-01T00:00:00Z/2026-02-01T00:00:00Z"), Err(Some("cursor")));
        assert_eq!(parse(None, "2026-01-01T00:00:00Z"), Err(Some("cursor")));
        assert_eq!(parse(None, "soon/later"), Err(Some("cursor")));
        assert_eq!(Range::parse(None, None, Some(0), None).map_err(|problem| problem.parameter), Err(Some("page")));
    }

    proptest! {
        /// Also while the clock goes on: a range without an end ends where the first page says.
        #[test]
        fn pages_together_are_the_whole(page in 1_usize..40, hours in 1_i64..90, offset_s in 0_i64..7200) {
            let hour = 3_600_000_000;
            let zone = Zone::parse("Europe/Berlin").expect("known");
            let start = EventTime::from_timestamp("2026-03-28T00:10:00Z".parse().expect("valid"));
            let mut now = start.plus_micros(hours * hour + offset_s * 1_000_000);
            let first = Range { from: Some(Moment::Instant(start)), to: None, page: Some(page) };
            let whole = Range { page: None, ..first }.windows(Grain::Hour, now, &zone, BOUNDS).expect("answerable");
            let (mut range, mut paged) = (first, Vec::new());
            loop {
                let windows = range.windows(Grain::Hour, now, &zone, BOUNDS).expect("answerable");
                prop_assert!(windows.len() <= page);
                let next = range.next(&windows, Grain::Hour, now, &zone);
                paged.extend(windows);
                let Some(cursor) = next else { break };
                now = now.plus_micros(3 * hour);
                range = Range::parse(None, None, Some(page), Some(&cursor)).expect("its own cursor");
            }
            prop_assert_eq!(paged, whole);
        }
    }
}
