//! Sketches of the most frequent values, from both stores.

use std::collections::BTreeMap;

use clickhouse::Row;
use reckon_schemas::time::EventTime;
use reckon_schemas::top::TopSketch;
use serde::Deserialize;
use serde_with::{Bytes, serde_as};

use super::StoreError;
use super::cells::Span;
use super::clickhouse::{ClickHouse, broken};
use crate::query::selection::Selection;

const TOPS: &str = "
    SELECT toUnixTimestamp64Micro(window_start) AS start, partition, version, sketch
    FROM speed_tops_raw FINAL
    WHERE tenant = {tenant:String} AND property = {property:String} AND event = {event:String}
      AND grain = {grain:String}
      AND window_start >= fromUnixTimestamp64Micro({from:Int64})
      AND window_start < fromUnixTimestamp64Micro({to:Int64})";

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
