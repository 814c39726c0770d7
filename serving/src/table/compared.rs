//! The rows of a comparison: window by window and group by group both numbers side by side.

use std::borrow::Cow;

use jiff::Timestamp;

use super::{Kind, Row, Said};
use crate::answer::{Answer, Comparison, Group, GroupDelta, Number};

/// In the order of an answer's rows. A group that only one side has is there, too.
pub(super) fn rows<'a>(answer: &'a Answer, comparison: &'a Comparison) -> impl Iterator<Item = Row<'a>> {
    let sides = [answer, &comparison.base];
    let groups = comparison.groups.iter().map(move |delta| {
        let of_side = |side: &'a Answer| side.groups.iter().find(|group| group.dimensions == delta.dimensions);
        (delta, sides.map(of_side), Kind::Point, Kind::Total, true)
    });
    let others = sides.map(|side| side.other.as_ref());
    let other = comparison.other.iter().map(move |delta| (delta, others, Kind::OtherPoint, Kind::OtherTotal, false));
    let of_groups = groups.chain(other).flat_map(move |(delta, found, point, total, is_named)| {
        of_group(sides, delta, found, [point, total], is_named)
    });
    let totals = sides.map(|side| Said::total(side, &side.total));
    let [said, base] = totals;
    let delta = Some(&comparison.total);
    of_groups.chain([Row { kind: Kind::GrandTotal, dimensions: None, said, base: Some(base), delta }])
}

/// The windows of a group, then its total.
fn of_group<'a>(
    [ours, theirs]: [&'a Answer; 2],
    group: &'a GroupDelta,
    [our_group, their_group]: [Option<&'a Group>; 2],
    [point, total]: [Kind; 2],
    is_named: bool,
) -> impl Iterator<Item = Row<'a>> {
    let dimensions = is_named.then_some(&group.dimensions);
    let row = move |kind, said, base, delta| Row { kind, dimensions, said, base: Some(base), delta: Some(delta) };
    let points = group.points.iter().map(move |at| {
        let said = of_window(ours, our_group, at.start.zip(at.end));
        let base = of_window(theirs, their_group, at.base_start.zip(at.base_end));
        row(point, said, base, &at.delta)
    });
    let whole = |answer: &'a Answer, group: Option<&'a Group>| {
        said(answer, group, Some((answer.from, answer.to)), group.map(|group| &group.total))
    };
    points.chain([row(total, whole(ours, our_group), whole(theirs, their_group), &group.total)])
}

fn of_window<'a>(answer: &'a Answer, group: Option<&'a Group>, window: Option<(Timestamp, Timestamp)>) -> Said<'a> {
    let point = group.zip(window).and_then(|(group, (start, _))| {
        let index = group.points.binary_search_by_key(&start, |point| point.start).ok()?;
        group.points.get(index)
    });
    said(answer, group, window, point.map(|point| &point.number))
}

/// What an answer says of a span of a group: this number, or that nothing happened, as the difference takes it.
fn said<'a>(
    answer: &'a Answer,
    group: Option<&Group>,
    span: Option<(Timestamp, Timestamp)>,
    number: Option<&'a Number>,
) -> Said<'a> {
    let unsaid = || span.and_then(|(from, to)| answer.unsaid(group, from, to)).map(Cow::Owned);
    let (start, end) = span.unzip();
    Said { start, end, number: number.map(Cow::Borrowed).or_else(unsaid), unit: &answer.unit }
}
