//! The most frequent values: the speed layer's sketches, from both stores, and what batch counted exactly.

use std::collections::{BTreeMap, BTreeSet};

use clickhouse::Row;
use reckon_schemas::time::EventTime;
use reckon_schemas::top::TopSketch;
use serde::Deserialize;
use serde_with::{Bytes, serde_as};

use super::StoreError;
use super::cells::{Span, pinned};
use super::clickhouse::{ClickHouse, Statement, broken};
use crate::merge::plan::SettledDay;
use crate::query::selection::Selection;

const TOPS: &str = "
    SELECT toUnixTimestamp64Micro(window_start) AS start, partition, version, sketch
    FROM speed_tops_raw FINAL
    WHERE tenant = {tenant:String} AND property = {property:String} AND event = {event:String}
      AND grain = {grain:String}
      AND window_start >= fromUnixTimestamp64Micro({from:Int64})
      AND window_start < fromUnixTimestamp64Micro({to:Int64})";

macro_rules! settled {
    () => {
        " FROM settled_tops_raw
          WHERE tenant = {tenant:String} AND property = {property:String} AND event = {event:String}
            AND (day, run_id) IN {settled:Array(Tuple(Date32, String))}"
    };
}

macro_rules! bucket {
    () => {
        "toInt64(arrayCount(s -> s <= toUnixTimestamp64Micro(window_start), {starts:Array(Int64)}) - 1)"
    };
}

macro_rules! windows {
    () => {
        " AND grain = {grain:String}
          AND window_start >= fromUnixTimestamp64Micro({from:Int64})
          AND window_start < fromUnixTimestamp64Micro({to:Int64})"
    };
}

// Every day that was counted has a row of this grain, also if nothing occurred.
const COUNTED_DAYS: &str = concat!("SELECT DISTINCT toInt32(day)", settled!(), " AND grain = '1d'");

const SETTLED_TOTALS: &str = concat!(
    "SELECT ",
    bucket!(),
    " AS bucket, toUInt64(sum(total)) AS occurred, toUInt64(sum(bound)) AS unlisted",
    settled!(),
    windows!(),
    " GROUP BY bucket"
);

// The values that are named come first, then those that may have occurred most often: `bound` is what a window adds to a
// value that it does not list.
const SETTLED_VALUES: &str = concat!(
    "SELECT value, groupArray(bucket) AS buckets, groupArray(own_count) AS counts, groupArray(own_bound) AS bounds
     FROM (SELECT value, bucket, toUInt64(sum(count)) AS own_count, toUInt64(sum(bound)) AS own_bound
           FROM (SELECT ",
    bucket!(),
    " AS bucket, bound, arrayJoin(arrayZip(listed, counts)) AS pair, pair.1 AS value, pair.2 AS count",
    settled!(),
    windows!(),
    ") GROUP BY value, bucket)
     GROUP BY value
     ORDER BY has({named:Array(String)}, value) DESC, toInt64(sum(own_count)) - toInt64(sum(own_bound)) DESC, value
     LIMIT {rows:UInt64}"
);

#[derive(Row, Deserialize)]
struct TotalRow {
    bucket: i64,
    occurred: u64,
    unlisted: u64,
}

#[derive(Row, Deserialize)]
struct ValueRow {
    value: String,
    buckets: Vec<i64>,
    counts: Vec<u64>,
    bounds: Vec<u64>,
}

/// What batch counted in consecutive buckets of windows.
#[derive(Debug, Default)]
pub(crate) struct SettledTops {
    /// For each bucket: how often any value occurred, and how often one that no window lists can have.
    pub(crate) totals: BTreeMap<i64, (u64, u64)>,
    /// For each value and bucket: how often it occurred in the windows that list it, and how often one that these do not
    /// list can have.
    pub(crate) values: BTreeMap<String, BTreeMap<i64, (u64, u64)>>,
}

#[serde_as]
#[derive(Row, Deserialize)]
struct TopRow {
    start: i64,
    partition: i32,
    version: u64,
    #[serde_as(as = "Bytes")]
    sketch: Vec<u8>,
}

/// One partition's sketch of one window.
pub(crate) struct FreshTop {
    pub(crate) window_start: EventTime,
    pub(crate) partition: i32,
    pub(crate) version: i64,
    pub(crate) sketch: TopSketch,
}

/// The newest sketch of each window and partition. Both stores hold the same absolute, versioned ones, so one replaces
/// the other and they are never added.
#[derive(Default)]
pub(crate) struct FreshTops(BTreeMap<(EventTime, i32), (i64, TopSketch)>);

impl FreshTops {
    /// Takes a sketch, unless the same or a newer one is there.
    pub(crate) fn offer(&mut self, top: FreshTop) {
        let place = (top.window_start, top.partition);
        if self.0.get(&place).is_none_or(|(known, _)| *known < top.version) {
            self.0.insert(place, (top.version, top.sketch));
        }
    }

    /// All of them together, in the order of windows and partitions: so the same ones always give the same answer.
    pub(crate) fn union(&self) -> TopSketch {
        let mut union = TopSketch::new();
        self.0.values().for_each(|(_, sketch)| union.merge(sketch));
        union
    }
}

impl ClickHouse {
    /// The sketches of a property in the windows of a range.
    pub(crate) async fn tops(
        &self,
        selection: &Selection,
        property: &str,
        (from, to): Span,
    ) -> Result<Vec<FreshTop>, StoreError> {
        let statement = self
            .statement(TOPS)
            .bind("tenant", selection.tenant.as_str())
            .bind("property", property)
            .bind("event", &selection.event)
            .bind("grain", selection.grain.name())
            .bind("from", from.0)
            .bind("to", to.0);
        statement.rows::<TopRow>().await?.into_iter().map(top).collect()
    }
}

impl ClickHouse {
    /// The numbers of those of these days on which batch has counted the values of the property.
    pub(crate) async fn days_with_tops(
        &self,
        selection: &Selection,
        days: &[SettledDay],
    ) -> Result<BTreeSet<i32>, StoreError> {
        if days.is_empty() {
            return Ok(BTreeSet::new());
        }
        Ok(settled(self.statement(COUNTED_DAYS), selection, days).rows::<i32>().await?.into_iter().collect())
    }

    /// What batch counted on these days in the windows of a range, by the bucket that they begin in: of all values that
    /// are `named`, and of so many others as there are `more`, the most frequent ones.
    pub(crate) async fn settled_tops(
        &self,
        selection: &Selection,
        (from, to): Span,
        days: &[SettledDay],
        starts: &[EventTime],
        (named, more): (&[String], usize),
    ) -> Result<SettledTops, StoreError> {
        let mut tops = SettledTops::default();
        if days.is_empty() {
            return Ok(tops);
        }
        let starts: Vec<i64> = starts.iter().map(|start| start.0).collect();
        let of = |sql: &'static str| {
            let statement = settled(self.statement(sql), selection, days).bind("starts", &starts);
            statement.bind("grain", selection.grain.name()).bind("from", from.0).bind("to", to.0)
        };
        for row in of(SETTLED_TOTALS).rows::<TotalRow>().await? {
            tops.totals.insert(row.bucket, (row.occurred, row.unlisted));
        }
        let values = of(SETTLED_VALUES).bind("named", named).bind("rows", named.len() + more);
        for row in values.rows::<ValueRow>().await? {
            let counts = row.counts.into_iter().zip(row.bounds);
            tops.values.insert(row.value, row.buckets.into_iter().zip(counts).collect());
        }
        Ok(tops)
    }
}

fn settled(statement: Statement, selection: &Selection, days: &[SettledDay]) -> Statement {
    statement
        .bind("tenant", selection.tenant.as_str())
        .bind("property", selection.rollup.name())
        .bind("event", &selection.event)
        .bind("settled", pinned(days))
}

fn top(row: TopRow) -> Result<FreshTop, StoreError> {
    Ok(FreshTop {
        window_start: EventTime(row.start),
        partition: row.partition,
        version: i64::try_from(row.version).map_err(|_| broken("a version beyond 63 bits"))?,
        sketch: TopSketch::from_bytes(&row.sketch).map_err(|error| broken(error.to_string()))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_sketch_replaces_and_others_are_added() {
        let top = |start, partition, version, values: &[&str]| {
            let mut sketch = TopSketch::new();
            values.iter().for_each(|value| sketch.insert(value));
            FreshTop { window_start: EventTime(start), partition, version, sketch }
        };
        let mut tops = FreshTops::default();
        tops.offer(top(0, 0, 5, &["a"]));
        tops.offer(top(0, 0, 9, &["a", "a", "b"]));
        tops.offer(top(0, 0, 7, &["c"]));
        tops.offer(top(0, 1, 1, &["b"]));
        tops.offer(top(300, 0, 2, &["b"]));
        let counts: Vec<_> = tops.union().top(9).into_iter().map(|top| (top.value, top.at_most)).collect();
        assert_eq!(counts, [("b".to_owned(), 3), ("a".to_owned(), 2)]);
    }
}
