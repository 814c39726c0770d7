//! Columns of Apache Arrow, as an IPC stream. Numbers are decimals of 128 bits: exact, and of one scale in each column.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;

use super::column::{Cell, Column};
use super::csv::text;
use super::{Row, failed, rows};
use crate::answer::{Answer, Value};
use crate::problem::Problem;

/// The most digits of a decimal of 128 bits.
const DIGITS_MAX: u8 = 38;
const ZONE: &str = "UTC";
/// The columns that are never null.
const ALWAYS: &[&str] = &["kind", "start", "end", "unit", "method", "state"];
/// The same of a comparison: one side may have a window that the other one does not have.
const ALWAYS_COMPARED: &[&str] = &["kind", "unit", "base_unit"];

pub(super) fn write(answer: &Answer, columns: &[Column<'_>]) -> Result<Vec<u8>, Problem> {
    let batch = batch(answer, columns)?;
    stream(&batch).map_err(|error| failed(&error))
}

fn stream(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    writer.into_inner()
}

fn batch(answer: &Answer, columns: &[Column<'_>]) -> Result<RecordBatch, Problem> {
    let rows: Vec<_> = rows(answer).collect();
    let arrays = columns.iter().map(|column| array(column, &rows)).collect::<Result<Vec<_>, _>>()?;
    let always = if answer.comparison.is_some() { ALWAYS_COMPARED } else { ALWAYS };
    let fields = columns
        .iter()
        .zip(&arrays)
        .map(|(Column { name, .. }, array)| Field::new(&**name, array.data_type().clone(), !always.contains(&&**name)));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, arrays).map_err(|error| failed(&error))
}

fn array(column: &Column<'_>, rows: &[Row<'_>]) -> Result<ArrayRef, Problem> {
    Ok(match column.cell {
        Cell::Dimension(name) => Arc::new(rows.iter().map(|row| row.value_of(name)).collect::<StringArray>()),
        Cell::Text(of) => Arc::new(rows.iter().map(of).collect::<StringArray>()),
        Cell::Time(of) => {
            let micros = rows.iter().map(|row| of(row).map(|at| at.as_microsecond()));
            Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone(ZONE))
        }
        Cell::Number(of) => {
            let values: Vec<_> = rows.iter().map(of).collect();
            let scale = values.iter().flatten().map(|value| scale(value)).max().unwrap_or(0);
            let units = values.into_iter().map(|value| value.map_or(Ok(None), |value| units(value, scale)));
            let decimals = units.collect::<Result<Decimal128Array, _>>()?;
            let decimals = decimals.with_precision_and_scale(DIGITS_MAX, i8::try_from(scale).unwrap_or(0));
            Arc::new(decimals.map_err(|error| failed(&error))?)
        }
    })
}

/// How many decimals a value has.
fn scale(value: &Value) -> usize {
    match value {
        Value::Decimal(text) => text.split_once('.').map_or(0, |(_, fraction)| fraction.len()),
        Value::Integer(_) | Value::Undefined => 0,
    }
}

/// A value in units of its last decimal; `None` where it is not defined.
fn units(value: &Value, decimals: usize) -> Result<Option<i128>, Problem> {
    if matches!(value, Value::Undefined) {
        return Ok(None);
    }
    let digits = text(value);
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let units = format!("{whole}{fraction:0<decimals$}").parse::<i128>().ok();
    let fits = units.filter(|units| units.unsigned_abs() < 10_u128.pow(u32::from(DIGITS_MAX)));
    let too_large =
        || Problem::not_acceptable(format!("{digits} has more than {DIGITS_MAX} digits: ask for JSON or CSV"));
    fits.map(Some).ok_or_else(too_large)
}
