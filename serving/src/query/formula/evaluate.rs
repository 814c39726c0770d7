//! From the answers of the aggregates to that of the formula.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use jiff::Timestamp;

use super::{Formula, united};
use crate::answer::{Answer, Group, Number, Part, Point};
use crate::exact::{Estimate, Origin, OutOfRange};
use crate::merge::{Kept, Key};
use crate::problem::Problem;
use crate::query::params::Query;
use crate::query::{Asked, Evaluator, filter};

impl Evaluator {
    /// Answers every aggregate as a question of its own, all of one moment, and computes with the answers.
    pub(in crate::query) async fn answer_formula(
        &self,
        asked: Asked<'_>,
        formula: &Formula,
        kept: &Kept,
    ) -> Result<Answer, Problem> {
        let query = |filters| Query { filters, formula: None, ..asked.query.clone() };
        let mut queries = Vec::with_capacity(formula.aggregates.len());
        for aggregate in &formula.aggregates {
            let filters = asked.query.filters.iter().chain(&aggregate.filters).cloned();
            queries.push((query(filter::bounded(filters)?), aggregate.metric()));
        }
        let solutions = queries.iter().map(|(query, metric)| Box::pin(self.solve(Asked { query, ..asked }, metric)));
        let mut solutions = try_join_all(solutions).await?;
        let mut answers = Vec::with_capacity(solutions.len());
        for solved in &solutions {
            answers.push(solved.say(asked, None, self.tuning.points_max)?);
        }
        let combined = Combined::new(formula, &answers);
        let mut groups = combined.groups(asked.query.range.page.is_some()).map_err(out_of_range)?;
        let groups_count = groups.len();
        let rest = rest(&mut groups, kept, &asked.query.by);
        let mut other = None;
        if rest {
            let named = groups.iter().map(|group| key(group, &asked.query.by)).collect();
            let named = Kept::These(named);
            let mut others = Vec::with_capacity(solutions.len());
            for solved in &mut solutions {
                let cut = self.cut(asked, solved, &named).await?;
                others.push(cut.map(|group| solved.say_group(&group)));
            }
            let others: Vec<Option<&Group>> = others.iter().map(Option::as_ref).collect();
            other = Some(combined.group(&others).map_err(out_of_range)?);
        }
        let answer = combined.answer().map_err(out_of_range)?;
        let metric = asked.query.metric.clone();
        Ok(Answer { metric, groups: groups.into(), groups_count, truncated: rest, other, ..answer })
    }
}

/// The answers of a formula's aggregates, of one range and in one order.
pub(in crate::query) struct Combined<'a> {
    formula: &'a Formula,
    answers: &'a [Answer],
    /// Parts of the range that some of the aggregates were not counted in, and others were: no number there says anything.
    /// Where none was counted it is as for any other answer: the gap is told beside the numbers.
    uneven: Vec<(Timestamp, Timestamp)>,
}

impl<'a> Combined<'a> {
    pub(in crate::query) fn new(formula: &'a Formula, answers: &'a [Answer]) -> Self {
        let gaps = answers.iter().flat_map(|answer| &answer.gaps);
        let borders: BTreeSet<Timestamp> = gaps.flat_map(|gap| [gap.from, gap.to]).collect();
        let spans = borders.iter().zip(borders.iter().skip(1)).map(|(from, to)| (*from, *to));
        let is_uneven = |(from, to): &(Timestamp, Timestamp)| {
            let missing = answers.iter().filter(|answer| answer.has_gap(*from, *to)).count();
            0 < missing && missing < answers.len()
        };
        Self { formula, answers, uneven: spans.filter(is_uneven).collect() }
    }

    /// Whether all aggregates were counted over the same parts of a span.
    pub(in crate::query) fn is_even(&self, from: Timestamp, to: Timestamp) -> bool {
        !self.uneven.iter().any(|(start, end)| *start < to && from < *end)
    }

    /// The answer without its groups.
    pub(in crate::query) fn answer(&self) -> Result<Answer, OutOfRange> {
        let first = self.answers.first().ok_or(OutOfRange)?;
        let totals: Vec<Option<&Number>> = self.answers.iter().map(|answer| Some(&answer.total)).collect();
        let parts: Vec<_> = self.answers.iter().map(|answer| Some(&answer.parts[..])).collect();
        let rollups: BTreeSet<&str> = self.answers.iter().map(|answer| answer.rollup.as_str()).collect();
        let notes: BTreeSet<&String> = self.answers.iter().flat_map(|answer| &answer.notes).collect();
        Ok(Answer {
            measure: "formula".to_owned(),
            unit: self.formula.unit_name().to_owned(),
            rollup: rollups.into_iter().collect::<Vec<_>>().join(";"),
            coverage: united::coverage(self.answers),
            gaps: united::gaps(self.answers),
            adjustments: united::adjustments(self.answers),
            notes: notes.into_iter().cloned().collect(),
            total: self.number(first.from, first.to, &totals)?,
            parts: self.parts(&parts)?,
            ..first.clone()
        })
    }

    /// Every group that any aggregate has: the largest first, or in the order of names.
    fn groups(&self, by_name: bool) -> Result<Vec<Group>, OutOfRange> {
        let mut all: BTreeMap<&BTreeMap<String, String>, Vec<Option<&Group>>> = BTreeMap::new();
        for (index, answer) in self.answers.iter().enumerate() {
            for group in &*answer.groups {
                all.entry(&group.dimensions).or_insert_with(|| vec![None; self.answers.len()])[index] = Some(group);
            }
        }
        let groups = all.into_values().map(|groups| self.group(&groups));
        let mut groups = groups.collect::<Result<Vec<_>, _>>()?;
        if !by_name {
            let size = |group: &Group| Estimate::of(&group.total).map(|estimate| *estimate.value());
            groups.sort_by_cached_key(|group| (std::cmp::Reverse(size(group)), group.dimensions.clone()));
        }
        Ok(groups)
    }

    /// One group of what the aggregates say about it.
    fn group(&self, groups: &[Option<&Group>]) -> Result<Group, OutOfRange> {
        let first = self.answers.first().ok_or(OutOfRange)?;
        let totals: Vec<Option<&Number>> = groups.iter().map(|group| group.map(|group| &group.total)).collect();
        let mut windows: BTreeMap<(Timestamp, Timestamp), Vec<Option<&Number>>> = BTreeMap::new();
        for (index, group) in groups.iter().enumerate() {
            for point in group.map_or(&[][..], |group| &group.points) {
                let window = windows.entry((point.start, point.end));
                window.or_insert_with(|| vec![None; groups.len()])[index] = Some(&point.number);
            }
        }
        let point = |((start, end), numbers): ((Timestamp, Timestamp), Vec<Option<&Number>>)| {
            Ok(Point { start, end, number: self.number(start, end, &numbers)? })
        };
        Ok(Group {
            dimensions: groups.iter().flatten().next().map(|group| group.dimensions.clone()).unwrap_or_default(),
            total: self.number(first.from, first.to, &totals)?,
            parts: self.parts(&groups.iter().map(|group| group.map(|group| &group.parts[..])).collect::<Vec<_>>())?,
            points: windows.into_iter().map(point).collect::<Result<_, _>>()?,
        })
    }

    /// The parts of the range, if all aggregates have the same ones.
    fn parts(&self, aggregates: &[Option<&[Part]>]) -> Result<Vec<Part>, OutOfRange> {
        let Some(first) = aggregates.iter().flatten().next() else { return Ok(Vec::new()) };
        let span = |part: &Part| (part.from, part.to, part.layer);
        let is_same = |parts: &&[Part]| parts.len() == first.len() && parts.iter().map(span).eq(first.iter().map(span));
        if !aggregates.iter().flatten().all(is_same) {
            return Ok(Vec::new());
        }
        let part = |(index, part): (usize, &Part)| {
            let numbers: Vec<_> = aggregates.iter().map(|parts| parts.map(|parts| &parts[index].number)).collect();
            let number = self.number(part.from, part.to, &numbers)?;
            Ok(Part { state: number.state, number, ..part.clone() })
        };
        first.iter().enumerate().map(part).collect()
    }

    /// The number of a span that the aggregates' numbers make. What an aggregate has no number for is zero, as that
    /// aggregate saw it; undefined where they were not counted over the same.
    fn number(&self, from: Timestamp, to: Timestamp, numbers: &[Option<&Number>]) -> Result<Number, OutOfRange> {
        let given = numbers.iter().zip(self.answers);
        let numbers: Vec<Number> =
            given.map(|(number, answer)| number.cloned().unwrap_or_else(|| answer.nothing(from, to))).collect();
        self.formula.number(self.is_even(from, to), &numbers)
    }
}

impl Formula {
    /// The number that the aggregates' numbers make, if it `is_defined` at all.
    pub(in crate::query) fn number(&self, is_defined: bool, numbers: &[Number]) -> Result<Number, OutOfRange> {
        let estimates: Vec<Option<Estimate>> = numbers.iter().map(Estimate::of).collect();
        let value = if is_defined { self.value(&estimates)? } else { None };
        let origin = Origin::of(numbers).ok_or(OutOfRange)?;
        origin.number(value.as_ref(), self.style())
    }
}

/// Leaves out what is not to be kept; whether there was something.
fn rest(groups: &mut Vec<Group>, kept: &Kept, by: &[String]) -> bool {
    let before = groups.len();
    match kept {
        Kept::All => {}
        Kept::Largest(count) => groups.truncate(*count),
        Kept::These(keys) => groups.retain(|group| keys.contains(&key(group, by))),
    }
    groups.len() < before
}

/// The values of a group, in the order in which they were asked for.
fn key(group: &Group, by: &[String]) -> Key {
    by.iter().filter_map(|dimension| group.dimensions.get(dimension).cloned()).collect()
}

fn out_of_range(error: OutOfRange) -> Problem {
    Problem::not_answerable("metric_text", error.to_string())
}
