//! Which cells a query is about: names looked up in the tenant's catalog, nothing left of what the client wrote but
//! the values it filters by.

use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::sums::Unit;
use reckon_schemas::window::Grain;

use super::filter::Test;
use super::params::Query;
use crate::merge::Key;
use crate::problem::Problem;

/// One metric's cells of one rollup and grain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// The dimensions that are filtered, as positions in the rollup, with what their values have to be.
    pub(crate) filters: Vec<(usize, Test)>,
    /// Groups (of the dimensions `except_by`) that are left out.
    pub(crate) except: Vec<Key>,
    /// The dimensions of the groups that are left out, as positions in the rollup.
    pub(crate) except_by: Vec<usize>,
}

impl Selection {
    /// Looks the query's names up: one for each of the tenant's rollups that has all the dimensions, the smallest first.
    /// None if what is to be summed is not.
    pub(crate) fn of_rollups(query: &Query, metric: &Metric, tenant: &Tenant) -> Vec<Self> {
        let is_summed = |unit: &Unit| matches!(unit, Unit::Currency(_)) || tenant.summed_properties().contains(unit);
        if !metric.unit().as_ref().is_none_or(is_summed) {
            return Vec::new();
        }
        rollups(query, tenant).into_iter().map(|rollup| Self::over(rollup, query, metric, tenant)).collect()
    }

    /// The same of single events, whatever they are grouped and filtered by: properties, or `user_id`.
    ///
    /// # Errors
    /// 422 if that is no name of a property, or there are too many.
    pub(crate) fn of_events(query: &Query, metric: &Metric, tenant: &Tenant) -> Result<Self, Problem> {
        let mut names: Vec<&String> = query.by.iter().collect();
        for filter in &query.filters {
            if !names.contains(&&filter.dimension) {
                names.push(&filter.dimension);
            }
        }
        let parameter = if query.by.is_empty() { "filter" } else { "by" };
        let rollup = Rollup::new(names.into_iter().cloned());
        let rollup = rollup.map_err(|error| Problem::not_answerable(parameter, error.to_string()))?;
        Ok(Self::over(rollup, query, metric, tenant))
    }

    fn over(rollup: Rollup, query: &Query, metric: &Metric, tenant: &Tenant) -> Self {
        let (unit, Metric { event, measure, .. }) = (metric.unit(), metric.clone());
        let position = |dimension: &String| rollup.dimensions().iter().position(|other| other == dimension);
        let by = query.by.iter().filter_map(position).collect();
        let filters = query.filters.iter();
        let filters = filters.filter_map(|filter| Some((position(&filter.dimension)?, filter.test.clone()))).collect();
        let (tenant, grain) = (tenant.id.clone(), query.grain);
        let (except, except_by) = (Vec::new(), Vec::new());
        Self { tenant, event, measure, unit, rollup, grain, by, filters, except, except_by }
    }

    /// The same cells, not grouped.
    pub(crate) fn ungrouped(&self) -> Self {
        Self { by: Vec::new(), ..self.clone() }
    }

    /// The cells of all other groups than these, as one.
    pub(crate) fn other_than(&self, groups: Vec<Key>) -> Self {
        Self { by: Vec::new(), except: groups, except_by: self.by.clone(), ..self.clone() }
    }

    /// Whether a cell with these values (of all of the rollup's dimensions) is asked for.
    pub(crate) fn allows(&self, values: &[String]) -> bool {
        let passes = |(index, test): &(usize, Test)| values.get(*index).is_some_and(|value| test.allows(value));
        let is_left_out = || {
            let key: Key = self.except_by.iter().filter_map(|index| values.get(*index).cloned()).collect();
            self.except.contains(&key)
        };
        self.filters.iter().all(passes) && (self.except.is_empty() || !is_left_out())
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
fn rollups(query: &Query, tenant: &Tenant) -> Vec<Rollup> {
    let filtered = query.filters.iter().map(|filter| &filter.dimension);
    let needed: Vec<&String> = query.by.iter().chain(filtered).collect();
    let covers = |rollup: &Rollup| needed.iter().all(|dimension| rollup.dimensions().contains(dimension));
    let mut rollups: Vec<Rollup> = tenant.counted_rollups().into_iter().filter(covers).collect();
    rollups.sort_by_key(|rollup| rollup.dimensions().len());
    rollups
}
