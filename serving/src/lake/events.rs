//! Events of the lake: each once, by its first delivery, as the recount counts them.

use std::ops::{Not, Range};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::JoinType;
use datafusion::error::DataFusionError;
use datafusion::functions::core::expr_fn::{coalesce, get_field};
use datafusion::functions::string::expr_fn::starts_with;
use datafusion::prelude::{DataFrame, Expr, cast, ident, lit};
use datafusion::scalar::ScalarValue;
use reckon_schemas::lake::COLUMN_PROPERTIES;
use reckon_schemas::time::EventTime;

use super::failed;
use super::pinned::PinnedLake;
use crate::query::filter::Test;
use crate::stores::StoreError;

/// What stands for the user of an event where a property's name does.
const USER: &str = "user_id";

/// An event's identity, and where a delivery of it is in the log.
const IDENTITY: [&str; 2] = ["event_key_high", "event_key_low"];
const PLACE: [&str; 3] = ["log_time", "partition", "offset"];

impl PinnedLake {
    /// The events of a tenant in a range of event time that fulfil a condition. An event is what its first delivery in
    /// the whole lake says: one with the lowest (log time, partition, offset). So a delivery is left out if there is an
    /// earlier one of the same event, whatever that one says. The deliveries in question are held in memory, all others
    /// pass by.
    pub(super) fn events(
        &self,
        tenant: &str,
        range: Range<EventTime>,
        condition: Expr,
        columns: Vec<Expr>,
    ) -> Result<DataFrame, StoreError> {
        let rows = self.rows(tenant)?;
        first_deliveries(rows, range, condition, columns).map_err(|error| failed(&error))
    }
}

fn first_deliveries(
    rows: DataFrame,
    range: Range<EventTime>,
    condition: Expr,
    columns: Vec<Expr>,
) -> Result<DataFrame, DataFusionError> {
    let names: Vec<String> = columns.iter().map(|column| column.schema_name().to_string()).collect();
    let identity_of = |prefix: &str| {
        let key = IDENTITY.map(|name| ident(name).alias(format!("{prefix}_{name}")));
        let place = PLACE.map(|name| cast(ident(name), DataType::Int64).alias(format!("{prefix}_{name}")));
        key.into_iter().chain(place).collect::<Vec<_>>()
    };
    let in_question = rows.clone().filter(happened_in(range))?.filter(condition)?;
    let in_question = in_question.select(columns.into_iter().chain(identity_of("this")).collect::<Vec<_>>())?;
    let all = rows.select(identity_of("other"))?;
    let [log_time, partition, offset] =
        PLACE.map(|name| (ident(format!("other_{name}")), ident(format!("this_{name}"))));
    let is_before = |(other, this): (Expr, Expr)| (other.clone().lt(this.clone()), other.eq(this));
    let ((sooner, same_time), (lower, same_partition), (before, _)) =
        (is_before(log_time), is_before(partition), is_before(offset));
    let is_earlier = sooner.or(same_time.and(lower.or(same_partition.and(before))));
    let key = |prefix: &str| IDENTITY.map(|name| format!("{prefix}_{name}"));
    let (this, other) = (key("this"), key("other"));
    let (this, other) = (this.each_ref().map(String::as_str), other.each_ref().map(String::as_str));
    let firsts = in_question.join(all, JoinType::LeftAnti, &this, &other, Some(is_earlier))?;
    firsts.select(names.iter().map(ident).collect::<Vec<_>>())
}

/// By the dates that rows are filed under, too, so that files are left out.
fn happened_in(range: Range<EventTime>) -> Expr {
    let date = |at: EventTime| lit(ScalarValue::Date32(Some(at.utc_day_number())));
    let at = |at: EventTime| lit(ScalarValue::TimestampMicrosecond(Some(at.0), Some("UTC".into())));
    let dates =
        ident("event_date").gt_eq(date(range.start)).and(ident("event_date").lt_eq(date(range.end.plus_micros(-1))));
    dates.and(ident("occurred_at").gt_eq(at(range.start))).and(ident("occurred_at").lt(at(range.end)))
}

/// The value that an event has for a dimension: of a property, or its user; empty if it has none.
pub(super) fn value_of(dimension: &str) -> Expr {
    let value = if dimension == USER || COLUMN_PROPERTIES.contains(&dimension) {
        cast(ident(dimension), DataType::Utf8)
    } else {
        get_field(cast(ident("properties"), map_of_texts()), dimension)
    };
    coalesce(vec![value, lit("")])
}

/// Whether an event has one of these values for a dimension.
pub(super) fn is_one_of<'a>(dimension: &str, values: impl IntoIterator<Item = &'a String>) -> Expr {
    value_of(dimension).in_list(values.into_iter().map(|value| lit(value.as_str())).collect(), false)
}

/// Whether an event's value for a dimension passes a test.
pub(super) fn passes(dimension: &str, test: &Test) -> Expr {
    match test {
        Test::In(values) => is_one_of(dimension, values),
        Test::NotIn(values) => is_one_of(dimension, values).not(),
        Test::Prefix(prefixes) => {
            let begins = prefixes.iter().map(|prefix| starts_with(value_of(dimension), lit(prefix.as_str())));
            begins.reduce(Expr::or).unwrap_or(lit(false))
        }
    }
}

/// In one form, whatever the scan makes of it.
fn map_of_texts() -> DataType {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let entries = DataType::Struct(vec![text("key", false), text("value", true)].into());
    DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
}
