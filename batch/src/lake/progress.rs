//! How far the log is in a table: the transaction identifiers that every commit of the archive carries.

use std::collections::BTreeMap;

use deltalake::DeltaTable;
use deltalake::kernel::Transaction;
use reckon_schemas::lake::{partitions_id, progress_id};

use super::LakeError;

/// The next offset of every partition of `topic` that has records in the table, as of the table's loaded version:
/// every record below it is in the table.
///
/// # Errors
/// [`LakeError::Unavailable`] if the table's log cannot be read.
pub async fn progress(table: &DeltaTable, topic: &str) -> Result<BTreeMap<i32, i64>, LakeError> {
    let partitions = transaction_version(table, &partitions_id(topic)).await?.unwrap_or(0);
    let partitions = i32::try_from(partitions).map_err(|_| LakeError::Damaged {
        table: table.table_url().to_string(),
        reason: format!("{} says {partitions} partitions", partitions_id(topic)),
    })?;
    let mut progress = BTreeMap::new();
    for partition in 0..partitions {
        if let Some(next_offset) = transaction_version(table, &progress_id(topic, partition)).await? {
            progress.insert(partition, next_offset);
        }
    }
    Ok(progress)
}

/// The transaction identifiers of a commit that takes the partitions to `next_offsets` in a table that has records of
/// partitions below `partitions` (one more than the largest).
pub(crate) fn progress_transactions(
    topic: &str,
    partitions: i32,
    next_offsets: impl IntoIterator<Item = (i32, i64)>,
) -> Vec<Transaction> {
    // The number of partitions is in every commit: so any two commits of the archive have an identifier in common, and
    // Delta refuses the second of two racing archivers, who then finds the table moved, even if their partitions differ.
    let known = Transaction::new(partitions_id(topic), i64::from(partitions));
    let next =
        next_offsets.into_iter().map(|(partition, offset)| Transaction::new(progress_id(topic, partition), offset));
    std::iter::once(known).chain(next).collect()
}

/// The version of a transaction identifier, as of the table's loaded version; none if no commit carried it.
///
/// # Errors
/// [`LakeError::Unavailable`] if the table's log cannot be read.
pub(crate) async fn transaction_version(table: &DeltaTable, app_id: &str) -> Result<Option<i64>, LakeError> {
    let of = |error| LakeError::of(table.table_url().path(), error);
    let snapshot = table.snapshot().map_err(of)?;
    snapshot.transaction_version(table.log_store().as_ref(), app_id).await.map_err(of)
}
