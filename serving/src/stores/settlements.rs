//! What is settled.

use std::sync::Arc;

use clickhouse::Row;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::settlement::State;
use reckon_schemas::time::EventTime;
pub(super) use reckon_schemas::time::day_of_number as day;
use serde::Deserialize;

use super::StoreError;
use super::clickhouse::{ClickHouse, broken};
use crate::merge::plan::{SettledDay, Settlements};

const CURRENT: &str = "
    SELECT day, run_id, state, toUnixTimestamp64Micro(window_start) AS window_start,
           toUnixTimestamp64Micro(window_end) AS window_end, toUnixTimestamp64Micro(last_settled_at) AS settled_at,
           deliveries, lake_version
    FROM settlements_current WHERE tenant = {tenant:String} ORDER BY day";

#[derive(Row, Deserialize)]
struct SettlementRow {
    day: i32,
    run_id: String,
    state: String,
    window_start: i64,
    window_end: i64,
    settled_at: i64,
    deliveries: u64,
    lake_version: u64,
}

impl ClickHouse {
    /// The newest settlement of every day of a tenant.
    pub(crate) async fn settlements(&self, tenant: &Tenant) -> Result<Settlements, StoreError> {
        let rows = self.statement(CURRENT).bind("tenant", tenant.id.as_str()).rows::<SettlementRow>().await?;
        let days = rows.into_iter().map(settled_day).collect::<Result<Vec<_>, _>>()?;
        Ok(Settlements::new(days))
    }
}

fn settled_day(row: SettlementRow) -> Result<SettledDay, StoreError> {
    Ok(SettledDay {
        day: day(row.day),
        start: EventTime(row.window_start),
        end: EventTime(row.window_end),
        run_id: Arc::from(row.run_id),
        state: row.state.parse::<State>().map_err(|error| broken(format!("a settlement's state: {error}")))?,
        settled_at: EventTime(row.settled_at).to_timestamp(),
        deliveries: row.deliveries,
        lake_version: row.lake_version,
    })
}
