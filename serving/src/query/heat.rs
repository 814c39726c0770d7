//! By hour of the day and day of the week: the windows of an hour, put together by what a clock in the tenant's zone
//! shows at their start.

use futures::future::try_join_all;
use jiff::Timestamp;
use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::sketch::Sketch;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window};

use super::formula::Combined;
use super::params::Query;
use super::range::Range;
use super::solve::Solved;
use super::{Asked, Evaluator, Moment, filter, merge_problem, params, store_problem, wording};
use crate::answer::{Answer, Number};
use crate::exact::OutOfRange;
use crate::heat::{HeatCell, HeatMap};
use crate::merge::plan::Layer;
use crate::merge::tally::Tally;
use crate::problem::Problem;

/// Hours of a week.
const HOURS: usize = 168;
/// Without `from`, this much time before `to` is answered: four weeks.
const DEFAULT_SPAN_US: i64 = 28 * 24 * 3600 * 1_000_000;
/// The parameters.
const KNOWN: [&str; 7] = ["metric", "metric_text", "from", "to", "filter", "not", "prefix"];

/// The hours of the week of one metric.
struct Hours {
    numbers: Vec<Option<Number>>,
    solved: Solved,
}

impl Evaluator {
    /// Answers a query string, within the time limit.
    ///
    /// # Errors
    /// What it asks for does not exist or is too much, or ClickHouse is away.
    pub(crate) async fn heat_map(
        &self,
        pairs: &[(String, String)],
        tenant: &Tenant,
        now: Timestamp,
    ) -> Result<HeatMap, Problem> {
        for (name, _) in pairs {
            params::known(name, &KNOWN)?;
        }
        let mut query = Query { grain: Grain::Hour, ..Query::parse(pairs)? };
        if query.range.from.is_none() {
            let now = EventTime::from_timestamp(now);
            let to = query.range.to.map_or(now.plus_micros(1), |to| to.at(&tenant.time_zone));
            query.range = Range::between(to.plus_micros(-DEFAULT_SPAN_US), to);
        }
        let (moment, query) = (Moment::new(now), self.resolved(&query, tenant));
        let reads_events = self.reads_events(&query, tenant);
        self.within_limits(reads_events, Box::pin(self.heat(Asked { query: &query, tenant, moment: &moment }))).await
    }

    async fn heat(&self, asked: Asked<'_>) -> Result<HeatMap, Problem> {
        let Asked { query, tenant, .. } = asked;
        let Some(formula) = &query.formula else {
            let metric = tenant.metric(&query.metric);
            let metric = metric.ok_or_else(|| Problem::not_found("there is no metric of this name"))?;
            if matches!(metric.measure, Measure::ActiveUsers | Measure::Top) {
                return Err(Problem::not_answerable("metric", "this metric is not counted in hours"));
            }
            let Hours { numbers, solved } = self.hours(asked, metric).await?;
            return Ok(said(asked, self.marked(solved.say(asked, None, usize::MAX)?), numbers));
        };
        let mut queries = Vec::with_capacity(formula.aggregates.len());
        for aggregate in &formula.aggregates {
            let filters = filter::bounded(query.filters.iter().chain(&aggregate.filters).cloned())?;
            queries.push((Query { filters, ..query.clone() }, aggregate.metric()));
        }
        let read = queries.iter().map(|(query, metric)| Box::pin(self.hours(Asked { query, ..asked }, metric)));
        let read = try_join_all(read).await?;
        let mut answers = Vec::with_capacity(read.len());
        for hours in &read {
            answers.push(hours.solved.say(asked, None, usize::MAX)?);
        }
        let combined = Combined::new(formula, &answers);
        let out_of_range = |error: OutOfRange| Problem::not_answerable("metric_text", error.to_string());
        let answer = combined.answer().map_err(out_of_range)?;
        let mut is_even = [true; HOURS];
        for window in windows(&answer, &tenant.time_zone) {
            let (start, end) = (window.start.to_timestamp(), window.end.to_timestamp());
            is_even[hour_of_week(&window, &tenant.time_zone)] &= combined.is_even(start, end);
        }
        let number = |hour: usize| {
            // All of them are there or none: these are the hours of one range.
            let numbers: Option<Vec<Number>> = read.iter().map(|hours| hours.numbers[hour].clone()).collect();
            numbers.map(|numbers| formula.number(is_even[hour], &numbers)).transpose()
        };
        let numbers = (0..HOURS).map(number).collect::<Result<_, OutOfRange>>().map_err(out_of_range)?;
        Ok(said(asked, self.marked(answer), numbers))
    }

    async fn hours(&self, asked: Asked<'_>, metric: &Metric) -> Result<Hours, Problem> {
        let solved = self.solve(asked, metric).await?;
        let Solved { selection, plan, merged, .. } = &solved;
        let zone = &asked.tenant.time_zone;
        let hours: Vec<usize> = (0..plan.len()).map(|index| hour_of_week(plan.window(index), zone)).collect();
        let is_users = selection.measure == Measure::Users;
        if is_users && plan.reads_events() {
            let detail = "users of an hour of the week are united from rollups, and none has all of these dimensions";
            return Err(Problem::not_answerable("filter", detail));
        }
        let zero = if is_users { Tally::sketched_users(Sketch::new()) } else { Tally::Sum(0) };
        let mut tallies = vec![zero; HOURS];
        let settled = plan.windows_of(Layer::Batch);
        for (index, tally) in merged.groups.first().into_iter().flat_map(|group| &group.points) {
            // Of settled users there is only a number, which cannot be united: they are read anew.
            if !(is_users && settled.contains(index)) {
                tallies[hours[*index]].add(tally).map_err(|error| merge_problem(&error))?;
            }
        }
        if let (true, Some(span)) = (is_users, plan.span(settled.clone())) {
            let runs = runs(settled.clone().map(|index| (plan.window(index).start, hours[index])));
            let read = self.stores.clickhouse.settled_hours(selection, span, plan.settled_days(settled), &runs).await;
            for (hour, tally) in read.map_err(|error| store_problem(&error))? {
                let known = usize::try_from(hour).ok().and_then(|hour| tallies.get_mut(hour));
                let known = known.ok_or_else(Problem::internal)?;
                known.add(&tally).map_err(|error| merge_problem(&error))?;
            }
        }
        let number = |hour: usize| {
            let windows = (0..plan.len()).filter(|index| hours[*index] == hour);
            Some(wording::number(selection, &plan.provenance_of(windows)?, &tallies[hour]))
        };
        let numbers = (0..HOURS).map(number).collect();
        Ok(Hours { numbers, solved })
    }
}

/// Says the hours; what is said about the range is that of an answer.
fn said(asked: Asked<'_>, answer: Answer, numbers: Vec<Option<Number>>) -> HeatMap {
    let zone = &asked.tenant.time_zone;
    let mut counts = vec![0; HOURS];
    windows(&answer, zone).for_each(|window| counts[hour_of_week(&window, zone)] += 1);
    let mut notes = answer.notes.clone();
    if windows(&answer, zone).any(|window| zone.shown_at(window.start).minute() != 0) {
        notes.push(
            "hours are counted from full hours of universal time, which are not full hours in this zone".to_owned(),
        );
    }
    let cell = |(index, number): (usize, Option<Number>)| {
        let (weekday, hour) = (u8::try_from(index / 24 + 1).ok()?, u8::try_from(index % 24).ok()?);
        Some(HeatCell { weekday, hour, hours: counts[index], number })
    };
    HeatMap {
        tenant: answer.tenant,
        metric: answer.metric,
        measure: answer.measure,
        unit: answer.unit,
        time_zone: answer.time_zone,
        from: answer.from,
        to: answer.to,
        horizon: answer.horizon,
        watermark: answer.watermark,
        computed_at: answer.computed_at,
        age_ms: answer.age_ms,
        stale: answer.stale,
        speed_lag_ms: answer.speed_lag_ms,
        coverage: answer.coverage,
        gaps: answer.gaps,
        adjustments: answer.adjustments,
        notes,
        total: answer.total,
        cells: numbers.into_iter().enumerate().filter_map(cell).collect(),
    }
}

/// The hours of an answer's range.
fn windows(answer: &Answer, zone: &Zone) -> impl Iterator<Item = Window> {
    let (from, to) = (EventTime::from_timestamp(answer.from), EventTime::from_timestamp(answer.to));
    Grain::Hour.windows_over(from, to, zone)
}

/// From Monday, 00:00 on, what a clock shows when the window begins.
fn hour_of_week(window: &Window, zone: &Zone) -> usize {
    let shown = zone.shown_at(window.start);
    let (day, hour) = (shown.weekday().to_monday_zero_offset(), shown.hour());
    usize::try_from(i32::from(day) * 24 + i32::from(hour)).unwrap_or(0)
}

/// Where the hours of the week do not go on by one: the first one, and those after a clock change.
fn runs(hours: impl IntoIterator<Item = (EventTime, usize)>) -> Vec<(EventTime, i64)> {
    let mut runs = Vec::new();
    let mut expected = None;
    for (start, hour) in hours {
        if expected != Some(hour) {
            runs.push((start, i64::try_from(hour).unwrap_or(0)));
        }
        expected = Some((hour + 1) % HOURS);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hours(from: &str, hours: i64, zone: &Zone) -> Vec<Window> {
        let from = EventTime::from_timestamp(from.parse().expect("valid"));
        Grain::Hour.windows_over(from, from.plus_micros(hours * 3_600_000_000), zone).collect()
    }

    #[test]
    fn a_clock_change_repeats_or_skips_an_hour() {
        let zone = Zone::parse("Europe/Berlin").expect("known");
        let count = |from: &str, hour: usize| {
            hours(from, 168, &zone).iter().filter(|window| hour_of_week(window, &zone) == hour).count()
        };
        let sunday_two = 6 * 24 + 2;
        // Weeks from Monday on: a usual one, one in which clocks go forward, one in which they go back.
        assert_eq!(count("2026-03-15T23:00:00Z", sunday_two), 1);
        assert_eq!(count("2026-03-22T23:00:00Z", sunday_two), 0);
        assert_eq!(count("2026-10-18T22:00:00Z", sunday_two), 2);
        assert_eq!(hour_of_week(&hours("2026-03-15T23:00:00Z", 1, &zone)[0], &zone), 0);
    }

    proptest! {
        /// What the statement computes from the runs is what was meant.
        #[test]
        fn runs_say_every_hour(start_h in 0_i64..20_000, hours in 1_i64..9_000, zone in 0..4_usize) {
            let zone = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"][zone];
            let zone = Zone::parse(zone).expect("known");
            let from = EventTime(1_600_000_000_000_000 - 1_600_000_000_000_000 % 3_600_000_000 + start_h * 3_600_000_000);
            let to = from.plus_micros(hours * 3_600_000_000);
            let each: Vec<(EventTime, usize)> =
                Grain::Hour.windows_over(from, to, &zone).map(|window| (window.start, hour_of_week(&window, &zone))).collect();
            let runs = runs(each.clone());
            prop_assert!(runs.len() < 8, "{:?}", runs);
            for (start, hour) in each {
                let run = runs.partition_point(|(run, _)| *run <= start) - 1;
                let said = (runs[run].1 + (start.0 - runs[run].0.0) / 3_600_000_000) % 168;
                prop_assert_eq!(usize::try_from(said).ok(), Some(hour));
            }
        }
    }
}
