//! The report as JSON: exact values as decimal texts, which no reader turns into a float by accident.

use std::collections::BTreeMap;

use reckon_schemas::catalog::Measure;
use reckon_schemas::money::Currency;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::Unit;
use serde::{Deserialize, Serialize};

use super::{CellName, ReportRow, WorstCell};

#[derive(Serialize, Deserialize)]
pub(super) struct RowOnWire {
    rollup: String,
    event: String,
    measure: Measure,
    #[serde(flatten)]
    unit: UnitOnWire,
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
    #[serde(flatten)]
    unit: UnitOnWire,
    speed: String,
    batch: String,
    residual: String,
}

/// A text is not a value of its measure.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a value of this measure")]
pub(super) struct NotAValue(String);

/// A value in its measure's unit: a decimal number for sums, otherwise a whole one.
pub(super) fn to_text(value: i128, unit: Option<&Unit>) -> String {
    unit.map_or_else(|| value.to_string(), |unit| unit.format(value))
}

/// Only what would be written for it, so that no digit is lost or shifted.
fn from_text(text: &str, unit: Option<&Unit>) -> Result<i128, NotAValue> {
    let whole = |text: &str| text.parse().ok().filter(|value: &i128| value.to_string() == text);
    unit.map_or_else(|| whole(text), |unit| unit.parse(text)).ok_or_else(|| NotAValue(text.to_owned()))
}

/// What a sum is in, as two fields of which one is there.
#[derive(Serialize, Deserialize)]
struct UnitOnWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    property: Option<String>,
}

impl From<Option<Unit>> for UnitOnWire {
    fn from(unit: Option<Unit>) -> Self {
        match unit {
            None => Self { currency: None, property: None },
            Some(Unit::Currency(currency)) => Self { currency: Some(currency), property: None },
            Some(Unit::Property(name)) => Self { currency: None, property: Some(name.to_string()) },
        }
    }
}

impl UnitOnWire {
    fn read(self) -> Result<Option<Unit>, NotAValue> {
        match (self.currency, self.property) {
            (Some(currency), _) => Ok(Some(currency.into())),
            (None, Some(name)) => Unit::property(&name).map(Some).map_err(|_| NotAValue(name)),
            (None, None) => Ok(None),
        }
    }
}

impl From<ReportRow> for RowOnWire {
    fn from(row: ReportRow) -> Self {
        let text = |value| to_text(value, row.unit.as_ref());
        Self {
            speed: text(row.speed),
            batch: text(row.batch),
            drift: text(row.drift),
            reasons: row.reasons.iter().map(|(reason, amount)| (*reason, text(*amount))).collect(),
            residual: text(row.residual),
            rollup: row.rollup,
            event: row.event,
            measure: row.measure,
            unit: row.unit.into(),
            error_bound: row.error_bound,
            cells: row.cells,
            cells_with_residual: row.cells_with_residual,
        }
    }
}

impl TryFrom<RowOnWire> for ReportRow {
    type Error = NotAValue;

    fn try_from(row: RowOnWire) -> Result<Self, NotAValue> {
        let unit = row.unit.read()?;
        let value = |text: &str| from_text(text, unit.as_ref());
        Ok(Self {
            speed: value(&row.speed)?,
            batch: value(&row.batch)?,
            drift: value(&row.drift)?,
            reasons: row.reasons.iter().map(|(reason, text)| Ok((*reason, value(text)?))).collect::<Result<_, _>>()?,
            residual: value(&row.residual)?,
            rollup: row.rollup,
            event: row.event,
            measure: row.measure,
            unit,
            error_bound: row.error_bound,
            cells: row.cells,
            cells_with_residual: row.cells_with_residual,
        })
    }
}

impl From<WorstCell> for WorstOnWire {
    fn from(worst: WorstCell) -> Self {
        let text = |value| to_text(value, worst.unit.as_ref());
        Self {
            speed: text(worst.speed),
            batch: text(worst.batch),
            residual: text(worst.residual),
            cell: worst.cell,
            measure: worst.measure,
            unit: worst.unit.into(),
        }
    }
}

impl TryFrom<WorstOnWire> for WorstCell {
    type Error = NotAValue;

    fn try_from(worst: WorstOnWire) -> Result<Self, NotAValue> {
        let unit = worst.unit.read()?;
        let value = |text: &str| from_text(text, unit.as_ref());
        Ok(Self {
            speed: value(&worst.speed)?,
            batch: value(&worst.batch)?,
            residual: value(&worst.residual)?,
            cell: worst.cell,
            measure: worst.measure,
            unit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Unit {
        text.parse().expect("a unit")
    }

    #[test]
    fn values_keep_every_digit() {
        for unit in [None, Some(unit("JPY")), Some(unit("USD")), Some(unit("KWD")), Some(unit("#quantity"))] {
            for value in [0, 1, -1, 99, -100, 459_603_958, i128::MAX, i128::MIN + 1] {
                let text = to_text(value, unit.as_ref());
                assert_eq!(from_text(&text, unit.as_ref()).expect("its own text"), value, "{text}");
            }
        }
        for text in ["1", "1.2", "1.234", "0x1", "", ".", "1e2", "+1.00"] {
            assert!(from_text(text, Some(&unit("USD"))).is_err(), "{text}");
        }
        for text in ["01", "+1", "-0", "1.0", "", "1_000"] {
            assert!(from_text(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn a_row_is_json_of_decimal_texts_and_reads_back() {
        let row = ReportRow {
            rollup: "total".to_owned(),
            event: "purchase".to_owned(),
            measure: Measure::Money,
            unit: Some(unit("USD")),
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
        assert_eq!((&json["currency"], &json["property"]), (&"USD".into(), &serde_json::Value::Null));
        assert_eq!(serde_json::from_value::<ReportRow>(json).expect("its own JSON"), row);
        let sum = ReportRow { measure: Measure::Sum, unit: Some(unit("#quantity")), ..row };
        let json = serde_json::to_value(&sum).expect("a row");
        assert_eq!((&json["batch"], &json["reasons"]["late"]), (&"459.603958".into(), &"-0.000001".into()));
        assert_eq!((&json["property"], &json["currency"]), (&"quantity".into(), &serde_json::Value::Null));
        assert_eq!(serde_json::from_value::<ReportRow>(json).expect("its own JSON"), sum);
    }
}
