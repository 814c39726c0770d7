//! Answers in the shapes that Grafana draws.

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Target;
use crate::answer::{Answer, Group, Number, Stale, Value};

/// A line, or a table.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Frame {
    /// `[value, milliseconds]` in order. Grafana draws floating point numbers; the exact ones are in tables, as text.
    #[serde(rename_all = "camelCase")]
    Line {
        target: String,
        ref_id: String,
        #[schema(value_type = Vec<Vec<f64>>)]
        datapoints: Vec<(f64, i64)>,
        reckon: About,
    },
    /// One row a window and group.
    #[serde(rename_all = "camelCase")]
    Table {
        #[serde(rename = "type")]
        kind: &'static str,
        ref_id: String,
        columns: Vec<serde_json::Value>,
        rows: Vec<Vec<serde_json::Value>>,
        reckon: About,
    },
}

/// What Grafana does not draw: how old a frame's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct About {
    /// How long before they were sent they were computed, in milliseconds.
    age_ms: i64,
    /// How long ago the partition that is the longest behind reported its progress, in milliseconds.
    speed_lag_ms: Option<i64>,
    /// Set if provisional numbers are older than they should be, or all of them are older than they would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<Stale>,
}

impl About {
    fn of(answer: &Answer) -> Self {
        Self { age_ms: answer.age_ms, speed_lag_ms: answer.speed_lag_ms, stale: answer.stale }
    }
}

pub(super) fn line(target: &Target, answer: &Answer, group: &Group) -> Frame {
    let values: Vec<&str> = group.dimensions.values().map(String::as_str).collect();
    let name = if values.is_empty() { target.target.clone() } else { values.join(", ") };
    let datapoints = group.points.iter().map(|point| (drawn(&point.number), point.start.as_millisecond())).collect();
    Frame::Line { target: name, ref_id: target.ref_id.clone(), datapoints, reckon: About::of(answer) }
}

/// A line on a screen is no place for the last digit: that is in tables.
fn drawn(number: &Number) -> f64 {
    match &number.value {
        #[expect(clippy::cast_precision_loss, reason = "Grafana draws floating point numbers")]
        Value::Integer(value) => *value as f64,
        Value::Decimal(text) => text.parse().unwrap_or(f64::NAN),
        // As JSON it is null: a line has a hole there.
        Value::Undefined => f64::NAN,
    }
}

pub(super) fn table(target: &Target, answer: &Answer) -> Frame {
    let names: Vec<&String> = answer.groups.iter().take(1).flat_map(|group| group.dimensions.keys()).collect();
    let column = |text: &str, kind: &str| json!({ "text": text, "type": kind });
    let mut columns = vec![column("time", "time")];
    columns.extend(names.iter().map(|name| column(name, "string")));
    columns.push(column(&target.target, "string"));
    columns.extend(["state", "method", "error bound", "run"].map(|name| column(name, "string")));
    let rows = answer.groups.iter().flat_map(|group| {
        group.points.iter().map(|point| {
            let number = &point.number;
            let mut row = vec![json!(point.start.as_millisecond())];
            row.extend(group.dimensions.values().map(|value| json!(value)));
            row.push(json!(number.value));
            row.extend([json!(number.state), json!(number.method), json!(number.error_bound), json!(number.run_id)]);
            row
        })
    });
    let (ref_id, reckon) = (target.ref_id.clone(), About::of(answer));
    Frame::Table { kind: "table", ref_id, columns, rows: rows.collect(), reckon }
}
