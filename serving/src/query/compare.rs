//! Two answers side by side: what differs, by how much, and how far that can be off.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use reckon_schemas::money::Currency;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Window;

use super::filter::Filter;
use super::params::Query;
use super::range::Range;
use super::shift::{Back, Place};
use super::{Asked, Evaluator, filter};
use crate::answer::{Answer, Comparison, Delta, Group, GroupDelta, Method, Number, PointDelta, Value};
use crate::exact::{Estimate, Operation, Origin, OutOfRange, Style};
use crate::merge::Kept;
use crate::merge::plan::weaker;
use crate::problem::Problem;

/// What a question is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Compared {
    /// With an earlier range.
    Period(Back),
    /// Its first segment with its second one.
    Segments(Box<[Segment; 2]>),
}

impl Compared {
    /// The questions that have to be answered, as far as their dimensions go.
    pub(super) fn queries(&self, query: &Query) -> Vec<Query> {
        match self {
            Compared::Period(_) => vec![query.clone()],
            Compared::Segments(segments) => {
                let narrowed = |segment: &Segment| {
                    let filters = query.filters.iter().chain(&segment.filters).cloned().collect();
                    Query { filters, ..query.clone() }
                };
                segments.iter().map(narrowed).collect()
            }
        }
    }
}

/// A set of conditions with a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) filters: Vec<Filter>,
}

/// One of both sides.
struct Side<'a> {
    answer: &'a Answer,
    windows: BTreeMap<Place, Window>,
}

impl Evaluator {
    /// Answers twice, of one moment, and compares.
    pub(super) async fn answer_compared(&self, asked: Asked<'_>, compared: &Compared) -> Result<Answer, Problem> {
        match compared {
            Compared::Period(back) => self.answer_periods(asked, *back).await,
            Compared::Segments(segments) => self.answer_segments(asked, segments).await,
        }
    }

    async fn answer_periods(&self, asked: Asked<'_>, back: Back) -> Result<Answer, Problem> {
        let Asked { query, tenant, moment } = asked;
        let zone = &tenant.time_zone;
        let mut answer = self.answer_one(asked, None).await?;
        let reach = (event_time(answer.from), event_time(answer.to));
        let (base_reach, back) = back.apply(reach, zone)?;
        let earlier = Query { range: Range::between(base_reach.0, base_reach.1), ..query.clone() };
        let base = self.answer_one(Asked { query: &earlier, ..asked }, Some(&kept(&answer, &query.by))).await?;
        if reach.1 > moment.event_now() {
            answer.notes.push("this range is not over, and is compared with the whole of the earlier one".to_owned());
        }
        let windows = |answer: &Answer| {
            let (from, to) = (event_time(answer.from), event_time(answer.to));
            let windows = query.grain.windows_over(from, to, zone).take(self.tuning.windows_max);
            windows.map(|window| (back.place(&window, from, zone), window)).collect()
        };
        let windows = [windows(&answer), windows(&base)];
        compared("period", answer, base, windows, query).map_err(|error| out_of_range(&error))
    }

    async fn answer_segments(&self, asked: Asked<'_>, segments: &[Segment; 2]) -> Result<Answer, Problem> {
        let Asked { query, tenant, .. } = asked;
        let narrowed = |segment: &Segment| -> Result<Query, Problem> {
            let filters = query.filters.iter().chain(&segment.filters).cloned();
            Ok(Query { filters: filter::bounded(filters)?, ..query.clone() })
        };
        let (first, second) = (narrowed(&segments[0])?, narrowed(&segments[1])?);
        let mut answer = self.answer_one(Asked { query: &first, ..asked }, None).await?;
        let second = Asked { query: &second, ..asked };
        let mut base = self.answer_one(second, Some(&kept(&answer, &query.by))).await?;
        for (answer, segment) in [(&mut answer, &segments[0]), (&mut base, &segments[1])] {
            answer.segment = Some(segment.name.clone());
        }
        let (from, to) = (event_time(answer.from), event_time(answer.to));
        let windows = query.grain.windows_over(from, to, &tenant.time_zone).take(self.tuning.windows_max);
        let windows: BTreeMap<Place, Window> =
            windows.map(|window| (Back::Length.place(&window, from, &tenant.time_zone), window)).collect();
        compared("segments", answer, base, [windows.clone(), windows], query).map_err(|error| out_of_range(&error))
    }
}

/// The groups that the base has to name: those of the answer, where it names only some.
fn kept(answer: &Answer, by: &[String]) -> Kept {
    let key = |group: &Group| by.iter().filter_map(|dimension| group.dimensions.get(dimension).cloned()).collect();
    if answer.truncated { Kept::These(answer.groups.iter().map(key).collect()) } else { Kept::All }
}

/// How the differences are written: as the numbers are.
fn style(query: &Query, answer: &Answer) -> Style {
    match (&query.formula, answer.measure.as_str()) {
        (Some(formula), _) => formula.style(),
        (None, "money") => Style::Decimal(answer.unit.parse().map_or(0, |unit: Currency| unit.exponent().into())),
        (None, "sum") => Style::Decimal(0),
        (None, _) => Style::Integer,
    }
}

/// The answer with its base beside it, and the differences.
fn compared(
    kind: &'static str,
    answer: Answer,
    base: Answer,
    windows: [BTreeMap<Place, Window>; 2],
    query: &Query,
) -> Result<Answer, OutOfRange> {
    let style = style(query, &answer);
    let [our_windows, their_windows] = windows;
    let sides = [Side { answer: &answer, windows: our_windows }, Side { answer: &base, windows: their_windows }];
    let names: BTreeSet<_> = answer.groups.iter().chain(&*base.groups).map(|group| &group.dimensions).collect();
    let groups = names.into_iter().map(|name| {
        let found = sides.each_ref().map(|side| side.answer.groups.iter().find(|group| group.dimensions == *name));
        group_delta(name, &sides, found, style)
    });
    let groups = groups.collect::<Result<_, _>>()?;
    let other = match (&answer.other, &base.other) {
        (Some(ours), Some(theirs)) => Some(group_delta(&BTreeMap::new(), &sides, [Some(ours), Some(theirs)], style)?),
        _ => None,
    };
    let total = delta(Some(&answer.total), Some(&base.total), style)?;
    let same_state = answer.total.state == base.total.state;
    let comparison = Comparison { kind: kind.to_owned(), base, same_state, total, groups, other };
    Ok(Answer { comparison: Some(Box::new(comparison)), ..answer })
}

fn group_delta(
    name: &BTreeMap<String, String>,
    sides: &[Side<'_>; 2],
    found: [Option<&Group>; 2],
    style: Style,
) -> Result<GroupDelta, OutOfRange> {
    // A group that one side does not name may be among its others; if it has none, it had no event.
    let is_known = |index: usize| found[index].is_some() || !sides[index].answer.truncated;
    let total = |index: usize| match found[index] {
        Some(group) => Some(group.total.clone()),
        None => is_known(index).then(|| nothing(&sides[index].answer.total)),
    };
    let mut places: BTreeSet<Place> = BTreeSet::new();
    let mut numbers: [BTreeMap<Timestamp, &Number>; 2] = Default::default();
    for (index, group) in found.iter().enumerate() {
        for point in group.map_or(&[][..], |group| &group.points) {
            numbers[index].insert(point.start, &point.number);
        }
        let has_number = |window: &Window| numbers[index].contains_key(&window.start.to_timestamp());
        places.extend(sides[index].windows.iter().filter(|(_, window)| has_number(window)).map(|(place, _)| *place));
    }
    let points = places.into_iter().map(|place| {
        let windows = sides.each_ref().map(|side| side.windows.get(&place));
        let number = |index: usize| {
            let window = windows[index]?;
            let known = numbers[index].get(&window.start.to_timestamp()).map(|number| (*number).clone());
            known.or_else(|| if is_known(index) { empty(sides[index].answer, window) } else { None })
        };
        let start = |index: usize| windows[index].map(|window| window.start.to_timestamp());
        let delta = delta(number(0).as_ref(), number(1).as_ref(), style)?;
        Ok(PointDelta { start: start(0), base_start: start(1), delta })
    });
    Ok(GroupDelta {
        dimensions: name.clone(),
        total: delta(total(0).as_ref(), total(1).as_ref(), style)?,
        points: points.collect::<Result<_, _>>()?,
    })
}

/// No events, seen by whoever said the number.
fn nothing(seen: &Number) -> Number {
    let (value, error_bound) = (Value::Integer(0), Value::Integer(0));
    Number { value, error_bound, method: Method::Exact, ..seen.clone() }
}

/// What an answer says about a window without a number: nothing happened, unless nobody has counted it.
fn empty(answer: &Answer, window: &Window) -> Option<Number> {
    let (start, end) = (window.start.to_timestamp(), window.end.to_timestamp());
    if answer.gaps.iter().any(|gap| gap.from < end && start < gap.to) {
        return None;
    }
    let covered = answer.coverage.iter().filter(|part| part.from < end && start < part.to);
    let state = covered.clone().map(|part| part.state).reduce(weaker)?;
    let as_of = covered.map(|part| part.as_of).max().flatten();
    Some(Number { state, as_of, run_id: None, ..nothing(&answer.total) })
}

fn delta(ours: Option<&Number>, theirs: Option<&Number>, style: Style) -> Result<Delta, OutOfRange> {
    let unknown = Delta { difference: None, ratio: None };
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return Ok(unknown) };
    let Some(origin) = Origin::of([ours, theirs]) else { return Ok(unknown) };
    let (Some(ours), Some(theirs)) = (Estimate::of(ours), Estimate::of(theirs)) else { return Ok(unknown) };
    let number = |operation, style| {
        let result = ours.with(operation, &theirs)?;
        result.map(|estimate| origin.number(Some(&estimate), style)).transpose()
    };
    Ok(Delta { difference: number(Operation::Subtract, style)?, ratio: number(Operation::Divide, Style::Decimal(0))? })
}

fn event_time(at: Timestamp) -> EventTime {
    EventTime::from_timestamp(at)
}

fn out_of_range(error: &OutOfRange) -> Problem {
    Problem::not_answerable("compare", error.to_string())
}
