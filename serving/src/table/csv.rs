//! Comma-separated values. Numbers are the decimal texts of the answer, to the last digit.

use reckon_schemas::csv;

use super::column::{Cell, Column};
use super::{Row, failed, rows};
use crate::answer::{Answer, Value};
use crate::problem::Problem;
use crate::records::Line;

pub(super) fn write(answer: &Answer, columns: &[Column<'_>]) -> Result<Vec<u8>, Problem> {
    let header: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
    let lines = rows(answer).map(|row| columns.iter().map(|column| cell(column, &row)).collect::<Vec<String>>());
    csv::document(&header, lines).map_err(|error| failed(&error))
}

/// Empty where there is nothing.
fn cell(column: &Column<'_>, row: &Row<'_>) -> String {
    let text = match column.cell {
        Cell::Dimension(name) => row.value_of(name).map(str::to_owned),
        Cell::Text(of) => of(row).map(str::to_owned),
        Cell::Time(of) => of(row).map(|at| at.to_string()),
        Cell::Number(of) => of(row).map(text),
    };
    text.unwrap_or_default()
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
