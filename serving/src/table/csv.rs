//! Comma-separated values (RFC 4180), with a header. Numbers are the decimal texts of the answer, to the last digit.

use csv::{Error, Writer};

use super::{COLUMNS, Dimension, rows};
use crate::answer::{Answer, Method, Value};

pub(super) fn write(answer: &Answer, dimensions: &[Dimension<'_>]) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::from_writer(Vec::new());
    let names = dimensions.iter().map(|dimension| dimension.column.as_str());
    writer.write_record(std::iter::once("kind").chain(names).chain(COLUMNS))?;
    for row in rows(answer) {
        let values = dimensions.iter().map(|dimension| row.value_of(dimension.name).unwrap_or_default());
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
        writer.write_record(std::iter::once(row.kind.name()).chain(values).chain(texts.iter().map(String::as_str)))?;
    }
    writer.into_inner().map_err(|error| Error::from(error.into_error()))
}

/// A value as a text; nothing where it is not defined.
pub(super) fn text(value: &Value) -> String {
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
