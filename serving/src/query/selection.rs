//! Which cells a query is about: names looked up in the tenant's catalog, nothing left of what the client wrote but
//! the values it filters by.

use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::sums::Unit;
use reckon_schemas::window::Grain;

use super::params::Query;
use crate::problem::Problem;

/// One metric's cells of one rollup and grain.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) tenant: TenantId,
    pub(crate) event: String,
    pub(crate) measure: Measure,
    /// For sums: what they are in.
    pub(crate) unit: Option<Unit>,
    pub(crate) rollup: Rollup,
    pub(crate) grain: Grain,
    /// The dimensions that are grouped by, as positions in the rollup.
    pub(crate) by: Vec<usize>,
    /// The dimensions that are filtered, as positions in the rollup, with the values allowed.
    pub(crate) filters: Vec<(usize, Vec<String>)>,
}

impl Selection {
    /// Looks the query's names up.
    ///
    /// # Errors
    /// 422 if none of the tenant's rollups has all the dimensions.
    pub(crate) fn new(query: &Query, metric: &Metric, tenant: &Tenant) -> Result<Self, Problem> {
        let (unit, Metric { event, measure, .. }) = (metric.unit(), metric.clone());
        let rollup = smallest_rollup(query, tenant)?;
        let position = |dimension: &String| rollup.dimensions().iter().position(|other| other == dimension);
        let by = query.by.iter().filter_map(position).collect();
        let filters = query
            .filters
            .iter()
            .filter_map(|(dimension, values)| Some((position(dimension)?, values.iter().cloned().collect())));
        let filters = filters.collect();
        Ok(Self { tenant: tenant.id.clone(), event, measure, unit, rollup, grain: query.grain, by, filters })
    }

    /// The same cells, not grouped.
    pub(crate) fn ungrouped(&self) -> Self {
        Self { by: Vec::new(), ..self.clone() }
    }

    /// Whether a cell with these values (of all of the rollup's dimensions) is asked for.
    pub(crate) fn allows(&self, values: &[String]) -> bool {
        self.filters.iter().all(|(index, allowed)| values.get(*index).is_some_and(|value| allowed.contains(value)))
    }

    /// The measure's name in every format.
    pub(crate) fn measure_name(&self) -> &'static str {
        match self.measure {
            Measure::Count => "count",
            Measure::Money => "money",
            Measure::Sum => "sum",
            Measure::Users => "users",
            Measure::ActiveUsers => "active_users",
            Measure::Top => "top",
        }
    }

    /// The name of the numbers' unit.
    pub(crate) fn unit_name(&self) -> &str {
        match (self.measure, &self.unit) {
            (Measure::Users | Measure::ActiveUsers, _) => "users",
            (_, Some(Unit::Currency(currency))) => currency.code(),
            (_, Some(Unit::Property(name))) => name,
            _ => "events",
        }
    }
}

/// Dimensions that are not asked for are added up, so any rollup that has the others will do; the one with the
/// fewest dimensions has the fewest cells to add.
fn smallest_rollup(query: &Query, tenant: &Tenant) -> Result<Rollup, Problem> {
    let needed: Vec<&String> = query.by.iter().chain(query.filters.keys()).collect();
    let rollups = tenant.counted_rollups();
    let covers = |rollup: &&Rollup| needed.iter().all(|dimension| rollup.dimensions().contains(dimension));
    if let Some(rollup) = rollups.iter().filter(covers).min_by_key(|rollup| rollup.dimensions().len()) {
        return Ok(rollup.clone());
    }
    let names: Vec<&str> = rollups.iter().map(Rollup::name).collect();
    let parameter = if query.by.is_empty() { "filter" } else { "by" };
    let detail = format!("no rollup has all of these dimensions; there are: {}", names.join("; "));
    Err(Problem::not_answerable(parameter, detail))
}
