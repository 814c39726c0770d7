//! The one step that counts: rows and the progress they stand for enter a Delta table in one commit, or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use deltalake::DeltaTable;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add};
use deltalake::parquet::basic::{Compression, Encoding, ZstdLevel};
use deltalake::parquet::file::properties::{EnabledStatistics, WriterProperties};
use deltalake::parquet::schema::types::ColumnPath;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::writer::{DeltaWriter, RecordBatchWriter};

use reckon_schemas::lake::{ColumnType, EVENTS_COLUMNS};

use super::outage::Outage;
use crate::lake::{self, LakeError, progress_transactions};

/// How often a commit may give way to commits that are no archiver's (compaction) without looking at the table anew.
const COMMIT_RETRIES: usize = 3;

/// Every so many commits, log files that are past their retention are removed. It lists the whole log: not every time.
const LOG_CLEANUP_INTERVAL: u64 = 1000;

const ROWS_PER_ROW_GROUP: usize = 256 * 1024;

/// What part of a partition's records a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The partition's progress that the block builds upon; `None` if the table had no record of it.
    pub(crate) start: Option<i64>,
    /// The partition's progress once the block is in the table.
    pub(crate) next: i64,
}

/// Rows that enter the table together.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) rows: RecordBatch,
    pub(crate) spans: BTreeMap<i32, Span>,
}

/// How a table stands to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is where this writer left it.
    Before,
    /// It holds the block.
    After,
}

/// Why a block did not enter the table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("partition {partition} of the table is at {found:?} where {expected:?} was expected")]
    Conflict { partition: i32, expected: Option<i64>, found: Option<i64> },
    #[error(transparent)]
    Lake(#[from] LakeError),
}

/// The writer of one table.
#[derive(Debug)]
pub(crate) struct Appender {
    table: DeltaTable,
    topic: String,
    /// The table's progress as this writer left it.
    progress: BTreeMap<i32, i64>,
    /// The table's progress as of the version `seen_at`, which is another one if somebody else wrote.
    seen: BTreeMap<i32, i64>,
    seen_at: u64,
}

impl Appender {
    /// A writer that goes on where the table is.
    pub(crate) async fn open(table: DeltaTable, topic: &str) -> Result<Self, LakeError> {
        let progress = lake::progress(&table, topic).await?;
        let seen_at = lake::version(&table);
        Ok(Self { table, topic: topic.to_owned(), seen: progress.clone(), seen_at, progress })
    }

    /// The next offset of every partition that the table has records of.
    pub(crate) fn progress(&self) -> &BTreeMap<i32, i64> {
        &self.progress
    }

    /// The table's version as of the last look at it.
    pub(crate) fn version(&self) -> u64 {
        lake::version(&self.table)
    }

    /// Brings a block into the table, exactly once, however often the store fails in between. While the store is away
    /// it waits and tries again, for as long as it is polled; to give up, drop the future: what had not been committed
    /// by then is not in the table.
    pub(crate) async fn append(&mut self, block: &Block) -> Result<(), AppendError> {
        let mut outage = Outage::new(&self.topic, "the lake");
        let mut uploaded: Option<Vec<Add>> = None;
        loop {
            // Every round looks at the table first: a commit whose answer was lost has landed all the same.
            match self.attempt(block, &mut uploaded).await {
                Ok(()) => {
                    outage.over();
                    return Ok(());
                }
                Err(AppendError::Lake(LakeError::Conflict { reason, .. })) => {
                    tracing::warn!(topic = self.topic, reason, "a commit collided with another one, looking again");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(AppendError::Lake(error)) if error.is_transient() => outage.wait(&error).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(&mut self, block: &Block, uploaded: &mut Option<Vec<Add>>) -> Result<(), AppendError> {
        self.look().await?;
        if self.standing(block)? == Standing::After {
            self.progress.clone_from(&self.seen);
            return Ok(());
        }
        let files = match uploaded {
            Some(files) => files,
            None => uploaded.insert(self.upload(block).await?),
        };
        let actions = files.iter().cloned().map(Action::Add).collect();
        self.commit(block, actions).await?;
        Ok(())
    }

    /// Loads what was written since the last look. Also fails where the table is gone altogether (a volume that is not
    /// mounted), instead of taking that for a table without news.
    async fn look(&mut self) -> Result<(), LakeError> {
        let newest = self.table.get_latest_version().await.map_err(|error| self.lake_error(error))?;
        if newest != self.version() {
            self.table.update_state().await.map_err(|error| self.lake_error(error))?;
        }
        if self.seen_at != self.version() {
            self.seen = lake::progress(&self.table, &self.topic).await?;
            self.seen_at = self.version();
        }
        Ok(())
    }

    /// Compares the table with what this writer knows. As it is the only one that writes records, the table has either
    /// not moved at all, or by this very block (whose commit landed although its answer was lost).
    fn standing(&self, block: &Block) -> Result<Standing, AppendError> {
        let found = &self.seen;
        let mut after = self.progress.clone();
        after.extend(block.spans.iter().map(|(partition, span)| (*partition, span.next)));
        if *found == after {
            return Ok(Standing::After);
        }
        let conflict = |partition: i32, expected: Option<i64>| AppendError::Conflict {
            partition,
            expected,
            found: found.get(&partition).copied(),
        };
        let differs = |partition: &&i32| found.get(partition) != self.progress.get(partition);
        if let Some(partition) = found.keys().chain(self.progress.keys()).find(differs) {
            return Err(conflict(*partition, self.progress.get(partition).copied()));
        }
        match block.spans.iter().find(|(partition, span)| found.get(partition).copied() != span.start) {
            Some((partition, span)) => Err(conflict(*partition, span.start)),
            None => Ok(Standing::Before),
        }
    }

    /// Writes the rows as files that no version of the table names yet.
    async fn upload(&self, block: &Block) -> Result<Vec<Add>, LakeError> {
        let mut writer = RecordBatchWriter::for_table(&self.table)
            .map_err(|error| self.lake_error(error))?
            .with_writer_properties(writer_properties());
        writer.write(block.rows.clone()).await.map_err(|error| self.lake_error(error))?;
        let mut files = writer.flush().await.map_err(|error| self.lake_error(error))?;
        lake::seal(&self.table, &mut files).await?;
        Ok(files)
    }

    /// Makes the files and the progress a version of the table, on top of the loaded one.
    async fn commit(&mut self, block: &Block, actions: Vec<Action>) -> Result<(), LakeError> {
        let partitions = |of: Option<&i32>| of.map_or(0, |largest| largest + 1);
        let known = partitions(self.progress.keys().next_back());
        let touched = partitions(block.spans.keys().next_back());
        let next_offsets = block.spans.iter().map(|(partition, span)| (*partition, span.next));
        let properties = CommitProperties::default()
            .with_application_transactions(progress_transactions(&self.topic, known.max(touched), next_offsets))
            .with_max_retries(COMMIT_RETRIES)
            .with_cleanup_expired_logs(Some(self.version() % LOG_CLEANUP_INTERVAL == LOG_CLEANUP_INTERVAL - 1));
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(reckon_schemas::lake::PARTITION_COLUMNS.map(str::to_owned).to_vec()),
            predicate: None,
        };
        let snapshot = self.table.snapshot().map_err(|error| self.lake_error(error))?;
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(snapshot), self.table.log_store(), operation)
            .await
            .map_err(|error| self.lake_error(error))?;
        self.table.state = Some(committed.snapshot());
        self.progress.extend(block.spans.iter().map(|(partition, span)| (*partition, span.next)));
        self.seen.clone_from(&self.progress);
        self.seen_at = self.version();
        Ok(())
    }

    fn lake_error(&self, error: deltalake::DeltaTableError) -> LakeError {
        LakeError::of(self.table.table_url().path(), error)
    }
}

/// How files are written.
pub(super) fn writer_properties() -> WriterProperties {
    let level = ZstdLevel::try_new(1).expect("level 1 exists");
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROWS_PER_ROW_GROUP))
        .set_statistics_enabled(EnabledStatistics::Page);
    // Texts that repeat are kept in dictionaries, which is the default; these do not repeat.
    for unique in ["event_id", "raw", "traceparent"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(unique), false);
    }
    // Keys look random: nothing is gained by looking for what repeats, and they are what a recount reads of every row.
    for column in EVENTS_COLUMNS.iter().filter(|column| column.column_type == ColumnType::Key) {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(column.name), false)
            .set_column_compression(ColumnPath::from(column.name), Compression::UNCOMPRESSED)
            .set_column_statistics_enabled(ColumnPath::from(column.name), EnabledStatistics::None);
    }
    for rising in ["offset", "log_time", "received_at", "occurred_at"] {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(rising), false)
            .set_column_encoding(ColumnPath::from(rising), Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}
