//! The report as JSON: exact values as decimal texts, which no reader turns into a float by accident.

use std::collections::BTreeMap;

use reckon_schemas::catalog::Measure;
use reckon_schemas::money::Currency;
use reckon_schemas::settlement::Reason;
use serde::{Deserialize, Serialize};

use super::{CellName, ReportRow, WorstCell};

#[derive(Serialize, Deserialize)]
pub(super) struct RowOnWire {
    rollup: String,
    event: String,
    measure: Measure,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    speed: String,
    batch: String,
    drift: String,
    reasons: BTreeMap<Reason, String>,
    residual: String,
    error_bound: u64,
    cells: u64,
    cells_with_residual: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WorstOnWire {
    #[serde(flatten)]
    cell: CellName,
    measure: Measure,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    speed: String,
    batch: String,
    residual: String,
}

/// A text is not a value of its measure.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a value of this measure")]
pub(super) struct NotAValue(String);

/// A value in its measure's unit: major units with the currency's decimals, or a whole number.
pub(super) fn to_text(value: i128, currency: Option<Currency>) -> String {
    currency.map_or_else(|| value.to_string(), |currency| currency.format_minor(value))
}

fn from_text(text: &str, currency: Option<Currency>) -> Result<i128, NotAValue> {
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    let value = digits.parse().map_err(|_| NotAValue(text.to_owned()))?;
    // Only what would be written for it, so that no digit is lost or shifted.
    if to_text(value, currency) == text { Ok(value) } else { Err(NotAValue(text.to_owned())) }
}

impl From<ReportRow> for RowOnWire {
    fn from(row: ReportRow) -> Self {
        let text = |value| to_text(value, row.currency);
        Self {
            speed: text(row.speed),
            batch: text(row.batch),
            drift: text(row.drift),
            reasons: row.reasons.iter().map(|(reason, amount)| (*reason, text(*amount))).collect(),
            residual: text(row.residual),
            rollup: row.rollup,
            event: row.event,
            measure: row.measure,
            currency: row.currency,
            error_bound: row.error_bound,
            cells: row.cells,
            cells_with_residual: row.cells_with_residual,
        }
    }
}

impl TryFrom<RowOnWire> for ReportRow {
    type Error = NotAValue;

    fn try_from(row: RowOnWire) -> Result<Self, NotAValue> {
        let value = |text: &str| from_text(text, row.currency);
        Ok(Self {
            speed: value(&row.speed)?,
            batch: value(&row.batch)?,
            drift: value(&row.drift)?,
            reasons: row.reasons.iter().map(|(reason, text)| Ok((*reason, value(text)?))).collect::<Result<_, _>>()?,
            residual: value(&row.residual)?,
            rollup: row.rollup,
            event: row.event,
            measure: row.measure,
            currency: row.currency,
            error_bound: row.error_bound,
            cells: row.cells,
            cells_with_residual: row.cells_with_residual,
        })
    }
}

impl From<WorstCell> for WorstOnWire {
    fn from(worst: WorstCell) -> Self {
        let text = |value| to_text(value, worst.currency);
        Self {
            speed: text(worst.speed),
            batch: text(worst.batch),
            residual: text(worst.residual),
            cell: worst.cell,
            measure: worst.measure,
            currency: worst.currency,
        }
    }
}

impl TryFrom<WorstOnWire> for WorstCell {
    type Error = NotAValue;

    fn try_from(worst: WorstOnWire) -> Result<Self, NotAValue> {
        let value = |text: &str| from_text(text, worst.currency);
        Ok(Self {
            speed: value(&worst.speed)?,
            batch: value(&worst.batch)?,
            residual: value(&worst.residual)?,
            cell: worst.cell,
            measure: worst.measure,
            currency: worst.currency,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_every_digit() {
        for code in [None, Some("JPY"), Some("USD"), Some("KWD")] {
            let currency = code.map(|code| code.parse().expect("known"));
            for value in [0, 1, -1, 99, -100, 459_603_958, i128::MAX, i128::MIN + 1] {
                let text = to_text(value, currency);
                assert_eq!(from_text(&text, currency).expect("its own text"), value, "{text}");
            }
        }
        let usd = Some("USD".parse().expect("known"));
        for text in ["1", "1.2", "1.234", "0x1", "", ".", "1e2", "+1.00"] {
            assert!(from_text(text, usd).is_err(), "{text}");
        }
    }

    #[test]
    fn a_row_is_json_of_decimal_texts_and_reads_back() {
        let row = ReportRow {
            rollup: "total".to_owned(),
            event: "purchase".to_owned(),
            measure: Measure::Money,
            currency: Some("USD".parse().expect("known")),
            speed: 459_603_957,
            batch: 459_603_958,
            drift: -1,
            reasons: BTreeMap::from([(Reason::Late, -1)]),
            residual: 0,
            error_bound: 0,
            cells: 365,
            cells_with_residual: 0,
        };
        let json = serde_json::to_value(&row).expect("a row");
        assert_eq!((&json["batch"], &json["reasons"]["late"]), (&"4596039.58".into(), &"-0.01".into()));
        assert_eq!(serde_json::from_value::<ReportRow>(json).expect("its own JSON"), row);
    }
}
