//! A few days, counted again from a version of the lake as they were counted for a run, but compared with nothing: what
//! the speed layer did then is no part of what was published.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use reckon_schemas::cell::Rollup;

use crate::Error;
use crate::count::{Counter, Days};
use crate::recount::{Budget, Cells, Groups, Top};
use crate::settle::Settlement;

/// Days that were counted again.
pub(super) struct Recounted {
    pub(super) groups: Groups,
    pub(super) cells: Cells,
    pub(super) tops: Vec<Top>,
    pub(super) settlements: Vec<Settlement>,
}

/// Counts days, which must lie close together, by these rollups from the pinned version. `deliveries` is how many it
/// holds for each day.
///
/// # Errors
/// [`Error`].
pub(super) async fn recount(
    counter: &Counter<'_>,
    rollups: Vec<Rollup>,
    days: &[Date],
    deliveries: &BTreeMap<Date, u64>,
    budget: &Arc<Budget>,
) -> Result<Recounted, Error> {
    let mut groups = Groups::new(rollups);
    let firsts = &counter.first_deliveries(days, deliveries, budget).await?;
    let asked = Days { days, deliveries, firsts, cut: None, settled: &BTreeMap::new() };
    let counted = counter.count(&asked, &mut groups, budget).await?;
    Ok(Recounted { groups, cells: counted.cells, tops: counted.tops, settlements: counted.settlements })
}
