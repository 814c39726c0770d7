//! What is counted for whom, and the rules that decide which records count.

use std::time::Duration;

use hashbrown::HashMap;
use reckon_schemas::catalog::Catalog;
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::Zone;

/// The rules by which a record counts or is an exception.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How long after its end a window still takes events, in microseconds of event time.
    pub(crate) allowed_lateness_us: i64,
    /// How far an event may be dated after its record's time in the log.
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
            let (id, zone) = (tenant.id.clone(), tenant.time_zone.clone());
            (id.clone(), TenantPlan { id, zone, rollups: tenant.counted_rollups() })
        });
        Self { tenants: tenants.collect(), rules }
    }

    pub(crate) fn tenant(&self, id: &str) -> Option<&TenantPlan> {
        self.tenants.get(id)
    }
}

/// A duration in microseconds; what exceeds 292,000 years is that.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
