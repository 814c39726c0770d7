//! Columns of Apache Arrow, as an IPC stream. Values are decimals of 128 bits: exact, and of one scale.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use jiff::Timestamp;

use super::csv::{method, text};
use super::{Dimension, failed, rows};
use crate::answer::{Answer, Value};
use crate::problem::Problem;

/// The most digits of a decimal of 128 bits.
const DIGITS_MAX: u8 = 38;
const ZONE: &str = "UTC";

pub(super) fn write(answer: &Answer, dimensions: &[Dimension<'_>]) -> Result<Vec<u8>, Problem> {
    let batch = batch(answer, dimensions)?;
    stream(&batch).map_err(|error| failed(&error))
}

fn stream(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    writer.into_inner()
}

fn batch(answer: &Answer, dimensions: &[Dimension<'_>]) -> Result<RecordBatch, Problem> {
    let rows: Vec<_> = rows(answer).collect();
    let scale = rows.iter().flat_map(|row| [&row.number.value, &row.number.error_bound]).map(scale).max().unwrap_or(0);
    let decimals = |values: Vec<&Value>| -> Result<ArrayRef, Problem> {
        let units = values.into_iter().map(|value| units(value, scale)).collect::<Result<Vec<_>, _>>()?;
        let column =
            Decimal128Array::from(units).with_precision_and_scale(DIGITS_MAX, i8::try_from(scale).unwrap_or(0));
        column.map(|column| Arc::new(column) as ArrayRef).map_err(|error| failed(&error))
    };
    let texts = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let times = |values: Vec<Option<Timestamp>>| {
        let micros = values.into_iter().map(|at| at.map(|at| at.as_microsecond())).collect::<Vec<_>>();
        Arc::new(TimestampMicrosecondArray::from(micros).with_timezone(ZONE)) as ArrayRef
    };
    let mut columns = vec![("kind", texts(rows.iter().map(|row| Some(row.kind.name())).collect()))];
    columns.extend(dimensions.iter().map(|dimension| {
        (dimension.column.as_str(), texts(rows.iter().map(|row| row.value_of(dimension.name)).collect()))
    }));
    columns.extend([
        ("start", times(rows.iter().map(|row| Some(row.start)).collect())),
        ("end", times(rows.iter().map(|row| Some(row.end)).collect())),
        ("value", decimals(rows.iter().map(|row| &row.number.value).collect())?),
        ("unit", texts(rows.iter().map(|_| Some(answer.unit.as_str())).collect())),
        ("method", texts(rows.iter().map(|row| Some(method(row.number.method))).collect())),
        ("error_bound", decimals(rows.iter().map(|row| &row.number.error_bound).collect())?),
        ("state", texts(rows.iter().map(|row| Some(row.number.state.name())).collect())),
        ("as_of", times(rows.iter().map(|row| row.number.as_of).collect())),
        ("run_id", texts(rows.iter().map(|row| row.number.run_id.as_deref()).collect())),
    ]);
    let schema = Arc::new(Schema::new(columns.iter().map(|(name, column)| field(name, column)).collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(schema, columns).map_err(|error| failed(&error))
}

fn field(name: &str, column: &ArrayRef) -> Field {
    let always = matches!(name, "kind" | "start" | "end" | "unit" | "method" | "state");
    Field::new(name, column.data_type().clone(), !always)
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
