//! The drift of single cells as lines: exact decimals as texts (CSV, JSON) or as decimals (Parquet).

use std::sync::Arc;

use anyhow::Context;
use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use reckon_batch::reconcile::{CellName, Drift};
use reckon_schemas::csv;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::day_number;
use serde_json::json;

use crate::report::measure_name;

/// Decimals of every number in a Parquet file: those of a property's sum, more than any currency has.
const DECIMALS: i8 = 6;
const DIGITS: u8 = 38;

/// One measure of one cell.
#[derive(Clone, Debug)]
pub(crate) struct CellRow {
    pub(crate) tenant: String,
    pub(crate) run_id: String,
    pub(crate) cell: CellName,
    pub(crate) drift: Drift,
}

impl CellRow {
    fn texts(&self) -> Vec<String> {
        let Self { cell, drift, .. } = self;
        let mut texts = vec![
            self.tenant.clone(),
            self.run_id.clone(),
            cell.day.to_string(),
            cell.rollup.clone(),
            cell.event.clone(),
            cell.dimensions.join(" | "),
            measure_name(drift.measure).to_owned(),
            unit_name(drift),
        ];
        texts.extend(self.numbers().into_iter().map(|(_, number)| self.text(number)));
        texts.push(drift.error_bound.to_string());
        texts
    }

    /// Every number, with the name of its column.
    fn numbers(&self) -> Vec<(&'static str, i128)> {
        let drift = &self.drift;
        let mut numbers =
            vec![("speed", drift.speed), ("batch", drift.batch), ("drift", drift.speed.saturating_sub(drift.batch))];
        let share = |reason: Reason| (reason.name(), drift.reasons.get(&reason).copied().unwrap_or(0));
        numbers.extend(Reason::ALL.map(share));
        numbers.push(("residual", drift.residual));
        numbers
    }

    fn text(&self, number: i128) -> String {
        self.drift.unit.as_ref().map_or_else(|| number.to_string(), |unit| unit.format(number))
    }

    /// The line as JSON, its numbers as decimal texts.
    pub(crate) fn json(&self) -> serde_json::Value {
        let numbers = self.numbers().into_iter().map(|(name, number)| (name.to_owned(), self.text(number).into()));
        let mut line: serde_json::Map<String, serde_json::Value> = numbers.collect();
        let cell = &self.cell;
        for (name, value) in [
            ("tenant", json!(self.tenant)),
            ("run_id", json!(self.run_id)),
            ("day", json!(cell.day)),
            ("rollup", json!(cell.rollup)),
            ("event", json!(cell.event)),
            ("dimensions", json!(cell.dimensions)),
            ("measure", json!(measure_name(self.drift.measure))),
            ("unit", json!(unit_name(&self.drift))),
            ("error_bound", json!(self.drift.error_bound)),
        ] {
            line.insert(name.to_owned(), value);
        }
        line.into()
    }
}

fn unit_name(drift: &Drift) -> String {
    drift.unit.as_ref().map(Unit::to_string).unwrap_or_default()
}

/// Lines of CSV.
pub(super) fn csv(rows: &[CellRow]) -> anyhow::Result<Vec<u8>> {
    let mut header = vec!["tenant", "run_id", "day", "rollup", "event", "dimensions", "measure", "unit"];
    header.extend(["speed", "batch", "drift"]);
    header.extend(Reason::ALL.map(Reason::name));
    header.extend(["residual", "error_bound"]);
    Ok(csv::document(&header, rows.iter().map(CellRow::texts))?)
}

/// A Parquet file. Numbers are `DECIMAL(38, 6)`, so that no reader makes floats of them.
pub(super) fn parquet(rows: &[CellRow]) -> anyhow::Result<Vec<u8>> {
    let text =
        |of: fn(&CellRow) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
    let mut dimensions = ListBuilder::new(StringBuilder::new());
    for row in rows {
        dimensions.append_value(row.cell.dimensions.iter().map(Some));
    }
    let days = rows.iter().map(|row| day_number(row.cell.day));
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("tenant", text(|row| row.tenant.clone())),
        ("run_id", text(|row| row.run_id.clone())),
        ("day", Arc::new(Date32Array::from_iter_values(days))),
        ("rollup", text(|row| row.cell.rollup.clone())),
        ("event", text(|row| row.cell.event.clone())),
        ("dimensions", Arc::new(dimensions.finish())),
        ("measure", text(|row| measure_name(row.drift.measure).to_owned())),
        ("unit", text(|row| unit_name(&row.drift))),
    ];
    let numbers: Vec<Vec<(&'static str, i128)>> = rows.iter().map(CellRow::numbers).collect();
    let names: Vec<&'static str> = std::iter::empty()
        .chain(["speed", "batch", "drift"])
        .chain(Reason::ALL.map(Reason::name))
        .chain(["residual"])
        .collect();
    for (index, name) in names.into_iter().enumerate() {
        let scaled = rows.iter().zip(&numbers).map(|(row, numbers)| scaled(row, numbers[index].1));
        let array: Decimal128Array = scaled.collect::<anyhow::Result<Vec<i128>>>()?.into();
        columns.push((name, Arc::new(array.with_precision_and_scale(DIGITS, DECIMALS)?)));
    }
    let bounds = rows.iter().map(|row| row.drift.error_bound);
    columns.push(("error_bound", Arc::new(UInt64Array::from_iter_values(bounds))));
    let batch = RecordBatch::try_from_iter(columns)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// A number in millionths, whatever decimals its own unit has.
fn scaled(row: &CellRow, number: i128) -> anyhow::Result<i128> {
    let decimals = row.drift.unit.as_ref().map_or(0, Unit::decimals);
    let factor = 10_i128.pow(u32::from(DECIMALS.unsigned_abs()).saturating_sub(u32::from(decimals)));
    let fits = number.checked_mul(factor).filter(|number| number.unsigned_abs() < 10_u128.pow(u32::from(DIGITS)));
    fits.with_context(|| format!("{} does not fit into {DIGITS} digits: export it as CSV", row.text(number)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::AsArray;
    use arrow::datatypes::{Date32Type, Decimal128Type};
    use jiff::civil::date;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use reckon_schemas::catalog::Measure;

    use super::*;

    pub(in crate::export) fn row(day: i8, unit: Option<&str>, late: i128, residual: i128) -> CellRow {
        let unit: Option<Unit> = unit.map(|unit| unit.parse().expect("a unit"));
        let drift = Drift {
            measure: if unit.is_some() { Measure::Money } else { Measure::Count },
            unit,
            speed: 1_000 + late + residual,
            batch: 1_000,
            reasons: BTreeMap::from([(Reason::Late, late)]),
            residual,
            error_bound: 0,
        };
        let cell = CellName {
            day: date(2026, 3, day),
            rollup: "department".to_owned(),
            event: "purchase".to_owned(),
            dimensions: vec!["=1+1, \"DELI\"".to_owned()],
        };
        CellRow { tenant: "acme".to_owned(), run_id: "r".to_owned(), cell, drift }
    }

    #[test]
    fn lines_of_csv_are_exact_and_harmless() {
        let document = csv(&[row(7, Some("EUR"), -250, 1), row(8, None, -2, 0)]).expect("written");
        let text = String::from_utf8(document).expect("UTF-8");
        let mut lines = ::csv::Reader::from_reader(text.as_bytes());
        let headers = lines.headers().expect("a header").clone();
        let lines: Vec<::csv::StringRecord> = lines.records().collect::<Result<_, _>>().expect("lines");
        let get = |line: usize, name: &str| {
            lines[line][headers.iter().position(|header| header == name).expect(name)].to_owned()
        };
        assert_eq!(
            (get(0, "speed"), get(0, "late"), get(0, "residual")),
            ("7.51".into(), "-2.50".into(), "0.01".into())
        );
        assert_eq!((get(1, "drift"), get(1, "unit"), get(1, "day")), ("-2".into(), String::new(), "2026-03-08".into()));
        assert_eq!(get(0, "dimensions"), "'=1+1, \"DELI\"", "no formula");
    }

    #[test]
    fn a_parquet_file_has_decimals_of_every_unit() {
        let rows = [row(7, Some("EUR"), -250, 1), row(8, Some("JPY"), -2, 0), row(9, None, -3, 0)];
        let file = bytes::Bytes::from(parquet(&rows).expect("written"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a file").build().expect("readable");
        let batch = reader.into_iter().next().expect("rows").expect("readable");
        let column = |name: &str| batch.column_by_name(name).expect(name);
        let late = column("late").as_primitive::<Decimal128Type>();
        assert_eq!(late.values().to_vec(), [-2_500_000, -2_000_000, -3_000_000]);
        assert_eq!((late.precision(), late.scale()), (38, 6));
        assert_eq!(column("day").as_primitive::<Date32Type>().value(0), 20_519);
        let first = column("dimensions").as_list::<i32>().value(0);
        assert_eq!(first.as_string::<i32>().value(0), "=1+1, \"DELI\"");
        let huge = row(7, None, i128::MAX / 2_000, 0);
        assert!(parquet(&[huge]).expect_err("too large").to_string().contains("38 digits"));
    }
}
