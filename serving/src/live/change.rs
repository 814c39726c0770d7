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

impl Kind {
    /// The name used in every format.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Snapshot => "snapshot",
            Kind::Change => "change",
        }
    }
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
    for group in &*new.groups {
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
    Some(Answer { groups: groups.into(), ..new.clone() })
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::answer::{Method, Value};
    use reckon_schemas::settlement::State;

    fn number(value: i128, as_of_ms: i64) -> Number {
        Number {
            value: Value::Integer(value),
            method: Method::Exact,
            error_bound: Value::Integer(0),
            state: State::Provisional,
            as_of: Timestamp::from_millisecond(as_of_ms).ok(),
            run_id: None,
        }
    }

    fn group(name: &str, points: &[(i64, i128)], as_of_ms: i64) -> Group {
        let point = |(start_s, value): &(i64, i128)| Point {
            start: Timestamp::from_second(*start_s).expect("in range"),
            end: Timestamp::from_second(start_s + 60).expect("in range"),
            number: number(*value, as_of_ms),
        };
        Group {
            dimensions: [("department".to_owned(), name.to_owned())].into(),
            total: number(points.iter().map(|(_, value)| value).sum(), as_of_ms),
            parts: Vec::new(),
            points: points.iter().map(point).collect(),
        }
    }

    pub(crate) fn answer(groups: &[(&str, &[(i64, i128)])], as_of_ms: i64) -> Answer {
        Answer {
            tenant: "t".to_owned(),
            metric: "m".to_owned(),
            segment: None,
            measure: "count".to_owned(),
            unit: "events".to_owned(),
            grain: "1m".to_owned(),
            time_zone: "UTC".to_owned(),
            rollup: "department".to_owned(),
            from: Timestamp::UNIX_EPOCH,
            to: Timestamp::from_second(3_600).expect("in range"),
            horizon: None,
            watermark: None,
            computed_at: Timestamp::from_millisecond(as_of_ms).expect("in range"),
            age_ms: 0,
            stale: None,
            speed_lag_ms: None,
            coverage: Vec::new(),
            gaps: Vec::new(),
            adjustments: Vec::new(),
            notes: Vec::new(),
            truncated: false,
            groups_count: groups.len(),
            total: number(0, as_of_ms),
            parts: Vec::new(),
            groups: groups.iter().map(|(name, points)| group(name, points, as_of_ms)).collect::<Vec<_>>().into(),
            other: None,
            next: None,
            comparison: None,
        }
    }

    #[test]
    fn only_what_moved_is_sent() {
        let old = answer(&[("a", &[(0, 1), (60, 2)]), ("b", &[(0, 5)])], 1);
        let new = answer(&[("a", &[(0, 1), (60, 3), (120, 1)]), ("b", &[(0, 5)]), ("c", &[(0, 1)])], 2);
        let change = change(&old, &new).expect("nothing is gone");
        let sent: Vec<_> =
            change.groups.iter().map(|group| (&group.dimensions["department"], group.points.len())).collect();
        let names = ["a".to_owned(), "c".to_owned()];
        assert_eq!(sent, [(&names[0], 2), (&names[1], 1)]);
        assert_eq!(change.computed_at, new.computed_at);
    }

    #[test]
    fn what_is_gone_takes_a_snapshot() {
        let old = answer(&[("a", &[(0, 1), (60, 2)]), ("b", &[(0, 5)])], 1);
        assert_eq!(change(&old, &answer(&[("a", &[(0, 1), (60, 2)])], 2)), None);
        assert_eq!(change(&old, &answer(&[("a", &[(60, 2)]), ("b", &[(0, 5)])], 2)), None);
        let mut moved = old.clone();
        moved.to = Timestamp::from_second(7_200).expect("in range");
        assert_eq!(change(&old, &moved), None);
        assert!(change(&old, &old).is_some_and(|change| change.groups.is_empty()));
    }
}
