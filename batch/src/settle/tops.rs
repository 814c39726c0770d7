//! The most frequent values, written with a run's cells and read back by those who check it.

use clickhouse::Row;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::{EventTime, day_number, day_of_number};
use reckon_schemas::window::Window;
use serde::{Deserialize, Serialize};

use super::store::unavailable;
use super::{Store, StoreError};
use crate::recount::Top;

const WRITING: &str = "write the most frequent values";

const OF_RUN: &str = "
    SELECT event, property, grain, toUnixTimestamp64Micro(window_start) AS start_us,
           toUnixTimestamp64Micro(window_end) AS end_us, day, total, listed, counts, bound
    FROM settled_tops_raw
    WHERE tenant = {tenant:String} AND run_id = {run:String}
      AND toInt32(day) >= {first:Int32} AND toInt32(day) <= {last:Int32}";

#[derive(Row, Serialize)]
struct TopRow<'a> {
    tenant: &'a str,
    property: &'a str,
    grain: &'a str,
    window_start: i64,
    window_end: i64,
    event: &'a str,
    day: i32,
    run_id: &'a str,
    total: u64,
    listed: Vec<&'a str>,
    counts: Vec<u64>,
    bound: u64,
}

#[derive(Row, Deserialize)]
struct StoredTopRow {
    event: String,
    property: String,
    grain: String,
    start_us: i64,
    end_us: i64,
    day: i32,
    total: u64,
    listed: Vec<String>,
    counts: Vec<u64>,
    bound: u64,
}

impl Store {
    /// Writes the most frequent values of a few days; like all of a run's rows they are seen once its settlements are
    /// there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_tops(&self, tenant: &TenantId, run_id: &str, tops: &[Top]) -> Result<(), StoreError> {
        if tops.is_empty() {
            return Ok(());
        }
        let failed = |error| unavailable(WRITING, &error);
        let mut insert = self.insert::<TopRow<'_>>(WRITING, "settled_tops_raw").await?;
        for top in tops {
            let row = TopRow {
                tenant: tenant.as_str(),
                property: &top.property,
                grain: top.window.grain.name(),
                window_start: top.window.start.0,
                window_end: top.window.end.0,
                event: &top.event,
                day: day_number(top.day),
                run_id,
                total: top.total,
                listed: top.values.iter().map(|(value, _)| value.as_str()).collect(),
                counts: top.values.iter().map(|(_, count)| *count).collect(),
                bound: top.bound,
            };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    /// What a run wrote for the days between two, both included.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn tops_of_run(
        &self,
        tenant: &TenantId,
        run_id: &str,
        (first, last): (Date, Date),
    ) -> Result<Vec<Top>, StoreError> {
        let query = self.query(OF_RUN).param("tenant", tenant.as_str()).param("run", run_id);
        let query = query.param("first", day_number(first)).param("last", day_number(last));
        let mut tops = Vec::new();
        self.read("read the most frequent values of a run", query, |row: StoredTopRow| {
            let grain = row.grain.parse();
            let grain = grain.map_err(|error| StoreError::Incompatible(format!("settled_tops_raw: {error}")))?;
            tops.push(Top {
                window: Window { grain, start: EventTime(row.start_us), end: EventTime(row.end_us) },
                day: day_of_number(row.day),
                values: row.listed.into_iter().zip(row.counts).collect(),
                event: row.event,
                property: row.property,
                total: row.total,
                bound: row.bound,
            });
            Ok(())
        })
        .await?;
        Ok(tops)
    }
}
