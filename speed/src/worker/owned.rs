//! One partition that this worker has: its counted state, and how far that state is safe.

use std::time::{Duration, Instant};

use super::sinks::{Outcome, PartitionFlush, Rebuild};
use super::snapshots::Capture;
use super::telemetry;
use super::windows::{PartitionState, Sink, Tallies};
use crate::member::{CaughtUp, End};

/// How often an idle partition repeats its progress in each store, so that readers can tell idle from dead.
const REFRESH_INTERVALS: [Duration; Sink::ALL.len()] = [Duration::from_secs(1), Duration::from_secs(2)];

/// How long a store that did not take a snapshot is left alone.
const SAVE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) state: PartitionState,
    pub(crate) claim: u64,
    partition: i32,
    /// Redis lost the partition and has not got it back yet.
    rebuild: bool,
    /// A state that becomes a snapshot once both sinks have everything below it.
    capture: Option<Capture>,
    saving: bool,
    saved_offset: i64,
    saved_at: Instant,
    failed_at: Option<Instant>,
    refreshed_at: [Option<Instant>; Sink::ALL.len()],
    /// What was last told about the records.
    reported: Tallies,
    /// Per sink: the newest log time that was handed over, and the newest that was acknowledged.
    handed_log_time_ms: [i64; 2],
    visible_log_time_ms: [i64; 2],
    /// Up to when the state has everything that the log has received.
    caught_up: CaughtUp,
}

impl Owned {
    /// A partition with the state of its newest snapshot, or with an empty one.
    pub(crate) fn new(end: End, claim: u64, state: PartitionState) -> Self {
        let (saved_offset, log_time_ms) = (state.next_offset(), state.log_time_ms());
        let caught_up = CaughtUp::claimed(&end, state.next_offset());
        Self {
            state,
            claim,
            partition: end.partition,
            rebuild: false,
            capture: None,
            saving: false,
            saved_offset,
            saved_at: Instant::now(),
            failed_at: None,
            refreshed_at: [None; Sink::ALL.len()],
            reported: Tallies::default(),
            handed_log_time_ms: [log_time_ms; 2],
            visible_log_time_ms: [log_time_ms; 2],
            caught_up,
        }
    }

    /// The partition ended there, at a moment before the newest record was read that the state has.
    pub(crate) fn note_end(&mut self, end: &End) {
        self.caught_up.note_end(end, self.state.next_offset());
    }

    /// What a sink does not have yet, as of the last fold; `None` if it has everything. The cells for ClickHouse are not in
    /// it, and not to be taken before: they are taken for all partitions together.
    pub(crate) fn take_part(&mut self, sink: Sink, now: Instant) -> Option<PartitionFlush> {
        let has_changed = self.state.dirty_len(sink) > 0;
        let (cells, exceptions, overflows, plans) = match sink {
            Sink::ClickHouse => {
                let plans = self.state.take_plan_changes();
                (vec![], self.state.take_exceptions(), self.state.take_overflows(), plans)
            }
            Sink::Redis => (self.state.take_fresh(), vec![], vec![], vec![]),
        };
        let tops = self.state.take_tops(sink);
        let next_offset = self.state.next_offset();
        let acknowledged = self.state.acknowledged(sink);
        let rebuild = (sink == Sink::Redis && self.rebuild).then(|| Rebuild { from_history: self.state.has_evicted() });
        let refreshed_at = &mut self.refreshed_at[sink.index()];
        let refresh = refreshed_at.is_none_or(|at| now.duration_since(at) >= REFRESH_INTERVALS[sink.index()]);
        let nothing_new = acknowledged == Some(next_offset) && !has_changed && plans.is_empty();
        if nothing_new && rebuild.is_none() && !refresh {
            return None;
        }
        *refreshed_at = Some(now);
        self.handed_log_time_ms[sink.index()] = self.state.log_time_ms();
        telemetry::report_overflows(&overflows);
        if sink == Sink::Redis {
            telemetry::report_flushed(sink, cells.len());
        }
        Some(PartitionFlush {
            partition: self.partition,
            claim: self.claim,
            next_offset,
            watermark: self.state.watermark(),
            log_time_ms: self.state.log_time_ms(),
            caught_up_at_ms: self.caught_up.at_ms(self.state.log_time_ms()),
            acknowledged,
            rebuild,
            cells,
            tops,
            exceptions,
            overflows,
            plans,
        })
    }

    /// Whether a sink has everything that was read.
    pub(crate) fn is_visible(&self, sink: Sink) -> bool {
        self.state.acknowledged(sink) == Some(self.state.next_offset())
    }

    /// When the newest record that a sink has was received by the log, in milliseconds of the wall clock.
    pub(crate) fn visible_log_time_ms(&self, sink: Sink) -> i64 {
        self.visible_log_time_ms[sink.index()]
    }

    /// What a sink answered. True if it lost everything.
    pub(crate) fn take_outcome(&mut self, sink: Sink, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Acknowledged(offset) => {
                self.state.acknowledge(sink, offset);
                self.visible_log_time_ms[sink.index()] = self.handed_log_time_ms[sink.index()];
                if sink == Sink::Redis {
                    self.rebuild = false;
                }
                false
            }
            Outcome::Lost => {
                self.state.mark_all_changed(sink);
                self.rebuild = true;
                true
            }
        }
    }

    /// Tells what became of the records since it was last told.
    pub(crate) fn report(&mut self) {
        let tallies = self.state.tallies();
        telemetry::report_tallies(self.partition, &tallies, &self.reported);
        self.reported = tallies;
    }

    /// Whether so much time has passed since the last snapshot that there should be one of what came after it.
    pub(crate) fn is_capture_due(&self, interval: Duration) -> bool {
        let failed_just_now = self.failed_at.is_some_and(|at| at.elapsed() < SAVE_RETRY_INTERVAL);
        let busy = self.capture.is_some() || self.saving || failed_just_now;
        self.saved_offset < self.state.next_offset() && !busy && self.saved_at.elapsed() >= interval
    }

    /// When the last snapshot was written.
    pub(crate) fn saved_at(&self) -> Instant {
        self.saved_at
    }

    /// Notes the state for a snapshot. Right after a fold.
    pub(crate) fn capture(&mut self) {
        let (partition, claim, next_offset) = (self.partition, self.claim, self.state.next_offset());
        self.capture = Some(Capture { partition, claim, next_offset, state: self.state.to_bytes() });
    }

    /// The noted state, once both sinks have everything below it.
    pub(crate) fn take_safe_capture(&mut self) -> Option<Capture> {
        let offset = self.capture.as_ref()?.next_offset;
        let safe = Sink::ALL.into_iter().all(|sink| self.state.acknowledged(sink) >= Some(offset));
        let capture = safe.then(|| self.capture.take()).flatten();
        self.saving = self.saving || capture.is_some();
        capture
    }

    /// The snapshot was written, or not.
    pub(crate) fn saved(&mut self, next_offset: i64, stored: bool) {
        self.saving = false;
        self.saved_at = Instant::now();
        self.failed_at = (!stored).then_some(self.saved_at);
        if stored {
            self.saved_offset = next_offset;
        }
    }

    /// Whether everything that was read is in both sinks and in a snapshot.
    pub(crate) fn is_settled(&self) -> bool {
        let next_offset = self.state.next_offset();
        self.saved_offset == next_offset
            && Sink::ALL.into_iter().all(|sink| self.state.acknowledged(sink) == Some(next_offset))
    }
}
