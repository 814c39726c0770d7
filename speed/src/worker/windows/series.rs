//! A series: what a cell is apart from its window. Kept once and shared by all of its windows.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::Equivalent;
use reckon_schemas::cell::{DimensionValues, Measures, Rollup};
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Window;
use serde::{Deserialize, Serialize};

/// Tenant, rollup, event name and dimension values.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) tenant: TenantId,
    pub(crate) rollup: String,
    pub(crate) event: String,
    pub(crate) values: DimensionValues,
}

impl Series {
    /// The dimension values one by one.
    pub(crate) fn dimensions(&self) -> Vec<String> {
        let count = if self.rollup == Rollup::TOTAL { 0 } else { self.rollup.split(',').count() };
        self.values.values(count)
    }
}

/// The same, borrowed from an event: a known series is found without an allocation. Its hash must be the one of
/// [`Series`], which holds because both derive it over the same texts in the same order.
#[derive(Clone, Copy, Hash)]
pub(crate) struct SeriesRef<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) rollup: &'a str,
    pub(crate) event: &'a str,
    pub(crate) values: &'a str,
}

impl Equivalent<Arc<Series>> for SeriesRef<'_> {
    fn equivalent(&self, series: &Arc<Series>) -> bool {
        self.event == series.event
            && self.values == series.values.as_str()
            && self.rollup == series.rollup
            && self.tenant == series.tenant.as_str()
    }
}

/// What is counted of one series.
#[derive(Debug, Default)]
pub(crate) struct SeriesCells {
    /// Since the last fold, by the start of the finest window. Few at a time, so a list is faster than a map.
    pub(crate) pending: Vec<(EventTime, Measures)>,
    /// The absolute totals of every window that can still change or is not flushed yet.
    pub(crate) totals: BTreeMap<Window, Cell>,
}

impl SeriesCells {
    /// The pending measures of a finest window.
    pub(crate) fn pending_at(&mut self, start: EventTime) -> &mut Measures {
        // From the end: events mostly follow each other in time.
        let found = self.pending.iter().rposition(|(at, _)| *at == start);
        let index = found.unwrap_or_else(|| {
            self.pending.push((start, Measures::default()));
            self.pending.len() - 1
        });
        &mut self.pending[index].1
    }
}

/// The totals of one cell in one partition.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    pub(crate) measures: Measures,
    /// The partition's next offset at the fold that changed it last.
    pub(crate) changed: i64,
    /// Whether it is in the list of what a sink has not been given yet.
    pub(crate) dirty: [bool; 2],
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn borrowed_and_owned_series_hash_alike() {
        let series = Arc::new(Series {
            tenant: "acme".parse().expect("valid"),
            rollup: "a,b".to_owned(),
            event: "buy".to_owned(),
            values: DimensionValues::new(&["x", ""]),
        });
        let borrowed = SeriesRef { tenant: "acme", rollup: "a,b", event: "buy", values: series.values.as_str() };
        let hasher = hashbrown::DefaultHashBuilder::default();
        assert_eq!(hasher.hash_one(&series), hasher.hash_one(borrowed));
        assert!(borrowed.equivalent(&series));
        assert_eq!(series.dimensions(), ["x", ""]);
    }
}
