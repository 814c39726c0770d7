//! What an answer says beside its numbers: events that came for closed periods and are in none of them, and settled days
//! that were not counted by the rollup that was read.

use jiff::civil::Date;
use reckon_schemas::catalog::{Measure, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::time::Zone;

use super::Evaluator;
use super::selection::Selection;
use crate::answer::{Adjustment, AdjustmentKind, Gap, Value};
use crate::merge::plan::{Layer, Plan, SettledDay, Settlements};
use crate::stores::StoreError;
use crate::stores::beside::{Adjusted, Books};
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
    ) -> Result<Beside, StoreError> {
        let adjusted = async {
            match books.are_adjusted() {
                true => self.adjusted(selection, plan, &tenant.time_zone).await,
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

    async fn uncounted(&self, selection: &Selection, plan: &Plan) -> Result<Vec<Gap>, StoreError> {
        let days = plan.settled_days(plan.windows_of(Layer::Batch));
        if days.is_empty() || selection.rollup.name() == Rollup::TOTAL {
            return Ok(Vec::new());
        }
        let uncounted = self.stores().clickhouse.uncounted_days(selection, days).await?;
        Ok(gaps(days.iter().filter(|day| uncounted.binary_search(&day.day).is_ok())))
    }
}

/// Days that follow each other are one gap.
fn gaps<'a>(days: impl Iterator<Item = &'a SettledDay>) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for day in days {
        let (from, to) = (day.start.to_timestamp(), day.end.to_timestamp());
        match gaps.last_mut() {
            Some(last) if last.to == from => last.to = to,
            _ => gaps.push(Gap {
                from,
                to,
                reason: "settled before this rollup was counted: `reckon backfill` fills it".to_owned(),
            }),
        }
    }
    gaps
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
        let ends: Vec<_> =
            gaps(days.iter()).into_iter().map(|gap| (gap.from.to_string(), gap.to.to_string())).collect();
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
