//! What was settled before, and a finished run read back.

use std::collections::BTreeMap;

use jiff::civil::Date;
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::settlement::State;
use reckon_schemas::time::{EventTime, day_number, day_of_number};

use super::rows::{StoredDriftRow, StoredSettlementRow};
use super::{Store, StoreError};
use crate::reconcile::{CellName, Drift};

/// The newest settlement of a day.
#[derive(Clone, Debug)]
pub(crate) struct Previous {
    /// How many deliveries the lake held for the day.
    pub(crate) deliveries: u64,
    /// How many events they were.
    pub(crate) events: u64,
    /// What became of the day.
    pub(crate) state: State,
    /// The fingerprint of its cells.
    pub(crate) content_hash: String,
    /// When it was settled.
    pub(crate) settled_at: EventTime,
    /// The first instant after the day.
    pub(crate) window_end: EventTime,
    /// How often its period was closed and opened again.
    pub(crate) generation: u32,
}

/// One day of a run, as it was settled by it.
#[derive(Clone, Debug)]
pub(crate) struct StoredDay {
    /// How many deliveries the lake held for the day.
    pub(crate) deliveries: u64,
    /// How many events they were.
    pub(crate) events: u64,
    /// The version of the lake.
    pub(crate) lake_version: u64,
    /// When it was settled.
    pub(crate) settled_at: EventTime,
}

/// What a `Date32` can hold: 1900-01-01 to 2299-12-31.
const DAY_NUMBER_MIN: i32 = -25_567;
const DAY_NUMBER_MAX: i32 = 120_529;

const RUN_COLUMNS: &str = "day, state, toUnixTimestamp64Micro(window_end) AS window_end, deliveries, events, \
     lake_version, content_hash";

impl Store {
    /// The newest settlement of every day of a tenant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn settled_days(&self, tenant: &TenantId) -> Result<BTreeMap<Date, Previous>, StoreError> {
        let sql = format!(
            "SELECT {RUN_COLUMNS}, toUnixTimestamp64Micro(last_settled_at) AS settled_at, \
             last_generation AS generation FROM settlements_current WHERE tenant = {{tenant:String}}"
        );
        let mut days = BTreeMap::new();
        let query = self.query(&sql).param("tenant", tenant.as_str());
        self.read("read what is settled", query, |row: StoredSettlementRow| {
            let state = row.state.parse().map_err(|error| StoreError::Incompatible(format!("{error}")))?;
            let previous = Previous {
                deliveries: row.deliveries,
                events: row.events,
                state,
                content_hash: row.content_hash,
                settled_at: EventTime(row.settled_at),
                window_end: EventTime(row.window_end),
                generation: row.generation,
            };
            days.insert(day_of_number(row.day), previous);
            Ok(())
        })
        .await?;
        Ok(days)
    }

    /// The id of a tenant's newest run. A close or a reopening of its period writes a run's days again: what counts is
    /// when they were first written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn newest_run(&self, tenant: &TenantId) -> Result<Option<String>, StoreError> {
        let query = self
            .query(
                "SELECT run_id FROM settlements WHERE tenant = {tenant:String} \
                 GROUP BY run_id ORDER BY min(settled_at) DESC, run_id DESC LIMIT 1",
            )
            .param("tenant", tenant.as_str());
        let mut newest = None;
        self.read("find the newest run", query, |run_id: String| {
            newest = Some(run_id);
            Ok(())
        })
        .await?;
        Ok(newest)
    }

    /// The days that a run settled; none if there is no such run of this tenant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn days_of_run(
        &self,
        tenant: &TenantId,
        run_id: &str,
    ) -> Result<BTreeMap<Date, StoredDay>, StoreError> {
        let sql = format!(
            "SELECT {RUN_COLUMNS}, toUnixTimestamp64Micro(settlements.settled_at) AS settled_at, generation \
             FROM settlements FINAL WHERE tenant = {{tenant:String}} AND run_id = {{run_id:String}} \
             ORDER BY settlements.settled_at DESC"
        );
        let mut days = BTreeMap::new();
        let query = self.query(&sql).param("tenant", tenant.as_str()).param("run_id", run_id);
        self.read("read a run", query, |row: StoredSettlementRow| {
            // The first writing of a day comes last, and stays.
            let day = StoredDay {
                deliveries: row.deliveries,
                events: row.events,
                lake_version: row.lake_version,
                settled_at: EventTime(row.settled_at),
            };
            days.insert(day_of_number(row.day), day);
            Ok(())
        })
        .await?;
        Ok(days)
    }

    /// Hands over the drift of every cell of a run, in no order.
    ///
    /// # Errors
    /// [`StoreError`], also what the receiver returns.
    pub(crate) async fn drift_of_run(
        &self,
        tenant: &TenantId,
        run_id: &str,
        mut receive: impl FnMut(&CellName, &Drift) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let query = self
            .query(
                "SELECT day, rollup, event, dimensions, measure, currency, speed, batch, reasons, residual, \
                 error_bound FROM drift WHERE tenant = {tenant:String} AND run_id = {run_id:String}",
            )
            .param("tenant", tenant.as_str())
            .param("run_id", run_id);
        self.read("read the drift of a run", query, |row: StoredDriftRow| {
            let drift = drift_of(&row)?;
            let cell = CellName {
                day: day_of_number(row.day),
                rollup: row.rollup,
                event: row.event,
                dimensions: row.dimensions,
            };
            receive(&cell, &drift)
        })
        .await
    }

    /// Distinct users over all days of a run, or on one of them, exact.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn users_of_run(
        &self,
        tenant: &TenantId,
        run_id: &str,
        day: Option<Date>,
    ) -> Result<u64, StoreError> {
        let query = self
            .query(
                "SELECT uniqExact(user_key) FROM settled_users \
                 WHERE tenant = {tenant:String} AND rollup = {rollup:String} AND run_id = {run_id:String} \
                 AND day >= toDate32({first:Int32}) AND day <= toDate32({last:Int32})",
            )
            .param("tenant", tenant.as_str())
            .param("rollup", Rollup::TOTAL)
            .param("run_id", run_id)
            .param("first", day.map_or(DAY_NUMBER_MIN, day_number))
            .param("last", day.map_or(DAY_NUMBER_MAX, day_number));
        let mut users = 0;
        self.read("count the users of a run", query, |count: u64| {
            users = count;
            Ok(())
        })
        .await?;
        Ok(users)
    }

    /// The newest run that settled a day.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn run_of_day(&self, tenant: &TenantId, day: Date) -> Result<Option<String>, StoreError> {
        let query = self
            .query(
                "SELECT run_id FROM settlements FINAL WHERE tenant = {tenant:String} \
                 AND day = toDate32({day:Int32}) ORDER BY settled_at DESC, run_id DESC LIMIT 1",
            )
            .param("tenant", tenant.as_str())
            .param("day", day_number(day));
        let mut run = None;
        self.read("find the run of a day", query, |run_id: String| {
            run = Some(run_id);
            Ok(())
        })
        .await?;
        Ok(run)
    }

    /// Hands over the drift that a run found on a day in one rollup, cell by cell, in no order.
    ///
    /// # Errors
    /// [`StoreError`], also what the receiver returns.
    pub(crate) async fn drift_of_day(
        &self,
        tenant: &TenantId,
        run_id: &str,
        day: Date,
        rollup: &str,
        mut receive: impl FnMut(CellName, Drift) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let query = self
            .query(
                "SELECT day, rollup, event, dimensions, measure, currency, speed, batch, reasons, residual, \
                 error_bound FROM drift WHERE tenant = {tenant:String} AND run_id = {run_id:String} \
                 AND day = toDate32({day:Int32}) AND rollup = {rollup:String}",
            )
            .param("tenant", tenant.as_str())
            .param("run_id", run_id)
            .param("day", day_number(day))
            .param("rollup", rollup);
        self.read("read the drift of a day", query, |row: StoredDriftRow| {
            let drift = drift_of(&row)?;
            let day = day_of_number(row.day);
            receive(CellName { day, rollup: row.rollup, event: row.event, dimensions: row.dimensions }, drift)
        })
        .await
    }

    /// Every version of the lake that a settlement or a backfill was counted from, in order.
    pub(super) async fn settled_versions(&self) -> Result<Vec<u64>, StoreError> {
        let query = self.query(
            "SELECT DISTINCT lake_version FROM (SELECT lake_version FROM settlements UNION ALL \
             SELECT lake_version FROM backfills) ORDER BY lake_version",
        );
        let mut versions = Vec::new();
        self.read("read which versions of the lake were settled", query, |version: u64| {
            versions.push(version);
            Ok(())
        })
        .await?;
        Ok(versions)
    }
}

/// A stored row as it was computed.
pub(super) fn drift_of(row: &StoredDriftRow) -> Result<Drift, StoreError> {
    let incompatible = |error: &dyn std::fmt::Display| StoreError::Incompatible(format!("a row of drift: {error}"));
    let unit = match row.currency.as_str() {
        "" => None,
        unit => Some(unit.parse().map_err(|error| incompatible(&error))?),
    };
    let reasons = row.reasons.iter().map(|(name, amount)| Ok((name.parse()?, *amount)));
    let reasons: Result<_, reckon_schemas::settlement::UnknownName> = reasons.collect();
    Ok(Drift {
        measure: row.measure.parse().map_err(|error| incompatible(&error))?,
        unit,
        speed: row.speed,
        batch: row.batch,
        reasons: reasons.map_err(|error| incompatible(&error))?,
        residual: row.residual,
        error_bound: row.error_bound,
    })
}
