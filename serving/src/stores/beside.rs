//! What has to be said beside settled numbers: what came for closed periods, and which days lack a rollup.

use clickhouse::Row;
use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::catalog::Measure;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::EventTime;
use serde::Deserialize;

use super::StoreError;
use super::cells::{ADJUSTED, Span, amount, pinned, selected};
use super::clickhouse::{ClickHouse, broken};
use super::settlements::day;
use crate::merge::plan::SettledDay;
use crate::query::selection::Selection;

/// Of the runs that settled the days, those with events and without a cell of the rollup. A day that a backfill has
/// filled is pinned to that, and so is none of them.
const UNCOUNTED: &str = "
    SELECT DISTINCT day FROM settlements
    WHERE tenant = {tenant:String} AND events > 0 AND (day, run_id) IN {settled:Array(Tuple(Date32, String))}
      AND (day, run_id) NOT IN (
          SELECT day, run_id FROM settled_cells_raw
          WHERE tenant = {tenant:String} AND rollup = {rollup:String} AND grain = '1d'
            AND (day, run_id) IN {settled:Array(Tuple(Date32, String))})
    ORDER BY day";

/// Of the days those with events and without a sum of a property, of which no cell has one then.
const UNSUMMED: &str = "
    SELECT day FROM settled_cells_raw
    WHERE tenant = {tenant:String} AND rollup = {rollup:String} AND grain = '1d'
      AND (event = {event:String} OR {event:String} = '*') AND (day, run_id) IN {settled:Array(Tuple(Date32, String))}
    GROUP BY day HAVING max(mapContains(money, {unit:String})) = 0 ORDER BY day";

/// How far the books are: every close, adjustment and reopening is an entry, and every day of a rollup that was filled.
const BOOKS: &str = "
    SELECT entries, adjusted, newest_us, filled, filled_us
    FROM (SELECT toUInt64(count()) AS entries, toUInt64(countIf(action = 'adjusted')) AS adjusted,
                 toUnixTimestamp64Micro(max(at)) AS newest_us
          FROM periods WHERE tenant = {tenant:String}) AS closing,
         (SELECT toUInt64(count()) AS filled, toUnixTimestamp64Micro(max(filled_at)) AS filled_us
          FROM backfills WHERE tenant = {tenant:String}) AS filling";

/// Of every day and run that settled it, the newest filling of the rollup.
const BACKFILLS: &str = "
    SELECT day, base_run_id, argMax(run_id, (filled_at, run_id)) AS filled_by,
           toUnixTimestamp64Micro(max(filled_at)) AS filled_us
    FROM backfills WHERE tenant = {tenant:String} AND rollup = {rollup:String} GROUP BY day, base_run_id";

#[derive(Row, Deserialize)]
struct BackfillRow {
    day: i32,
    base_run_id: String,
    filled_by: String,
    filled_us: i64,
}

#[derive(Row, Deserialize)]
struct AdjustedRow {
    period: String,
    posted: u8,
    events: u64,
    value: String,
}

/// How far a tenant's books are. Two are equal only if nothing was closed, adjusted, reopened or filled in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Row, Deserialize)]
pub(crate) struct Books {
    entries: u64,
    /// Of these the postings of adjustments, each written after what it posts.
    adjusted: u64,
    newest_us: i64,
    /// The days of rollups that were filled.
    filled: u64,
    filled_us: i64,
}

impl Books {
    /// Whether anything was ever posted.
    pub(crate) fn are_adjusted(self) -> bool {
        self.adjusted > 0
    }
}

/// Events that came for a closed period.
pub(crate) struct Adjusted {
    pub(crate) period: String,
    /// Whether they are posted in the range; otherwise they only belong there.
    pub(crate) is_posted: bool,
    pub(crate) events: u64,
    /// Their sum; `None` where the measure is none.
    pub(crate) sum: Option<i128>,
}

impl ClickHouse {
    /// The days that a rollup was filled for: the run that settled the day, the run that filled it, and when.
    pub(crate) async fn backfills(
        &self,
        selection: &Selection,
    ) -> Result<Vec<(Date, String, String, Timestamp)>, StoreError> {
        let statement = self.statement(BACKFILLS).bind("tenant", selection.tenant.as_str());
        let rows = statement.bind("rollup", selection.rollup.name()).rows::<BackfillRow>().await?;
        let filled = |row: BackfillRow| {
            Ok((day(row.day), row.base_run_id, row.filled_by, EventTime(row.filled_us).to_timestamp()))
        };
        rows.into_iter().map(filled).collect()
    }

    /// How far a tenant's books are.
    pub(crate) async fn books(&self, tenant: &TenantId) -> Result<Books, StoreError> {
        let books = self.statement(BOOKS).bind("tenant", tenant.as_str()).rows::<Books>().await?;
        books.into_iter().next().ok_or_else(|| broken("a count without a row"))
    }

    /// The adjustments in force that are posted on some days, or happened in a range.
    pub(crate) async fn adjusted(
        &self,
        selection: &Selection,
        (from, to): Span,
        (first, last): (Date, Date),
    ) -> Result<Vec<Adjusted>, StoreError> {
        let statement = selected(self.statement(ADJUSTED), selection);
        let statement = statement.bind("from", from.0).bind("to", to.0);
        let statement = statement.bind("first", first.to_string()).bind("last", last.to_string());
        let is_sum = matches!(selection.measure, Measure::Money | Measure::Sum);
        let adjusted = |row: AdjustedRow| {
            let sum = if is_sum { Some(amount(&row.value)?) } else { None };
            Ok(Adjusted { period: row.period, is_posted: row.posted != 0, events: row.events, sum })
        };
        statement.rows::<AdjustedRow>().await?.into_iter().map(adjusted).collect()
    }

    /// Those of the days that were settled by a run that did not count the rollup.
    pub(crate) async fn uncounted_days(
        &self,
        selection: &Selection,
        days: &[SettledDay],
    ) -> Result<Vec<Date>, StoreError> {
        let statement = self.statement(UNCOUNTED).bind("tenant", selection.tenant.as_str());
        let statement = statement.bind("rollup", selection.rollup.name()).bind("settled", pinned(days));
        Ok(statement.rows::<i32>().await?.into_iter().map(day).collect())
    }

    /// Those of the days that have events and no sum of the property: none of them had it, or nobody summed it.
    pub(crate) async fn unsummed_days(
        &self,
        selection: &Selection,
        days: &[SettledDay],
    ) -> Result<Vec<Date>, StoreError> {
        let statement = selected(self.statement(UNSUMMED), selection).bind("settled", pinned(days));
        Ok(statement.rows::<i32>().await?.into_iter().map(day).collect())
    }
}
