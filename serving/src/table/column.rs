//! The columns of a table: which there are, and what a row has there.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Row, Said};
use crate::answer::{Answer, Method, Value};

/// A column.
pub(super) struct Column<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) cell: Cell<'a>,
}

/// How a row's cell is read.
#[derive(Clone, Copy)]
pub(super) enum Cell<'a> {
    /// The value of a dimension.
    Dimension(&'a str),
    Text(for<'r> fn(&'r Row<'_>) -> Option<&'r str>),
    Time(fn(&Row<'_>) -> Option<Timestamp>),
    Number(for<'r> fn(&'r Row<'_>) -> Option<&'r Value>),
}

const KIND: (&str, Cell<'static>) = ("kind", Cell::Text(|row| Some(row.kind.name())));

/// What every answer has after the dimensions.
const NUMBER: [(&str, Cell<'static>); 9] = [
    ("start", Cell::Time(|row| row.said.start)),
    ("end", Cell::Time(|row| row.said.end)),
    ("value", Cell::Number(|row| row.said.value())),
    ("unit", Cell::Text(|row| Some(row.said.unit))),
    ("method", Cell::Text(|row| row.said.method())),
    ("error_bound", Cell::Number(|row| row.said.error_bound())),
    ("state", Cell::Text(|row| row.said.state())),
    ("as_of", Cell::Time(|row| row.said.as_of())),
    ("run_id", Cell::Text(|row| row.said.run_id())),
];

/// What a comparison has after that: the same of its base, and how both differ.
const BASE: [(&str, Cell<'static>); 13] = [
    ("base_start", Cell::Time(|row| row.base.as_ref()?.start)),
    ("base_end", Cell::Time(|row| row.base.as_ref()?.end)),
    ("base_value", Cell::Number(|row| row.base.as_ref()?.value())),
    ("base_unit", Cell::Text(|row| Some(row.base.as_ref()?.unit))),
    ("base_method", Cell::Text(|row| row.base.as_ref()?.method())),
    ("base_error_bound", Cell::Number(|row| row.base.as_ref()?.error_bound())),
    ("base_state", Cell::Text(|row| row.base.as_ref()?.state())),
    ("base_as_of", Cell::Time(|row| row.base.as_ref()?.as_of())),
    ("base_run_id", Cell::Text(|row| row.base.as_ref()?.run_id())),
    ("difference", Cell::Number(|row| Some(&row.delta?.difference.as_ref()?.value))),
    ("difference_error_bound", Cell::Number(|row| Some(&row.delta?.difference.as_ref()?.error_bound))),
    ("ratio", Cell::Number(|row| Some(&row.delta?.ratio.as_ref()?.value))),
    ("ratio_error_bound", Cell::Number(|row| Some(&row.delta?.ratio.as_ref()?.error_bound))),
];

impl Said<'_> {
    fn value(&self) -> Option<&Value> {
        self.number.as_ref().map(|number| &number.value)
    }

    fn method(&self) -> Option<&'static str> {
        self.number.as_ref().map(|number| match number.method {
            Method::Exact => "exact",
            Method::Hll => "hll",
            Method::FrequentItems => "frequent_items",
        })
    }

    fn error_bound(&self) -> Option<&Value> {
        self.number.as_ref().map(|number| &number.error_bound)
    }

    fn state(&self) -> Option<&'static str> {
        self.number.as_ref().map(|number| number.state.name())
    }

    fn as_of(&self) -> Option<Timestamp> {
        self.number.as_ref()?.as_of
    }

    fn run_id(&self) -> Option<&str> {
        self.number.as_ref()?.run_id.as_deref()
    }
}

/// The columns of an answer; `by` are the dimensions that it was to be grouped by. They are in one order, and each has the
/// name of its dimension, if no other column has it.
pub(super) fn columns<'a>(answer: &'a Answer, by: &'a [String]) -> Vec<Column<'a>> {
    let base = answer.comparison.as_deref().map(|comparison| &comparison.base);
    // The most frequent values have a dimension that nobody asked for.
    let first_groups = [Some(answer), base].into_iter().flatten().filter_map(|answer| answer.groups.first());
    let of_groups = first_groups.flat_map(|group| group.dimensions.keys());
    let dimensions: BTreeSet<&str> = of_groups.chain(by).map(String::as_str).collect();
    let compared: &[_] = if base.is_some() { &BASE } else { &[] };
    let is_taken = |name: &str| [KIND].iter().chain(&NUMBER).chain(compared).any(|(taken, _)| *taken == name);
    let of_dimension = |name| {
        let column = if is_taken(name) { format!("dimension_{name}").into() } else { Cow::Borrowed(name) };
        Column { name: column, cell: Cell::Dimension(name) }
    };
    let fixed = |(name, cell): &(&'static str, Cell<'static>)| Column { name: Cow::Borrowed(*name), cell: *cell };
    let dimensions = dimensions.into_iter().map(of_dimension);
    let numbers = NUMBER.iter().chain(compared).map(fixed);
    [fixed(&KIND)].into_iter().chain(dimensions).chain(numbers).collect()
}
