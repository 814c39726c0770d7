//! A funnel over the lake: users one after the other, each one's events in the order of time. What does not fit into
//! memory is sorted on disk.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::when;
use datafusion::prelude::{DataFrame, Expr, cast, ident, lit};

use super::count::{texts, user_key};
use super::events::{is_one_of, value_of};
use super::pinned::{PinnedLake, for_each_batch, integers};
use super::{broken, failed};
use crate::funnel::question::{Funnel, FunnelStep};
use crate::funnel::walk::Walk;
use crate::funnel::{Reached, add};
use crate::stores::StoreError;

/// By user, and then as the first one is found where two are of one instant.
const ORDER: [&str; 6] = ["user_key_high", "user_key_low", "at", "logged", "partition_", "offset_"];

impl PinnedLake {
    /// How many users of a tenant came how far.
    pub(crate) async fn funnel(&self, tenant: &str, funnel: &Funnel, segments_max: u64) -> Result<Reached, StoreError> {
        let matching = funnel.steps.iter().map(condition).reduce(Expr::or).unwrap_or(lit(false));
        let is_known = ident("user_key_high").is_not_null().and(ident("user_key_low").is_not_null());
        let columns = columns(funnel).map_err(|error| failed(&error))?;
        let events = self.events(tenant, funnel.from..funnel.to, is_known.and(matching), columns)?;
        let events = events.sort(ORDER.map(|name| ident(name).sort(true, false)).to_vec());
        walk_all(events.map_err(|error| failed(&error))?, funnel, segments_max).await
    }
}

fn condition(step: &FunnelStep) -> Expr {
    let of_event = ident("name").eq(lit(step.event.as_str()));
    step.filters.iter().fold(of_event, |all, (dimension, values)| all.and(is_one_of(dimension, values)))
}

fn columns(funnel: &Funnel) -> Result<Vec<Expr>, DataFusionError> {
    let integer = |name: &str, alias: &str| cast(ident(name), DataType::Int64).alias(alias);
    let mut mask = lit(0_i64);
    for (step, asked) in funnel.steps.iter().enumerate() {
        mask = mask + when(condition(asked), lit(1_i64 << step)).otherwise(lit(0_i64))?;
    }
    Ok(vec![
        ident("user_key_high"),
        ident("user_key_low"),
        integer("occurred_at", "at"),
        integer("log_time", "logged"),
        integer("partition", "partition_"),
        integer("offset", "offset_"),
        mask.alias("mask"),
        funnel.by.as_deref().map_or(lit(""), value_of).alias("segment"),
    ])
}

async fn walk_all(events: DataFrame, funnel: &Funnel, segments_max: u64) -> Result<Reached, StoreError> {
    let mut reached = Reached::new();
    let mut walker: Option<Walker> = None;
    for_each_batch(events, |batch| {
        take(batch, funnel, &mut walker, &mut reached)?;
        if reached.len() as u64 > segments_max {
            return Err(StoreError::TooMuch { rows_max: segments_max });
        }
        Ok(())
    })
    .await?;
    if let Some(walker) = walker {
        walker.finish(funnel, &mut reached);
    }
    Ok(reached)
}

/// A user on the way.
struct Walker {
    user: u128,
    walk: Walk,
    segment: Option<String>,
}

impl Walker {
    fn finish(self, funnel: &Funnel, reached: &mut Reached) {
        if let Some(segment) = self.segment {
            add(reached, segment, funnel.steps.len(), self.walk.finish(), 1);
        }
    }
}

fn take(
    batch: &RecordBatch,
    funnel: &Funnel,
    walker: &mut Option<Walker>,
    reached: &mut Reached,
) -> Result<(), StoreError> {
    let [high, low] = [integers(batch, "user_key_high")?, integers(batch, "user_key_low")?];
    let (at, masks, segments) = (integers(batch, "at")?, integers(batch, "mask")?, texts(batch, "segment")?);
    for row in 0..batch.num_rows() {
        let user = user_key(high.value(row), low.value(row));
        if walker.as_ref().is_none_or(|walker| walker.user != user) {
            let walk = Walk::new(funnel.steps.len(), funnel.within_us);
            if let Some(before) = walker.replace(Walker { user, walk, segment: None }) {
                before.finish(funnel, reached);
            }
        }
        let Some(walker) = walker.as_mut() else { continue };
        let mask = u32::try_from(masks.value(row)).map_err(|_| broken("a mask of steps"))?;
        if mask & 1 != 0 && walker.segment.is_none() {
            walker.segment = Some(segments.value(row).to_owned());
        }
        walker.walk.take(at.value(row), mask);
    }
    Ok(())
}
