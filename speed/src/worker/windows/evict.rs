//! What the sinks have acknowledged, and which windows need no place in memory any more.

use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, Window};

use super::Sink;
use super::partition::PartitionState;
use super::plan::Plan;

/// So many cells of one second are kept in memory after their windows are over; of about 100 bytes each.
const SECONDS_MAX: usize = 50_000;

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

    /// Drops the windows that take no more events and are in both sinks.
    pub(crate) fn evict(&mut self, plan: &Plan) {
        let [Some(redis), Some(clickhouse)] = self.acknowledged else { return };
        let safe = redis.min(clickhouse);
        // Windows that had to stay the last time have to stay until the slower sink has more.
        if self.evicted_below.replace(safe) == Some(safe) {
            return;
        }
        let pending = self.pending.starts();
        // What was counted since the last fold is still to be added to its windows: without one, the fold would begin
        // a new one and overwrite the totals of the dropped one with a part of them.
        let awaits_fold = |start: EventTime, end: EventTime| {
            let first = pending.partition_point(|at| *at < start);
            pending.get(first).is_some_and(|at| *at < end)
        };
        let watermark = self.watermark;
        let log_time = EventTime::from_millis(self.log_time_ms).max(self.wall_time);
        // Seconds are in no other store than Redis, so they are kept for the case that it loses them, as long as
        // anybody asks for them and there is room.
        let mut seconds_over = self.totals.len(Grain::Second).saturating_sub(SECONDS_MAX);
        let is_dispensable = |window: &Window, cells: usize| {
            let has_room = seconds_over == 0;
            if window.grain == Grain::Second && has_room {
                return plan.rules.is_forgotten(window, log_time);
            }
            seconds_over = seconds_over.saturating_sub(cells);
            true
        };
        let is_over = |window: &Window| plan.rules.is_over(window, watermark);
        self.tops.evict(is_over, safe, &mut self.series);
        self.has_evicted |= self.totals.evict(
            is_over,
            is_dispensable,
            |window, cells| cells.changed > safe || awaits_fold(window.start, window.end),
            &mut self.series,
        );
    }
}
