//! A file of the lake that is not as it was written, written anew from the log.
//!
//! Every record is in the lake once, in a file of its tenant and date. So the records of a file are those that the log has,
//! that are filed there, and that no other file there has; and the table's log knows how many they are. The new file takes
//! the place of the old one in a commit that says that no data changed. Versions from before it keep the old one.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Date32Type, Int32Type, Int64Type};
use deltalake::DeltaTable;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, Remove};
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::protocol::DeltaOperation;
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::Serialize;

use super::append::writer_properties;
use super::event_rows::EventRows;
use super::record::Record;
use super::rejected_rows::RejectedRows;
use super::rows::Rows;
use super::{Config, TopicRows};
use crate::Error;
use crate::conservation::{Log, Offsets, Range};
use crate::lake::{self, Lake, LakeError};

/// So many records of the log are looked at together.
const BATCH_RECORDS: usize = 8192;

/// A file that was written anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The file that is part of the table no more.
    pub file: String,
    /// The files in its place.
    pub written: Vec<String>,
    /// How many records they have.
    pub records: u64,
    /// The table's version with them.
    pub version: u64,
}

/// Writes the records of a file anew, whichever of the two tables it is part of.
///
/// # Errors
/// [`Error::Config`] if no table has such a file, [`Error::Damaged`] if the log does not have all of its records any more
/// or another file of the same day is damaged, too, [`Error::Retryable`] if the log or the lake is away.
pub async fn again(config: &Config, file: &str) -> Result<Restored, Error> {
    let lake = Lake::open(&config.lake).await?;
    let topics = &config.kafka.topics;
    if let Some(restored) = in_table::<EventRows>(config, &lake, &topics.events, file).await? {
        return Ok(restored);
    }
    let restored = in_table::<RejectedRows>(config, &lake, &topics.rejected, file).await?;
    restored.ok_or_else(|| Error::Config(format!("no table of the lake has a file {file} in its newest version")))
}

async fn in_table<R: TopicRows>(
    config: &Config,
    lake: &Lake,
    topic: &str,
    file: &str,
) -> Result<Option<Restored>, Error> {
    let mut table = R::table(lake).await?;
    let mut files = lake::files(&table).await?;
    let Some(place) = files.iter().position(|known| known.path == file) else { return Ok(None) };
    let old = files.swap_remove(place);
    files.retain(|other| other.partition_values == old.partition_values);
    let mut elsewhere = BTreeMap::new();
    for other in &files {
        lake::check_file(&table, other).await?;
        read_offsets(&table, other, &mut elsewhere).await?;
    }
    let archived = lake::progress(&table, topic).await?;
    let filed = Filed::of(&old)?;
    let (brokers, topic) = (config.kafka.brokers.clone(), topic.to_owned());
    let read = move || read_log::<R>(&brokers, &topic, &archived, &filed, &elsewhere);
    let rows = tokio::task::spawn_blocking(read).await.map_err(|error| Error::Retryable(error.to_string()))??;
    let (found, expected) = (rows.num_rows() as u64, records_of(&old));
    if expected != Some(found) {
        let expected = expected.map_or("an unknown number".to_owned(), |expected| expected.to_string());
        return Err(Error::Damaged(format!(
            "the log has {found} of the {expected} records of {file} that no other file has: nothing was changed. Bring \
             the file back from a backup, byte by byte"
        )));
    }
    let written = replace(&mut table, old, rows).await?;
    let version = lake::version(&table);
    Ok(Some(Restored { file: file.to_owned(), written, records: found, version }))
}

/// What a file's rows have in common.
struct Filed {
    tenant: String,
    event_date: i32,
}

impl Filed {
    fn of(file: &Add) -> Result<Self, Error> {
        let value = |name: &str| file.partition_values.get(name).cloned().flatten();
        let day = |date: &str| Some(reckon_schemas::time::day_number(date.parse().ok()?));
        let filed = value("tenant").zip(value("event_date").as_deref().and_then(day));
        let (tenant, event_date) =
            filed.ok_or_else(|| Error::Broken(format!("{} is filed under no tenant and date", file.path)))?;
        Ok(Self { tenant, event_date })
    }

    /// Those of the rows that are filed here and are in no other file.
    fn select(&self, rows: &RecordBatch, elsewhere: &BTreeMap<i32, Offsets>) -> Result<RecordBatch, Error> {
        let column = |name: &str| rows.column_by_name(name).expect("a column of both tables");
        let (tenants, dates) = (column("tenant").as_string::<i32>(), column("event_date").as_primitive::<Date32Type>());
        let partitions = column("partition").as_primitive::<Int32Type>();
        let offsets = column("offset").as_primitive::<Int64Type>();
        let is_here = |row: usize| {
            let others = elsewhere.get(&partitions.value(row));
            tenants.value(row) == self.tenant
                && dates.value(row) == self.event_date
                && !others.is_some_and(|others| others.contains(offsets.value(row)))
        };
        let wanted: BooleanArray = (0..rows.num_rows()).map(|row| Some(is_here(row))).collect();
        filter_record_batch(rows, &wanted).map_err(|error| Error::Broken(error.to_string()))
    }
}

/// How many records a file has, as the table's log says.
fn records_of(file: &Add) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(file.stats.as_deref()?).ok()?["numRecords"].as_u64()
}

async fn read_offsets(table: &DeltaTable, file: &Add, found: &mut BTreeMap<i32, Offsets>) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| LakeError::Unavailable {
        table: table.table_url().to_string(),
        reason: format!("{}: {error}", file.path),
    };
    let location = Path::parse(&file.path).map_err(|error| failed(&error))?;
    // A file of one tenant and date, with what one commit or one compaction brought: it fits into memory.
    let got = table.log_store().object_store(None).get(&location).await.map_err(|error| failed(&error))?;
    let bytes = got.bytes().await.map_err(|error| failed(&error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| failed(&error))?;
    for batch in builder.build().map_err(|error| failed(&error))? {
        let batch = batch.map_err(|error| failed(&error))?;
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| failed(&format!("no column {name}")));
        let (partitions, offsets) = (column("partition")?, column("offset")?);
        let (partitions, offsets) = (partitions.as_primitive::<Int32Type>(), offsets.as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            found.entry(partitions.value(row)).or_default().insert(offsets.value(row));
        }
    }
    Ok(())
}

/// The records of the log that are filed in a place and are in no other file, as far as the archive has come.
fn read_log<R: Rows>(
    brokers: &str,
    topic: &str,
    archived: &BTreeMap<i32, i64>,
    filed: &Filed,
    elsewhere: &BTreeMap<i32, Offsets>,
) -> Result<RecordBatch, Error> {
    let log = Log::open(brokers)?;
    let mut selected = Vec::new();
    let (mut rows, mut count) = (R::default(), 0);
    for (partition, range) in log.ranges(topic)? {
        let to = archived.get(&partition).copied().unwrap_or(0).min(range.to);
        if range.from >= to {
            continue;
        }
        log.read(topic, partition, Range { from: range.from, to }, |message| {
            rows.push(&Record::of(message));
            count += 1;
            if count % BATCH_RECORDS == 0 {
                selected.push(filed.select(&rows.take(), elsewhere)?);
            }
            Ok(())
        })?;
    }
    selected.push(filed.select(&rows.take(), elsewhere)?);
    let schema = selected[0].schema();
    concat_batches(&schema, &selected).map_err(|error| Error::Broken(error.to_string()))
}

/// Writes rows as files that take the place of another one; returns their names.
async fn replace(table: &mut DeltaTable, old: Add, rows: RecordBatch) -> Result<Vec<String>, Error> {
    let of = |error| LakeError::of("of the damaged file", error);
    let mut writer = RecordBatchWriter::for_table(table).map_err(of)?.with_writer_properties(writer_properties());
    writer.write(rows).await.map_err(of)?;
    let mut files = writer.flush().await.map_err(of)?;
    lake::seal(table, &mut files).await?;
    let written = files.iter().map(|file| file.path.clone()).collect();
    let removed = Remove {
        path: old.path,
        data_change: false,
        deletion_timestamp: Some(jiff::Timestamp::now().as_millisecond()),
        extended_file_metadata: Some(true),
        size: Some(old.size),
        partition_values: Some(old.partition_values),
        ..Remove::default()
    };
    let added = files.into_iter().map(|file| Action::Add(Add { data_change: false, ..file }));
    let actions = std::iter::once(Action::Remove(removed)).chain(added).collect();
    let operation = DeltaOperation::Optimize { predicate: None, target_size: 0 };
    let committed = CommitBuilder::from(CommitProperties::default())
        .with_actions(actions)
        .build(Some(table.snapshot().map_err(of)?), table.log_store(), operation)
        .await
        .map_err(of)?;
    table.state = Some(committed.snapshot());
    Ok(written)
}
