//! The pure part: what the log had, held against what the lake has.

use serde::Serialize;

use super::{Offsets, Range};

/// Why an offset is not in the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The log has no record there: a transaction's marker, an aborted or compacted record.
    NoRecord,
    /// The archive has not come so far yet.
    NotYetArchived,
    /// The log has a record there, the archive has passed it, and the lake does not have it.
    Missing,
    /// It was in the lake, and left it with everything of its date.
    Expired,
    /// The lake does not have it, and the log does not have it any more: whether there was a record cannot be known, so
    /// it counts as missing.
    Gone,
}

impl Why {
    /// The name used in every format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Why::NoRecord => "no_record",
            Why::NotYetArchived => "not_yet_archived",
            Why::Missing => "missing",
            Why::Expired => "expired",
            Why::Gone => "gone",
        }
    }

    /// Whether a person has to look.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        matches!(self, Why::Missing | Why::Gone)
    }
}

/// Offsets that are not in the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// Which.
    #[serde(flatten)]
    pub range: Range,
    /// Why.
    pub why: Why,
}

/// One partition of the log, and what the lake has of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What the log has, from its first offset to its end.
    pub log: Range,
    /// How far the archive says that it is.
    pub next_offset: i64,
    /// How many different offsets the lake has.
    pub archived: u64,
    /// Which.
    pub ranges: Vec<Range>,
    /// What it does not have, in order, neighbours for the same reason in one.
    pub holes: Vec<Hole>,
    /// Offsets that the lake has more than once, the first hundred.
    pub doubled: Vec<i64>,
    /// How many there are.
    pub doubled_count: u64,
}

/// The most doubled offsets that are named.
const DOUBLED_MAX: usize = 100;

/// What the lake has of a partition, and what it had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InLake {
    /// What is there.
    pub archived: Offsets,
    /// What was there and has expired.
    pub expired: Offsets,
}

/// What can be asked of the log about offsets that the lake does not have: everything that the archive should have taken.
#[must_use]
pub fn questions(found: &InLake, log: Range, next_offset: i64) -> Vec<Range> {
    holes(&found.archived.united(&found.expired), log)
        .into_iter()
        .map(|hole| hole.within(log.from, next_offset))
        .filter(|hole| !hole.is_empty())
        .collect()
}

/// Explains every hole. `records` are the offsets of the records that the log has in the [`questions`].
#[must_use]
pub fn prove(
    (topic, partition): (&str, i32),
    InLake { archived, expired }: &InLake,
    log: Range,
    next_offset: i64,
    records: &Offsets,
) -> Partition {
    let mut explained: Vec<Hole> = Vec::new();
    let mut push = |range: Range, why| match explained.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.why == why && last.range.to == range.from => last.range.to = range.to,
        _ => explained.push(Hole { range, why }),
    };
    let known = archived.united(expired);
    for hole in holes(&known, log) {
        push(hole.within(i64::MIN, log.from), Why::Gone);
        let asked = hole.within(log.from, next_offset);
        let mut from = asked.from;
        for record in records.ranges().map(|range| range.within(asked.from, asked.to)).filter(|range| !range.is_empty())
        {
            push(Range { from, to: record.from }, Why::NoRecord);
            push(record, Why::Missing);
            from = record.to;
        }
        push(Range { from, to: asked.to }, Why::NoRecord);
        push(hole.within(next_offset.max(log.from), i64::MAX), Why::NotYetArchived);
    }
    let ranges: Vec<Range> = archived.ranges().collect();
    let (first, end) = (known.ranges().next(), known.ranges().next_back());
    let had = Range { from: first.map_or(0, |range| range.from), to: end.map_or(0, |range| range.to) };
    let left = archived.holes(had).into_iter().flat_map(|hole| {
        expired.ranges().map(move |range| range.within(hole.from, hole.to)).filter(|range| !range.is_empty())
    });
    explained.extend(left.map(|range| Hole { range, why: Why::Expired }));
    explained.sort_unstable_by_key(|hole| hole.range);
    Partition {
        topic: topic.to_owned(),
        partition,
        log,
        next_offset,
        archived: ranges.iter().map(|range| range.len()).sum(),
        ranges,
        holes: explained,
        doubled: archived.doubled().keys().copied().take(DOUBLED_MAX).collect(),
        doubled_count: archived.doubled().len() as u64,
    }
}

/// What lies between the first offset that either knows and the log's end, and is not in the lake. What the log had
/// forgotten before the archive began is nobody's.
fn holes(archived: &Offsets, log: Range) -> Vec<Range> {
    let first = archived.ranges().next().map_or(log.from, |range| range.from.min(log.from));
    archived.holes(Range { from: first, to: log.to })
}

impl Partition {
    /// How many offsets are not in the lake for a reason.
    #[must_use]
    pub fn count(&self, why: Why) -> u64 {
        self.holes.iter().filter(|hole| hole.why == why).map(|hole| hole.range.len()).sum()
    }

    /// Whether everything that was archived is there, once.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.doubled_count == 0 && !self.holes.iter().any(|hole| hole.why.is_loss())
    }
}
