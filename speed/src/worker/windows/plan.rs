//! What is counted for whom, and the rules that decide which records count.

use std::time::Duration;

use hashbrown::HashMap;
use reckon_schemas::catalog::{Catalog, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, PerGrain, Window};

use super::tops::{self, TopPlan};

/// The rules by which a record counts or is an exception.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How long after its end, in event time, a window still takes events.
    pub(crate) allowed_lateness: PerGrain,
    /// How long after its end a window of each grain is kept in Redis; one of a second is of interest to nobody any more
    /// after that, by the log's time.
    pub(crate) redis_retention: PerGrain,
    /// How far an event may be dated after its record's time in the log, in microseconds.
    pub(crate) future_skew_us: i64,
    /// A duplicate is recognised if at most so many records of the partition lie between.
    pub(crate) dedup_horizon_records: usize,
}

/// One tenant's part of the plan.
#[derive(Debug)]
pub(crate) struct TenantPlan {
    pub(crate) id: TenantId,
    pub(crate) zone: Zone,
    pub(crate) rollups: Vec<Rollup>,
    /// The properties that are summed.
    pub(crate) summed: Vec<Unit>,
    /// Every property that a rollup groups by, and which rollups do.
    pub(crate) dimensions: Vec<String>,
    /// The properties whose most frequent values are kept.
    pub(crate) tops: TopPlan,
    /// How many values of a dimension are told apart in a day.
    pub(crate) dimension_values_max: usize,
}

/// Everything that a record is judged by.
#[derive(Debug)]
pub(crate) struct Plan {
    tenants: HashMap<TenantId, TenantPlan>,
    pub(crate) rules: Rules,
}

impl Plan {
    pub(crate) fn new(catalog: &Catalog, rules: Rules) -> Self {
        let tenants = catalog.tenants.iter().map(|tenant| {
            let rollups = tenant.counted_rollups();
            let mut dimensions: Vec<String> =
                rollups.iter().flat_map(|rollup| rollup.dimensions().iter().cloned()).collect();
            dimensions.sort_unstable();
            dimensions.dedup();
            let plan = TenantPlan {
                id: tenant.id.clone(),
                zone: tenant.time_zone.clone(),
                rollups,
                summed: tenant.summed_properties(),
                tops: top_plan(tenant),
                dimensions,
                dimension_values_max: tenant.dimension_values_max,
            };
            (tenant.id.clone(), plan)
        });
        Self { tenants: tenants.collect(), rules }
    }

    #[cfg(test)]
    pub(super) fn limit_values(&mut self, dimension_values_max: usize) {
        self.tenants.values_mut().for_each(|tenant| tenant.dimension_values_max = dimension_values_max);
    }

    /// Every rollup, summed property and property whose most frequent values are kept, by its tenant.
    pub(super) fn items(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.tenants.values().flat_map(|tenant| {
            let rollups = tenant.rollups.iter().map(|rollup| rollup.name().to_owned());
            let tops = tenant.tops.iter().flat_map(|(event, tops)| {
                tops.iter().map(move |(_, property)| reckon_schemas::top::plan_item(event, property))
            });
            let names = rollups.chain(tenant.summed.iter().map(ToString::to_string)).chain(tops);
            names.map(|name| (tenant.id.to_string(), name))
        })
    }

    pub(crate) fn tenant(&self, id: &str) -> Option<&TenantPlan> {
        self.tenants.get(id)
    }
}

impl Rules {
    /// Whether a window takes no more events, once this event time was seen.
    pub(super) fn is_over(&self, window: &Window, watermark: Option<EventTime>) -> bool {
        let closes_at = window.end.plus_micros(self.allowed_lateness.micros_of(window.grain));
        watermark.is_some_and(|watermark| closes_at <= watermark)
    }

    /// Whether a window is of no interest to anybody any more, although it may still take events: only those of one
    /// second are dropped so soon that a replay would count them in vain.
    pub(super) fn is_forgotten(&self, window: &Window, log_time: EventTime) -> bool {
        window.grain == Grain::Second && !self.is_fresh(window, log_time)
    }

    /// Whether Redis keeps a window.
    pub(super) fn is_fresh(&self, window: &Window, now: EventTime) -> bool {
        window.end.plus_micros(self.redis_retention.micros_of(window.grain)) > now
    }
}

fn top_plan(tenant: &Tenant) -> TopPlan {
    let mut plan = TopPlan::new();
    for (event, property) in tenant.tops() {
        plan.entry(event.to_owned()).or_default().push((tops::series_name(property), property.to_owned()));
    }
    plan
}

/// A duration in microseconds; what exceeds 292,000 years is that.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
