//! What the collector refused, read page by page from the lake's other table.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::{SessionConfig, SessionContext, cast, ident, lit};
use deltalake::DeltaTable;
use reckon_schemas::lake::REJECTED_TABLE;
use reckon_schemas::time::EventTime;

use super::pinned::{for_each_batch, integers};
use super::{Lake, broken, failed, open, unreadable};
use crate::records::{Cursor, Rejected};
use crate::stores::StoreError;

impl Lake {
    /// The rejected items of a tenant behind a place in the list, in the order of the log's time, one more than `limit`.
    ///
    /// # Errors
    /// The lake is away, or the page does not fit into the memory for questions.
    pub(crate) async fn rejected(
        &self,
        tenant: &str,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<(Cursor, Rejected)>, StoreError> {
        let table = {
            let mut newest = self.0.rejected.lock().await;
            // Opened anew after an error.
            let table = match newest.take() {
                Some(mut table) => table.update_state().await.map(|()| table),
                None => open(&self.0.store, REJECTED_TABLE).await,
            };
            let table = table.map_err(|error| unreadable(&error))?;
            newest.insert(table).clone()
        };
        read(table, self.0.runtime.clone(), tenant, after, limit).await
    }
}

async fn read(
    table: DeltaTable,
    runtime: Arc<RuntimeEnv>,
    tenant: &str,
    after: &Cursor,
    limit: u32,
) -> Result<Vec<(Cursor, Rejected)>, StoreError> {
    let context = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    table.update_datafusion_session(&context.state()).map_err(|error| unreadable(&error))?;
    let provider = table.table_provider().await.map_err(|error| failed(&error))?;
    let number = |name| cast(ident(name), DataType::Int64).alias(name);
    let text = |name| cast(ident(name), DataType::Utf8).alias(name);
    let (partition, offset) = after.tie.split_once('/').unwrap_or_default();
    // The empty place is before every other of its instant.
    let [partition, offset] = [partition, offset].map(|number| number.parse::<i64>().unwrap_or(-1));
    let is_behind = (ident("log_time").gt(lit(after.at_us))).or(ident("log_time").eq(lit(after.at_us)).and(
        (ident("partition").gt(lit(partition)))
            .or(ident("partition").eq(lit(partition)).and(ident("offset").gt(lit(offset)))),
    ));
    let raw = cast(ident("raw"), DataType::Binary).alias("raw");
    let rows = context
        .read_table(provider)
        .and_then(|rows| rows.filter(ident("tenant").eq(lit(tenant))))
        .and_then(|rows| {
            let numbers = ["log_time", "partition", "offset"].map(number);
            rows.select(numbers.into_iter().chain(["source", "field", "reason"].map(text)).chain([raw]))
        })
        .and_then(|rows| rows.filter(is_behind))
        .and_then(|rows| {
            rows.sort(["log_time", "partition", "offset"].map(|name| ident(name).sort(true, false)).into())
        })
        .and_then(|rows| rows.limit(0, Some(limit as usize + 1)));
    let mut found = Vec::new();
    for_each_batch(rows.map_err(|error| failed(&error))?, |batch| {
        let [log_times, partitions, offsets] = ["log_time", "partition", "offset"].map(|name| integers(batch, name));
        let (log_times, partitions, offsets) = (log_times?, partitions?, offsets?);
        let texts: Vec<&StringArray> = ["source", "field", "reason"]
            .iter()
            .filter_map(|name| batch.column_by_name(name)?.as_string_opt())
            .collect();
        let raws = batch.column_by_name("raw").and_then(|raw| raw.as_any().downcast_ref::<BinaryArray>());
        let ([sources, fields, reasons], Some(raws)) = (texts.as_slice(), raws) else {
            return Err(broken("the table of rejected items has other columns"));
        };
        for row in 0..batch.num_rows() {
            let text = |column: &StringArray| if column.is_null(row) { "" } else { column.value(row) }.to_owned();
            let raw = if raws.is_null(row) { &[][..] } else { raws.value(row) };
            let id = format!("{}/{}", partitions.value(row), offsets.value(row));
            found.push((
                Cursor { at_us: log_times.value(row), tie: id.clone() },
                Rejected {
                    id,
                    refused_at: EventTime(log_times.value(row)).to_timestamp(),
                    source: text(sources),
                    field: text(fields),
                    reason: text(reasons),
                    raw: String::from_utf8_lossy(raw).into_owned(),
                },
            ));
        }
        Ok(())
    })
    .await?;
    Ok(found)
}
