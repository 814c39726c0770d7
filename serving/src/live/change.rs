//! What is new in an answer.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::answer::{Answer, Coverage, Group, Groups, Number, Part, Point, Stale};

/// One message of a live query.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LiveMessage {
    /// Where this message leads to; also the event's `id`. Who comes back with it, to whichever node, gets what came
    /// after it, or a snapshot.
    #[schema(value_type = String)]
    pub(crate) position: Position,
    /// One higher than that of the message before. After a gap, connect again.
    pub(crate) seq: u64,
    /// `snapshot`: forget what you have. `change`: all fields but `groups` replace yours; of `groups` only those are
    /// there that changed, and of their points only those that changed or are new.
    pub(crate) kind: Kind,
    /// The answer, or what changed of it.
    pub(crate) answer: Answer,
}

/// How far a client has come in one feed: `<feed>-<seq>`. The feed's number is random, because two feeds, of two nodes
/// or one after the other, come to the same state by different messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) feed: u64,
    pub(crate) seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.feed, self.seq)
    }
}

impl Position {
    /// What a client gives back; `None` if no feed has said that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (feed, seq) = text.split_once('-')?;
        Some(Self { feed: u64::from_str_radix(feed, 16).ok()?, seq: seq.parse().ok()? })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
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

/// Whether a change says nothing but that its numbers are fresh: when it was computed, how far the speed layer is, when
/// what it is made of was written.
pub(crate) fn is_no_news(old: &Answer, change: &Answer) -> bool {
    change.groups.is_empty() && undated(old) == undated(change)
}

/// What an answer says beside its groups, whenever it was computed.
fn undated(answer: &Answer) -> Answer {
    let number = |number: &Number| Number { as_of: None, ..number.clone() };
    let part = |part: &Part| Part { number: number(&part.number), ..part.clone() };
    let point = |point: &Point| Point { number: number(&point.number), ..point.clone() };
    let group = |group: &Group| Group {
        dimensions: group.dimensions.clone(),
        total: number(&group.total),
        parts: group.parts.iter().map(part).collect(),
        points: group.points.iter().map(point).collect(),
    };
    Answer {
        watermark: None,
        computed_at: Timestamp::UNIX_EPOCH,
        age_ms: 0,
        speed_lag_ms: None,
        stale: answer.stale.map(|stale| Stale { age_ms: 0, ..stale }),
        coverage: answer.coverage.iter().map(|part| Coverage { as_of: None, ..part.clone() }).collect(),
        total: number(&answer.total),
        parts: answer.parts.iter().map(part).collect(),
        groups: Groups::default(),
        other: answer.other.as_ref().map(group),
        ..answer.clone()
    }
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
    use crate::answer::{Method, StaleReason, Value};
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
    fn that_numbers_are_fresh_is_no_news() {
        let old = answer(&[("a", &[(0, 1)])], 1);
        let later = Answer {
            watermark: Some(Timestamp::UNIX_EPOCH),
            speed_lag_ms: Some(7),
            other: None,
            ..answer(&[("a", &[(0, 1)])], 2)
        };
        let is_no_news = |new: &Answer| super::is_no_news(&old, &change(&old, new).expect("nothing is gone"));
        assert!(is_no_news(&later));
        let stale = Some(Stale { age_ms: 1, reason: StaleReason::StoreAway });
        for news in [
            answer(&[("a", &[(0, 2)])], 2),
            answer(&[("a", &[(0, 1)]), ("b", &[])], 2),
            Answer { horizon: Some(Timestamp::UNIX_EPOCH), ..later.clone() },
            Answer { total: number(1, 2), ..later.clone() },
            Answer { other: Some(group("b", &[(0, 1)], 2)), ..later.clone() },
            Answer { notes: vec!["without Redis".to_owned()], ..later.clone() },
            Answer { stale, ..later.clone() },
        ] {
            assert!(!is_no_news(&news), "{news:?}");
        }
        let other = |as_of_ms| Answer { other: Some(group("b", &[(0, 1)], as_of_ms)), ..later.clone() };
        assert!(super::is_no_news(&other(1), &Answer { groups: Groups::default(), ..other(2) }));
    }

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let position = Position { feed: 0xab, seq: 17 };
        assert_eq!(position.to_string(), "00000000000000ab-17");
        assert_eq!(Position::parse(&position.to_string()), Some(position));
        for other in ["", "17", "-17", "ab-", "xy-1", "ab--1", "1234567890abcdef0-1"] {
            assert_eq!(Position::parse(other), None, "{other}");
        }
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
