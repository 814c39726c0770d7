//! The state of one Kafka partition: records in, changed cells and exceptions out.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use reckon_schemas::cell::{DimensionValues, Measures};
use reckon_schemas::event::Event;
use reckon_schemas::lake::UNREADABLE_TENANT;
use reckon_schemas::money::MoneyOverflow;
use reckon_schemas::settlement::Reason;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, Window, WindowCursor};

use super::plan::{Plan, TenantPlan};
use super::recent::RecentKeys;
use super::series::{Series, SeriesCells, SeriesRef};
use super::{Sink, evict::Expiry};

/// One record of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) offset: i64,
    /// The record's timestamp in the log, in milliseconds.
    pub(crate) log_time_ms: i64,
    pub(crate) payload: &'a [u8],
}

/// A record that was read and not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) offset: i64,
    pub(crate) tenant: String,
    pub(crate) event_id: String,
    pub(crate) event: String,
    pub(crate) occurred_at: EventTime,
    pub(crate) reason: Reason,
}

/// The totals of a cell at the time of a flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlushedCell {
    pub(crate) series: Arc<Series>,
    pub(crate) window: Window,
    pub(crate) measures: Measures,
}

/// A cell by name.
#[derive(Clone, Debug)]
pub(super) struct CellKey {
    pub(super) series: Arc<Series>,
    pub(super) window: Window,
}

/// Everything that is known of one partition up to an offset. Two states that were given the same records are the
/// same, however the records were cut into folds, flushes and lives of the process.
#[derive(Debug, Default)]
pub(crate) struct PartitionState {
    pub(super) next_offset: i64,
    pub(super) watermark: Option<EventTime>,
    pub(super) log_time_ms: i64,
    pub(super) recent: RecentKeys,
    pub(super) series: HashMap<Arc<Series>, SeriesCells>,
    /// The series that have pending measures.
    touched: Vec<Arc<Series>>,
    /// How many finest windows of them have.
    pending_cells: usize,
    pub(super) expiry: Expiry,
    /// Per sink: what it has not been given yet.
    pub(super) dirty: [Vec<CellKey>; 2],
    exceptions: Vec<Exception>,
    /// Per sink: everything below this offset is there.
    pub(super) acknowledged: [Option<i64>; 2],
    /// What both sinks had acknowledged at the last eviction.
    pub(super) evicted_below: Option<i64>,
    /// Whether a cell was ever dropped from memory, so that only ClickHouse can say what it was.
    pub(super) has_evicted: bool,
    /// Reused for every event.
    values: String,
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

    /// How many exceptions wait to be taken.
    pub(crate) fn exceptions_len(&self) -> usize {
        self.exceptions.len()
    }

    /// How many cells a sink has not been given yet, those that only the next fold will name excluded.
    pub(crate) fn dirty_len(&self, sink: Sink) -> usize {
        self.dirty[sink.index()].len()
    }

    /// How many cells of the finest grain have been counted for since the last fold.
    pub(crate) fn pending_len(&self) -> usize {
        self.pending_cells
    }

    /// Takes one record, which is at or behind the expected offset: offsets may have holes.
    ///
    /// # Errors
    /// [`MoneyOverflow`]; the state is then of no use any more.
    pub(crate) fn apply(&mut self, plan: &Plan, record: &Record<'_>) -> Result<(), MoneyOverflow> {
        debug_assert!(record.offset >= self.next_offset, "a record was read twice");
        self.next_offset = record.offset + 1;
        self.log_time_ms = self.log_time_ms.max(record.log_time_ms);
        self.recent.next_record(plan.rules.dedup_horizon_records);
        let log_time = EventTime::from_millis(record.log_time_ms);
        let Ok(event) = Event::decode(record.payload) else {
            self.exceptions.push(Exception {
                offset: record.offset,
                tenant: UNREADABLE_TENANT.to_owned(),
                event_id: String::new(),
                event: String::new(),
                occurred_at: log_time,
                reason: Reason::Unreadable,
            });
            return Ok(());
        };
        match self.judge(plan, &event, log_time) {
            Ok((tenant, window)) => self.count(tenant, &event, window),
            Err(reason) => {
                self.exceptions.push(Exception {
                    offset: record.offset,
                    tenant: event.tenant.into_owned(),
                    event_id: event.id.into_owned(),
                    event: event.name.into_owned(),
                    occurred_at: event.occurred_at,
                    reason,
                });
                Ok(())
            }
        }
    }

    /// The tenant and the finest window that an event counts for, or why it does not count.
    fn judge<'p>(
        &mut self,
        plan: &'p Plan,
        event: &Event<'_>,
        log_time: EventTime,
    ) -> Result<(&'p TenantPlan, Window), Reason> {
        let tenant = plan.tenant(&event.tenant).ok_or(Reason::UnknownTenant)?;
        if event.occurred_at > log_time.plus_micros(plan.rules.future_skew_us) {
            // Not remembered: a later delivery of the same event may count, once its time has come.
            return Err(Reason::Future);
        }
        if !self.recent.insert(event.key()) {
            return Err(Reason::Duplicate);
        }
        let window = Grain::FINEST.window_at(event.occurred_at, &tenant.zone);
        if self.is_over(plan, &window) { Err(Reason::Late) } else { Ok((tenant, window)) }
    }

    /// Whether a window takes no more events.
    pub(super) fn is_over(&self, plan: &Plan, window: &Window) -> bool {
        let closes_at = window.end.plus_micros(plan.rules.allowed_lateness_us);
        self.watermark.is_some_and(|watermark| closes_at <= watermark)
    }

    fn count(&mut self, tenant: &TenantPlan, event: &Event<'_>, window: Window) -> Result<(), MoneyOverflow> {
        self.watermark = self.watermark.max(Some(event.occurred_at));
        for rollup in &tenant.rollups {
            self.values.clear();
            rollup.encode_values(event, &mut self.values);
            let name = SeriesRef {
                tenant: tenant.id.as_str(),
                rollup: rollup.name(),
                event: &event.name,
                values: &self.values,
            };
            if !self.series.contains_key(&name) {
                let series = Series {
                    tenant: tenant.id.clone(),
                    rollup: rollup.name().to_owned(),
                    event: event.name.as_ref().to_owned(),
                    values: DimensionValues::from_encoded(self.values.as_str()),
                };
                self.series.insert(Arc::new(series), SeriesCells::default());
            }
            let (series, cells) = self.series.get_key_value_mut(&name).expect("it was made if it was not there");
            if cells.pending.is_empty() {
                self.touched.push(Arc::clone(series));
            }
            let known = cells.pending.len();
            cells.pending_at(window.start).add(event)?;
            self.pending_cells += cells.pending.len() - known;
        }
        Ok(())
    }

    /// Adds what was counted since the last fold to the absolute totals of every grain.
    ///
    /// # Errors
    /// [`MoneyOverflow`]; the state is then of no use any more.
    pub(crate) fn fold(&mut self, plan: &Plan) -> Result<(), MoneyOverflow> {
        let mut days: BTreeMap<&str, WindowCursor> = BTreeMap::new();
        self.pending_cells = 0;
        for series in std::mem::take(&mut self.touched) {
            let tenant = plan.tenant(series.tenant.as_str()).expect("only tenants of the plan are counted");
            let day =
                days.entry(tenant.id.as_str()).or_insert_with(|| WindowCursor::new(Grain::Day, tenant.zone.clone()));
            let cells = self.series.get_mut(&series).expect("a series with pending measures is never evicted");
            for (start, delta) in std::mem::take(&mut cells.pending) {
                for grain in Grain::ALL {
                    let window = match grain {
                        Grain::Day => day.window_at(start),
                        Grain::Minute | Grain::Hour => grain.window_at(start, &tenant.zone),
                    };
                    let key = || CellKey { series: Arc::clone(&series), window };
                    let cell = cells.totals.entry(window).or_insert_with(|| {
                        self.expiry.push(key());
                        Default::default()
                    });
                    cell.measures.merge(&delta)?;
                    cell.changed = self.next_offset;
                    for sink in Sink::ALL {
                        if !std::mem::replace(&mut cell.dirty[sink.index()], true) {
                            self.dirty[sink.index()].push(key());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The totals of every cell that changed since the last call for this sink, as of the last fold.
    pub(crate) fn take_changed(&mut self, sink: Sink) -> Vec<FlushedCell> {
        let keys = std::mem::take(&mut self.dirty[sink.index()]);
        let changed = keys.into_iter().filter_map(|CellKey { series, window }| {
            let cell = self.series.get_mut(&series)?.totals.get_mut(&window)?;
            cell.dirty[sink.index()] = false;
            Some(FlushedCell { measures: cell.measures.clone(), series, window })
        });
        changed.collect()
    }

    /// The exceptions since the last call.
    pub(crate) fn take_exceptions(&mut self) -> Vec<Exception> {
        std::mem::take(&mut self.exceptions)
    }

    /// Makes every cell in memory a changed one: the sink has lost them.
    pub(crate) fn mark_all_changed(&mut self, sink: Sink) {
        for (series, cells) in &mut self.series {
            for (window, cell) in &mut cells.totals {
                if !std::mem::replace(&mut cell.dirty[sink.index()], true) {
                    self.dirty[sink.index()].push(CellKey { series: Arc::clone(series), window: *window });
                }
            }
        }
    }
}
