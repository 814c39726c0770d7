//! Periods: what is closed, and the rows that close and reopen.

use std::collections::BTreeMap;

use clickhouse::Row;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::period::Period;
use reckon_schemas::settlement::State;
use reckon_schemas::time::{EventTime, day_number, day_of_number};
use reckon_schemas::window::{Grain, Window};
use serde::{Deserialize, Serialize};

use super::rows::SettlementRow;
use super::store::unavailable;
use super::{Store, StoreError};

const CLOSED: &str = "
    SELECT period, generation, toUnixTimestamp64Micro(closed_at) AS closed_us, closed_by, closed_hash, closed_manifest,
           from_day, to_day, closed_offsets, known_deliveries
    FROM periods_closed WHERE tenant = {tenant:String} ORDER BY period";

const DAYS: &str = "
    SELECT day, run_id, state, toUnixTimestamp64Micro(window_start) AS start_us,
           toUnixTimestamp64Micro(window_end) AS end_us, deliveries, events, lake_version, content_hash, residual_cells,
           last_generation, toUnixTimestamp64Micro(last_settled_at) AS settled_us
    FROM settlements_current
    WHERE tenant = {tenant:String} AND toInt32(day) >= {first:Int32} AND toInt32(day) <= {last:Int32} ORDER BY day";

const FORMER_STATES: &str = "
    SELECT day, argMax(state, (generation, settled_at, run_id)) AS former
    FROM settlements WHERE tenant = {tenant:String} AND generation < {generation:UInt32}
      AND toInt32(day) >= {first:Int32} AND toInt32(day) <= {last:Int32} GROUP BY day";

/// A period that is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClosedPeriod {
    pub(crate) period: Period,
    pub(crate) generation: u32,
    pub(crate) closed_at: EventTime,
    pub(crate) closed_by: String,
    pub(crate) content_hash: String,
    pub(crate) manifest: String,
    /// What comes from here on is an adjustment.
    pub(crate) next_offsets: BTreeMap<i32, i64>,
    /// How many deliveries for its days were looked at: those of the close, and late ones since.
    pub(crate) known_deliveries: u64,
}

/// A day's newest settlement, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeriodDay {
    pub(crate) day: Date,
    pub(crate) window: Window,
    pub(crate) run_id: String,
    pub(crate) state: State,
    pub(crate) deliveries: u64,
    pub(crate) events: u64,
    pub(crate) lake_version: u64,
    pub(crate) content_hash: String,
    pub(crate) residual_cells: u64,
    pub(crate) generation: u32,
    pub(crate) settled_at: EventTime,
}

/// An entry of the log of periods.
#[derive(Clone, Debug)]
pub(crate) struct PeriodEntry<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) period: Period,
    pub(crate) generation: u32,
    /// `closed`, `adjusted` or `reopened`.
    pub(crate) action: &'static str,
    pub(crate) at: EventTime,
    pub(crate) signed_by: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) lake_version: u64,
    pub(crate) next_offsets: &'a BTreeMap<i32, i64>,
    pub(crate) deliveries: u64,
    pub(crate) content_hash: &'a str,
    pub(crate) manifest: &'a str,
}

#[derive(Row, Deserialize)]
struct ClosedRow {
    period: String,
    generation: u32,
    closed_us: i64,
    closed_by: String,
    closed_hash: String,
    closed_manifest: String,
    #[expect(dead_code, reason = "columns are read in the order of the statement")]
    from_day: i32,
    #[expect(dead_code, reason = "columns are read in the order of the statement")]
    to_day: i32,
    closed_offsets: Vec<(i32, i64)>,
    known_deliveries: u64,
}

#[derive(Row, Deserialize)]
struct DayRow {
    day: i32,
    run_id: String,
    state: String,
    start_us: i64,
    end_us: i64,
    deliveries: u64,
    events: u64,
    lake_version: u64,
    content_hash: String,
    residual_cells: u64,
    last_generation: u32,
    settled_us: i64,
}

#[derive(Row, Deserialize)]
struct FormerRow {
    day: i32,
    former: String,
}

#[derive(Row, Serialize)]
struct PeriodRow<'a> {
    tenant: &'a str,
    period: String,
    generation: u32,
    action: &'a str,
    at: i64,
    signed_by: &'a str,
    reason: &'a str,
    first_day: i32,
    last_day: i32,
    lake_version: u64,
    next_offsets: Vec<(i32, i64)>,
    deliveries: u64,
    content_hash: &'a str,
    manifest: &'a str,
}

impl Store {
    /// The periods of a tenant that are closed now, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn closed_periods(&self, tenant: &TenantId) -> Result<Vec<ClosedPeriod>, StoreError> {
        let mut periods = Vec::new();
        let query = self.query(CLOSED).param("tenant", tenant.as_str());
        self.read("read what is closed", query, |row: ClosedRow| {
            let period = row.period.parse().map_err(|error| StoreError::Incompatible(format!("{error}")))?;
            periods.push(ClosedPeriod {
                period,
                generation: row.generation,
                closed_at: EventTime(row.closed_us),
                closed_by: row.closed_by,
                content_hash: row.closed_hash,
                manifest: row.closed_manifest,
                next_offsets: row.closed_offsets.into_iter().collect(),
                known_deliveries: row.known_deliveries,
            });
            Ok(())
        })
        .await?;
        Ok(periods)
    }

    /// The newest settlement of every settled day between two, both included.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn settled_between(
        &self,
        tenant: &TenantId,
        first: Date,
        last: Date,
    ) -> Result<Vec<PeriodDay>, StoreError> {
        let mut days = Vec::new();
        let query = self.query(DAYS).param("tenant", tenant.as_str());
        let query = query.param("first", day_number(first)).param("last", day_number(last));
        self.read("read the days of a period", query, |row: DayRow| {
            let state = row.state.parse().map_err(|error| StoreError::Incompatible(format!("{error}")))?;
            let (start, end) = (EventTime(row.start_us), EventTime(row.end_us));
            days.push(PeriodDay {
                day: day_of_number(row.day),
                window: Window { grain: Grain::Day, start, end },
                run_id: row.run_id,
                state,
                deliveries: row.deliveries,
                events: row.events,
                lake_version: row.lake_version,
                content_hash: row.content_hash,
                residual_cells: row.residual_cells,
                generation: row.last_generation,
                settled_at: EventTime(row.settled_us),
            });
            Ok(())
        })
        .await?;
        Ok(days)
    }

    /// The states that the days of a period had before it was closed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn former_states(
        &self,
        tenant: &TenantId,
        period: Period,
        generation: u32,
    ) -> Result<BTreeMap<Date, State>, StoreError> {
        let mut states = BTreeMap::new();
        let query = self.query(FORMER_STATES).param("tenant", tenant.as_str()).param("generation", generation);
        let query = query.param("first", day_number(period.first_day())).param("last", day_number(period.last_day()));
        self.read("read the states before the close", query, |row: FormerRow| {
            let state = row.former.parse().map_err(|error| StoreError::Incompatible(format!("{error}")))?;
            states.insert(day_of_number(row.day), state);
            Ok(())
        })
        .await?;
        Ok(states)
    }

    /// Writes an entry into the log of periods.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_period(&self, entry: &PeriodEntry<'_>) -> Result<(), StoreError> {
        const WRITING: &str = "write a period";
        let failed = |error| unavailable(WRITING, &error);
        let mut insert = self.insert::<PeriodRow<'_>>(WRITING, "periods").await?;
        let row = PeriodRow {
            tenant: entry.tenant.as_str(),
            period: entry.period.to_string(),
            generation: entry.generation,
            action: entry.action,
            at: entry.at.0,
            signed_by: entry.signed_by,
            reason: entry.reason,
            first_day: day_number(entry.period.first_day()),
            last_day: day_number(entry.period.last_day()),
            lake_version: entry.lake_version,
            next_offsets: entry.next_offsets.iter().map(|(partition, next)| (*partition, *next)).collect(),
            deliveries: entry.deliveries,
            content_hash: entry.content_hash,
            manifest: entry.manifest,
        };
        insert.write(&row).await.map_err(failed)?;
        insert.end().await.map_err(failed)
    }

    /// Writes days again, each with its run and content and with the state, generation and instant that it has now: one
    /// insert, which is taken as a whole or not at all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_period_days(
        &self,
        tenant: &TenantId,
        days: &[PeriodDay],
        manifest: &str,
    ) -> Result<(), StoreError> {
        const WRITING: &str = "write the days of a period";
        let failed = |error| unavailable(WRITING, &error);
        let mut insert = self.insert::<SettlementRow<'_>>(WRITING, "settlements").await?;
        for day in days {
            let row = SettlementRow {
                tenant: tenant.as_str(),
                day: day_number(day.day),
                run_id: &day.run_id,
                state: day.state.name(),
                window_start: day.window.start.0,
                window_end: day.window.end.0,
                deliveries: day.deliveries,
                events: day.events,
                lake_version: day.lake_version,
                content_hash: &day.content_hash,
                residual_cells: day.residual_cells,
                settled_at: day.settled_at.0,
                generation: day.generation,
                manifest,
            };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    /// How many contradicting deliveries the settlements of a period's days found, and how many differences to a ledger
    /// are open on them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn open_issues(&self, tenant: &TenantId, period: Period) -> Result<(u64, u64), StoreError> {
        // A run finds the conflicts of its days anew, so those of the runs that count now are the ones to look at.
        let conflicts = "SELECT count() FROM conflicts WHERE tenant = {tenant:String} \
             AND toInt32(day) BETWEEN {first:Int32} AND {last:Int32} AND (day, run_id) IN \
             (SELECT day, run_id FROM settlements_current WHERE tenant = {tenant:String})";
        let breaks = "SELECT count() FROM ledger_breaks WHERE tenant = {tenant:String} AND state = 'open' \
             AND toInt32(day) BETWEEN {first:Int32} AND {last:Int32}";
        let mut counts = [0_u64; 2];
        for (sql, count) in [conflicts, breaks].into_iter().zip(&mut counts) {
            let query = self.query(sql).param("tenant", tenant.as_str());
            let query =
                query.param("first", day_number(period.first_day())).param("last", day_number(period.last_day()));
            self.read("count what is open", query, |found: u64| {
                *count = found;
                Ok(())
            })
            .await?;
        }
        Ok(counts.into())
    }
}
