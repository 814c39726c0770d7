//! The cells of a run, read back.

use clickhouse::Row;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::Sums;
use reckon_schemas::time::day_number;
use serde::Deserialize;

use super::{Store, StoreError};

const CELLS: &str = "
    SELECT `rollup`, grain, toUnixTimestamp64Micro(window_start) AS start_us,
           toUnixTimestamp64Micro(window_end) AS end_us, event, dimensions, day, count, money, users_exact, users
    FROM settled_cells_raw
    WHERE tenant = {tenant:String} AND run_id = {run:String}
      AND toInt32(day) >= {first:Int32} AND toInt32(day) <= {last:Int32}";

const USERS: &str = "
    SELECT `rollup`, event, dimensions, day, count() AS keys, groupBitXor(user_key) AS folded
    FROM settled_users
    WHERE tenant = {tenant:String} AND run_id = {run:String}
      AND toInt32(day) >= {first:Int32} AND toInt32(day) <= {last:Int32}
    GROUP BY `rollup`, event, dimensions, day";

/// A settled cell.
#[derive(Row, Deserialize)]
pub(crate) struct StoredCellRow {
    pub(crate) rollup: String,
    pub(crate) grain: String,
    pub(crate) start_us: i64,
    pub(crate) end_us: i64,
    pub(crate) event: String,
    pub(crate) dimensions: Vec<String>,
    pub(crate) day: i32,
    pub(crate) count: u64,
    pub(crate) money: Sums,
    pub(crate) users_exact: u64,
    pub(crate) users: Sketch,
}

/// The users of a day's cell: how many keys, and all of them folded into one by XOR.
#[derive(Row, Deserialize)]
pub(crate) struct StoredUsersRow {
    pub(crate) rollup: String,
    pub(crate) event: String,
    pub(crate) dimensions: Vec<String>,
    pub(crate) day: i32,
    pub(crate) keys: u64,
    pub(crate) folded: u128,
}

impl Store {
    /// Hands over every cell that a run wrote for the days between two, both included.
    ///
    /// # Errors
    /// [`StoreError`], also what the receiver returns.
    pub(crate) async fn cells_of_run(
        &self,
        tenant: &TenantId,
        run_id: &str,
        (first, last): (Date, Date),
        receive: impl FnMut(StoredCellRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let query = self.query(CELLS).param("tenant", tenant.as_str()).param("run", run_id);
        let query = query.param("first", day_number(first)).param("last", day_number(last));
        self.read("read the cells of a run", query, receive).await
    }

    /// The same for the users of the days' cells.
    ///
    /// # Errors
    /// [`StoreError`], also what the receiver returns.
    pub(crate) async fn user_keys_of_run(
        &self,
        tenant: &TenantId,
        run_id: &str,
        (first, last): (Date, Date),
        receive: impl FnMut(StoredUsersRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let query = self.query(USERS).param("tenant", tenant.as_str()).param("run", run_id);
        let query = query.param("first", day_number(first)).param("last", day_number(last));
        self.read("read the users of a run", query, receive).await
    }
}
