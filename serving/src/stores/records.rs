//! Reading runs, periods and restatements, page by page: behind a cursor, at most so many.

use clickhouse::Row;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::EventTime;
use serde::Deserialize;

use super::StoreError;
use super::clickhouse::{ClickHouse, broken};
use super::settlements::day;
use crate::answer::Value;
use crate::records::{Change, Cursor, PeriodEntry, Run};

// A close or a reopening writes a run's days again: what counts is when they were first written.
const RUNS: &str = "
    SELECT run_id, toUnixTimestamp64Micro(max(first_at)) AS settled_us, min(day) AS first_day, max(day) AS last_day,
           toUInt64(count()) AS days, sum(day_deliveries) AS deliveries, sum(day_events) AS events,
           max(day_version) AS lake_version, sum(day_residuals) AS residual_cells,
           toUInt64(countIf((day, run_id) IN (
               SELECT day, run_id FROM settlements_current WHERE tenant = {tenant:String}))) AS days_in_force
    FROM (SELECT run_id, day, argMin(deliveries, settled_at) AS day_deliveries,
                 argMin(events, settled_at) AS day_events, argMin(lake_version, settled_at) AS day_version,
                 argMin(residual_cells, settled_at) AS day_residuals, min(settled_at) AS first_at
          FROM settlements WHERE tenant = {tenant:String} GROUP BY run_id, day)
    GROUP BY run_id
    HAVING (settled_us, run_id) < ({at:Int64}, {tie:String})
    ORDER BY settled_us DESC, run_id DESC LIMIT {limit:UInt32}";

const PERIODS: &str = "
    SELECT period, action, generation, toUnixTimestamp64Micro(at) AS at_us, signed_by, reason, first_day, last_day,
           content_hash, manifest,
           toUInt8(action = 'closed' AND (period, generation) IN (
               SELECT period, generation FROM periods_closed WHERE tenant = {tenant:String})) AS in_force,
           concat(period, ' ', toString(generation), ' ', action) AS tie
    FROM periods WHERE tenant = {tenant:String} AND (at_us, tie) < ({at:Int64}, {tie:String})
    ORDER BY at_us DESC, tie DESC LIMIT {limit:UInt32}";

// Without the quotes `rollup` would be read as the keyword.
const CHANGES: &str = "
    SELECT day, run_id, run_before, `rollup`, event, dimensions, measure, unit, before, after, reason,
           toUnixTimestamp64Micro(changed_at) AS changed_us,
           hex(sipHash128(run_id, day, `rollup`, event, dimensions, measure, unit)) AS tie
    FROM changes WHERE tenant = {tenant:String} AND (changed_us, tie) > ({at:Int64}, {tie:String})
    ORDER BY changed_us, tie LIMIT {limit:UInt32}";

#[derive(Row, Deserialize)]
struct RunRow {
    run_id: String,
    settled_us: i64,
    first_day: i32,
    last_day: i32,
    days: u64,
    deliveries: u64,
    events: u64,
    lake_version: u64,
    residual_cells: u64,
    days_in_force: u64,
}

#[derive(Row, Deserialize)]
struct PeriodRow {
    period: String,
    action: String,
    generation: u32,
    at_us: i64,
    signed_by: String,
    reason: String,
    first_day: i32,
    last_day: i32,
    content_hash: String,
    manifest: String,
    in_force: u8,
    tie: String,
}

#[derive(Row, Deserialize)]
struct ChangeRow {
    day: i32,
    run_id: String,
    run_before: String,
    rollup: String,
    event: String,
    dimensions: Vec<String>,
    measure: String,
    unit: String,
    before: i128,
    after: i128,
    reason: String,
    changed_us: i64,
    tie: String,
}

impl ClickHouse {
    /// Runs, the newest first, behind a cursor.
    pub(crate) async fn runs(
        &self,
        tenant: &Tenant,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<(Cursor, Run)>, StoreError> {
        let rows = self.listed::<RunRow>(RUNS, tenant, after, limit).await?;
        rows.into_iter().map(run).collect()
    }

    /// The log of periods, the newest entry first, behind a cursor.
    pub(crate) async fn period_entries(
        &self,
        tenant: &Tenant,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<(Cursor, PeriodEntry)>, StoreError> {
        let rows = self.listed::<PeriodRow>(PERIODS, tenant, after, limit).await?;
        rows.into_iter().map(period_entry).collect()
    }

    /// What restatements changed, the oldest first, behind a cursor.
    pub(crate) async fn changes(
        &self,
        tenant: &Tenant,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<(Cursor, Change)>, StoreError> {
        let rows = self.listed::<ChangeRow>(CHANGES, tenant, after, limit).await?;
        rows.into_iter().map(change).collect()
    }

    /// One row more than the page holds, so that its end is known.
    async fn listed<T: clickhouse::RowOwned + clickhouse::RowRead>(
        &self,
        sql: &'static str,
        tenant: &Tenant,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<T>, StoreError> {
        let statement = self.statement(sql).bind("tenant", tenant.id.as_str()).bind("at", after.at_us);
        statement.bind("tie", &after.tie).bind("limit", limit.saturating_add(1)).rows::<T>().await
    }
}

fn run(row: RunRow) -> Result<(Cursor, Run), StoreError> {
    let cursor = Cursor { at_us: row.settled_us, tie: row.run_id.clone() };
    let run = Run {
        run_id: row.run_id,
        settled_at: EventTime(row.settled_us).to_timestamp(),
        first_day: day(row.first_day).to_string(),
        last_day: day(row.last_day).to_string(),
        days: row.days,
        deliveries: row.deliveries,
        events: row.events,
        lake_version: row.lake_version,
        residual_cells: row.residual_cells,
        days_in_force: row.days_in_force,
    };
    Ok((cursor, run))
}

fn period_entry(row: PeriodRow) -> Result<(Cursor, PeriodEntry), StoreError> {
    let entry = PeriodEntry {
        period: row.period,
        action: row.action,
        generation: row.generation,
        at: EventTime(row.at_us).to_timestamp(),
        signed_by: row.signed_by,
        reason: row.reason,
        first_day: day(row.first_day).to_string(),
        last_day: day(row.last_day).to_string(),
        content_hash: row.content_hash,
        manifest: row.manifest,
        in_force: row.in_force != 0,
    };
    Ok((Cursor { at_us: row.at_us, tie: row.tie }, entry))
}

fn change(row: ChangeRow) -> Result<(Cursor, Change), StoreError> {
    let unit: Option<Unit> = match row.unit.as_str() {
        "" => None,
        unit => Some(unit.parse().map_err(|error| broken(format!("changes: {error}")))?),
    };
    let value = |amount: i128| match &unit {
        Some(unit) => Value::Decimal(unit.format(amount)),
        None => Value::Integer(amount),
    };
    let (before, after) = (value(row.before), value(row.after));
    let change = Change {
        day: day(row.day).to_string(),
        run_id: row.run_id,
        run_before: row.run_before,
        rollup: row.rollup,
        event: row.event,
        dimensions: row.dimensions,
        measure: row.measure,
        unit: unit.as_ref().map(Unit::to_string).unwrap_or_default(),
        before,
        after,
        reason: row.reason,
        changed_at: EventTime(row.changed_us).to_timestamp(),
    };
    Ok((Cursor { at_us: row.changed_us, tie: row.tie }, change))
}
