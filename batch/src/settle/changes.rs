//! The change log: what a restatement changed, cell by cell.

use clickhouse::Row;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::{EventTime, day_number};
use serde::Deserialize;

use super::store::unavailable;
use super::{Store, StoreError};

const WRITING_CHANGES: &str = "write changes";

/// Both runs' cells of the days, measure by measure; what differs is written. The run before is the one that is visible,
/// with what backfills added to it, because the new one is not yet.
const WRITE: &str = "
    INSERT INTO changes_stored (tenant, day, run_id, run_before, rollup, event, dimensions, measure, unit, before, after,
                                reason, changed_at)
    WITH visible AS (
        SELECT day, run_id AS visible_run FROM settlements_current
        WHERE tenant = {tenant:String} AND has({days:Array(Int32)}, toInt32(day))),
    measured AS (
        SELECT day, run_id, rollup, event, dimensions, amount.1 AS measure, amount.2 AS unit, amount.3 AS value
        FROM settled_cells_raw
        ARRAY JOIN arrayConcat(
            [('count', '', toInt128(count)), ('users', '', toInt128(users_exact))],
            arrayMap((name, sum) -> (if(startsWith(name, '#'), 'sum', 'money'), name, sum), mapKeys(money),
                     mapValues(money))) AS amount
        WHERE tenant = {tenant:String} AND grain = '1d' AND has({days:Array(Int32)}, toInt32(day))
          AND (run_id = {run:String} OR (day, run_id) IN (SELECT day, visible_run FROM visible)
               OR (day, rollup, run_id) IN
                  (SELECT day, rollup, run_id FROM backfills_current WHERE tenant = {tenant:String}))),
    counted_before AS (SELECT DISTINCT day, `rollup` FROM measured WHERE run_id != {run:String})
    SELECT {tenant:String}, day, {run:String}, any(visible_run), `rollup`, event, dimensions, measure, unit,
           sumIf(value, run_id != {run:String}) AS value_before, sumIf(value, run_id = {run:String}) AS value_after,
           if((day, `rollup`) NOT IN (SELECT day, `rollup` FROM counted_before)
              AND day IN (SELECT day FROM counted_before), 'new_rollup', 'late_events'),
           fromUnixTimestamp64Micro({at:Int64}, 'UTC')
    FROM measured INNER JOIN visible USING (day)
    GROUP BY day, `rollup`, event, dimensions, measure, unit
    HAVING value_before != value_after";

const READ: &str = "
    SELECT day, run_id, run_before, `rollup`, event, dimensions, measure, unit, before, after, reason,
           toUnixTimestamp64Micro(changed_at) AS changed_us
    FROM changes WHERE tenant = {tenant:String} AND changed_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')
    ORDER BY changed_at, day, `rollup` != 'total', `rollup`, event, dimensions, measure, unit";

/// A change as it is stored.
#[derive(Row, Deserialize)]
pub(crate) struct ChangeRow {
    pub(crate) day: i32,
    pub(crate) run_id: String,
    pub(crate) run_before: String,
    pub(crate) rollup: String,
    pub(crate) event: String,
    pub(crate) dimensions: Vec<String>,
    pub(crate) measure: String,
    pub(crate) unit: String,
    pub(crate) before: i128,
    pub(crate) after: i128,
    pub(crate) reason: String,
    pub(crate) changed_us: i64,
}

impl Store {
    /// Writes down what a run, whose cells are written and which is not visible yet, changes of days that were settled.
    /// As its cells, the changes become visible with the run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_changes(
        &self,
        tenant: &TenantId,
        run_id: &str,
        days: &[Date],
        at: EventTime,
    ) -> Result<(), StoreError> {
        if days.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i32> = days.iter().copied().map(day_number).collect();
        let query = self.query(WRITE).param("tenant", tenant.as_str()).param("run", run_id);
        let query = query.param("days", numbers).param("at", at.0);
        query.execute().await.map_err(|error| unavailable(WRITING_CHANGES, &error))
    }

    /// Hands over every change of a tenant since an instant, oldest first.
    ///
    /// # Errors
    /// [`StoreError`], also what the receiver returns.
    pub(crate) async fn changes(
        &self,
        tenant: &TenantId,
        since: EventTime,
        receive: impl FnMut(ChangeRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let query = self.query(READ).param("tenant", tenant.as_str()).param("since", since.0);
        self.read("read changes", query, receive).await
    }
}
