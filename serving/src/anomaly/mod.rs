//! Numbers that are unusual for their hour of the week, with the band that they left.

pub(crate) mod baseline;

use std::collections::BTreeMap;

use jiff::Timestamp;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window};
use serde::Serialize;
use utoipa::ToSchema;

use self::baseline::{Baseline, HourOfWeek};
use crate::answer::{Answer, Group, Number, Stale, Value};

/// What was judged.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Judged {
    /// The metric.
    pub(crate) metric: String,
    /// `events`, `users`, the currency's ISO 4217 code, or the name of the property that is summed.
    pub(crate) unit: String,
    /// The zone whose hours are compared.
    pub(crate) time_zone: String,
    /// So many standard deviations off are unusual.
    pub(crate) deviations: f64,
    /// At most so many weeks before are compared with.
    pub(crate) weeks: u32,
    /// When the numbers were computed.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) computed_at: Timestamp,
    /// How long before they were sent that was, in milliseconds.
    pub(crate) age_ms: i64,
    /// Set if provisional numbers are older than they should be, or all of them are older than they would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stale: Option<Stale>,
    /// How long ago the partition that is the longest behind reported its progress, in milliseconds.
    pub(crate) speed_lag_ms: Option<i64>,
    /// What else there is to know.
    pub(crate) notes: Vec<String>,
    /// One group without dimensions if none were asked for.
    pub(crate) groups: Vec<JudgedGroup>,
}

/// The hours of one combination of dimension values.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct JudgedGroup {
    /// The values grouped by.
    pub(crate) dimensions: BTreeMap<String, String>,
    /// Every hour of the range that is not a gap.
    pub(crate) hours: Vec<JudgedHour>,
}

/// One hour.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct JudgedHour {
    /// Its first instant.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) start: Timestamp,
    /// The number; null where there was no event, which counts as zero.
    pub(crate) number: Option<Number>,
    /// What is usual; null if fewer than three weeks before are known.
    pub(crate) usual: Option<Usual>,
    /// Whether it lies outside of the band. False for an hour that is not over yet.
    pub(crate) unusual: bool,
    /// Whether all of it was counted: the event-time watermark has passed its end.
    pub(crate) complete: bool,
}

/// What a number usually is at this hour of the week: estimates, for people and charts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Usual {
    /// The mean of the weeks before.
    pub(crate) mean: f64,
    /// Their standard deviation.
    pub(crate) deviation: f64,
    /// The band's lower end.
    pub(crate) low: f64,
    /// The band's upper end.
    pub(crate) high: f64,
    /// How many weeks that is.
    pub(crate) weeks: usize,
}

/// How to judge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judgement {
    /// The first instant to be judged; what the answer has before it is the past that is compared with.
    pub(crate) from: EventTime,
    /// So many standard deviations off are unusual.
    pub(crate) deviations: f64,
    /// At most so many weeks before are compared with.
    pub(crate) weeks: u32,
}

/// Judges every hour of an answer from an instant on by the same hours of the weeks before.
pub(crate) fn judge(answer: &Answer, zone: &Zone, judgement: Judgement) -> Judged {
    let hours = hours(answer, zone);
    let group = |group: &Group| JudgedGroup {
        dimensions: group.dimensions.clone(),
        hours: judged_hours(answer, group, &hours, zone, judgement),
    };
    Judged {
        metric: answer.metric.clone(),
        unit: answer.unit.clone(),
        time_zone: answer.time_zone.clone(),
        deviations: judgement.deviations,
        weeks: judgement.weeks,
        computed_at: answer.computed_at,
        age_ms: answer.age_ms,
        stale: answer.stale,
        speed_lag_ms: answer.speed_lag_ms,
        notes: answer.notes.clone(),
        groups: answer.groups.iter().map(group).collect(),
    }
}

/// The hours of the answer that somebody counted.
fn hours(answer: &Answer, zone: &Zone) -> Vec<Window> {
    let gaps: Vec<_> = answer.gaps.iter().map(|gap| (moment(gap.from), moment(gap.to))).collect();
    let is_counted = |window: &Window| gaps.iter().all(|(from, to)| window.end <= *from || *to <= window.start);
    Grain::Hour.windows_over(moment(answer.from), moment(answer.to), zone).filter(is_counted).collect()
}

fn judged_hours(
    answer: &Answer,
    group: &Group,
    hours: &[Window],
    zone: &Zone,
    Judgement { from, deviations, weeks }: Judgement,
) -> Vec<JudgedHour> {
    let numbers: BTreeMap<EventTime, &Number> =
        group.points.iter().map(|point| (moment(point.start), &point.number)).collect();
    // Before its first event a group was not quiet, it was not there.
    let first = numbers.keys().next().copied().unwrap_or(from);
    let known: Vec<(HourOfWeek, EventTime, f64)> = hours
        .iter()
        .filter(|hour| hour.start >= first)
        .map(|hour| (HourOfWeek::of(hour.start, zone), hour.start, numbers.get(&hour.start).map_or(0.0, |n| real(n))))
        .collect();
    let watermark = answer.watermark.map(moment);
    let horizon = answer.horizon.map(moment);
    let judged = hours.iter().filter(|hour| hour.start >= from).map(|hour| {
        let of_week = HourOfWeek::of(hour.start, zone);
        let back_to = hour.start.plus_micros(-(i64::from(weeks) * 7 * 24 + 2) * 3_600_000_000);
        let is_earlier = |(hour_of_week, start, _): &&(HourOfWeek, EventTime, f64)| {
            *hour_of_week == of_week && *start < hour.start && *start >= back_to
        };
        let earlier: Vec<f64> = known.iter().filter(is_earlier).map(|(_, _, number)| *number).collect();
        let baseline = Baseline::of(&earlier);
        let number = numbers.get(&hour.start).copied();
        let complete = [watermark, horizon].into_iter().flatten().any(|at| hour.end <= at);
        let value = number.map_or(0.0, real);
        JudgedHour {
            start: hour.start.to_timestamp(),
            number: number.cloned(),
            usual: baseline.map(|baseline| usual(&baseline, deviations)),
            unusual: complete && baseline.is_some_and(|baseline| baseline.is_unusual(value, deviations)),
            complete,
        }
    });
    judged.collect()
}

fn usual(baseline: &Baseline, deviations: f64) -> Usual {
    let (low, high) = baseline.band(deviations);
    Usual { mean: baseline.mean, deviation: baseline.deviation, low, high, weeks: baseline.weeks }
}

/// For statistics, which are estimates anyway.
fn real(number: &Number) -> f64 {
    match &number.value {
        #[expect(clippy::cast_precision_loss, reason = "statistics are estimates")]
        Value::Integer(value) => *value as f64,
        Value::Decimal(text) => text.parse().unwrap_or(f64::NAN),
        Value::Undefined => f64::NAN,
    }
}

fn moment(at: Timestamp) -> EventTime {
    EventTime::from_timestamp(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Gap, Method, Point};
    use crate::live::change::tests::answer;
    use reckon_schemas::settlement::State;

    const HOUR_S: i64 = 3_600;
    const WEEK_S: i64 = 7 * 24 * HOUR_S;
    /// A Monday, 00:00 UTC.
    const START_S: i64 = 1_772_409_600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn point(hour: i64, value: i128) -> Point {
        let start = START_S + hour * HOUR_S;
        let number = Number {
            value: Value::Integer(value),
            method: Method::Exact,
            error_bound: Value::Integer(0),
            state: State::Settled,
            as_of: None,
            run_id: None,
        };
        Point { start: at(start), end: at(start + HOUR_S), number }
    }

    /// Five weeks of one event count an hour, larger by day; the last week's numbers are given.
    fn five_weeks(last: impl Fn(i64) -> Option<i128>) -> Answer {
        let usual = |hour: i64| i128::from(100 + hour % 24 * 10 + hour / (7 * 24) % 3);
        let before = (0..4 * 7 * 24).map(|hour| point(hour, usual(hour)));
        let now = (4 * 7 * 24..5 * 7 * 24).filter_map(|hour| last(hour).map(|value| point(hour, value)));
        let points: Vec<Point> = before.chain(now).collect();
        let mut answer = answer(&[], 0);
        answer.from = at(START_S);
        answer.to = at(START_S + 5 * WEEK_S);
        answer.watermark = Some(at(START_S + 5 * WEEK_S - 2 * HOUR_S));
        let total = point(0, 0).number;
        answer.groups = vec![Group { dimensions: BTreeMap::new(), total, parts: vec![], points }].into();
        answer
    }

    fn unusual(answer: &Answer, weeks: u32) -> Vec<i64> {
        let judgement = Judgement { from: moment(at(START_S + 4 * WEEK_S)), deviations: 2.0, weeks };
        let judged = judge(answer, &Zone::UTC, judgement);
        assert_eq!(judged.groups[0].hours.len(), 7 * 24 - answer.gaps.len());
        let hours = judged.groups[0].hours.iter().filter(|hour| hour.unusual);
        hours.map(|hour| (hour.start.as_second() - START_S) / HOUR_S - 4 * 7 * 24).collect()
    }

    #[test]
    fn what_is_unusual_for_its_hour_of_the_week_is_found() {
        let usual = |hour: i64| i128::from(101 + hour % 24 * 10);
        let answer = five_weeks(|hour| match hour - 4 * 7 * 24 {
            30 => Some(usual(hour) + 50),
            // Nothing came, which is a number too.
            31 => None,
            // Usual at night, not at noon.
            36 => Some(101),
            _ => Some(usual(hour)),
        });
        assert_eq!(unusual(&answer, 8), [30, 31, 36]);
        assert_eq!(unusual(&answer, 2), [0_i64; 0], "two weeks say nothing");
    }

    #[test]
    fn gaps_and_hours_that_are_not_over_are_not_judged() {
        let mut answer = five_weeks(|_| None);
        answer.gaps = vec![Gap {
            from: at(START_S + 4 * WEEK_S),
            to: at(START_S + 4 * WEEK_S + HOUR_S),
            reason: "nobody has counted it".to_owned(),
        }];
        let found = unusual(&answer, 8);
        assert_eq!((found.first(), found.last(), found.len()), (Some(&1), Some(&165), 165));
    }
}
