//! The most frequent values of a property, in windows from five minutes on. Settled ones are counted exactly, of the
//! others there are sketches; every count says how far it can be off.

use std::collections::{BTreeMap, BTreeSet};

use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::cell::Rollup;
use reckon_schemas::time::{EventTime, day_number};
use reckon_schemas::top::{TopSketch, TopValue};
use reckon_schemas::window::Window;

use super::params::Query;
use super::reading::fresh_windows;
use super::selection::Selection;
use super::{Evaluator, store_problem};
use crate::merge::plan::{Layer, Piece, Plan, Settlements};
use crate::merge::tally::Tally;
use crate::merge::{Group, Merged};
use crate::problem::Problem;
use crate::stores::StoreError;
use crate::stores::progress::SpeedProgress;
use crate::stores::tops::{FreshTops, SettledTops};

impl Selection {
    /// The values of a metric's property, as if they were groups.
    ///
    /// # Errors
    /// 422 if the question has groups of its own, or a grain that is not kept.
    pub(super) fn of_top(query: &Query, metric: &Metric, tenant: &Tenant) -> Result<Self, Problem> {
        query.refuse_groups("the most frequent values are those of the metric's own property")?;
        if !TopSketch::GRAINS.contains(&query.grain) {
            let detail = "the most frequent values are kept for windows of 5m, 1h and 1d";
            return Err(Problem::not_answerable("grain", detail));
        }
        let rollup = Rollup::new(metric.property.clone());
        let rollup = rollup.map_err(|error| Problem::not_answerable("metric", error.to_string()))?;
        Ok(Self {
            tenant: tenant.id.clone(),
            event: metric.event.clone(),
            measure: Measure::Top,
            unit: None,
            rollup,
            grain: query.grain,
            by: vec![0],
            filters: Vec::new(),
            except: Vec::new(),
            except_by: Vec::new(),
        })
    }
}

/// What a value occurred, as far as that is known: at least and at most.
type Bounds = (u64, u64);

impl Evaluator {
    /// The part of what is settled in which batch has counted a metric's values: up to the first day of the range whose
    /// settlement is older than the metric.
    ///
    /// # Errors
    /// ClickHouse is away.
    pub(super) async fn settled_with_tops(
        &self,
        selection: &Selection,
        settlements: Settlements,
        windows: &[Window],
    ) -> Result<Settlements, Problem> {
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return Ok(settlements) };
        let days = settlements.days_in(first.start, last.end);
        let counted = self.stores().clickhouse.days_with_tops(selection, days).await;
        let counted = counted.map_err(|error| store_problem(&error))?;
        let first_without = days.iter().find(|day| !counted.contains(&day_number(day.day))).map(|day| day.start);
        Ok(match first_without {
            Some(start) => settlements.before(start),
            None => settlements,
        })
    }

    /// The most frequent values of the range: exactly where it is settled, by the partitions' sketches, each from the
    /// store that has it newer, where it is not. And whether there are more values.
    ///
    /// # Errors
    /// ClickHouse is away.
    pub(super) async fn read_top(
        &self,
        selection: &Selection,
        limit: usize,
        plan: &Plan,
        progress: &SpeedProgress,
        redis_error: Option<StoreError>,
        notes: &mut Vec<String>,
    ) -> Result<(Merged, bool), Problem> {
        if plan.len() == 0 {
            return Err(Problem::too_much());
        }
        let union = self.read_speed_tops(selection, plan, progress, redis_error, notes).await?;
        let frequent = union.top(TopSketch::COUNTERS_MAX);
        let named: Vec<String> = frequent.iter().map(|top| top.value.clone()).collect();
        let windows = plan.windows_of(Layer::Batch);
        let starts: Vec<EventTime> = batch_pieces(plan).map(|piece| piece.from).collect();
        let settled = match plan.span(windows.clone()) {
            None => SettledTops::default(),
            Some(span) => {
                let (days, asked) = (plan.settled_days(windows), (named.as_slice(), limit + 1));
                let read = self.stores().clickhouse.settled_tops(selection, span, days, &starts, asked).await;
                read.map_err(|error| store_problem(&error))?
            }
        };
        Ok(merged(plan, &settled, &union, frequent, limit))
    }

    /// The union of the sketches of the windows that speed answers.
    async fn read_speed_tops(
        &self,
        selection: &Selection,
        plan: &Plan,
        progress: &SpeedProgress,
        redis_error: Option<StoreError>,
        notes: &mut Vec<String>,
    ) -> Result<TopSketch, Problem> {
        let windows = plan.windows_of(Layer::Speed);
        let Some(span) = plan.span(windows.clone()) else { return Ok(TopSketch::new()) };
        let mut tops = FreshTops::default();
        let property = selection.rollup.name();
        let kept = self.stores().clickhouse.tops(selection, property, span).await;
        kept.map_err(|error| store_problem(&error))?.into_iter().for_each(|top| tops.offer(top));
        let redis_error = match redis_error {
            Some(error) => Some(error),
            None => {
                let fresh = fresh_windows(plan, windows, progress, self.tuning.fresh_windows_max);
                let windows: Vec<Window> = fresh.map(|index| *plan.window(index)).collect();
                let read = self.stores().redis.tops(selection, property, &windows).await;
                read.map(|fresh| fresh.into_iter().for_each(|top| tops.offer(top))).err()
            }
        };
        self.tell_about_redis(redis_error, notes);
        Ok(tops.union())
    }
}

fn batch_pieces(plan: &Plan) -> impl Iterator<Item = &Piece> {
    plan.pieces().iter().filter(|piece| piece.layer == Layer::Batch)
}

/// The values as groups, with what each layer says of them, and whether there are more.
fn merged(
    plan: &Plan,
    settled: &SettledTops,
    union: &TopSketch,
    frequent: Vec<TopValue>,
    limit: usize,
) -> (Merged, bool) {
    let mut values: BTreeMap<String, Option<TopValue>> =
        settled.values.keys().map(|value| (value.clone(), None)).collect();
    values.extend(frequent.into_iter().map(|top| (top.value.clone(), Some(top))));
    let batch = batch_pieces(plan).count();
    let buckets = || (0_i64..).take(batch);
    let is_fresh = batch < plan.pieces().len();
    let mut groups: Vec<Group> = values
        .into_iter()
        .map(|(value, fresh)| {
            let of_batch = buckets().map(|bucket| settled.bounds_of(&value, bucket));
            let unlisted = || (0, union.error_bound());
            let of_speed = is_fresh.then(|| fresh.map_or_else(unlisted, |top| (top.at_least, top.at_most)));
            let parts: Vec<Bounds> = of_batch.chain(of_speed).collect();
            let total = parts.iter().fold((0, 0), |total: Bounds, part| (total.0 + part.0, total.1 + part.1));
            let parts = parts.into_iter().map(frequency).collect();
            Group { key: vec![value], total: frequency(total), parts, points: BTreeMap::new() }
        })
        .collect();
    groups.sort_by(|a, b| b.total.size().cmp(&a.total.size()).then_with(|| a.key.cmp(&b.key)));
    let is_truncated = groups.len() > limit;
    groups.truncate(limit);
    let occurred = buckets().map(|bucket| settled.totals.get(&bucket).map_or(0, |(occurred, _)| *occurred));
    let parts: Vec<u64> = occurred.chain(is_fresh.then(|| union.total())).collect();
    let total = Tally::Sum(parts.iter().copied().map(i128::from).sum());
    let parts = parts.into_iter().map(|part| Tally::Sum(part.into())).collect();
    (Merged { total, parts, groups, unplaced: BTreeSet::new() }, is_truncated)
}

fn frequency((at_least, at_most): Bounds) -> Tally {
    Tally::Frequent { at_least, at_most }
}

impl SettledTops {
    /// How often a value occurred in a bucket.
    fn bounds_of(&self, value: &str, bucket: i64) -> Bounds {
        let (_, unlisted) = self.totals.get(&bucket).copied().unwrap_or_default();
        let (count, known) = self.values.get(value).and_then(|by| by.get(&bucket)).copied().unwrap_or_default();
        (count, count + (unlisted - known))
    }
}

#[cfg(test)]
mod tests {
    use reckon_schemas::settlement::State;
    use reckon_schemas::time::Zone;
    use reckon_schemas::window::Grain;

    use super::*;
    use crate::merge::plan::SettledDay;

    const HOUR: i64 = 3_600_000_000;

    /// Two hours of a settled day and one after it.
    fn plan() -> Plan {
        let day = SettledDay {
            day: jiff::civil::date(1970, 1, 1),
            start: EventTime(0),
            end: EventTime(24 * HOUR),
            run_id: "run".into(),
            state: State::Settled,
            settled_at: jiff::Timestamp::UNIX_EPOCH,
            deliveries: 0,
            lake_version: 0,
        };
        let window = |hour: i64| Grain::Hour.window_at(EventTime(hour * HOUR), &Zone::UTC);
        Plan::new(&[22, 23, 24].map(window), Settlements::new(vec![day]), None)
    }

    #[test]
    fn what_a_window_does_not_list_is_in_the_bound() {
        let by_bucket = |counts| BTreeMap::from([(0, counts)]);
        // Of the two settled windows together a value that neither lists can have occurred 3 + 1 times.
        let settled = SettledTops {
            totals: BTreeMap::from([(0, (100, 4))]),
            values: BTreeMap::from([("a".to_owned(), by_bucket((50, 4))), ("b".to_owned(), by_bucket((20, 3)))]),
        };
        let mut union = TopSketch::new();
        ["b", "b", "c"].iter().for_each(|value| union.insert(value));
        let (merged, is_truncated) = merged(&plan(), &settled, &union, union.top(9), 2);
        let said: Vec<_> = merged.groups.iter().map(|group| (group.key[0].as_str(), group.total.clone())).collect();
        let frequent = |at_least, at_most| Tally::Frequent { at_least, at_most };
        assert_eq!(said, [("a", frequent(50, 50)), ("b", frequent(22, 23))]);
        assert_eq!(merged.groups[1].parts, [frequent(20, 21), frequent(2, 2)]);
        assert!(is_truncated, "c occurred once, or up to five times");
        assert_eq!((merged.total, merged.parts), (Tally::Sum(103), vec![Tally::Sum(100), Tally::Sum(3)]));
    }
}
