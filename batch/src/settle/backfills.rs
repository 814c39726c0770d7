//! Backfills: a rollup's cells that were added to days that are settled, beside the runs that settled them.

use std::collections::BTreeMap;

use clickhouse::Row;
use hashbrown::{HashMap, HashSet};
use jiff::civil::Date;
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::Sums;
use reckon_schemas::time::{EventTime, day_number, day_of_number};
use reckon_schemas::window::Grain;
use serde::{Deserialize, Serialize};

use super::published::AnchoredDay;
use super::store::unavailable;
use super::{Store, StoreError};

const WRITING: &str = "write backfills";
const WRITING_CHANGES: &str = "write what a backfill adds";

const COUNTED: &str = "
    SELECT DISTINCT day, run_id FROM settled_cells_raw
    WHERE tenant = {tenant:String} AND rollup = {rollup:String} AND grain = '1d'
      AND toInt32(day) >= {first:Int32} AND toInt32(day) <= {last:Int32}";

const OF_RUN: &str = "
    SELECT day, argMin(content_hash, filled_at) AS hash, argMin(manifest, filled_at) AS anchor
    FROM backfills WHERE tenant = {tenant:String} AND run_id = {run:String} GROUP BY day";

const ANCHORED: &str = "
    SELECT day, run_id, content_hash, manifest FROM backfills FINAL
    WHERE tenant = {tenant:String} ORDER BY filled_at, day";

const TOTALS: &str = "
    SELECT day, grain, toUnixTimestamp64Micro(window_start) AS start_us, event, count, money, users
    FROM settled_cells_raw
    WHERE tenant = {tenant:String} AND rollup = {rollup:String}
      AND (day, run_id) IN {settled:Array(Tuple(Date32, String))}";

/// Every measure of the run's cells of grain `1d`, which had no value before.
const WRITE_CHANGES: &str = "
    INSERT INTO changes_stored (tenant, day, run_id, run_before, rollup, event, dimensions, measure, unit, before, after,
                                reason, changed_at)
    WITH visible AS (
        SELECT day, run_id AS visible_run FROM settlements_current
        WHERE tenant = {tenant:String} AND has({days:Array(Int32)}, toInt32(day))),
    measured AS (
        SELECT day, `rollup`, event, dimensions, amount.1 AS measure, amount.2 AS unit, amount.3 AS value
        FROM settled_cells_raw
        ARRAY JOIN arrayConcat(
            [('count', '', toInt128(count)), ('users', '', toInt128(users_exact))],
            arrayMap((name, sum) -> (if(startsWith(name, '#'), 'sum', 'money'), name, sum), mapKeys(money),
                     mapValues(money))) AS amount
        WHERE tenant = {tenant:String} AND grain = '1d' AND run_id = {run:String}
          AND has({days:Array(Int32)}, toInt32(day)))
    SELECT {tenant:String}, day, {run:String}, visible_run, `rollup`, event, dimensions, measure, unit,
           toInt128(0), value, 'new_rollup', fromUnixTimestamp64Micro({at:Int64}, 'UTC')
    FROM measured INNER JOIN visible USING (day) WHERE value != 0";

/// Day, event, grain and start: what a cell of the rollup `total` is told apart by.
pub(crate) type WholePlace = (Date, String, Grain, EventTime);

/// What a window holds, all values of all dimensions together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Whole {
    pub(crate) count: u64,
    pub(crate) sums: Sums,
    pub(crate) users: Sketch,
}

/// Windows by their places.
pub(crate) type Wholes = HashMap<WholePlace, Whole>;

/// One day of a backfill.
#[derive(Clone, Debug)]
pub(crate) struct BackfilledDay {
    pub(crate) day: Date,
    /// The run that settled it.
    pub(crate) base_run_id: String,
    pub(crate) lake_version: u64,
    pub(crate) events: u64,
    /// The fingerprint of the rollup's cells.
    pub(crate) content_hash: String,
}

/// What the rows that make a backfill visible have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackfillStamp<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) rollup: &'a str,
    pub(crate) run_id: &'a str,
    pub(crate) filled_at: EventTime,
    /// The hash of the run's manifest.
    pub(crate) manifest: &'a str,
}

#[derive(Row, Deserialize)]
struct TotalRow {
    day: i32,
    grain: String,
    start_us: i64,
    event: String,
    count: u64,
    money: Sums,
    users: Sketch,
}

#[derive(Row, Deserialize)]
struct RunOfDayRow {
    day: i32,
    run_id: String,
}

#[derive(Row, Deserialize)]
struct HashRow {
    day: i32,
    hash: String,
    anchor: String,
}

#[derive(Row, Deserialize)]
struct AnchoredRow {
    day: i32,
    run_id: String,
    content_hash: String,
    manifest: String,
}

#[derive(Row, Serialize)]
struct WrittenRow<'a> {
    tenant: &'a str,
    rollup: &'a str,
    day: i32,
    run_id: &'a str,
    base_run_id: &'a str,
    lake_version: u64,
    events: u64,
    content_hash: &'a str,
    filled_at: i64,
    manifest: &'a str,
}

impl Store {
    /// The days and runs that have cells of a rollup, visible or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn runs_with_rollup(
        &self,
        tenant: &TenantId,
        rollup: &str,
        (first, last): (Date, Date),
    ) -> Result<HashSet<(Date, String)>, StoreError> {
        let query = self.query(COUNTED).param("tenant", tenant.as_str()).param("rollup", rollup);
        let query = query.param("first", day_number(first)).param("last", day_number(last));
        let mut runs = HashSet::new();
        self.read("read which runs counted a rollup", query, |row: RunOfDayRow| {
            runs.insert((day_of_number(row.day), row.run_id));
            Ok(())
        })
        .await?;
        Ok(runs)
    }

    /// The days of a rollup that a backfill has filled, as far as they are visible.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn backfilled_days(&self, tenant: &TenantId, rollup: &str) -> Result<HashSet<Date>, StoreError> {
        let sql =
            "SELECT day, run_id FROM backfills_current WHERE tenant = {tenant:String} AND rollup = {rollup:String}";
        let query = self.query(sql).param("tenant", tenant.as_str()).param("rollup", rollup);
        let mut days = HashSet::new();
        self.read("read what is filled", query, |row: RunOfDayRow| {
            days.insert(day_of_number(row.day));
            Ok(())
        })
        .await?;
        Ok(days)
    }

    /// What the runs that settled some days published of them without dimensions, at every grain.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn published_totals(
        &self,
        tenant: &TenantId,
        runs: &HashMap<Date, &str>,
    ) -> Result<Wholes, StoreError> {
        let runs: Vec<(String, &str)> = runs.iter().map(|(day, run)| (day.to_string(), *run)).collect();
        let query = self.query(TOTALS).param("tenant", tenant.as_str()).param("rollup", Rollup::TOTAL);
        let mut wholes = Wholes::new();
        self.read("read what is published", query.param("settled", runs), |row: TotalRow| {
            let grain = row.grain.parse().map_err(|error| StoreError::Incompatible(format!("{error}")))?;
            let whole = Whole { count: row.count, sums: row.money, users: row.users };
            wholes.insert((day_of_number(row.day), row.event, grain, EventTime(row.start_us)), whole);
            Ok(())
        })
        .await?;
        Ok(wholes)
    }

    /// Writes down what a backfill adds, whose cells are written and which is not visible yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_additions(
        &self,
        tenant: &TenantId,
        run_id: &str,
        days: &[Date],
        at: EventTime,
    ) -> Result<(), StoreError> {
        let numbers: Vec<i32> = days.iter().copied().map(day_number).collect();
        let query = self.query(WRITE_CHANGES).param("tenant", tenant.as_str()).param("run", run_id);
        let query = query.param("days", numbers).param("at", at.0);
        query.execute().await.map_err(|error| unavailable(WRITING_CHANGES, &error))
    }

    /// Makes a backfill visible: all of its days in one insert, which is taken as a whole or not at all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_backfills(
        &self,
        stamp: BackfillStamp<'_>,
        days: &[BackfilledDay],
    ) -> Result<(), StoreError> {
        let failed = |error| unavailable(WRITING, &error);
        let mut insert = self.insert::<WrittenRow<'_>>(WRITING, "backfills").await?;
        for day in days {
            let row = WrittenRow {
                tenant: stamp.tenant.as_str(),
                rollup: stamp.rollup,
                day: day_number(day.day),
                run_id: stamp.run_id,
                base_run_id: &day.base_run_id,
                lake_version: day.lake_version,
                events: day.events,
                content_hash: &day.content_hash,
                filled_at: stamp.filled_at.0,
                manifest: stamp.manifest,
            };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    /// The fingerprint of every day of a backfill, as it was first written, and the hash of the run's manifest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn hashes_of_backfill(
        &self,
        tenant: &TenantId,
        run_id: &str,
    ) -> Result<BTreeMap<Date, (String, String)>, StoreError> {
        let query = self.query(OF_RUN).param("tenant", tenant.as_str()).param("run", run_id);
        let mut days = BTreeMap::new();
        self.read("read the fingerprints of a backfill", query, |row: HashRow| {
            days.insert(day_of_number(row.day), (row.hash, row.anchor));
            Ok(())
        })
        .await?;
        Ok(days)
    }

    /// Every row of a backfill, oldest first, with the manifest that it names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn anchored_backfills(&self, tenant: &TenantId) -> Result<Vec<AnchoredDay>, StoreError> {
        let query = self.query(ANCHORED).param("tenant", tenant.as_str());
        let mut days = Vec::new();
        self.read("read what backfills name a manifest", query, |row: AnchoredRow| {
            let (day, manifest) = (day_of_number(row.day), row.manifest);
            days.push(AnchoredDay { day, run_id: row.run_id, content_hash: row.content_hash, manifest });
            Ok(())
        })
        .await?;
        Ok(days)
    }
}
