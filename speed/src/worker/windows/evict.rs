//! What the sinks have acknowledged, and which cells need no place in memory any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use reckon_schemas::time::EventTime;

use super::Sink;
use super::partition::{CellKey, PartitionState};
use super::plan::Plan;

/// Every cell in memory, by the end of its window.
#[derive(Debug, Default)]
pub(super) struct Expiry(BTreeMap<EventTime, Vec<CellKey>>);

impl Expiry {
    pub(super) fn push(&mut self, key: CellKey) {
        self.0.entry(key.window.end).or_default().push(key);
    }

    fn pop_first(&mut self) -> Option<Vec<CellKey>> {
        self.0.pop_first().map(|(_, keys)| keys)
    }

    fn first(&self) -> Option<&CellKey> {
        self.0.first_key_value().and_then(|(_, keys)| keys.first())
    }
}

impl PartitionState {
    /// Everything below this offset is in the sink, for good.
    pub(crate) fn acknowledge(&mut self, sink: Sink, offset: i64) {
        let acknowledged = &mut self.acknowledged[sink.index()];
        *acknowledged = (*acknowledged).max(Some(offset));
    }

    /// Up to which offset everything is in the sink.
    pub(crate) fn acknowledged(&self, sink: Sink) -> Option<i64> {
        self.acknowledged[sink.index()]
    }

    /// Drops the cells that take no more events and are in both sinks.
    pub(crate) fn evict(&mut self, plan: &Plan) {
        let [Some(redis), Some(clickhouse)] = self.acknowledged else { return };
        let safe = redis.min(clickhouse);
        // Cells that had to stay the last time have to stay until the slower sink has more.
        if self.evicted_below.replace(safe) == Some(safe) {
            return;
        }
        let mut kept = Vec::new();
        while self.expiry.first().is_some_and(|key| self.is_over(plan, &key.window)) {
            for key in self.expiry.pop_first().unwrap_or_default() {
                if !self.evict_cell(&key, safe) {
                    kept.push(key);
                }
            }
        }
        for key in kept {
            self.expiry.push(key);
        }
    }

    /// False if the cell has to stay, because a sink does not have it yet.
    fn evict_cell(&mut self, key: &CellKey, safe: i64) -> bool {
        let Some(cells) = self.series.get_mut(&key.series) else { return true };
        let Some(cell) = cells.totals.get(&key.window) else { return true };
        // What was counted since the last fold is still to be added to it: without it, the fold would begin a new cell
        // and overwrite the totals of this one with a part of them.
        let awaits_fold = cells.pending.iter().any(|(start, _)| key.window.contains(*start));
        if awaits_fold || cell.changed > safe || cell.dirty.contains(&true) {
            return false;
        }
        cells.totals.remove(&key.window);
        self.has_evicted = true;
        if cells.totals.is_empty() && cells.pending.is_empty() {
            self.series.remove(&key.series);
        }
        true
    }

    /// Lists every cell in memory again, after they were read from a snapshot.
    pub(super) fn index_expiry(&mut self) {
        self.expiry = Expiry::default();
        for (series, cells) in &self.series {
            for window in cells.totals.keys() {
                self.expiry.push(CellKey { series: Arc::clone(series), window: *window });
            }
        }
    }
}
