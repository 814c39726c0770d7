//! Deliveries of one event that contradict each other, as a run found them.

use clickhouse::Row;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::day_number;
use serde::Serialize;

use super::store::unavailable;
use super::{Store, StoreError};

const WRITING: &str = "write conflicts";

/// Two deliveries of one event that do not say the same. The first one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The event's id.
    pub(crate) event_id: String,
    /// The day that it is reported with.
    pub(crate) day: Date,
    /// Partition and offset of the first delivery.
    pub(crate) first: (i32, i64),
    /// What it says, as JSON.
    pub(crate) first_content: String,
    /// Partition and offset of the other one.
    pub(crate) other: (i32, i64),
    /// What that says.
    pub(crate) other_content: String,
}

#[derive(Row, Serialize)]
struct ConflictRow<'a> {
    tenant: &'a str,
    run_id: &'a str,
    event_id: &'a str,
    day: i32,
    first_partition: i32,
    first_offset: u64,
    first_content: &'a str,
    other_partition: i32,
    other_offset: u64,
    other_content: &'a str,
}

impl Store {
    /// Writes a run's conflicts; like all of its rows they are seen once its settlements are there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_conflicts<'a>(
        &self,
        tenant: &TenantId,
        run_id: &str,
        conflicts: impl ExactSizeIterator<Item = &'a Conflict>,
    ) -> Result<(), StoreError> {
        if conflicts.len() == 0 {
            return Ok(());
        }
        let failed = |error| unavailable(WRITING, &error);
        let mut insert = self.insert::<ConflictRow<'_>>(WRITING, "conflicts").await?;
        for conflict in conflicts {
            let row = ConflictRow {
                tenant: tenant.as_str(),
                run_id,
                event_id: &conflict.event_id,
                day: day_number(conflict.day),
                first_partition: conflict.first.0,
                first_offset: conflict.first.1.cast_unsigned(),
                first_content: &conflict.first_content,
                other_partition: conflict.other.0,
                other_offset: conflict.other.1.cast_unsigned(),
                other_content: &conflict.other_content,
            };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    /// How many conflicts a run found.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn conflicts_of_run(&self, tenant: &TenantId, run_id: &str) -> Result<u64, StoreError> {
        let query = self
            .query("SELECT count() FROM conflicts WHERE tenant = {tenant:String} AND run_id = {run_id:String}")
            .param("tenant", tenant.as_str())
            .param("run_id", run_id);
        let mut count = 0;
        self.read("count a run's conflicts", query, |found: u64| {
            count = found;
            Ok(())
        })
        .await?;
        Ok(count)
    }
}
