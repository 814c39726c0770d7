//! What a drill-down needs: how far the speed layer was when a run compared, what it wrote down about single records,
//! and its cells partition by partition.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::ids::TenantId;
use reckon_schemas::lake::UNREADABLE_TENANT;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::Sums;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;

use super::calendar::{day_number, day_of_number};
use super::cut::{read_plans, read_progress};
use super::history::drift_of;
use super::rows::{CellPartRow, CutRow, ExceptionGrainRow, OverflowRow, ProgressRow, StoredDriftRow};
use super::store::unavailable;
use super::{Store, StoreError};
use crate::reconcile::{CellName, Drift, Fates, Plans};

const WRITING_CUT: &str = "write how far the speed layer was";

/// What the speed layer wrote down about single records, by partition and offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// What it refused, and the coarsest grain that it is missing from.
    pub(crate) refused: HashMap<(i32, i64), (Reason, Grain)>,
    /// What it counted under `__other__`, and the dimensions that had too many values.
    pub(crate) overflowed: HashMap<(i32, i64), Arc<[String]>>,
    /// What it counted by, when.
    pub(crate) plans: Plans,
}

impl Evidence {
    /// What happened to every delivery as far as the cells of a day are concerned, when the speed layer had read so far.
    pub(crate) fn fates(&self, next_offsets: BTreeMap<i32, i64>) -> Fates {
        let missing_a_day = self.refused.iter().filter(|(_, (_, missed))| *missed == Grain::Day);
        let refused = missing_a_day.map(|(at, (reason, _))| (*at, *reason)).collect();
        Fates { next_offsets, refused, overflowed: self.overflowed.clone(), plans: self.plans.clone() }
    }
}

/// One partition's part of a cell, as the speed layer says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CellPart {
    /// The partition.
    pub(crate) partition: i32,
    /// The offset up to which it was counted.
    pub(crate) version: i64,
    /// The cell's window.
    pub(crate) window: Range<EventTime>,
    /// Events.
    pub(crate) count: u64,
    /// Sums.
    pub(crate) sums: Sums,
}

fn offset(offset: u64) -> Result<i64, StoreError> {
    i64::try_from(offset).map_err(|error| StoreError::Incompatible(error.to_string()))
}

impl Store {
    /// Writes how far the speed layer had read when a run compared with it. Before the run becomes visible.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_cut(
        &self,
        tenant: &TenantId,
        run_id: &str,
        topic: &str,
        next_offsets: &BTreeMap<i32, i64>,
    ) -> Result<(), StoreError> {
        if next_offsets.is_empty() {
            return Ok(());
        }
        let failed = |error| unavailable(WRITING_CUT, &error);
        let mut insert = self.insert::<CutRow<'_>>(WRITING_CUT, "settlement_cuts").await?;
        for (partition, next_offset) in next_offsets {
            let next_offset = u64::try_from(*next_offset).unwrap_or(0);
            let row = CutRow { tenant: tenant.as_str(), run_id, topic, partition: *partition, next_offset };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    /// How far the speed layer had read when a run compared with it; empty for a run of an older build.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn cut_of_run(
        &self,
        tenant: &TenantId,
        run_id: &str,
        topic: &str,
    ) -> Result<BTreeMap<i32, i64>, StoreError> {
        let query = self
            .query(
                "SELECT partition, next_offset FROM settlement_cuts FINAL \
                 WHERE tenant = {tenant:String} AND run_id = {run_id:String} AND topic = {topic:String}",
            )
            .param("tenant", tenant.as_str())
            .param("run_id", run_id)
            .param("topic", topic);
        let mut cut = BTreeMap::new();
        self.read("read how far the speed layer was", query, |row: ProgressRow| {
            cut.insert(row.partition, offset(row.next_offset)?);
            Ok(())
        })
        .await?;
        Ok(cut)
    }

    /// How far the speed layer is now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn speed_progress(&self, topic: &str) -> Result<BTreeMap<i32, i64>, StoreError> {
        read_progress(self, topic).await
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

    /// What the speed layer wrote down about the records of a span of event time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn evidence(
        &self,
        topic: &str,
        tenant: &Tenant,
        span: &Range<EventTime>,
    ) -> Result<Evidence, StoreError> {
        let mut evidence = Evidence { plans: read_plans(self, topic, tenant).await?, ..Evidence::default() };
        let of_span = "occurred_at >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
                       AND occurred_at < fromUnixTimestamp64Micro({to:Int64}, 'UTC')";
        // What it could not read has no time, nor a tenant; batch may be able to read it.
        let sql = format!(
            "SELECT partition, offset, reason, missed FROM speed_exceptions FINAL WHERE topic = {{topic:String}} \
             AND (tenant = {{unreadable:String}} OR (tenant = {{tenant:String}} AND {of_span}))"
        );
        let bind = |sql: &str| {
            let query = self.query(sql).param("topic", topic).param("tenant", tenant.id.as_str());
            query.param("from", span.start.0).param("to", span.end.0)
        };
        let query = bind(&sql).param("unreadable", UNREADABLE_TENANT);
        self.read("read what the speed layer refused", query, |row: ExceptionGrainRow| {
            let reason = row.reason.parse().map_err(|error| StoreError::Incompatible(format!("{error}")))?;
            let missed = row.missed.parse().map_err(|error| StoreError::Incompatible(format!("{error}")))?;
            evidence.refused.insert((row.partition, offset(row.offset)?), (reason, missed));
            Ok(())
        })
        .await?;
        let sql = format!(
            "SELECT partition, offset, dimensions FROM speed_overflows FINAL \
             WHERE topic = {{topic:String}} AND tenant = {{tenant:String}} AND {of_span}"
        );
        self.read("read what the speed layer counted under __other__", bind(&sql), |row: OverflowRow| {
            evidence.overflowed.insert((row.partition, offset(row.offset)?), row.dimensions.into());
            Ok(())
        })
        .await?;
        Ok(evidence)
    }

    /// A cell's parts, by partition and by windows of a grain, in a span.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn cell_parts(
        &self,
        tenant: &TenantId,
        cell: &CellName,
        grain: Grain,
        span: &Range<EventTime>,
    ) -> Result<Vec<CellPart>, StoreError> {
        let query = self
            .query(
                "SELECT toUnixTimestamp64Micro(window_start) AS window_start, \
                 toUnixTimestamp64Micro(window_end) AS window_end, partition, version, count, money \
                 FROM speed_cells_raw FINAL \
                 WHERE tenant = {tenant:String} AND rollup = {rollup:String} AND grain = {grain:String} \
                 AND event = {event:String} AND dimensions = {dimensions:Array(String)} \
                 AND speed_cells_raw.window_start >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
                 AND speed_cells_raw.window_start < fromUnixTimestamp64Micro({to:Int64}, 'UTC')",
            )
            .param("tenant", tenant.as_str())
            .param("rollup", &cell.rollup)
            .param("grain", grain.name())
            .param("event", &cell.event)
            .param("dimensions", &cell.dimensions)
            .param("from", span.start.0)
            .param("to", span.end.0);
        let mut parts = Vec::new();
        self.read("read the parts of a cell", query, |row: CellPartRow| {
            parts.push(CellPart {
                partition: row.partition,
                version: offset(row.version)?,
                window: EventTime(row.window_start)..EventTime(row.window_end),
                count: row.count,
                sums: row.money,
            });
            Ok(())
        })
        .await?;
        Ok(parts)
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
