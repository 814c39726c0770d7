//! The state of one Kafka partition: records in, changed cells and exceptions out.

use std::sync::Arc;

use hashbrown::HashMap;
use reckon_schemas::cell::Contribution;
use reckon_schemas::event::Event;
use reckon_schemas::ids::TenantId;
use reckon_schemas::lake::UNREADABLE_TENANT;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::SumOverflow;
use reckon_schemas::time::EventTime;
use reckon_schemas::top::TopSketch;
use reckon_schemas::window::{Grain, Window, WindowCursor};

use super::Sink;
use super::admitted::Admitted;
use super::items::Items;
use super::pending::Pending;
use super::plan::{Plan, TenantPlan};
use super::recent::RecentKeys;
use super::series::{Series, SeriesRef, SeriesTable};
use super::tops::{self, TOP_GRAINS, Tops};
use super::totals::Totals;

/// One record of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) offset: i64,
    /// The record's timestamp in the log, in milliseconds.
    pub(crate) log_time_ms: i64,
    pub(crate) payload: &'a [u8],
}

/// A record that was read and not counted, or not at every grain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) offset: i64,
    pub(crate) tenant: String,
    pub(crate) event_id: String,
    pub(crate) event: String,
    pub(crate) occurred_at: EventTime,
    pub(crate) reason: Reason,
    /// The coarsest grain that it is missing from; it is missing from every finer one too.
    pub(crate) missed: Grain,
}

/// A record that was counted under `__other__`, because dimensions had too many values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overflow {
    pub(crate) offset: i64,
    pub(crate) tenant: String,
    pub(crate) occurred_at: EventTime,
    pub(crate) dimensions: Vec<String>,
}

/// The most frequent values of a property in one window, at the time of a flush.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FlushedTop {
    series: Arc<Series>,
    pub(crate) window: Window,
    pub(crate) sketch: TopSketch,
}

impl FlushedTop {
    pub(crate) fn tenant(&self) -> &str {
        self.series.tenant.as_str()
    }

    pub(crate) fn property(&self) -> &str {
        tops::property_of(&self.series.rollup)
    }

    pub(crate) fn event(&self) -> &str {
        &self.series.event
    }
}

/// How many records came to what, since the state was made or read from a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallies {
    pub(crate) records: u64,
    pub(crate) counted: u64,
    /// By [`Reason`], in the order of [`Reason::ALL`].
    pub(crate) refused: [u64; Reason::ALL.len()],
    /// By grain: counted events that came too late for it.
    pub(crate) late_for: [u64; Grain::ALL.len()],
}

/// Everything that is known of one partition up to an offset. Two states that were given the same records are the
/// same, however the records were cut into folds, flushes and lives of the process.
#[derive(Debug, Default)]
pub(crate) struct PartitionState {
    pub(super) next_offset: i64,
    pub(super) watermark: Option<EventTime>,
    pub(super) log_time_ms: i64,
    /// Of the clock; 0 where nobody set it.
    pub(super) wall_time: EventTime,
    pub(super) recent: RecentKeys,
    pub(super) admitted: Admitted,
    pub(super) series: SeriesTable,
    pub(super) pending: Pending,
    pub(super) totals: Totals,
    pub(super) tops: Tops,
    /// Where the days of each tenant begin.
    pub(super) days: HashMap<TenantId, WindowCursor>,
    pub(super) items: Items,
    exceptions: Vec<Exception>,
    overflows: Vec<Overflow>,
    tallies: Tallies,
    /// Per sink: everything below this offset is there.
    pub(super) acknowledged: [Option<i64>; 2],
    /// What both sinks had acknowledged at the last eviction.
    pub(super) evicted_below: Option<i64>,
    /// Whether a cell was ever dropped from memory, so that only ClickHouse can say what it was.
    pub(super) has_evicted: bool,
    scratch: Scratch,
}

/// Places that are reused for every event.
#[derive(Debug, Default)]
struct Scratch {
    contribution: Contribution,
    values: String,
    overflowed: Vec<String>,
}

/// Where an event counts.
struct Place<'p> {
    tenant: &'p TenantPlan,
    /// The finest grain that still takes it, and the instant by which its window in every grain from there is found.
    finest: Grain,
    start: EventTime,
    /// The coarsest grain that is kept and does not take it any more.
    missed: Option<Grain>,
}

impl PartitionState {
    /// An empty state that expects this offset first.
    pub(crate) fn starting_at(offset: i64) -> Self {
        Self { next_offset: offset, ..Self::default() }
    }

    /// The first offset that is not counted yet.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The greatest event time counted.
    pub(crate) fn watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    /// The greatest log time read, in milliseconds.
    pub(crate) fn log_time_ms(&self) -> i64 {
        self.log_time_ms
    }

    /// Whether a cell was ever dropped from memory.
    pub(crate) fn has_evicted(&self) -> bool {
        self.has_evicted
    }

    /// How many exceptions, overflows and changes of the plan wait to be taken.
    pub(crate) fn exceptions_len(&self) -> usize {
        self.exceptions.len() + self.overflows.len() + self.items.changes_len()
    }

    /// How many cells a sink has not been given yet, those that only the next fold will name excluded.
    pub(crate) fn dirty_len(&self, sink: Sink) -> usize {
        self.totals.dirty_len(sink) + self.tops.dirty_len(sink)
    }

    /// How many cells of the finest grain have been counted for since the last fold.
    pub(crate) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// How many cells of a grain are in memory.
    pub(crate) fn cells_len(&self, grain: Grain) -> usize {
        self.totals.len(grain)
    }

    pub(crate) fn tallies(&self) -> Tallies {
        self.tallies
    }

    /// Notes the time of the wall clock. It only decides which windows of one second are not worth counting, because Redis
    /// would not take them any more; so a replay at another time still leads to the same totals.
    pub(crate) fn set_wall_time(&mut self, now: EventTime) {
        self.wall_time = self.wall_time.max(now);
    }

    /// The catalog has changed: from the next record on, the new plan counts. Nothing may be pending.
    pub(crate) fn plan_changed(&mut self) {
        assert_eq!(self.pending_len(), 0, "a plan is changed right after a fold");
        self.days.clear();
    }

    /// Takes one record, which is at or behind the expected offset: offsets may have holes.
    ///
    /// # Errors
    /// [`SumOverflow`]; the state is then of no use any more.
    pub(crate) fn apply(&mut self, plan: &Plan, record: &Record<'_>) -> Result<(), SumOverflow> {
        debug_assert!(record.offset >= self.next_offset, "a record was read twice");
        self.next_offset = record.offset + 1;
        self.log_time_ms = self.log_time_ms.max(record.log_time_ms);
        self.tallies.records += 1;
        self.recent.next_record(plan.rules.dedup_horizon_records);
        let log_time = EventTime::from_millis(record.log_time_ms);
        let Ok(event) = Event::decode(record.payload) else {
            self.refuse(Exception {
                offset: record.offset,
                tenant: UNREADABLE_TENANT.to_owned(),
                event_id: String::new(),
                event: String::new(),
                occurred_at: log_time,
                reason: Reason::Unreadable,
                missed: Grain::Day,
            });
            return Ok(());
        };
        match self.judge(plan, &event, log_time) {
            Ok(place) => self.count(plan, &place, &event, record.offset),
            Err(reason) => {
                self.refuse(exception(&event, record.offset, reason, Grain::Day));
                Ok(())
            }
        }
    }

    /// Where an event counts, or why it does not.
    fn judge<'p>(&mut self, plan: &'p Plan, event: &Event<'_>, log_time: EventTime) -> Result<Place<'p>, Reason> {
        let tenant = plan.tenant(&event.tenant).ok_or(Reason::UnknownTenant)?;
        if event.occurred_at > log_time.plus_micros(plan.rules.future_skew_us) {
            // Not remembered: a later delivery of the same event may count, once its time has come.
            return Err(Reason::Future);
        }
        if !self.recent.insert(event.key()) {
            return Err(Reason::Duplicate);
        }
        let mut missed = None;
        for grain in Grain::ALL {
            let window = grain.window_at(event.occurred_at, &tenant.zone);
            if plan.rules.is_over(&window, self.watermark) {
                missed = Some(grain);
            } else if !plan.rules.is_forgotten(&window, log_time.max(self.wall_time)) {
                // Every coarser window is found by the minute, also a day that begins at half past an hour.
                let start = Grain::Minute.window_at(event.occurred_at, &tenant.zone).start;
                let start = if grain == Grain::Second { window.start } else { start };
                return Ok(Place { tenant, finest: grain, start, missed });
            }
        }
        Err(Reason::Late)
    }

    fn count(&mut self, plan: &Plan, place: &Place<'_>, event: &Event<'_>, offset: i64) -> Result<(), SumOverflow> {
        if self.watermark < Some(event.occurred_at) {
            self.watermark = Some(event.occurred_at);
            self.admitted.advance(event.occurred_at);
        }
        self.tallies.counted += 1;
        if let Some(missed) = place.missed {
            self.note_late(event, offset, missed);
        }
        let tenant = place.tenant;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.contribution.read(event, &tenant.summed);
        self.find_overflowed(tenant, event, &mut scratch.overflowed);
        self.pending.turn_to(place.finest, place.start);
        for rollup in &tenant.rollups {
            scratch.values.clear();
            if scratch.overflowed.is_empty() {
                rollup.encode_values(event, &mut scratch.values);
            } else {
                rollup.encode_overflowed(event, &scratch.overflowed, &mut scratch.values);
            }
            let number = self.series.number(SeriesRef {
                tenant: &tenant.id,
                rollup: rollup.name(),
                event: &event.name,
                values: &scratch.values,
            });
            self.pending.cell(number, &mut self.series).add(&scratch.contribution)?;
        }
        if !scratch.overflowed.is_empty() {
            self.overflows.push(Overflow {
                offset,
                tenant: tenant.id.as_str().to_owned(),
                occurred_at: event.occurred_at,
                dimensions: std::mem::take(&mut scratch.overflowed),
            });
        }
        self.scratch = scratch;
        self.count_tops(plan, tenant, event);
        Ok(())
    }

    fn count_tops(&mut self, plan: &Plan, tenant: &TenantPlan, event: &Event<'_>) {
        let Some(tops) = tenant.tops.get(event.name.as_ref()) else { return };
        for (name, property) in tops {
            let Some(value) = event.properties.get(property) else { continue };
            let name = SeriesRef { tenant: &tenant.id, rollup: name, event: &event.name, values: "" };
            let number = self.series.number(name);
            self.series.hold(number);
            for grain in TOP_GRAINS {
                let window = match grain {
                    Grain::Day => self.day_at(plan, number, event.occurred_at),
                    _ => grain.window_at(event.occurred_at, &tenant.zone),
                };
                if !plan.rules.is_over(&window, self.watermark) {
                    self.tops.insert(window, number, value, self.next_offset, &mut self.series);
                }
            }
            self.series.release(number);
        }
    }

    /// The dimensions that have too many values to tell this event's value apart.
    fn find_overflowed(&mut self, tenant: &TenantPlan, event: &Event<'_>, overflowed: &mut Vec<String>) {
        for dimension in &tenant.dimensions {
            let value = event.properties.get(dimension).unwrap_or_default();
            if !self.admitted.admit(&tenant.id, dimension, value, tenant.dimension_values_max) {
                overflowed.push(dimension.clone());
            }
        }
    }

    /// A counted event that some windows do not take any more. Windows of one second are not kept, so that one is
    /// missing from those only is counted, not written down.
    fn note_late(&mut self, event: &Event<'_>, offset: i64, missed: Grain) {
        for grain in Grain::ALL.into_iter().take_while(|grain| *grain <= missed) {
            self.tallies.late_for[grain.index()] += 1;
        }
        if missed > Grain::Second {
            self.exceptions.push(exception(event, offset, Reason::Late, missed));
        }
    }

    fn refuse(&mut self, exception: Exception) {
        self.tallies.refused[exception.reason as usize] += 1;
        self.exceptions.push(exception);
    }

    /// The most frequent values of every window that changed since the last call for this sink.
    pub(crate) fn take_tops(&mut self, sink: Sink) -> Vec<FlushedTop> {
        let mut changed = Vec::new();
        let series = &self.series;
        self.tops.take_dirty(sink, |window, number, sketch| {
            changed.push(FlushedTop { series: Arc::clone(series.get(number)), window, sketch: sketch.clone() });
        });
        changed
    }

    /// The exceptions since the last call.
    pub(crate) fn take_exceptions(&mut self) -> Vec<Exception> {
        std::mem::take(&mut self.exceptions)
    }

    /// The overflows since the last call.
    pub(crate) fn take_overflows(&mut self) -> Vec<Overflow> {
        std::mem::take(&mut self.overflows)
    }

    /// Makes every cell in memory a changed one: the sink has lost them.
    pub(crate) fn mark_all_changed(&mut self, sink: Sink) {
        self.totals.mark_all_dirty(sink);
        self.tops.mark_all_dirty(sink);
    }
}

fn exception(event: &Event<'_>, offset: i64, reason: Reason, missed: Grain) -> Exception {
    Exception {
        offset,
        tenant: event.tenant.as_ref().to_owned(),
        event_id: event.id.as_ref().to_owned(),
        event: event.name.as_ref().to_owned(),
        occurred_at: event.occurred_at,
        reason,
        missed,
    }
}
