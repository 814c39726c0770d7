//! Keeping a table fit: small files are united, and files that nobody can need any more are removed.
//!
//! Neither disturbs readers. Compaction is a commit that removes and adds files and says that no data changed; whoever
//! reads an earlier version finds its files. Vacuum removes files that have been out of the table for a while, but not
//! those of versions that a settlement was counted from: an explanation or a reproduction reads these. What expires is
//! another matter, see [`crate::retention`].

use std::sync::Arc;
use std::time::Duration;

use deltalake::DeltaTable;
use deltalake::operations::vacuum::{Clock, VacuumMode};
use reckon_schemas::lake::{EVENTS_TABLE, REJECTED_TABLE};
use serde::Serialize;

use super::{Lake, LakeError, seal, version};

/// No file is removed earlier: a reader, or an archiver that has written a file and not committed it, may be that slow.
pub const KEEP_MIN: Duration = Duration::from_secs(7 * 86_400);

/// What a compaction did to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// The table.
    pub table: &'static str,
    /// Its version now.
    pub version: u64,
    /// Files that are no longer part of it.
    pub files_removed: u64,
    /// Files in their place.
    pub files_added: u64,
}

/// What a vacuum did to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Vacuumed {
    /// The table.
    pub table: &'static str,
    /// Files that were removed, or would be.
    pub files: usize,
    /// Versions that were kept readable beside the newest ones.
    pub kept_versions: usize,
}

impl Lake {
    /// Unites the small files of each partition of both tables, if all of them are as they were written, and notes what
    /// the bytes of the new ones are.
    ///
    /// # Errors
    /// [`LakeError::DamagedFile`] if one is not.
    /// [`LakeError::Conflict`] if another writer was faster several times in a row, [`LakeError::Unavailable`]. The table
    /// is unchanged then.
    pub async fn compact(&self) -> Result<Vec<Compacted>, LakeError> {
        let mut compacted = Vec::new();
        for (name, table) in [(EVENTS_TABLE, self.events().await?), (REJECTED_TABLE, self.rejected().await?)] {
            seal::check(&table, None, |_| true).await?;
            let (mut table, metrics) = table.optimize().await.map_err(|error| LakeError::of(name, error))?;
            seal::seal_all(&mut table).await?;
            compacted.push(Compacted {
                table: name,
                version: version(&table),
                files_removed: metrics.num_files_removed,
                files_added: metrics.num_files_added,
            });
        }
        Ok(compacted)
    }

    /// Removes files that have not been part of the tables for `keep`, at least [`KEEP_MIN`], or that never were. Files of
    /// the `pinned` versions of the table of events stay. `now` is the instant that ages are counted to.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] if an expiry met it: files may have been removed, none that is needed, and the next vacuum
    /// goes on. [`LakeError::Unavailable`].
    pub async fn vacuum(
        &self,
        keep: Duration,
        pinned: &[u64],
        now: jiff::Timestamp,
        dry_run: bool,
    ) -> Result<Vec<Vacuumed>, LakeError> {
        let keep = chrono::Duration::from_std(keep.max(KEEP_MIN)).unwrap_or(chrono::Duration::MAX);
        let mut vacuumed = Vec::new();
        for (name, table, pinned) in
            [(EVENTS_TABLE, self.events().await?, pinned), (REJECTED_TABLE, self.rejected().await?, &[])]
        {
            let pinned = readable(&table, pinned).await;
            let vacuum = table
                .vacuum()
                .with_retention_period(keep)
                .with_mode(VacuumMode::Full)
                .with_keep_versions(&pinned)
                .with_clock(Arc::new(At(now)))
                .with_dry_run(dry_run);
            let (_, metrics) = vacuum.await.map_err(|error| LakeError::of(name, error))?;
            vacuumed.push(Vacuumed { table: name, files: metrics.files_deleted.len(), kept_versions: pinned.len() });
        }
        Ok(vacuumed)
    }
}

/// Those versions that can still be loaded; of the others there is nothing to be kept.
async fn readable(table: &DeltaTable, versions: &[u64]) -> Vec<u64> {
    let mut readable = Vec::new();
    for version in versions {
        if table.clone().load_version(*version).await.is_ok() {
            readable.push(*version);
        }
    }
    readable
}

#[derive(Debug)]
struct At(jiff::Timestamp);

impl Clock for At {
    fn current_timestamp_millis(&self) -> i64 {
        self.0.as_millisecond()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use datafusion::prelude::SessionContext;
    use jiff::ToSpan;
    use reckon_schemas::stores;

    use super::*;
    use crate::archive::tests::archive_messages;

    async fn lake_of_ten_commits(dir: &tempfile::TempDir) -> Lake {
        let store = stores::Lake::at(format!("file://{}", dir.path().display()));
        for offset in 0..10 {
            let message = |partition| (partition, offset, format!("record {offset}").into_bytes());
            archive_messages(&store, "events", &[message(0), message(1)]).await;
        }
        Lake::open(&store).await.expect("the lake")
    }

    async fn offsets(table: &DeltaTable) -> Result<Vec<i64>, String> {
        let read = async {
            let rows = SessionContext::new().read_table(table.table_provider().await?)?;
            let batches = rows.select_columns(&["offset"])?.collect().await?;
            let of = |batch: &arrow::array::RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            let mut offsets: Vec<i64> = batches.iter().flat_map(of).collect();
            offsets.sort_unstable();
            Ok::<_, Box<dyn std::error::Error>>(offsets)
        };
        read.await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn every_version_reads_the_same_while_and_after_files_are_united() {
        let dir = tempfile::tempdir().expect("a folder");
        let lake = lake_of_ten_commits(&dir).await;
        let before = lake.events().await.expect("events");
        let expected = offsets(&before).await.expect("readable");
        assert_eq!(expected.len(), 20);
        let compacted = lake.compact().await.expect("compacted");
        assert_eq!((compacted[0].files_removed, compacted[0].files_added), (10, 1));
        assert_eq!(offsets(&before).await, Ok(expected.clone()), "a reader that was there before");
        let after = lake.events().await.expect("events");
        assert_eq!(offsets(&after).await, Ok(expected.clone()));
        let progress = crate::lake::progress(&after, "events").await.expect("progress");
        assert_eq!(progress, [(0, 10), (1, 10)].into(), "the archive finds its place");
        // And goes on.
        let store = stores::Lake::at(format!("file://{}", dir.path().display()));
        archive_messages(&store, "events", &[(0, 10, b"more".to_vec())]).await;
        let more = offsets(&lake.events().await.expect("events")).await.expect("readable");
        assert_eq!(more.len(), 21);
        assert_eq!(more.into_iter().collect::<BTreeSet<_>>(), (0..=10).collect());
        // Nothing is left to do.
        let again = lake.compact().await.expect("compacted");
        assert_eq!(again[1].files_removed, 0);
    }

    #[tokio::test]
    async fn what_a_settlement_was_counted_from_outlives_a_vacuum() {
        let dir = tempfile::tempdir().expect("a folder");
        let lake = lake_of_ten_commits(&dir).await;
        let (now, week) = (jiff::Timestamp::now(), Duration::from_secs(0));
        lake.compact().await.expect("compacted");
        let younger = lake.vacuum(week, &[], now, false).await.expect("vacuumed");
        assert_eq!(younger[0].files, 0, "nothing is a week old");
        let later = now.checked_add((8 * 24).hours()).expect("in range");
        let pinned = lake.vacuum(week, &[4], later, false).await.expect("vacuumed");
        assert_eq!((pinned[0].files, pinned[0].kept_versions), (6, 1), "of ten, four are pinned");
        let old = lake.events_at(4).await.expect("its log is there");
        assert_eq!(offsets(&old).await.map(|offsets| offsets.len()), Ok(8));
        assert_eq!(offsets(&lake.events().await.expect("events")).await.map(|offsets| offsets.len()), Ok(20));
        let loose = lake.vacuum(week, &[99], later, false).await.expect("vacuumed");
        assert_eq!(loose[0].kept_versions, 0, "a version that never was pins nothing");
        let old = lake.events_at(4).await.expect("its log is there");
        assert!(offsets(&old).await.is_err(), "without the pin its files are gone");
    }
}
