//! What is new in an answer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::{Answer, Group, Number, Point};

/// One message of a live query.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LiveMessage {
    /// One higher than that of the message before; also the event's `id`. After a gap, connect again.
    pub(crate) seq: u64,
    /// `snapshot`: forget what you have. `change`: all fields but `groups` replace yours; of `groups` only those are
    /// there that changed, and of their points only those that changed or are new.
    pub(crate) kind: Kind,
    /// The answer, or what changed of it.
    pub(crate) answer: Answer,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The whole answer.
    Snapshot,
    /// What is new since the message before.
    Change,
}

/// The new answer without the groups and points that the old one has already; `None` if something of the old one is
/// gone, which only a snapshot can tell.
///
/// A provisional number that did not move is not sent again only because the speed layer wrote something else.
pub(crate) fn change(old: &Answer, new: &Answer) -> Option<Answer> {
    if (old.from, old.to) != (new.from, new.to) {
        return None;
    }
    let news: BTreeMap<_, &Group> = new.groups.iter().map(|group| (&group.dimensions, group)).collect();
    let olds: BTreeMap<_, &Group> = old.groups.iter().map(|group| (&group.dimensions, group)).collect();
    if !olds.keys().all(|dimensions| news.contains_key(dimensions)) {
        return None;
    }
    let mut groups = Vec::new();
    for group in &new.groups {
        let Some(known) = olds.get(&group.dimensions) else {
            groups.push(group.clone());
            continue;
        };
        let points = changed_points(&known.points, &group.points)?;
        if !points.is_empty() || !says_the_same(&known.total, &group.total) || !same_parts(known, group) {
            let Group { dimensions, total, parts, .. } = group.clone();
            groups.push(Group { dimensions, total, parts, points });
        }
    }
    Some(Answer { groups, ..new.clone() })
}

/// The points that are new or say something else; `None` if one is gone.
fn changed_points(old: &[Point], new: &[Point]) -> Option<Vec<Point>> {
    let mut olds: BTreeMap<Timestamp, &Point> = old.iter().map(|point| (point.start, point)).collect();
    let mut points = Vec::new();
    for point in new {
        let known = olds.remove(&point.start);
        if !known.is_some_and(|known| says_the_same(&known.number, &point.number)) {
            points.push(point.clone());
        }
    }
    olds.is_empty().then_some(points)
}

fn same_parts(old: &Group, new: &Group) -> bool {
    let same = old.parts.iter().zip(&new.parts).all(|(a, b)| {
        (a.from, a.to, a.layer, a.state) == (b.from, b.to, b.layer, b.state) && says_the_same(&a.number, &b.number)
    });
    same && old.parts.len() == new.parts.len()
}

fn says_the_same(old: &Number, new: &Number) -> bool {
    (&old.value, old.method, &old.error_bound, old.state, &old.run_id)
        == (&new.value, new.method, &new.error_bound, new.state, &new.run_id)
}
