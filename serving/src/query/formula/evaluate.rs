//! From the answers of the aggregates to that of the formula.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use jiff::Timestamp;

use super::Formula;
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
        let is_paged = asked.query.range.page.is_some();
        let mut groups = formula.groups(&answers, is_paged).map_err(out_of_range)?;
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
            other = Some(formula.group(&others.iter().map(Option::as_ref).collect::<Vec<_>>()).map_err(out_of_range)?);
        }
        let answer = formula.answer(answers).map_err(out_of_range)?;
        let metric = asked.query.metric.clone();
        Ok(Answer { metric, groups: groups.into(), groups_count, truncated: rest, other, ..answer })
    }
}

impl Formula {
    /// The answer without its groups.
    pub(in crate::query) fn answer(&self, answers: Vec<Answer>) -> Result<Answer, OutOfRange> {
        let totals: Vec<Option<&Number>> = answers.iter().map(|answer| Some(&answer.total)).collect();
        let total = self.number(&totals)?;
        let parts = self.parts(&answers.iter().map(|answer| Some(&answer.parts[..])).collect::<Vec<_>>())?;
        let rollups: BTreeSet<&str> = answers.iter().map(|answer| answer.rollup.as_str()).collect();
        let rollup = rollups.into_iter().collect::<Vec<_>>().join(";");
        let notes: BTreeSet<String> = answers.iter().flat_map(|answer| answer.notes.clone()).collect();
        let first = answers.into_iter().next().ok_or(OutOfRange)?;
        let (measure, unit) = ("formula".to_owned(), self.unit_name().to_owned());
        Ok(Answer { measure, unit, rollup, notes: notes.into_iter().collect(), total, parts, ..first })
    }

    /// Every group that any aggregate has: the largest first, or in the order of names.
    fn groups(&self, answers: &[Answer], by_name: bool) -> Result<Vec<Group>, OutOfRange> {
        let mut all: BTreeMap<&BTreeMap<String, String>, Vec<Option<&Group>>> = BTreeMap::new();
        for (index, answer) in answers.iter().enumerate() {
            for group in &*answer.groups {
                all.entry(&group.dimensions).or_insert_with(|| vec![None; answers.len()])[index] = Some(group);
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

    /// One group of what the aggregates say about it; what an aggregate has not counted is zero.
    fn group(&self, groups: &[Option<&Group>]) -> Result<Group, OutOfRange> {
        let totals: Vec<Option<&Number>> = groups.iter().map(|group| group.map(|group| &group.total)).collect();
        let mut windows: BTreeMap<(Timestamp, Timestamp), Vec<Option<&Number>>> = BTreeMap::new();
        for (index, group) in groups.iter().enumerate() {
            for point in group.map_or(&[][..], |group| &group.points) {
                let window = windows.entry((point.start, point.end));
                window.or_insert_with(|| vec![None; groups.len()])[index] = Some(&point.number);
            }
        }
        let point = |((start, end), numbers): ((Timestamp, Timestamp), Vec<Option<&Number>>)| {
            Ok(Point { start, end, number: self.number(&numbers)? })
        };
        Ok(Group {
            dimensions: groups.iter().flatten().next().map(|group| group.dimensions.clone()).unwrap_or_default(),
            total: self.number(&totals)?,
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
            Ok(Part { number: self.number(&numbers)?, ..part.clone() })
        };
        first.iter().enumerate().map(part).collect()
    }

    /// The number that the aggregates' numbers make; what an aggregate has not counted is zero.
    pub(in crate::query) fn number(&self, numbers: &[Option<&Number>]) -> Result<Number, OutOfRange> {
        let estimate = |number: &Option<&Number>| match number {
            Some(number) => Estimate::of(number),
            None => Some(Estimate::exact(0.into())),
        };
        let estimates: Vec<Option<Estimate>> = numbers.iter().map(estimate).collect();
        let value = self.value(&estimates)?;
        let origin = Origin::of(numbers.iter().flatten().copied()).ok_or(OutOfRange)?;
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
