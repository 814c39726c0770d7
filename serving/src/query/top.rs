//! The most frequent values of a property. Kept by the speed layer for windows from five minutes on, never settled:
//! every count says how far it can be off.

use std::collections::BTreeMap;

use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::top::TopSketch;
use reckon_schemas::window::{Grain, Window};

use super::params::Query;
use super::reading::fresh_windows;
use super::selection::Selection;
use super::{Evaluator, store_problem};
use crate::merge::plan::{Layer, Plan};
use crate::merge::tally::Tally;
use crate::merge::{Group, Merged};
use crate::problem::Problem;
use crate::stores::StoreError;
use crate::stores::progress::SpeedProgress;
use crate::stores::tops::FreshTops;

/// The grains that the most frequent values are kept for.
const GRAINS: [Grain; 3] = [Grain::FiveMinutes, Grain::Hour, Grain::Day];

impl Selection {
    /// The values of a metric's property, as if they were groups.
    ///
    /// # Errors
    /// 422 if the question has groups of its own, or a grain that is not kept.
    pub(super) fn of_top(query: &Query, metric: &Metric, tenant: &Tenant) -> Result<Self, Problem> {
        query.refuse_groups("the most frequent values are those of the metric's own property")?;
        if !GRAINS.contains(&query.grain) {
            let detail = "the most frequent values are kept for windows of 5m, 1h and 1d";
            return Err(Problem::not_answerable("grain", detail));
        }
        let rollup = Rollup::new(metric.property.clone());
        let rollup = rollup.map_err(|error| Problem::not_answerable("metric", error.to_string()))?;
        Ok(Self {
            tenant: tenant.id.clone(),
            event: metric.event.clone(),
            measure: Measure::Top,
            unit: None,
            rollup,
            grain: query.grain,
            by: vec![0],
            filters: Vec::new(),
            except: Vec::new(),
            except_by: Vec::new(),
        })
    }
}

impl Evaluator {
    /// Unites the partitions' sketches of the range, each from the store that has it newer.
    ///
    /// # Errors
    /// ClickHouse is away.
    pub(super) async fn read_top(
        &self,
        selection: &Selection,
        limit: usize,
        plan: &Plan,
        progress: &SpeedProgress,
        redis_error: Option<StoreError>,
        notes: &mut Vec<String>,
    ) -> Result<(Merged, bool), Problem> {
        let Some(span) = plan.span(0..plan.len()) else { return Err(Problem::too_much()) };
        let property = selection.rollup.name();
        let mut tops = FreshTops::default();
        let kept = self.stores().clickhouse.tops(selection, property, span).await;
        kept.map_err(|error| store_problem(&error))?.into_iter().for_each(|top| tops.offer(top));
        let redis_error = match redis_error {
            Some(error) => Some(error),
            None => {
                let fresh = fresh_windows(plan, plan.windows_of(Layer::Speed), progress, self.tuning.fresh_windows_max);
                let windows: Vec<Window> = fresh.map(|index| *plan.window(index)).collect();
                let read = self.stores().redis.tops(selection, property, &windows).await;
                read.map(|fresh| fresh.into_iter().for_each(|top| tops.offer(top))).err()
            }
        };
        self.tell_about_redis(redis_error, notes);
        Ok(said(&tops.union(), limit))
    }
}

/// The values as groups, and whether there are more.
fn said(union: &TopSketch, limit: usize) -> (Merged, bool) {
    let mut values = union.top(limit + 1);
    let is_truncated = values.len() > limit;
    values.truncate(limit);
    let groups = values.into_iter().map(|value| {
        let tally = Tally::Frequent { at_least: value.at_least, at_most: value.at_most };
        Group { key: vec![value.value], total: tally.clone(), parts: vec![tally], points: BTreeMap::new() }
    });
    let total = Tally::Sum(union.total().into());
    (Merged { total: total.clone(), parts: vec![total], groups: groups.collect() }, is_truncated)
}
