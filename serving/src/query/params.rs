//! Reading a query's parameters. What comes out is normalised: equal questions are equal values.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Date;
use reckon_schemas::cell::ROLLUP_DIMENSIONS_MAX;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window};

use crate::problem::Problem;

/// The longest value of any parameter, in bytes.
const VALUE_BYTES_MAX: usize = 1024;
/// The most filters.
const FILTERS_MAX: usize = 64;
/// Without `from`, this much time before `to` is answered.
const DEFAULT_SPAN_US: i64 = 24 * 3600 * 1_000_000;
/// The same for windows of one second, which are gone after a few minutes.
const DEFAULT_SPAN_OF_SECONDS_US: i64 = 300 * 1_000_000;

/// A question, not yet held against a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Query {
    pub(crate) metric: String,
    pub(crate) grain: Grain,
    pub(crate) by: Vec<String>,
    /// Dimension to the values allowed.
    pub(crate) filters: BTreeMap<String, BTreeSet<String>>,
    from: Option<Moment>,
    to: Option<Moment>,
}

/// What bounds the windows of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most windows.
    pub(crate) windows_max: usize,
    /// For how long windows of one second are there.
    pub(crate) seconds_kept: Duration,
}

/// A border of the range, as it was written: a date means its first instant in the tenant's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Moment {
    Instant(EventTime),
    Day(Date),
}

impl Query {
    /// Reads the parameters of a query string.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn parse(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let mut single: BTreeMap<&'static str, &str> = BTreeMap::new();
        let mut filters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, value) in pairs {
            let name = known(name)?;
            if value.len() > VALUE_BYTES_MAX {
                return Err(Problem::invalid_parameter(name, format!("longer than {VALUE_BYTES_MAX} bytes")));
            }
            if name == "filter" {
                let (dimension, value) = value.split_once(':').ok_or_else(|| {
                    Problem::invalid_parameter(name, "write it as `dimension:value`, once for each value")
                })?;
                filters.entry(dimension.to_owned()).or_default().insert(value.to_owned());
            } else if single.insert(name, value).is_some() {
                return Err(Problem::invalid_parameter(name, "given more than once"));
            }
        }
        if filters.values().map(BTreeSet::len).sum::<usize>() > FILTERS_MAX || filters.len() > ROLLUP_DIMENSIONS_MAX {
            return Err(Problem::invalid_parameter("filter", format!("more than {FILTERS_MAX} filters")));
        }
        let metric = single.get("metric").filter(|metric| !metric.is_empty());
        let metric = metric.ok_or_else(|| Problem::invalid_parameter("metric", "say which metric"))?;
        let grain = single.get("grain").copied().unwrap_or(Grain::Hour.name());
        Ok(Self {
            metric: (*metric).to_owned(),
            grain: grain.parse().map_err(|error| Problem::invalid_parameter("grain", format!("{error}")))?,
            by: dimensions(single.get("by").copied().unwrap_or_default())?,
            filters,
            from: single.get("from").map(|text| moment("from", text)).transpose()?,
            to: single.get("to").map(|text| moment("to", text)).transpose()?,
        })
    }

    /// The windows asked for: whole ones, without a gap, at least one and at most `windows_max`.
    ///
    /// # Errors
    /// 400 if the range is empty, 422 if it has too many windows, or begins with seconds that are gone.
    pub(crate) fn windows(&self, now: EventTime, zone: &Zone, bounds: Bounds) -> Result<Vec<Window>, Problem> {
        let Bounds { windows_max, seconds_kept } = bounds;
        let to = self.to.map_or(now.plus_micros(1), |to| to.at(zone));
        let default_us = if self.grain == Grain::Second { DEFAULT_SPAN_OF_SECONDS_US } else { DEFAULT_SPAN_US };
        let from = self.from.map_or(to.plus_micros(-default_us), |from| from.at(zone));
        if from >= to {
            return Err(Problem::invalid_parameter("from", format!("{from} is not before `to`, which is {to}")));
        }
        let windows: Vec<Window> = self.grain.windows_over(from, to, zone).take(windows_max + 1).collect();
        if windows.len() > windows_max {
            let detail = format!("more than {windows_max} windows: ask for a shorter range or a coarser grain");
            return Err(Problem::not_answerable("from", detail));
        }
        let kept_from = now.plus_micros(-i64::try_from(seconds_kept.as_micros()).unwrap_or(i64::MAX));
        if self.grain == Grain::Second && from < kept_from {
            let detail = format!(
                "windows of 1s are kept for {} s: begin at {kept_from} or later, or ask for windows of 1m",
                seconds_kept.as_secs()
            );
            return Err(Problem::not_answerable("from", detail));
        }
        Ok(windows)
    }
}

impl Query {
    /// For metrics that are not grouped by the client.
    ///
    /// # Errors
    /// 422 if there is a dimension to group or filter by.
    pub(super) fn refuse_groups(&self, why: &str) -> Result<(), Problem> {
        let parameter = match (self.by.is_empty(), self.filters.is_empty()) {
            (false, _) => "by",
            (true, false) => "filter",
            (true, true) => return Ok(()),
        };
        Err(Problem::not_answerable(parameter, format!("leave it out: {why}")))
    }

    /// For metrics that have a range of their own.
    ///
    /// # Errors
    /// 422 if there is a range.
    pub(super) fn refuse_range(&self, why: &str) -> Result<(), Problem> {
        let parameter = match (self.from, self.to) {
            (Some(_), _) => "from",
            (None, Some(_)) => "to",
            (None, None) => return Ok(()),
        };
        Err(Problem::not_answerable(parameter, format!("leave it out: {why}")))
    }
}

impl Moment {
    fn at(self, zone: &Zone) -> EventTime {
        match self {
            Moment::Instant(at) => at,
            Moment::Day(day) => zone.day_start(day),
        }
    }
}

fn known(name: &str) -> Result<&'static str, Problem> {
    const KNOWN: [&str; 6] = ["metric", "from", "to", "grain", "by", "filter"];
    KNOWN.into_iter().find(|known| *known == name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let detail = format!("there is no parameter {shown:?}; there are: {}", KNOWN.join(", "));
        Problem { parameter: None, ..Problem::invalid_parameter("", detail) }
    })
}

fn dimensions(text: &str) -> Result<Vec<String>, Problem> {
    let mut dimensions: Vec<String> = Vec::new();
    for dimension in text.split(',').filter(|dimension| !dimension.is_empty()) {
        if dimensions.iter().any(|other| other == dimension) || dimensions.len() == ROLLUP_DIMENSIONS_MAX {
            let detail = format!("at most {ROLLUP_DIMENSIONS_MAX} dimensions, each once, separated by commas");
            return Err(Problem::invalid_parameter("by", detail));
        }
        dimensions.push(dimension.to_owned());
    }
    Ok(dimensions)
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

impl Moment {
    /// Away from the ends of the calendar, where windows would be cut short.
    fn is_plausible(&self) -> bool {
        let year = match self {
            Moment::Instant(at) => Zone::UTC.day_of(*at).year(),
            Moment::Day(day) => day.year(),
        };
        (1900..=9998).contains(&year)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { windows_max: 100, seconds_kept: Duration::from_secs(600) };

    fn parse(text: &str) -> Result<Query, Problem> {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        let pairs: Vec<(String, String)> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Query::parse(&pairs)
    }

    fn span(query: &str, zone: &str) -> (usize, String, String) {
        let now = EventTime::from_timestamp("2026-03-30T10:30:30Z".parse().expect("valid"));
        let zone = Zone::parse(zone).expect("known");
        let windows = parse(query).expect("valid").windows(now, &zone, BOUNDS).expect("answerable");
        (windows.len(), windows[0].start.to_string(), windows[windows.len() - 1].end.to_string())
    }

    #[test]
    fn equal_questions_are_equal() {
        let a = parse("metric=m&filter=d:2&filter=d:1&grain=1h").expect("valid");
        let b = parse("filter=d:1&metric=m&filter=d:2&filter=d:1").expect("valid");
        assert_eq!(a, b);
        assert_ne!(a, parse("metric=m&filter=d:1").expect("valid"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (query, parameter) in [
            ("grain=1d", "metric"),
            ("metric=", "metric"),
            ("metric=m&metric=n", "metric"),
            ("metric=m&grain=1w", "grain"),
            ("metric=m&from=yesterday", "from"),
            ("metric=m&from=2026-02-30", "from"),
            ("metric=m&to=-009999-01-01T00:00:00Z", "to"),
            ("metric=m&by=a,a", "by"),
            ("metric=m&filter=a", "filter"),
        ] {
            let problem = parse(query).expect_err(query);
            assert_eq!((problem.status, problem.parameter), (400, Some(parameter)), "{query}");
        }
        let problem = parse("metric=m&tenant=other").expect_err("not a parameter");
        assert_eq!((problem.status, problem.parameter), (400, None));
    }

    #[test]
    fn ranges_are_widened_to_whole_windows() {
        let hours = span("metric=m", "UTC");
        assert_eq!(hours, (25, "2026-03-29T10:00:00Z".to_owned(), "2026-03-30T11:00:00Z".to_owned()));
        // The clocks go forward on 2026-03-29, so that day has 23 hours.
        let days = span("metric=m&grain=1d&from=2026-03-29&to=2026-03-30", "Europe/Berlin");
        assert_eq!(days, (1, "2026-03-28T23:00:00Z".to_owned(), "2026-03-29T22:00:00Z".to_owned()));
        let minute = span("metric=m&grain=1m&from=2026-01-01T00:00:59Z&to=2026-01-01T00:01:00Z", "UTC");
        assert_eq!(minute, (1, "2026-01-01T00:00:00Z".to_owned(), "2026-01-01T00:01:00Z".to_owned()));
    }

    #[test]
    fn ranges_are_bounded() {
        let windows = |query: &str| parse(query).expect("readable").windows(EventTime(0), &Zone::UTC, BOUNDS);
        let status = |query: &str| windows(query).expect_err(query).status;
        assert_eq!(status("metric=m&grain=1m&from=1900-01-01&to=9998-01-01"), 422);
        assert_eq!(status("metric=m&from=2026-01-02&to=2026-01-01"), 400);
        assert_eq!(status("metric=m&from=2026-01-01&to=2026-01-01"), 400);
        let seconds = "metric=m&grain=1s&to=1970-01-01T00:00:00Z&from=1969-12-31T23";
        assert_eq!(windows(&format!("{seconds}:58:21Z")).expect("kept").len(), 99);
        let bounds = Bounds { windows_max: 1000, ..BOUNDS };
        let query = |from: &str| parse(&format!("{seconds}:{from}")).expect("readable");
        let windows = |from| query(from).windows(EventTime(0), &Zone::UTC, bounds);
        assert_eq!(windows("50:00Z").expect("kept").len(), 600);
        let gone = windows("49:59Z").expect_err("gone");
        assert_eq!((gone.status, gone.parameter), (422, Some("from")));
        assert!(gone.detail.contains("1969-12-31T23:50:00Z") && gone.detail.contains("1m"), "{}", gone.detail);
        let seconds = parse("metric=m&grain=1s").expect("readable");
        assert_eq!(seconds.windows(EventTime(0), &Zone::UTC, bounds).expect("the default").len(), 301);
    }
}
