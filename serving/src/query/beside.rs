//! What an answer says beside its numbers: events that came for closed periods and are in none of them, and what was not
//! counted by what was read, because that was added to the catalog later.

use std::sync::Arc;

use jiff::SignedDuration;
use jiff::civil::Date;
use reckon_schemas::catalog::{Measure, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::Zone;
use reckon_schemas::top::plan_item;
use reckon_schemas::window::Window;

use super::selection::Selection;
use super::{Asked, Evaluator, store_problem};
use crate::answer::{Adjustment, AdjustmentKind, Gap, Value};
use crate::merge::plan::{Layer, Plan, SettledDay, Settlements};
use crate::problem::Problem;
use crate::stores::StoreError;
use crate::stores::beside::{Adjusted, Books};
use crate::stores::plans::{CountedBy, Since};

/// Who settles by the catalog of before has done so after that time at the latest.
const SETTLING_MAX: SignedDuration = SignedDuration::from_hours(24);
const UNCOUNTED: &str = "settled before this rollup was counted: `reckon backfill` fills it";
const UNSUMMED: &str = "settled before this property was summed: `reckon nightly --full` sums it, if it is not closed";
const NOT_COUNTED_THEN: &str =
    "added to the catalog after the speed layer had counted this: it is known once the day is settled";
use crate::stores::cells::Span;

/// See the module.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) adjustments: Vec<Adjustment>,
    pub(super) gaps: Vec<Gap>,
}

impl Evaluator {
    /// Days that a backfill has filled a rollup for are read from its run.
    pub(super) async fn fill(&self, selection: &Selection, settlements: &mut Settlements) -> Result<(), StoreError> {
        if selection.rollup.name() != Rollup::TOTAL {
            settlements.fill(self.stores().clickhouse.backfills(selection).await?);
        }
        Ok(())
    }

    /// Reads what is beside the numbers of a plan.
    pub(super) async fn read_beside(
        &self,
        selection: &Selection,
        plan: &Plan,
        books: Books,
        tenant: &Tenant,
    ) -> Result<Beside, Problem> {
        let adjusted = async {
            match books.are_adjusted() {
                true => self.adjusted(selection, plan, &tenant.time_zone).await.map_err(|error| store_problem(&error)),
                false => Ok(Vec::new()),
            }
        };
        let (adjusted, gaps) = tokio::try_join!(adjusted, self.uncounted(selection, plan))?;
        let adjustments = adjusted.into_iter().map(|one| adjustment(selection, one)).collect();
        Ok(Beside { adjustments, gaps })
    }

    async fn adjusted(&self, selection: &Selection, plan: &Plan, zone: &Zone) -> Result<Vec<Adjusted>, StoreError> {
        let Some(span) = plan.span(0..plan.len()) else { return Ok(Vec::new()) };
        self.stores().clickhouse.adjusted(selection, span, days_beginning_in(span, zone)).await
    }

    /// The parts of a plan in which a layer did not count what is asked for, because it was added to the catalog later.
    pub(super) async fn uncounted(&self, selection: &Selection, plan: &Plan) -> Result<Vec<Gap>, Problem> {
        let (rollup, is_top) = (selection.rollup.name(), selection.measure == Measure::Top);
        let top = is_top.then(|| plan_item(&selection.event, rollup));
        let rollup = (!is_top && rollup != Rollup::TOTAL).then(|| rollup.to_owned());
        let summed = selection.unit.as_ref().filter(|unit| matches!(unit, Unit::Property(_))).map(ToString::to_string);
        let items: Vec<&String> = [&top, &rollup, &summed].into_iter().flatten().collect();
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let days = plan.settled_days(plan.windows_of(Layer::Batch));
        let counted_by = self.counted_by(&selection.tenant).await?;
        let mut gaps = Vec::new();
        if rollup.is_some() && !days.is_empty() {
            let uncounted = self.stores().clickhouse.uncounted_days(selection, days).await;
            gaps.extend(days_without(days, &uncounted.map_err(|error| store_problem(&error))?, UNCOUNTED));
        }
        if let Some(unit) = summed.as_ref().filter(|unit| counted_by.was_added(unit)) {
            let noted_at = counted_by.noted_at(unit);
            let is_before = |day: &&SettledDay| noted_at.is_none_or(|at| day.settled_at < at + SETTLING_MAX);
            let days: Vec<SettledDay> = days.iter().filter(is_before).cloned().collect();
            if !days.is_empty() {
                let unsummed = self.stores().clickhouse.unsummed_days(selection, &days).await;
                gaps.extend(days_without(&days, &unsummed.map_err(|error| store_problem(&error))?, UNSUMMED));
            }
        }
        let since = items.into_iter().map(|item| counted_by.since(item)).max().unwrap_or(Since::Always);
        gaps.extend(counted_since(plan, since));
        Ok(gaps)
    }

    /// The rollup of which the least is missing, if less is than of the one whose gaps these are.
    pub(super) async fn more_complete<'a>(
        &self,
        asked: Asked<'_>,
        others: &'a [Selection],
        windows: &[Window],
        beside: &Beside,
    ) -> Result<Option<&'a Selection>, Problem> {
        let mut best = (missing_us(&beside.gaps), None);
        for other in others {
            if best.0 == 0 {
                break;
            }
            let plan = self.plan(asked, other, windows).await?;
            let missing_us = missing_us(&self.uncounted(other, &plan).await?);
            if missing_us < best.0 {
                best = (missing_us, Some(other));
            }
        }
        Ok(best.1)
    }

    async fn counted_by(&self, tenant: &TenantId) -> Result<Arc<CountedBy>, Problem> {
        let look_up = || {
            let (stores, tenant) = (self.stores().clone(), tenant.clone());
            async move { stores.counted_by(&tenant).await.map(Arc::new).map_err(|error| store_problem(&error)) }
        };
        self.counted_by.get(tenant, look_up).await
    }
}

/// Of these days those that are named. Days that follow each other are one gap.
fn days_without(days: &[SettledDay], without: &[Date], reason: &str) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for day in days.iter().filter(|day| without.binary_search(&day.day).is_ok()) {
        let (from, to) = (day.start.to_timestamp(), day.end.to_timestamp());
        match gaps.last_mut() {
            Some(last) if last.to == from => last.to = to,
            _ => gaps.push(Gap { from, to, reason: reason.to_owned() }),
        }
    }
    gaps
}

/// What is missing of the windows that speed answers.
fn counted_since(plan: &Plan, since: Since) -> Option<Gap> {
    let (from, to) = plan.span(plan.windows_of(Layer::Speed))?;
    let end = match since {
        Since::Always => return None,
        Since::After(instant) => to.min(instant.plus_micros(1)),
        Since::NotYet => to,
    };
    let gap = Gap { from: from.to_timestamp(), to: end.to_timestamp(), reason: NOT_COUNTED_THEN.to_owned() };
    (from < end).then_some(gap)
}

fn missing_us(gaps: &[Gap]) -> i64 {
    gaps.iter().map(|gap| gap.to.as_microsecond() - gap.from.as_microsecond()).sum()
}

/// The first and the last of the days that begin in a range: of ranges that follow each other, each day is of one. The
/// first one lies after the last one if none does.
fn days_beginning_in((from, to): Span, zone: &Zone) -> (Date, Date) {
    let first = zone.day_of(from);
    let first = if zone.day_start(first) < from { first.tomorrow().unwrap_or(Date::MAX) } else { first };
    (first, zone.day_of(to.plus_micros(-1)))
}

fn adjustment(selection: &Selection, adjusted: Adjusted) -> Adjustment {
    let amount = match (selection.measure, adjusted.sum) {
        (Measure::Count, _) => Some(Value::Integer(i128::from(adjusted.events))),
        (_, Some(sum)) => selection.unit.as_ref().map(|unit| Value::Decimal(unit.format(sum))),
        _ => None,
    };
    let kind = if adjusted.is_posted { AdjustmentKind::PostedHere } else { AdjustmentKind::BelongsHere };
    Adjustment { period: adjusted.period, kind, events: adjusted.events, amount, aggregate: None, unit: None }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use reckon_schemas::settlement::State;
    use reckon_schemas::time::EventTime;

    use super::*;

    #[test]
    fn days_that_follow_each_other_are_one_gap() {
        let zone = Zone::parse("America/New_York").expect("known");
        // The 8th has 23 hours.
        let days = [7, 8, 9, 12].map(|day| date(2026, 3, day)).map(|day| SettledDay {
            day,
            start: zone.day_start(day),
            end: zone.day_end(day),
            run_id: "run".into(),
            state: State::Settled,
            settled_at: jiff::Timestamp::UNIX_EPOCH,
            deliveries: 1,
            lake_version: 1,
        });
        let without = [7, 8, 9, 12].map(|day| date(2026, 3, day));
        let gaps = days_without(&days, &without, UNCOUNTED);
        let ends: Vec<_> = gaps.into_iter().map(|gap| (gap.from.to_string(), gap.to.to_string())).collect();
        let instants = |from: &str, to: &str| (format!("2026-03-{from}:00:00Z"), format!("2026-03-{to}:00:00Z"));
        assert_eq!(ends, [instants("07T05", "10T04"), instants("12T04", "13T04")]);
    }

    #[test]
    fn a_day_is_of_the_range_that_it_begins_in() {
        let zone = Zone::parse("America/New_York").expect("known");
        let at = |text: &str| EventTime::from_timestamp(text.parse().expect("an instant"));
        let days = |from: &str, to: &str| {
            let (first, last) = days_beginning_in((at(from), at(to)), &zone);
            (first <= last).then(|| (first.to_string(), last.to_string()))
        };
        let some = |first: &str, last: &str| Some((first.to_owned(), last.to_owned()));
        assert_eq!(days("2026-03-07T05:00:00Z", "2026-03-09T04:00:00Z"), some("2026-03-07", "2026-03-08"));
        assert_eq!(days("2026-03-07T05:00:00Z", "2026-03-07T06:00:00Z"), some("2026-03-07", "2026-03-07"));
        assert_eq!(days("2026-03-07T06:00:00Z", "2026-03-08T05:00:00Z"), None);
        assert_eq!(days("2026-03-07T06:00:00Z", "2026-03-08T06:00:00Z"), some("2026-03-08", "2026-03-08"));
    }
}
