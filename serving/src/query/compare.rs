//! Two answers side by side: what differs, by how much, and how far that can be off.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use reckon_schemas::money::Currency;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window};

use super::filter::Filter;
use super::params::Query;
use super::range::Range;
use super::shift::{Back, Place, Reach};
use super::{Asked, Evaluator, filter};
use crate::answer::{Answer, Comparison, Delta, Group, GroupDelta, Number, PointDelta};
use crate::exact::{Estimate, Operation, Origin, OutOfRange, Style};
use crate::merge::Kept;
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
        refuse_cut_windows(base_reach, query.grain, zone)?;
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

/// A base that begins or ends within a window would be widened, and so be longer than what is compared with it.
fn refuse_cut_windows((from, to): Reach, grain: Grain, zone: &Zone) -> Result<(), Problem> {
    let is_border = |at: EventTime| grain.window_at(at, zone).start == at;
    if is_border(from) && is_border(to) {
        return Ok(());
    }
    let detail = format!(
        "the range that much earlier, {from} to {to}, is not made of whole windows of {grain}: compare with one that is, \
         or ask for a finer `grain`"
    );
    Err(Problem::not_answerable("compare", detail))
}

/// The groups that the base has to name: those of the answer, where it names only some. The most frequent values are
/// groups by one dimension that nobody asks for.
fn kept(answer: &Answer, by: &[String]) -> Kept {
    let key = |group: &Group| match by {
        [] => group.dimensions.values().cloned().collect(),
        by => by.iter().filter_map(|dimension| group.dimensions.get(dimension).cloned()).collect(),
    };
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
    let others = [answer.other.as_ref(), base.other.as_ref()];
    let has_others = others.iter().any(Option::is_some);
    let other = has_others.then(|| group_delta(&BTreeMap::new(), &sides, others, style)).transpose()?;
    let totals = [&answer, &base].map(|answer| said(answer, None, (answer.from, answer.to), Some(&answer.total)));
    let total = delta(totals[0].as_ref(), totals[1].as_ref(), style)?;
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
    let total = |index: usize| {
        let Side { answer, .. } = &sides[index];
        said(answer, found[index], (answer.from, answer.to), found[index].map(|group| &group.total))
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
            let span = (window.start.to_timestamp(), window.end.to_timestamp());
            said(sides[index].answer, found[index], span, numbers[index].get(&span.0).copied())
        };
        let delta = delta(number(0).as_ref(), number(1).as_ref(), style)?;
        let [start, base_start] = windows.map(|window| Some(window?.start.to_timestamp()));
        let [end, base_end] = windows.map(|window| Some(window?.end.to_timestamp()));
        Ok(PointDelta { start, end, base_start, base_end, delta })
    });
    Ok(GroupDelta {
        dimensions: name.clone(),
        total: delta(total(0).as_ref(), total(1).as_ref(), style)?,
        points: points.collect::<Result<_, _>>()?,
    })
}

/// What can be compared of a span of a group: this number, or that nothing happened; nothing at all where nobody has
/// counted all of it.
fn said(
    answer: &Answer,
    group: Option<&Group>,
    (from, to): (Timestamp, Timestamp),
    number: Option<&Number>,
) -> Option<Number> {
    match number {
        Some(number) => (!answer.has_gap(from, to)).then(|| number.clone()),
        None => answer.unsaid(group, from, to),
    }
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
