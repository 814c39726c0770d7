//! The newest run's comparison of both counts, as it is stored.

use std::collections::BTreeMap;

use clickhouse::Row;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::money::Currency;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::EventTime;
use serde::Deserialize;

use super::StoreError;
use super::clickhouse::{ClickHouse, broken};
use super::settlements::day;
use crate::answer::Value;
use crate::reconciliation::{Reconciliation, ReconciliationRow};

// A close or a reopening of its period writes a run's days again: what counts is when they were first written.
const NEWEST_RUN: &str = "
    SELECT run_id FROM settlements WHERE tenant = {tenant:String}
    GROUP BY run_id ORDER BY min(settled_at) DESC, run_id DESC LIMIT 1";

const RUN: &str = "
    SELECT min(day) AS first_day, max(day) AS last_day, count() AS days, sum(day_deliveries) AS deliveries,
           sum(day_events) AS events, max(day_version) AS lake_version,
           toUnixTimestamp64Micro(max(first_at)) AS settled_at_us
    FROM (SELECT day, argMin(deliveries, settled_at) AS day_deliveries, argMin(events, settled_at) AS day_events,
                 argMin(lake_version, settled_at) AS day_version, min(settled_at) AS first_at
          FROM settlements WHERE tenant = {tenant:String} AND run_id = {run_id:String} GROUP BY day)";

const USERS: &str = "
    SELECT toUInt64(uniqExact(user_key)) FROM settled_users
    WHERE tenant = {tenant:String} AND rollup = 'total' AND run_id = {run_id:String}";

// Without the quotes `GROUP BY rollup` would be read as the keyword.
const DRIFT: &str = "
    SELECT rollup, event, measure, currency, toString(sum(toInt256(speed))) AS speed_sum,
           toString(sum(toInt256(batch))) AS batch_sum, toString(sum(toInt256(residual))) AS residual_sum,
           sumMap(reasons) AS reason_sums, sum(error_bound) AS error_bound_sum, count() AS cells,
           countIf(residual != 0) AS cells_with_residual
    FROM drift WHERE tenant = {tenant:String} AND run_id = {run_id:String}
    GROUP BY `rollup`, event, measure, currency ORDER BY rollup != 'total', rollup, event, measure, currency";

#[derive(Row, Deserialize)]
struct RunRow {
    first_day: i32,
    last_day: i32,
    days: u64,
    deliveries: u64,
    events: u64,
    lake_version: u64,
    settled_at_us: i64,
}

#[derive(Row, Deserialize)]
struct DriftRow {
    rollup: String,
    event: String,
    measure: String,
    currency: String,
    speed_sum: String,
    batch_sum: String,
    residual_sum: String,
    reason_sums: Vec<(String, i128)>,
    error_bound_sum: u64,
    cells: u64,
    cells_with_residual: u64,
}

impl ClickHouse {
    /// The newest run of a tenant; `None` if there was none yet.
    pub(crate) async fn latest_reconciliation(&self, tenant: &Tenant) -> Result<Option<Reconciliation>, StoreError> {
        let id = tenant.id.as_str();
        let newest = self.statement(NEWEST_RUN).bind("tenant", id).rows::<String>().await?;
        let Some(run_id) = newest.into_iter().next() else { return Ok(None) };
        let of_run = |sql| self.statement(sql).bind("tenant", id).bind("run_id", &run_id);
        let run = of_run(RUN).rows::<RunRow>();
        let users = of_run(USERS).rows::<u64>();
        let (run, users, drift, settlements) =
            tokio::try_join!(run, users, of_run(DRIFT).rows::<DriftRow>(), self.settlements(tenant))?;
        let run = run.into_iter().next().ok_or_else(|| broken("a run without days"))?;
        let rows = drift.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Reconciliation {
            tenant: tenant.id.to_string(),
            run_id,
            lake_version: run.lake_version,
            settled_at: EventTime(run.settled_at_us).to_timestamp(),
            first_day: day(run.first_day).to_string(),
            last_day: day(run.last_day).to_string(),
            days: run.days,
            deliveries: run.deliveries,
            events: run.events,
            users: users.into_iter().next().unwrap_or(0),
            horizon: settlements.horizon().map(EventTime::to_timestamp),
            explained: rows.iter().all(|row| row.cells_with_residual == 0),
            rows,
        }))
    }
}

fn row(row: DriftRow) -> Result<ReconciliationRow, StoreError> {
    let unit: Option<Unit> = match row.currency.as_str() {
        "" => None,
        unit => Some(unit.parse().map_err(|error| broken(format!("drift: {error}")))?),
    };
    let amount = |text: &str| text.parse::<i128>().map_err(|_| broken(format!("drift: the sum {text}")));
    let value = |amount: i128| match &unit {
        Some(unit) => Value::Decimal(unit.format(amount)),
        None => Value::Integer(amount),
    };
    let (speed, batch) = (amount(&row.speed_sum)?, amount(&row.batch_sum)?);
    let drift = speed.checked_sub(batch).ok_or_else(|| broken("drift: beyond 128 bits"))?;
    let reasons: BTreeMap<String, Value> =
        row.reason_sums.into_iter().filter(|(_, sum)| *sum != 0).map(|(name, sum)| (name, value(sum))).collect();
    Ok(ReconciliationRow {
        rollup: row.rollup,
        event: row.event,
        measure: row.measure,
        speed: value(speed),
        batch: value(batch),
        drift: value(drift),
        reasons,
        residual: value(amount(&row.residual_sum)?),
        error_bound: value(i128::from(row.error_bound_sum)),
        cells: row.cells,
        cells_with_residual: row.cells_with_residual,
        currency: unit.as_ref().and_then(Unit::currency).map_or("", Currency::code).to_owned(),
        property: match &unit {
            Some(Unit::Property(name)) => Some(name.to_string()),
            _ => None,
        },
    })
}
