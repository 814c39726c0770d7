//! ClickHouse as the batch layer uses it: what the speed layer counted is read, what was settled is written and read
//! back. A run's rows are invisible until its settlement rows, written last and in one insert, name the run.

mod adjustments;
mod backfills;
mod breaks;
mod cells;
mod changes;
mod conflicts;
mod content;
mod cut;
mod evidence;
mod history;
mod periods;
mod progress;
mod published;
mod rows;
mod store;
mod tops;
mod write;

pub(crate) use self::adjustments::Adjustment;
pub(crate) use self::backfills::{BackfillStamp, BackfilledDay, Whole, WholePlace, Wholes};
pub(crate) use self::breaks::{BreakRow, Found};
pub(crate) use self::cells::{StoredCellRow, StoredUsersRow};
pub(crate) use self::conflicts::Conflict;
pub(crate) use self::content::{content_hash, empty_day_hash};
pub(crate) use self::cut::SpeedCut;
pub(crate) use self::evidence::{CellPart, SpeedEvidence};
pub(crate) use self::history::Previous;
pub(crate) use self::periods::{ClosedPeriod, PeriodDay, PeriodEntry};
pub(crate) use self::store::Store;
pub(crate) use self::write::{ChunkRows, DayCell, RunStamp, Settlement};

use jiff::Timestamp;
use reckon_schemas::time::EventTime;

/// The versions of the lake that settlements were counted from, whichever tenant's: whoever reproduces one reads its version.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub async fn settled_versions(clickhouse: &reckon_schemas::stores::ClickHouse) -> Result<Vec<u64>, StoreError> {
    Store::new(clickhouse).settled_versions().await
}

/// Now, or as soon after it as is later than all that is known. Of two rows of a day the later one counts, and of a
/// tenant's runs the latest is the newest: also where a clock went back in between.
pub(crate) fn after_all(now: Timestamp, known: impl IntoIterator<Item = EventTime>) -> EventTime {
    let latest = known.into_iter().max().map_or(EventTime::MIN, |latest| latest.plus_micros(1));
    EventTime::from_timestamp(now).max(latest)
}

/// Why ClickHouse did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It did not answer, or not well: try again later. Nothing of the run is visible.
    #[error("ClickHouse could not {doing}: {reason}")]
    Unavailable {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        reason: String,
    },
    /// A row is not what this build writes: a person must look at it.
    #[error("ClickHouse holds what this build cannot read: {0}")]
    Incompatible(String),
    /// The speed layer kept writing to the days in question: try again later.
    #[error("the speed layer was still changing cells of the days to be settled, {0} times in a row")]
    Moving(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_later_than_all_that_is_known_whatever_the_clock_says() {
        let now = Timestamp::from_microsecond(1_000).expect("in range");
        assert_eq!(after_all(now, []), EventTime(1_000));
        assert_eq!(after_all(now, [EventTime(10), EventTime(998)]), EventTime(1_000));
        assert_eq!(after_all(now, [EventTime(5_000), EventTime(1_000)]), EventTime(5_001));
    }
}
