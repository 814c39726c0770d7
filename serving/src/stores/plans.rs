//! What the speed layer counts by, and since when.

use std::collections::{BTreeMap, HashMap};

use clickhouse::Row;
use jiff::Timestamp;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::EventTime;
use serde::Deserialize;

use super::{StoreError, Stores};

const PLANS: &str = "
    SELECT item, partition, toInt64(offset) AS first, toUnixTimestamp64Micro(watermark) AS watermark_us, counted,
           toUnixTimestamp64Micro(noted_at) AS noted_us
    FROM speed_plans FINAL WHERE tenant = {tenant:String} AND topic = {topic:String}";

/// From a partition's record on something is counted, or is not any more.
#[derive(Clone, Debug, Row, Deserialize)]
struct PlanRow {
    item: String,
    partition: i32,
    first: i64,
    /// Up to which event time the partition was before; absent where an older build wrote it.
    watermark_us: Option<i64>,
    counted: u8,
    noted_us: Option<i64>,
}

/// Since when something is counted, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Since {
    /// Since the tenant's first event.
    Always,
    /// All events that happened after this instant.
    After(EventTime),
    /// Not by all partitions.
    NotYet,
}

/// What a tenant's events are counted by.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedBy {
    /// The first record of every partition that was counted by anything.
    firsts: BTreeMap<i32, i64>,
    items: HashMap<String, BTreeMap<i32, Changes>>,
}

/// By their first record.
type Changes = BTreeMap<i64, PlanRow>;

impl CountedBy {
    fn of(rows: Vec<PlanRow>) -> Self {
        let mut counted_by = Self::default();
        for row in rows {
            let first = counted_by.firsts.entry(row.partition).or_insert(row.first);
            *first = row.first.min(*first);
            let changes = counted_by.items.entry(row.item.clone()).or_default().entry(row.partition).or_default();
            changes.insert(row.first, row);
        }
        counted_by
    }

    /// Since when an item is counted by every partition. Where nothing was written down, which older builds did not,
    /// everything always was.
    pub(crate) fn since(&self, item: &str) -> Since {
        let changes = self.items.get(item);
        let since = self.firsts.iter().map(|(partition, first)| {
            let Some(changes) = changes.and_then(|changes| changes.get(partition)) else { return Since::NotYet };
            let Some(begun) = changes.values().rev().take_while(|change| change.counted != 0).last() else {
                return Since::NotYet;
            };
            match begun.watermark_us {
                Some(watermark_us) if begun.first > *first => Since::After(EventTime(watermark_us)),
                _ => Since::Always,
            }
        });
        since.max().unwrap_or(Since::Always)
    }

    /// Whether an item was not there from the tenant's first event on, also if a log that is counted again has it by now.
    pub(crate) fn was_added(&self, item: &str) -> bool {
        let is_later = |(partition, changes): (&i32, &Changes)| {
            let first = self.firsts.get(partition);
            changes.values().any(|it| it.counted != 0 && it.watermark_us.is_some() && Some(&it.first) > first)
        };
        match self.items.get(item) {
            None => !self.firsts.is_empty(),
            Some(changes) => changes.iter().any(is_later),
        }
    }

    /// When an item was first counted by, as far as that is known.
    pub(crate) fn noted_at(&self, item: &str) -> Option<Timestamp> {
        let changes = self.items.get(item)?.values().flat_map(BTreeMap::values);
        let noted_us = changes.filter(|change| change.counted != 0).filter_map(|change| change.noted_us).min()?;
        Timestamp::from_microsecond(noted_us).ok()
    }
}

impl Stores {
    /// What a tenant's events are counted by.
    pub(crate) async fn counted_by(&self, tenant: &TenantId) -> Result<CountedBy, StoreError> {
        let statement = self.clickhouse.statement(PLANS).bind("tenant", tenant.as_str()).bind("topic", &self.topic);
        Ok(CountedBy::of(statement.rows().await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted_by(rows: &[(&str, i32, i64, Option<i64>, bool)]) -> CountedBy {
        let row = |(item, partition, first, watermark_us, counted): &(&str, i32, i64, Option<i64>, bool)| PlanRow {
            item: (*item).to_owned(),
            partition: *partition,
            first: *first,
            watermark_us: *watermark_us,
            counted: u8::from(*counted),
            noted_us: watermark_us.map(|at| at + 1_000),
        };
        CountedBy::of(rows.iter().map(row).collect())
    }

    #[test]
    fn the_partition_that_counts_an_item_last_decides() {
        assert_eq!(CountedBy::default().since("store"), Since::Always, "an older build wrote nothing down");
        let from_the_first = [("total", 0, 5, None, true), ("total", 1, 0, None, true)];
        let since = |more: &[(&str, i32, i64, Option<i64>, bool)]| {
            counted_by(&[&from_the_first[..], more].concat()).since("store")
        };
        assert_eq!(since(&[]), Since::NotYet);
        assert_eq!(since(&[("store", 0, 5, Some(3), true)]), Since::NotYet, "the other partition does not");
        assert_eq!(since(&[("store", 0, 5, Some(3), true), ("store", 1, 0, None, true)]), Since::Always);
        let added = [("store", 0, 50, Some(500), true), ("store", 1, 20, Some(700), true)];
        assert_eq!(since(&added), Since::After(EventTime(700)));
        assert_eq!(counted_by(&added).noted_at("store"), Timestamp::from_microsecond(1_500).ok());
        let gone = [("store", 1, 30, Some(800), false)];
        assert_eq!(since(&[&added[..], &gone].concat()), Since::NotYet);
        let back = [("store", 1, 40, Some(900), true)];
        assert_eq!(since(&[&added[..], &gone, &back].concat()), Since::After(EventTime(900)));
        let older = [("store", 0, 50, None, true), ("store", 1, 20, None, true)];
        assert_eq!(since(&older), Since::Always, "an older build did not say when that was");
    }

    #[test]
    fn a_log_that_is_counted_again_is_counted_by_everything() {
        let rows = [("total", 0, 0, None, true), ("store", 0, 50, Some(500), true), ("store", 0, 0, None, true)];
        let counted_by = counted_by(&rows);
        assert_eq!(counted_by.since("store"), Since::Always);
        // What was settled before was still settled without it.
        assert!(counted_by.was_added("store") && !counted_by.was_added("total"));
    }
}
