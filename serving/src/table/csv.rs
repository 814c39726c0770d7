//! Comma-separated values. Numbers are the decimal texts of the answer, to the last digit.

use reckon_schemas::csv;

use super::{COLUMNS, Dimension, failed, rows};
use crate::answer::{Answer, Method, Value};
use crate::problem::Problem;
use crate::records::Line;

pub(super) fn write(answer: &Answer, dimensions: &[Dimension<'_>]) -> Result<Vec<u8>, Problem> {
    let names = dimensions.iter().map(|dimension| dimension.column.as_str());
    let header: Vec<&str> = std::iter::once("kind").chain(names).chain(COLUMNS).collect();
    let lines = rows(answer).map(|row| {
        let values = dimensions.iter().map(|dimension| row.value_of(dimension.name).unwrap_or_default().to_owned());
        let number = row.number;
        let texts = [
            row.start.to_string(),
            row.end.to_string(),
            text(&number.value),
            answer.unit.clone(),
            method(number.method).to_owned(),
            text(&number.error_bound),
            number.state.name().to_owned(),
            number.as_of.map(|at| at.to_string()).unwrap_or_default(),
            number.run_id.clone().unwrap_or_default(),
        ];
        std::iter::once(row.kind.name().to_owned()).chain(values).chain(texts).collect::<Vec<String>>()
    });
    csv::document(&header, lines).map_err(|error| failed(&error))
}

/// A page of a list.
///
/// # Errors
/// A line does not fit under the header.
pub(crate) fn lines<T: Line>(items: &[T]) -> Result<Vec<u8>, Problem> {
    csv::document(T::COLUMNS, items.iter().map(Line::cells)).map_err(|error| failed(&error))
}

/// A value as a text; nothing where it is not defined.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Integer(integer) => integer.to_string(),
        Value::Decimal(text) => text.clone(),
        Value::Undefined => String::new(),
    }
}

pub(super) const fn method(method: Method) -> &'static str {
    match method {
        Method::Exact => "exact",
        Method::Hll => "hll",
        Method::FrequentItems => "frequent_items",
    }
}
