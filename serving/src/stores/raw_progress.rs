//! How far raw events are.

use std::collections::BTreeMap;
use std::time::Duration;

use clickhouse::Row;
use jiff::Timestamp;
use reckon_schemas::time::EventTime;
use serde::Deserialize;

use super::clickhouse::Limits;
use super::progress::SpeedProgress;
use super::{StoreError, Stores};

const RAW_PROGRESS: &str = "
    SELECT partition, toUnixTimestamp64Milli(caught_up_at) AS caught_up_at_ms
    FROM raw_progress FINAL WHERE topic = {topic:String}";

#[derive(Row, Deserialize)]
struct ReachedRow {
    partition: i32,
    caught_up_at_ms: i64,
}

/// By partition: up to when everything that the log had received is among the raw events. It moves on where nothing
/// happens, too, as long as somebody reads the partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawProgress(BTreeMap<i32, i64>);

impl RawProgress {
    /// From when on raw events are missing, if the partition that is the furthest behind is so for longer than that: of all
    /// times, if a partition has been counted that nobody has brought yet.
    pub(crate) fn missing_from(&self, counted: &SpeedProgress, now: Timestamp, lag_max: Duration) -> Option<EventTime> {
        let is_known = counted.partitions().all(|partition| self.0.contains_key(&partition));
        let Some(caught_up_at_ms) = self.0.values().min().filter(|_| is_known) else {
            return Some(EventTime(i64::MIN));
        };
        let lag_ms = now.as_millisecond().saturating_sub(*caught_up_at_ms);
        let lag_max_ms = i64::try_from(lag_max.as_millis()).unwrap_or(i64::MAX);
        (lag_ms > lag_max_ms).then(|| EventTime::from_millis(*caught_up_at_ms))
    }
}

impl Stores {
    /// How far raw events are, of the log that the speed layer counts.
    pub(crate) async fn raw_progress(&self, limits: Limits) -> Result<RawProgress, StoreError> {
        let statement = self.clickhouse.statement(RAW_PROGRESS).within(limits).bind("topic", &self.topic);
        let rows = statement.rows::<ReachedRow>().await?;
        Ok(RawProgress(rows.into_iter().map(|row| (row.partition, row.caught_up_at_ms)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reckon_schemas::redis_keys::Progress;

    #[test]
    fn the_partition_that_is_the_furthest_behind_decides() {
        let now = Timestamp::from_millisecond(90_000).expect("in range");
        let counted = |partitions: &[i32]| {
            let mut counted = SpeedProgress::default();
            for partition in partitions {
                let next_offset = 7;
                let progress =
                    Progress { next_offset, watermark: None, written_at_ms: 0, log_time_ms: 0, caught_up_at_ms: None };
                counted.offer(*partition, progress);
            }
            counted
        };
        let missing = |reached: &[(i32, i64)], partitions: &[i32]| {
            let reached = RawProgress(reached.iter().copied().collect());
            reached.missing_from(&counted(partitions), now, Duration::from_secs(30))
        };
        let everything = Some(EventTime(i64::MIN));
        assert_eq!(missing(&[(0, 60_000), (1, 89_000)], &[0, 1]), None);
        assert_eq!(missing(&[(0, 59_999), (1, 89_000)], &[0, 1]), Some(EventTime::from_millis(59_999)));
        assert_eq!(missing(&[(0, 95_000)], &[0]), None, "a clock that is ahead is no lag");
        assert_eq!(missing(&[(0, 89_000)], &[0, 1]), everything, "nobody has brought the other one");
        assert_eq!(missing(&[(0, 89_000), (1, 89_000)], &[0]), None, "it is counted later");
        assert_eq!(missing(&[], &[]), everything, "nobody has brought anything");
    }
}
