//! Reading what a plan needs, from whoever has it.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::sketch::Sketch;
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND, Zone};
use reckon_schemas::window::{Grain, Window};

use super::filter::Test;
use super::selection::Selection;
use super::{Evaluator, merge_problem, store_problem};
use crate::merge::fresh::{FreshShares, Share};
use crate::merge::plan::{Layer, Piece, Plan, SettledDay};
use crate::merge::tally::{Tally, Users};
use crate::merge::{Cell, Counted, Key, Unions};
use crate::problem::Problem;
use crate::stores::StoreError;
use crate::stores::cells::Provisional;
use crate::stores::progress::SpeedProgress;

impl Evaluator {
    /// Reads both layers' cells, and for users the unions that cannot be made from them.
    pub(super) async fn read(
        &self,
        selection: &Selection,
        plan: &Plan,
        tenant: &Tenant,
        progress: &SpeedProgress,
        redis_error: Option<StoreError>,
        notes: &mut Vec<String>,
    ) -> Result<Counted, Problem> {
        let zero = match selection.measure {
            Measure::Users | Measure::ActiveUsers => Tally::sketched_users(Sketch::new()),
            Measure::Count | Measure::Money | Measure::Sum | Measure::Top => Tally::Sum(0),
        };
        let batch = self.read_batch(selection, plan, &tenant.time_zone);
        let speed = self.read_speed(selection, plan, progress, redis_error);
        let (batch, speed) = tokio::join!(batch, speed);
        let (batch, unions) = batch.map_err(|error| store_problem(&error))?;
        let (speed, redis_error) = speed?;
        self.tell_about_redis(redis_error, notes);
        Ok(Counted { layers: vec![(Layer::Batch, batch), (Layer::Speed, speed)], unions, zero })
    }

    async fn read_batch(
        &self,
        selection: &Selection,
        plan: &Plan,
        zone: &Zone,
    ) -> Result<(Vec<Cell>, Unions), StoreError> {
        let windows = plan.windows_of(Layer::Batch);
        let Some(span) = plan.span(windows.clone()) else { return Ok((Vec::new(), Unions::new())) };
        let days = plan.settled_days(windows.clone());
        let mut cells = self.stores().clickhouse.settled_cells(selection, span, days).await?;
        if selection.measure != Measure::Users {
            return Ok((cells, Unions::new()));
        }
        if selection.grain == Grain::Day && !is_one_cell(selection) {
            self.count_days_exactly(selection, days, &mut cells).await?;
        }
        let unions = self.read_unions(selection, plan, zone, span, &cells).await?;
        Ok((cells, unions))
    }

    /// A day's users over several cells were counted per cell; count them once more for the union.
    async fn count_days_exactly(
        &self,
        selection: &Selection,
        days: &[SettledDay],
        cells: &mut [Cell],
    ) -> Result<(), StoreError> {
        let buckets: Vec<i32> = (0..days.len()).filter_map(|index| i32::try_from(index).ok()).collect();
        let rows = self.stores().clickhouse.settled_distinct(selection, days, &buckets).await?;
        let start = |bucket: i64| usize::try_from(bucket).ok().and_then(|index| days.get(index)).map(|day| day.start);
        let counts: HashMap<(Option<EventTime>, Key), u64> =
            rows.into_iter().map(|(bucket, key, count)| ((start(bucket), key), count)).collect();
        for cell in cells {
            let count = counts.get(&(Some(cell.window_start), cell.key.clone())).copied().unwrap_or(0);
            cell.tally = Tally::exact_users(count);
        }
        Ok(())
    }

    /// Users of whole pieces: exactly where a piece is made of whole days, as sketches where they have to be united
    /// with what is not.
    async fn read_unions(
        &self,
        selection: &Selection,
        plan: &Plan,
        zone: &Zone,
        span: (EventTime, EventTime),
        cells: &[Cell],
    ) -> Result<Unions, StoreError> {
        let clickhouse = &self.stores().clickhouse;
        let batch = plan.windows_of(Layer::Batch);
        let days = plan.settled_days(batch.clone());
        let pieces: Vec<&Piece> = plan.pieces().iter().filter(|piece| piece.layer == Layer::Batch).collect();
        let is_whole: Vec<bool> = pieces.iter().map(|piece| is_whole_days(piece, days, zone)).collect();
        let is_all = is_whole.iter().all(|whole| *whole) && batch.len() == plan.len();
        let starts: Vec<EventTime> = pieces.iter().map(|piece| piece.from).collect();
        let keys: BTreeSet<&Key> = cells.iter().map(|cell| &cell.key).collect();
        let mut unions = Unions::new();
        for grouped in groupings(selection) {
            let is_total = grouped.is_none();
            let ungrouped = selection.ungrouped();
            let selection = grouped.unwrap_or(&ungrouped);
            let name = |key: Key| if is_total { None } else { Some(key) };
            if !is_all {
                for (bucket, key, tally) in clickhouse.settled_unions(selection, span, days, &starts).await? {
                    unions.insert((usize::try_from(bucket).ok(), name(key)), tally);
                }
            }
            let piece_of = |day: &SettledDay| piece_of(day, &pieces).filter(|index| is_whole[*index]);
            let whole: Vec<SettledDay> = days.iter().filter(|day| piece_of(day).is_some()).cloned().collect();
            let buckets = whole.iter().filter_map(|day| i32::try_from(piece_of(day)?).ok());
            let buckets: Vec<i32> = buckets.collect();
            let mut exact: HashMap<(Option<usize>, Option<Key>), u64> = HashMap::new();
            for (bucket, key, count) in clickhouse.settled_distinct(selection, &whole, &buckets).await? {
                exact.insert((usize::try_from(bucket).ok(), name(key)), count);
            }
            if is_all {
                let buckets = vec![0; whole.len()];
                for (_, key, count) in clickhouse.settled_distinct(selection, &whole, &buckets).await? {
                    exact.insert((None, name(key)), count);
                }
            }
            // Where nobody has an id there are cells and no users: that is an exact zero.
            let named: Vec<Option<Key>> =
                if is_total { vec![None] } else { keys.iter().map(|key| Some((*key).clone())).collect() };
            let sets = (0..pieces.len()).filter(|index| is_whole[*index]).map(Some);
            for set in sets.chain(is_all.then_some(None)) {
                for key in &named {
                    let count = exact.get(&(set, key.clone())).copied().unwrap_or(0);
                    let sketch = match unions.remove(&(set, key.clone())) {
                        Some(Tally::Users(Users { sketch, .. })) => sketch,
                        _ => None,
                    };
                    unions.insert((set, key.clone()), Tally::Users(Users { exact: Some(count), sketch }));
                }
            }
        }
        Ok(unions)
    }

    async fn read_speed(
        &self,
        selection: &Selection,
        plan: &Plan,
        progress: &SpeedProgress,
        redis_error: Option<StoreError>,
    ) -> Result<(Vec<Cell>, Option<StoreError>), Problem> {
        let windows = plan.windows_of(Layer::Speed);
        if selection.grain == Grain::Second {
            return self.read_seconds(selection, plan, windows, redis_error).await;
        }
        let Some(span) = plan.span(windows.clone()) else { return Ok((Vec::new(), redis_error)) };
        let fresh = fresh_windows(plan, windows, progress, self.tuning.fresh_windows_max);
        let kept = self.stores().clickhouse.provisional_cells(selection, span, plan.span(fresh.clone())).await;
        let Provisional { mut cells, mut shares } = kept.map_err(|error| store_problem(&error))?;
        let redis_error = match redis_error {
            None if !fresh.is_empty() => {
                let windows: Vec<Window> = fresh.map(|index| *plan.window(index)).collect();
                self.overlay(selection, &windows, &mut shares).await.err()
            }
            known => known,
        };
        cells.extend(shares.into_cells(&selection.by).map_err(|error| merge_problem(&error))?);
        Ok((cells, redis_error))
    }

    /// Windows of one second are in Redis only; without it there is no answer, rather than a zero.
    async fn read_seconds(
        &self,
        selection: &Selection,
        plan: &Plan,
        windows: Range<usize>,
        redis_error: Option<StoreError>,
    ) -> Result<(Vec<Cell>, Option<StoreError>), Problem> {
        if let Some(error) = redis_error {
            return Err(store_problem(&error));
        }
        let windows: Vec<Window> = windows.map(|index| *plan.window(index)).collect();
        let mut shares = FreshShares::default();
        self.overlay(selection, &windows, &mut shares).await.map_err(|error| store_problem(&error))?;
        let cells = shares.into_cells(&selection.by).map_err(|error| merge_problem(&error))?;
        Ok((cells, None))
    }

    /// Replaces ClickHouse's shares by those of Redis that are newer.
    async fn overlay(
        &self,
        selection: &Selection,
        windows: &[Window],
        shares: &mut FreshShares,
    ) -> Result<(), StoreError> {
        let mut left = self.tuning.fresh_cells_max;
        for event in self.event_names(selection, windows).await? {
            left = self.overlay_event(selection, &event, windows, left, shares).await?;
        }
        Ok(())
    }

    /// The events that count: one, or all that Redis has windows of.
    async fn event_names(&self, selection: &Selection, windows: &[Window]) -> Result<Vec<String>, StoreError> {
        match windows.first() {
            Some(first) if selection.event == Metric::ANY_EVENT => {
                let since_s = first.start.0.div_euclid(MICROS_PER_SECOND);
                self.stores().redis.event_names(selection.tenant.as_str(), since_s).await
            }
            _ => Ok(vec![selection.event.clone()]),
        }
    }

    /// Reads at most `cells_max` cells; how many more may be read comes back.
    async fn overlay_event(
        &self,
        selection: &Selection,
        event: &str,
        windows: &[Window],
        cells_max: usize,
        shares: &mut FreshShares,
    ) -> Result<usize, StoreError> {
        let redis = &self.stores().redis;
        let (tenant, rollup) = (selection.tenant.as_str(), selection.rollup.name());
        let cells = redis.cells(tenant, rollup, event, windows, cells_max).await?;
        let left = cells_max.saturating_sub(cells.len());
        let share = |cell: &crate::stores::redis::FreshCell| Share {
            window_start: cell.window.start,
            event: event.to_owned(),
            dimensions: cell.values.values(selection.rollup.dimensions().len()),
            partition: cell.partition,
        };
        let mut newer = Vec::new();
        for cell in cells {
            let share = share(&cell);
            if selection.allows(&share.dimensions) && shares.is_newer(&share, cell.totals.version) {
                newer.push(cell);
            }
        }
        match (selection.measure, &selection.unit) {
            (Measure::Users, _) => {
                let sketches = redis.users(tenant, rollup, event, &newer).await?;
                for (cell, sketch) in newer.iter().zip(sketches) {
                    // It has expired since: ClickHouse has it.
                    let Some(sketch) = sketch else { continue };
                    shares.offer(share(cell), cell.totals.version, Tally::sketched_users(sketch));
                }
            }
            (_, unit) => {
                for cell in &newer {
                    let totals = &cell.totals;
                    let amount = unit.as_ref().map_or(i128::from(totals.count), |unit| totals.sums.get(unit));
                    shares.offer(share(cell), totals.version, Tally::Sum(amount));
                }
            }
        }
        Ok(left)
    }
}

/// By group, and over all groups. Without dimensions to group by these are the same, and both are asked for by name.
fn groupings(selection: &Selection) -> [Option<&Selection>; 2] {
    [Some(selection), None]
}

/// Whether every group is one cell of the rollup, so that what was counted per cell is the group's.
fn is_one_cell(selection: &Selection) -> bool {
    let is_one = |test: &Test| matches!(test, Test::In(values) if values.len() == 1);
    let is_fixed = |index| selection.filters.iter().any(|(filtered, test)| *filtered == index && is_one(test));
    selection.event != Metric::ANY_EVENT
        && (0..selection.rollup.dimensions().len()).all(|index| selection.by.contains(&index) || is_fixed(index))
}

/// Whether a piece is made of whole days, of those that were settled too: they may be of another zone.
fn is_whole_days(piece: &Piece, days: &[SettledDay], zone: &Zone) -> bool {
    let is_border = |at: EventTime| {
        zone.day_start(zone.day_of(at)) == at && days.iter().all(|day| at <= day.start || day.end <= at)
    };
    is_border(piece.from) && is_border(piece.to)
}

/// The piece that a whole day belongs to.
fn piece_of(day: &SettledDay, pieces: &[&Piece]) -> Option<usize> {
    pieces.iter().position(|piece| piece.from <= day.start && day.end <= piece.to)
}

/// The newest of the windows that can have something in them.
pub(super) fn fresh_windows(
    plan: &Plan,
    windows: Range<usize>,
    progress: &SpeedProgress,
    count_max: usize,
) -> Range<usize> {
    let Some(newest) = progress.newest_event_time() else { return windows.end..windows.end };
    let reached = windows.clone().take_while(|index| plan.window(*index).start <= newest).count();
    // One more: cells are written before the progress is.
    let end = (windows.start + reached + 1).min(windows.end);
    end.saturating_sub(count_max).max(windows.start)..end
}
