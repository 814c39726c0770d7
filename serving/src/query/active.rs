//! Who was there in the last five minutes: sliding, not by windows of five minutes.
//!
//! The union of the sketches that the speed layer keeps in Redis: whole minutes, and seconds where the range begins and
//! ends within a minute. What came too late for its second is missing at these two edges until its minute is whole.

use std::collections::BTreeSet;

use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND, Zone};
use reckon_schemas::window::{Grain, Window};

use super::params::Query;
use super::selection::Selection;
use super::{Evaluator, store_problem};
use crate::merge::Merged;
use crate::merge::plan::{Plan, Settlements};
use crate::merge::tally::Tally;
use crate::problem::Problem;
use crate::stores::StoreError;
use crate::stores::progress::SpeedProgress;

/// How far back activity counts.
const ACTIVE_US: i64 = 300 * MICROS_PER_SECOND;
/// A name's score is the start of a window, which may be as long before the range as the window is long.
const NAMES_MARGIN_S: i64 = 300;

/// The question's cells and the range that it is about now.
pub(super) struct Active {
    pub(super) selection: Selection,
    from: EventTime,
    to: EventTime,
}

impl Active {
    /// The last five minutes up to the end of this second.
    ///
    /// # Errors
    /// 422 if the question has a range of its own, or groups.
    pub(super) fn new(query: &Query, metric: &Metric, tenant: &Tenant, now: EventTime) -> Result<Self, Problem> {
        query.refuse_groups("active users are counted over all events together")?;
        query.refuse_range("active users are those of the last five minutes, always")?;
        let rollup = Rollup::new::<String>([]).expect("no dimensions are valid dimensions");
        let selection = Selection {
            tenant: tenant.id.clone(),
            event: metric.event.clone(),
            measure: Measure::ActiveUsers,
            unit: None,
            rollup,
            grain: Grain::Second,
            by: Vec::new(),
            filters: Vec::new(),
            except: Vec::new(),
            except_by: Vec::new(),
        };
        let to = Grain::Second.window_at(now, &Zone::UTC).end;
        Ok(Self { selection, from: to.plus_micros(-ACTIVE_US), to })
    }

    /// One window, answered by speed.
    pub(super) fn plan(&self, settlements: Settlements, progress: &SpeedProgress) -> Plan {
        let window = Window { grain: Grain::Second, start: self.from, end: self.to };
        Plan::of_speed(&[window], settlements, progress.newest_write())
    }
}

impl Evaluator {
    /// Unites the sketches of the range.
    ///
    /// # Errors
    /// 503 without Redis, which alone has them; 422 if there are too many.
    pub(super) async fn read_active(
        &self,
        active: &Active,
        redis_error: Option<StoreError>,
    ) -> Result<Merged, Problem> {
        if let Some(error) = redis_error {
            return Err(store_problem(&error));
        }
        let union = self.unite_active(active).await.map_err(|error| store_problem(&error))?;
        let total = Tally::sketched_users(union);
        Ok(Merged { total: total.clone(), parts: vec![total], groups: Vec::new(), unplaced: BTreeSet::new() })
    }

    async fn unite_active(&self, active: &Active) -> Result<Sketch, StoreError> {
        let (redis, tenant) = (&self.stores().redis, active.selection.tenant.as_str());
        let events = if active.selection.event == Metric::ANY_EVENT {
            let since_s = active.from.0.div_euclid(MICROS_PER_SECOND) - NAMES_MARGIN_S;
            redis.event_names(tenant, since_s).await?
        } else {
            vec![active.selection.event.clone()]
        };
        let windows = covering(active.from, active.to);
        let mut left = self.tuning.fresh_cells_max;
        let mut union = Sketch::new();
        for event in events {
            let cells = redis.cells(tenant, Rollup::TOTAL, &event, &windows, left).await?;
            left = left.saturating_sub(cells.len());
            for sketch in redis.users(tenant, Rollup::TOTAL, &event, &cells).await?.into_iter().flatten() {
                union.merge(&sketch);
            }
        }
        Ok(union)
    }
}

/// The windows of a minute that lie in a range of whole seconds, and the seconds before and after them.
fn covering(from: EventTime, to: EventTime) -> Vec<Window> {
    let zone = Zone::UTC;
    let minute = |at: EventTime| Grain::Minute.window_at(at, &zone);
    let first = if minute(from).start == from { from } else { minute(from).end.min(to) };
    let last = minute(to).start.max(first);
    let seconds = |from, to| Grain::Second.windows_over(from, to, &zone);
    let minutes = Grain::Minute.windows_over(first, last, &zone);
    seconds(from, first).chain(minutes).chain(seconds(last, to)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_range_is_covered_by_as_few_windows_as_there_are(
            from_s in -10_000_i64..10_000, length_s in 1_i64..1_000,
        ) {
            let at = |seconds: i64| EventTime(seconds * MICROS_PER_SECOND);
            let (from, to) = (at(from_s), at(from_s + length_s));
            let windows = covering(from, to);
            let mut end = from;
            for window in &windows {
                prop_assert_eq!(window.start, end);
                end = window.end;
            }
            prop_assert_eq!(end, to);
            let seconds = windows.iter().filter(|window| window.grain == Grain::Second).count();
            prop_assert!(seconds < 120, "{} seconds", seconds);
            let whole = (from_s..from_s + length_s)
                .filter(|second| second.rem_euclid(60) == 0 && second + 60 <= from_s + length_s)
                .count();
            prop_assert_eq!(windows.len() - seconds, whole);
        }
    }
}
