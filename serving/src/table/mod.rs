//! An answer as rows, for spreadsheets and for programs that read columns; and a page of a list as lines.

mod arrow;
mod csv;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::answer::{Answer, Group, Number};
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

/// One number with where it belongs.
struct Row<'a> {
    kind: Kind,
    group: Option<&'a Group>,
    start: Timestamp,
    end: Timestamp,
    number: &'a Number,
}

impl Form {
    pub(crate) const CSV: &'static str = "text/csv; charset=utf-8; header=present";
    pub(crate) const ARROW: &'static str = "application/vnd.apache.arrow.stream";

    /// The answer in this form, as bytes; `by` are the dimensions that it was to be grouped by.
    ///
    /// # Errors
    /// 406 if a number has more digits than the form has room for.
    pub(crate) fn bytes(self, answer: &Answer, by: &[String]) -> Result<Vec<u8>, Problem> {
        let dimensions = dimensions(answer, by);
        match self {
            Form::Json => serde_json::to_vec(answer).map_err(|error| failed(&error)),
            Form::Csv => csv::write(answer, &dimensions),
            Form::Arrow => arrow::write(answer, &dimensions),
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

/// Group by group: its windows, then its total; the total of all at the end.
fn rows(answer: &Answer) -> impl Iterator<Item = Row<'_>> {
    let groups = answer.groups.iter().map(|group| (group, Kind::Point, Kind::Total, Some(group)));
    let other = answer.other.iter().map(|group| (group, Kind::OtherPoint, Kind::OtherTotal, None));
    let of_groups = groups.chain(other).flat_map(|(group, point, total, named)| {
        let points = group.points.iter().map(move |found| Row {
            kind: point,
            group: named,
            start: found.start,
            end: found.end,
            number: &found.number,
        });
        points.chain([Row { kind: total, group: named, start: answer.from, end: answer.to, number: &group.total }])
    });
    let (start, end) = (answer.from, answer.to);
    of_groups.chain([Row { kind: Kind::GrandTotal, group: None, start, end, number: &answer.total }])
}

/// The columns after the dimensions.
const COLUMNS: [&str; 9] = ["start", "end", "value", "unit", "method", "error_bound", "state", "as_of", "run_id"];

/// A dimension, with the name of its column.
struct Dimension<'a> {
    column: String,
    name: &'a str,
}

/// The dimensions in one order. A column has the name of its dimension, if no other column has it.
fn dimensions<'a>(answer: &'a Answer, by: &'a [String]) -> Vec<Dimension<'a>> {
    // The most frequent values have a dimension that nobody asked for.
    let of_groups = answer.groups.first().into_iter().flat_map(|group| group.dimensions.keys());
    let names: BTreeSet<&str> = of_groups.chain(by).map(String::as_str).collect();
    let is_taken = |name: &str| name == "kind" || COLUMNS.contains(&name);
    let column = |name: &str| if is_taken(name) { format!("dimension_{name}") } else { name.to_owned() };
    names.into_iter().map(|name| Dimension { column: column(name), name }).collect()
}

impl<'a> Row<'a> {
    /// The value of a dimension; `None` for rows that are about several.
    fn value_of(&self, dimension: &str) -> Option<&'a str> {
        self.group?.dimensions.get(dimension).map(String::as_str)
    }
}

fn failed(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "an answer cannot be written");
    Problem::internal()
}
