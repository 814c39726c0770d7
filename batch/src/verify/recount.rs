//! A few days, counted again from a version of the lake as they were counted for a run. The one place that knows how the
//! recount is called.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;

use crate::nightly::{Error, chunk::Chunk, due::span};
use crate::recount::{Budget, Cells, Delivery, Groups, PinnedLake};
use crate::settle::{Settlement, SpeedCut};

/// Days that were counted again.
pub(super) struct Recounted {
    pub(super) groups: Groups,
    pub(super) cells: Cells,
    pub(super) settlements: Vec<Settlement>,
}

/// Counts days, which must lie close together, from the pinned version. `deliveries` is how many it holds for each day.
///
/// # Errors
/// [`Error`].
pub(super) async fn recount(
    pinned: &PinnedLake,
    tenant: &Tenant,
    days: &[Date],
    deliveries: &BTreeMap<Date, u64>,
    budget: &Arc<Budget>,
) -> Result<Recounted, Error> {
    let here: u64 = days.iter().filter_map(|day| deliveries.get(day)).sum();
    let everywhere: u64 = deliveries.values().sum();
    let mut groups = Groups::new(tenant.counted_rollups());
    let span = span(days, &tenant.time_zone);
    let firsts = pinned.first_deliveries(tenant, span.clone(), here, everywhere > here, budget).await?;
    let cut = SpeedCut::default();
    let mut chunk = Chunk::new(tenant, days, &cut, &firsts, pinned.threads(), budget);
    let take = |delivery: Delivery<'_>| chunk.take(&delivery, &mut groups);
    pinned.deliveries::<Error>(tenant, span, take).await?;
    let counted = chunk.finish(&groups, &BTreeMap::new()).await?;
    Ok(Recounted { groups, cells: counted.cells, settlements: counted.settlements })
}
