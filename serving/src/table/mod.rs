//! An answer as rows, for spreadsheets and for programs that read columns; and a page of a list as lines.

mod arrow;
mod column;
mod compared;
mod csv;

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;

use self::column::columns;
use crate::answer::{Answer, Delta, Number};
use crate::problem::Problem;

pub(crate) use self::csv::{lines, text};

/// The forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Csv,
    Arrow,
}

/// What a row is about. Points add up to totals for events and money, and not for users: so totals are rows, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A window of a group.
    Point,
    /// A group over the whole range.
    Total,
    /// A window of the groups that were left out.
    OtherPoint,
    /// The groups that were left out, over the whole range.
    OtherTotal,
    /// All groups over the whole range.
    GrandTotal,
}

/// One number with where it belongs; beside it, in a comparison, the number that it is compared with.
struct Row<'a> {
    kind: Kind,
    /// `None` for rows that are about several groups.
    dimensions: Option<&'a BTreeMap<String, String>>,
    said: Said<'a>,
    base: Option<Said<'a>>,
    delta: Option<&'a Delta>,
}

/// What an answer says of a span. In a comparison there may be no such window, or no number.
struct Said<'a> {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    number: Option<Cow<'a, Number>>,
    unit: &'a str,
}

impl Form {
    pub(crate) const CSV: &'static str = "text/csv; charset=utf-8; header=present";
    pub(crate) const ARROW: &'static str = "application/vnd.apache.arrow.stream";

    /// The answer in this form, as bytes; `by` are the dimensions that it was to be grouped by.
    ///
    /// # Errors
    /// 406 if a number has more digits than the form has room for.
    pub(crate) fn bytes(self, answer: &Answer, by: &[String]) -> Result<Vec<u8>, Problem> {
        match self {
            Form::Json => serde_json::to_vec(answer).map_err(|error| failed(&error)),
            Form::Csv => csv::write(answer, &columns(answer, by)),
            Form::Arrow => arrow::write(answer, &columns(answer, by)),
        }
    }

    /// What it is called.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Csv => Self::CSV,
            Form::Arrow => Self::ARROW,
        }
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Point => "point",
            Kind::Total => "total",
            Kind::OtherPoint => "other_point",
            Kind::OtherTotal => "other_total",
            Kind::GrandTotal => "grand_total",
        }
    }
}

impl<'a> Row<'a> {
    /// The value of a dimension; `None` for rows that are about several.
    fn value_of(&self, dimension: &str) -> Option<&'a str> {
        self.dimensions?.get(dimension).map(String::as_str)
    }
}

impl<'a> Said<'a> {
    fn new(answer: &'a Answer, start: Timestamp, end: Timestamp, number: &'a Number) -> Self {
        Self { start: Some(start), end: Some(end), number: Some(Cow::Borrowed(number)), unit: &answer.unit }
    }

    fn total(answer: &'a Answer, number: &'a Number) -> Self {
        Self::new(answer, answer.from, answer.to, number)
    }
}

/// Group by group: its windows, then its total; the total of all at the end.
fn rows<'a>(answer: &'a Answer) -> Box<dyn Iterator<Item = Row<'a>> + 'a> {
    match &answer.comparison {
        Some(comparison) => Box::new(compared::rows(answer, comparison)),
        None => Box::new(plain_rows(answer)),
    }
}

fn plain_rows(answer: &Answer) -> impl Iterator<Item = Row<'_>> {
    let row = |kind, dimensions, said| Row { kind, dimensions, said, base: None, delta: None };
    let groups = answer.groups.iter().map(|group| (group, Kind::Point, Kind::Total, Some(&group.dimensions)));
    let other = answer.other.iter().map(|group| (group, Kind::OtherPoint, Kind::OtherTotal, None));
    let of_groups = groups.chain(other).flat_map(move |(group, point, total, dimensions)| {
        let points = group
            .points
            .iter()
            .map(move |found| row(point, dimensions, Said::new(answer, found.start, found.end, &found.number)));
        points.chain([row(total, dimensions, Said::total(answer, &group.total))])
    });
    of_groups.chain([row(Kind::GrandTotal, None, Said::total(answer, &answer.total))])
}

fn failed(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "an answer cannot be written");
    Problem::internal()
}
