//! Sets of offsets against a plain set, and every hole with its reason.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Hole, InLake, Offsets, Range, Why, prove, questions};

proptest! {
    #[test]
    fn ranges_are_the_set(offsets in proptest::collection::vec(-20..60_i64, 0..120), from in -30..70_i64, length in 0..80_i64) {
        let set: Offsets = offsets.iter().copied().collect();
        let plain: BTreeSet<i64> = offsets.iter().copied().collect();
        let found: Vec<i64> = set.ranges().flat_map(|range| range.from..range.to).collect();
        prop_assert_eq!(found, plain.iter().copied().collect::<Vec<_>>());
        let ranges: Vec<Range> = set.ranges().collect();
        prop_assert!(ranges.is_sorted_by(|one, next| one.to < next.from), "no two touch: {:?}", ranges);
        let extra: u64 = set.doubled().values().map(|times| times - 1).sum();
        prop_assert_eq!(extra, (offsets.len() - plain.len()) as u64);
        let holes: Vec<i64> =
            set.holes(Range { from, to: from + length }).into_iter().flat_map(|hole| hole.from..hole.to).collect();
        prop_assert_eq!(holes, (from..from + length).filter(|offset| !plain.contains(offset)).collect::<Vec<_>>());
    }

    #[test]
    fn every_offset_is_archived_or_has_one_reason(
        lost in proptest::collection::btree_set(0..100_i64, 0..20),
        markers in proptest::collection::btree_set(0..100_i64, 0..20),
        expired in proptest::collection::btree_set(0..100_i64, 0..20),
        low in 0..50_i64,
        next in 50..100_i64,
    ) {
        let kept = |offset: &i64| !lost.contains(offset) && !markers.contains(offset);
        let is_there = |offset: &i64| kept(offset) && !expired.contains(offset);
        let found = InLake {
            archived: (0..next).filter(is_there).collect(),
            expired: (0..next).filter(kept).filter(|offset| expired.contains(offset)).collect(),
        };
        let log = Range { from: low, to: 100 };
        let asked = questions(&found, log, next);
        let is_record = |offset: &i64| !markers.contains(offset);
        let records: Offsets = asked.iter().flat_map(|range| range.from..range.to).filter(is_record).collect();
        let proof = prove(("events", 0), &found, log, next, &records);
        let first = (0..next).find(kept).unwrap_or(low).min(low);
        let mut covered: Vec<(i64, Option<Why>)> =
            proof.ranges.iter().flat_map(|range| range.from..range.to).map(|offset| (offset, None)).collect();
        covered.extend(proof.holes.iter().flat_map(|hole| (hole.range.from..hole.range.to).map(|offset| (offset, Some(hole.why)))));
        covered.sort_unstable_by_key(|(offset, _)| *offset);
        let expected: Vec<(i64, Option<Why>)> = (first..100)
            .map(|offset| {
                let why = if offset >= next {
                    Some(Why::NotYetArchived)
                } else if kept(&offset) {
                    expired.contains(&offset).then_some(Why::Expired)
                } else if offset < low {
                    Some(Why::Gone)
                } else if markers.contains(&offset) {
                    Some(Why::NoRecord)
                } else {
                    Some(Why::Missing)
                };
                (offset, why)
            })
            .collect();
        prop_assert_eq!(covered, expected);
    }
}

fn proof(archived: impl IntoIterator<Item = i64>, log: (i64, i64), next: i64, records: &[i64]) -> super::Partition {
    let log = Range { from: log.0, to: log.1 };
    let found = InLake { archived: archived.into_iter().collect(), expired: Offsets::default() };
    prove(("events", 3), &found, log, next, &records.iter().copied().collect())
}

#[test]
fn what_is_there_once_holds() {
    assert!(proof(0..10, (0, 10), 10, &[]).holds());
    assert!(proof([], (0, 0), 0, &[]).holds());
    // The log forgot what the lake has, and what is behind the archive is on its way.
    let behind = proof(0..10, (5, 15), 10, &[]);
    assert!(behind.holds());
    assert_eq!(behind.holes, [Hole { range: Range { from: 10, to: 15 }, why: Why::NotYetArchived }]);
    // A log that did not begin at 0 when the archive began.
    assert!(proof(7..10, (7, 10), 10, &[]).holds());
}

#[test]
fn a_lost_record_and_a_doubled_one_do_not_cancel_each_other_out() {
    let wrong = proof([0, 1, 2, 2, 4], (0, 5), 5, &[3]);
    assert!(!wrong.holds());
    assert_eq!(wrong.holes, [Hole { range: Range { from: 3, to: 4 }, why: Why::Missing }]);
    assert_eq!((wrong.doubled.as_slice(), wrong.doubled_count), ([2].as_slice(), 1));
    assert!(!proof([0, 1, 1], (0, 2), 2, &[]).holds());
    assert!(proof([0, 1, 3], (0, 4), 4, &[]).holds(), "a marker");
    assert!(!proof([0, 1, 3], (3, 4), 4, &[]).holds(), "nobody can know any more");
    let late = proof(0..10, (15, 20), 10, &[]);
    assert_eq!((late.count(Why::Gone), late.count(Why::NotYetArchived)), (5, 5), "deleted before it was archived");
}
