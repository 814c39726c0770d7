//! The proof of conservation: every record of the log is in the lake, once.
//!
//! Offsets are compared as sets, never by their number: a record that is missing and one that is there twice would cancel
//! each other out. A hole is explained by asking the log itself whether there is a record.

mod log;
mod offsets;
mod proof;

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::prelude::{Expr, SessionContext, cast, ident};
use deltalake::DeltaTable;
use futures::StreamExt;
use reckon_schemas::lake::{EVENTS_TABLE, REJECTED_TABLE};
use reckon_schemas::stores;
use serde::Serialize;

pub(crate) use self::log::Log;
pub use self::offsets::{Offsets, Range};
pub use self::proof::{Hole, InLake, Partition, Why, prove, questions};

use crate::Error;
use crate::lake::{self, Lake};
use crate::objects::Objects;
use crate::recount::RecountError;
use crate::retention::expired_offsets;

/// Both topics, partition by partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conservation {
    /// Whether nothing is missing and nothing is there twice.
    pub holds: bool,
    /// Every partition of both topics.
    pub partitions: Vec<Partition>,
}

/// Compares the log with the lake as it is now.
///
/// # Errors
/// [`Error::Retryable`] if a server was away, [`Error::Config`] or [`Error::Broken`] if the lake is of no use.
pub async fn run(kafka: &stores::Kafka, store: &stores::Lake) -> Result<Conservation, Error> {
    let (lake, objects) = (Lake::open(store).await?, Objects::open(store)?);
    let mut partitions = Vec::new();
    // The lake first, then the log: what the archive brings in meanwhile is not taken for missing.
    for (topic, name, table) in [
        (&kafka.topics.events, EVENTS_TABLE, lake.events().await?),
        (&kafka.topics.rejected, REJECTED_TABLE, lake.rejected().await?),
    ] {
        let archived = archived(&table, None).await?;
        let expired = expired_offsets(&objects, name, &table).await?;
        let progress = lake::progress(&table, topic).await?;
        let (brokers, topic) = (kafka.brokers.clone(), topic.clone());
        let compared =
            tokio::task::spawn_blocking(move || compare(&brokers, &topic, (archived, expired), &progress)).await;
        partitions.extend(compared.map_err(|error| Error::Broken(error.to_string()))??);
    }
    Ok(Conservation { holds: partitions.iter().all(Partition::holds), partitions })
}

fn compare(
    brokers: &str,
    topic: &str,
    (mut archived, mut expired): (BTreeMap<i32, Offsets>, BTreeMap<i32, Offsets>),
    progress: &BTreeMap<i32, i64>,
) -> Result<Vec<Partition>, Error> {
    let log = Log::open(brokers)?;
    let mut ranges = log.ranges(topic)?;
    for partition in archived.keys().chain(expired.keys()).chain(progress.keys()) {
        // The topic was made anew with fewer partitions: nothing of them is left in the log.
        ranges.entry(*partition).or_insert(Range { from: i64::MAX, to: i64::MAX });
    }
    let mut partitions = Vec::new();
    for (partition, mut range) in ranges {
        let found = InLake {
            archived: archived.remove(&partition).unwrap_or_default(),
            expired: expired.remove(&partition).unwrap_or_default(),
        };
        let next_offset = progress.get(&partition).copied().unwrap_or(0);
        if range.is_empty() {
            let end = next_offset.max(if range.from == i64::MAX { 0 } else { range.from });
            range = Range { from: end, to: end };
        }
        let mut records = Offsets::default();
        for asked in questions(&found, range, next_offset) {
            log.records(topic, partition, asked, &mut records)?;
        }
        partitions.push(prove((topic, partition), &found, range, next_offset, &records));
    }
    Ok(partitions)
}

/// Every offset that a table of the lake has, by partition; with a condition, that of the rows that fulfil it.
///
/// # Errors
/// [`RecountError::Unreadable`].
pub(crate) async fn archived(
    table: &DeltaTable,
    condition: Option<Expr>,
) -> Result<BTreeMap<i32, Offsets>, RecountError> {
    let context = SessionContext::new();
    table.update_datafusion_session(&context.state())?;
    let mut rows = context.read_table(table.table_provider().await?)?;
    if let Some(condition) = condition {
        rows = rows.filter(condition)?;
    }
    let typed = |name: &str, data_type| cast(ident(name), data_type).alias(name);
    let columns = [typed("partition", DataType::Int32), typed("offset", DataType::Int64)];
    let mut stream = rows.select(columns)?.execute_stream().await?;
    let mut archived: BTreeMap<i32, Offsets> = BTreeMap::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let (partitions, offsets) =
            (batch.column(0).as_primitive::<Int32Type>(), batch.column(1).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            archived.entry(partitions.value(row)).or_default().insert(offsets.value(row));
        }
    }
    Ok(archived)
}

#[cfg(test)]
mod tests;
