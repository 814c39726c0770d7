//! Which offsets have left the lake, written down beside it: `expired/<table>/<number>.json`.

use std::collections::BTreeMap;

use deltalake::DeltaTable;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::Held;
use crate::Error;
use crate::conservation::{Offsets, Range};
use crate::objects::{Objects, numbered_path};

/// What one commit took out of a table. It is written before the commit: if that never comes, the table's border lies
/// before the record's, and the record does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The first date that is still there.
    pub(super) before: Date,
    /// When.
    pub(super) at: Timestamp,
    /// By partition: ranges of offsets, each from the first one up to, but not including, the end.
    pub(super) offsets: BTreeMap<i32, Vec<(i64, i64)>>,
}

fn folder(table: &str) -> String {
    format!("expired/{}", table.rsplit('/').next().unwrap_or(table))
}

/// Writes a record, after all others.
///
/// # Errors
/// [`Error::Retryable`] if the store is away.
pub(super) async fn write(objects: &Objects, table: &str, record: &Record) -> Result<(), Error> {
    let folder = folder(table);
    let content = serde_json::to_vec(record).map_err(|error| Error::Broken(error.to_string()))?;
    let mut number = objects.numbered(&folder).await?.last().map_or(0, |last| last + 1);
    while !objects.create(&numbered_path(&folder, number), content.clone()).await? {
        number += 1;
    }
    Ok(())
}

/// The records of everything that has left a table.
///
/// # Errors
/// [`Error::Retryable`] if the store is away, [`Error::Broken`] if a record cannot be read.
pub(super) async fn records(objects: &Objects, name: &str, table: &DeltaTable) -> Result<Vec<Record>, Error> {
    let Some(since) = Held::of(table).await?.since else { return Ok(Vec::new()) };
    let folder = folder(name);
    let mut records = Vec::new();
    for number in objects.numbered(&folder).await? {
        let path = numbered_path(&folder, number);
        let Some(content) = objects.read(&path).await? else { continue };
        let record: Record =
            serde_json::from_slice(&content).map_err(|error| Error::Broken(format!("{path}: {error}")))?;
        if record.before <= since {
            records.push(record);
        }
    }
    Ok(records)
}

/// Every offset that has left a table, by partition.
///
/// # Errors
/// As [`records`].
pub(crate) async fn expired_offsets(
    objects: &Objects,
    name: &str,
    table: &DeltaTable,
) -> Result<BTreeMap<i32, Offsets>, Error> {
    let mut expired: BTreeMap<i32, Offsets> = BTreeMap::new();
    for record in records(objects, name, table).await? {
        for (partition, ranges) in record.offsets {
            let offsets = expired.entry(partition).or_default();
            ranges.into_iter().for_each(|(from, to)| offsets.insert_range(Range { from, to }));
        }
    }
    Ok(expired)
}
