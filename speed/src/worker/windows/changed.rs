//! The cells that changed since a sink was given them last.

use std::sync::Arc;

use reckon_schemas::cell::Measures;
use reckon_schemas::window::Window;

use super::Sink;
use super::partition::PartitionState;
use super::series::Series;

/// The totals of a cell as of the last fold, for a sink that has not been given them yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChangedCell<'a> {
    pub(crate) series: &'a Arc<Series>,
    pub(crate) window: Window,
    pub(crate) measures: &'a Measures,
}

/// The same, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlushedCell {
    pub(crate) series: Arc<Series>,
    pub(crate) window: Window,
    pub(crate) measures: Measures,
}

impl PartitionState {
    /// The totals of every cell that changed since the last call for this sink, as of the last fold.
    pub(crate) fn changed(&mut self, sink: Sink) -> Vec<ChangedCell<'_>> {
        let series = &self.series;
        let changed = self.totals.take_dirty(sink);
        changed.map(|(window, number, measures)| ChangedCell { series: series.get(number), window, measures }).collect()
    }

    /// The same, copied.
    pub(crate) fn take_changed(&mut self, sink: Sink) -> Vec<FlushedCell> {
        let copy = |ChangedCell { series, window, measures }: ChangedCell<'_>| FlushedCell {
            series: Arc::clone(series),
            window,
            measures: measures.clone(),
        };
        self.changed(sink).into_iter().map(copy).collect()
    }
}
