//! From what is pending to the totals of every grain: coarser windows are unions of finer ones.

use std::borrow::Cow;

use reckon_schemas::cell::Measures;
use reckon_schemas::sums::SumOverflow;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window, WindowCursor};

use super::partition::PartitionState;
use super::pending::{BySeries, PendingWindow};
use super::plan::Plan;
use super::series::SeriesId;

/// What is added to the cell of a series.
type Delta<'d> = (SeriesId, Cow<'d, Measures>);

impl PartitionState {
    /// Adds what was counted since the last fold to the absolute totals of its window and of every coarser one. The
    /// plan must be the one it was counted by.
    ///
    /// # Errors
    /// [`SumOverflow`]; the state is then of no use any more.
    pub(crate) fn fold(&mut self, plan: &Plan) -> Result<(), SumOverflow> {
        for PendingWindow { grain, start, cells } in self.pending.take() {
            let numbers: Vec<SeriesId> = cells.keys().copied().collect();
            for coarser in Grain::ALL.into_iter().rev().take_while(|coarser| *coarser > grain) {
                self.add_borrowed(plan, coarser, start, &cells)?;
            }
            match grain {
                Grain::Day => self.add_borrowed(plan, grain, start, &cells)?,
                _ => {
                    let owned = cells.into_iter().map(|(number, delta)| (number, Cow::Owned(delta)));
                    self.add(plan, grain.window_at(start, &Zone::UTC), owned)?;
                }
            }
            numbers.into_iter().for_each(|number| self.series.release(number));
        }
        Ok(())
    }

    fn add_borrowed(
        &mut self,
        plan: &Plan,
        grain: Grain,
        start: EventTime,
        cells: &BySeries<Measures>,
    ) -> Result<(), SumOverflow> {
        let deltas = || cells.iter().map(|(number, delta)| (*number, Cow::Borrowed(delta)));
        if grain != Grain::Day {
            return self.add(plan, grain.window_at(start, &Zone::UTC), deltas());
        }
        // Days begin where the tenant's zone says; most tenants share one.
        let mut by_day: Vec<(Window, Vec<Delta<'_>>)> = Vec::new();
        for delta in deltas() {
            let day = self.day_at(plan, delta.0, start);
            match by_day.iter_mut().find(|(window, _)| *window == day) {
                Some((_, deltas)) => deltas.push(delta),
                None => by_day.push((day, vec![delta])),
            }
        }
        by_day.into_iter().try_for_each(|(day, deltas)| self.add(plan, day, deltas.into_iter()))
    }

    pub(super) fn day_at(&mut self, plan: &Plan, number: SeriesId, at: EventTime) -> Window {
        let tenant = &self.series.get(number).tenant;
        if !self.days.contains_key(tenant) {
            let zone = &plan.tenant(tenant.as_str()).expect("what is pending was counted by this plan").zone;
            self.days.insert(tenant.clone(), WindowCursor::new(Grain::Day, zone.clone()));
        }
        self.days.get_mut(tenant).expect("it was made if it was not there").window_at(at)
    }

    fn add<'d>(
        &mut self,
        plan: &Plan,
        window: Window,
        deltas: impl Iterator<Item = Delta<'d>>,
    ) -> Result<(), SumOverflow> {
        let is_fresh = plan.rules.is_fresh(&window, self.wall_time);
        self.totals.add(window, is_fresh, self.next_offset, deltas, &mut self.series)
    }
}
