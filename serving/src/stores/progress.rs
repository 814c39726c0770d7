//! How far the speed layer has come.

use std::collections::BTreeMap;

use clickhouse::Row;
use jiff::Timestamp;
use reckon_schemas::redis_keys::Progress;
use reckon_schemas::time::EventTime;
use serde::Deserialize;

use super::{StoreError, Stores};

const PROGRESS: &str = "
    SELECT partition, next_offset, toUnixTimestamp64Micro(watermark) AS watermark_us,
           toUnixTimestamp64Milli(written_at) AS written_at_ms,
           ifNull(toUnixTimestamp64Milli(log_time), 0) AS log_time_ms,
           toUnixTimestamp64Milli(caught_up_at) AS caught_up_at_ms
    FROM speed_progress FINAL WHERE topic = {topic:String}";

#[derive(Row, Deserialize)]
struct ProgressRow {
    partition: i32,
    next_offset: u64,
    watermark_us: Option<i64>,
    written_at_ms: i64,
    log_time_ms: i64,
    caught_up_at_ms: Option<i64>,
}

/// The progress of all partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpeedProgress(BTreeMap<i32, Progress>);

impl SpeedProgress {
    /// No partition has ever been counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least of the watermarks that there are.
    pub(crate) fn watermark(&self) -> Option<EventTime> {
        self.0.values().filter_map(|progress| progress.watermark).min()
    }

    /// The greatest event time that any partition has seen.
    pub(crate) fn newest_event_time(&self) -> Option<EventTime> {
        self.0.values().filter_map(|progress| progress.watermark).max()
    }

    /// The partitions that were ever counted.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.0.keys().copied()
    }

    /// When any partition was last written.
    pub(crate) fn newest_write(&self) -> Option<Timestamp> {
        let written_at_ms = self.0.values().map(|progress| progress.written_at_ms).max()?;
        Timestamp::from_millisecond(written_at_ms).ok()
    }

    /// How long ago everything that the log had received by then was counted: of the partition where that is the longest
    /// ago. Where an older build wrote it, how long ago that was.
    pub(crate) fn lag_ms(&self, now: Timestamp) -> Option<i64> {
        let caught_up_at_ms = |progress: &Progress| progress.caught_up_at_ms.unwrap_or(progress.written_at_ms);
        let caught_up_at_ms = self.0.values().map(caught_up_at_ms).min()?;
        Some(now.as_millisecond().saturating_sub(caught_up_at_ms).max(0))
    }

    /// Takes a partition's progress, unless more is known.
    pub(crate) fn offer(&mut self, partition: i32, progress: Progress) {
        let rank = |progress: &Progress| (progress.next_offset, progress.written_at_ms);
        let known = self.0.entry(partition).or_insert(progress);
        if rank(known) < rank(&progress) {
            *known = progress;
        }
    }
}

impl Stores {
    /// The progress that either store knows. Without Redis it is some seconds behind; then the note says so.
    pub(crate) async fn speed_progress(&self) -> Result<(SpeedProgress, Option<StoreError>), StoreError> {
        let kept = self.clickhouse.statement(PROGRESS).bind("topic", &self.topic).rows::<ProgressRow>();
        let (kept, fresh) = tokio::join!(kept, self.redis.progress(&self.topic));
        let mut progress = SpeedProgress::default();
        for row in kept? {
            let next_offset = i64::try_from(row.next_offset).unwrap_or(i64::MAX);
            let kept = Progress {
                next_offset,
                watermark: row.watermark_us.map(EventTime),
                written_at_ms: row.written_at_ms,
                log_time_ms: row.log_time_ms,
                caught_up_at_ms: row.caught_up_at_ms,
            };
            progress.offer(row.partition, kept);
        }
        match fresh {
            Ok(fresh) => {
                fresh.into_iter().for_each(|(partition, fresh)| progress.offer(partition, fresh));
                Ok((progress, None))
            }
            Err(error) => Ok((progress, Some(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_that_is_behind_decides() {
        let mut progress = SpeedProgress::default();
        let at = |next_offset, watermark: Option<i64>, written_at_ms| Progress {
            next_offset,
            watermark: watermark.map(EventTime),
            written_at_ms,
            log_time_ms: 0,
            caught_up_at_ms: None,
        };
        assert_eq!((progress.watermark(), progress.lag_ms(Timestamp::UNIX_EPOCH)), (None, None));
        progress.offer(0, at(5, Some(50), 1_000));
        progress.offer(0, at(4, Some(40), 2_000));
        progress.offer(1, at(9, Some(90), 3_000));
        progress.offer(2, at(0, None, 4_000));
        assert_eq!(progress.watermark(), Some(EventTime(50)));
        let now = Timestamp::from_millisecond(4_500).expect("in range");
        assert_eq!(progress.lag_ms(now), Some(3_500));
        assert_eq!(progress.newest_write(), Timestamp::from_millisecond(4_000).ok());
    }

    #[test]
    fn who_writes_all_the_time_may_be_behind() {
        let now = Timestamp::from_millisecond(90_000).expect("in range");
        let written = |next_offset, caught_up_at_ms| Progress {
            next_offset,
            watermark: None,
            written_at_ms: 89_900,
            log_time_ms: 0,
            caught_up_at_ms: Some(caught_up_at_ms),
        };
        let mut progress = SpeedProgress::default();
        progress.offer(0, written(5, 89_800));
        assert_eq!(progress.lag_ms(now), Some(200));
        progress.offer(1, written(5, 30_000));
        assert_eq!(progress.lag_ms(now), Some(60_000));
        progress.offer(1, written(6, 95_000));
        assert_eq!(progress.lag_ms(now), Some(200), "a clock that is ahead is no lag");
        progress.offer(2, written(0, 0));
        assert_eq!(progress.lag_ms(now), Some(90_000), "nothing is known to be counted");
    }
}
