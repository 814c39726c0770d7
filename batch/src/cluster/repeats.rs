//! Which deliveries are not the first of their event, in the whole lake.

use std::ops::Range;

use arrow::datatypes::DataType;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_window::expr_fn::{first_value, row_number};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, WindowFrame, WindowFrameBound, WindowFrameUnits, cast, ident, lit,
};
use datafusion::prelude::DataFrame;
use datafusion::scalar::ScalarValue;
use reckon_schemas::time::EventTime;
use url::Url;

use super::Cluster;
use super::plan::typed;
use super::read::{each, present};
use crate::recount::{Place, RecountError, Repeat};

const KEYS: [&str; 7] =
    ["log_time", "partition", "offset", "event_key_high", "event_key_low", "content_key_high", "content_key_low"];

impl Cluster {
    /// Every delivery filed under a span of event time that is not the first of its event, and every one elsewhere that
    /// contradicts the first delivery of an event that has one here.
    ///
    /// # Errors
    /// [`RecountError`].
    pub(crate) async fn repeats(&self, span: Range<EventTime>) -> Result<Vec<Repeat>, RecountError> {
        let (here, elsewhere) = self.files.divided(&span);
        if here.is_empty() {
            return Ok(Vec::new());
        }
        let mut keys = self.keys(&here, 1)?;
        if !elsewhere.is_empty() {
            keys = keys.union(self.keys(&elsewhere, 0)?)?;
        }
        let mut repeats = Vec::new();
        each(ranked(keys)?, |batch| {
            let column = |name| present(batch, name);
            let (partitions, offsets) = (column("partition")?, column("offset")?);
            let (first_partitions, first_offsets) = (column("first_partition")?, column("first_offset")?);
            let (here, differs) = (column("here")?, column("differs")?);
            for row in 0..batch.num_rows() {
                repeats.push(Repeat {
                    place: place(partitions.value(row), offsets.value(row))?,
                    first: place(first_partitions.value(row), first_offsets.value(row))?,
                    here: here.value(row) == 1,
                    differs: differs.value(row) == 1,
                });
            }
            Ok::<(), RecountError>(())
        })
        .await?;
        Ok(repeats)
    }

    fn keys(&self, files: &[Url], here: i64) -> Result<DataFrame, RecountError> {
        let columns = KEYS.iter().map(|name| typed(name)).chain([lit(here).alias("here")]);
        Ok(self.rows(files)?.select(columns.collect::<Vec<_>>())?)
    }
}

/// All deliveries of an event side by side, in the order that decides which one counts.
fn ranked(keys: DataFrame) -> Result<DataFrame, RecountError> {
    let everything = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
        WindowFrameBound::Following(ScalarValue::UInt64(None)),
    );
    let of_event = |function: Expr| {
        function
            .partition_by(vec![ident("event_key_high"), ident("event_key_low")])
            .order_by(["log_time", "partition", "offset"].map(|name| ident(name).sort(true, false)).to_vec())
            .window_frame(everything.clone())
            .build()
    };
    let has_here = Expr::from(WindowFunction::new(max_udaf(), vec![ident("here")]));
    let columns = vec![
        ident("partition"),
        ident("offset"),
        ident("here"),
        ident("content_key_high"),
        ident("content_key_low"),
        of_event(row_number())?.alias("rank"),
        of_event(has_here)?.alias("has_here"),
        of_event(first_value(ident("partition")))?.alias("first_partition"),
        of_event(first_value(ident("offset")))?.alias("first_offset"),
        of_event(first_value(ident("content_key_high")))?.alias("first_high"),
        of_event(first_value(ident("content_key_low")))?.alias("first_low"),
    ];
    let differs =
        ident("content_key_high").not_eq(ident("first_high")).or(ident("content_key_low").not_eq(ident("first_low")));
    let is_repeat = ident("here").eq(lit(1_i64)).and(ident("rank").gt(lit(1_u64)));
    let contradicts = ident("has_here").eq(lit(1_i64)).and(differs.clone());
    let answer = vec![
        ident("partition"),
        ident("offset"),
        ident("first_partition"),
        ident("first_offset"),
        ident("here"),
        cast(differs, DataType::Int64).alias("differs"),
    ];
    Ok(keys.select(columns)?.filter(is_repeat.or(contradicts))?.select(answer)?)
}

/// The place of a delivery.
///
/// # Errors
/// [`RecountError::Damaged`] if no log can have it.
fn place(partition: i64, offset: i64) -> Result<Place, RecountError> {
    let number = i32::try_from(partition);
    let number = number.map_err(|_| RecountError::Damaged(format!("no log has a partition {partition}")))?;
    Place::new(number, offset)
}
