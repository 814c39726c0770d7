//! What the speed layer wrote down: about single records, and its cells partition by partition.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use reckon_schemas::catalog::Tenant;
use reckon_schemas::ids::TenantId;
use reckon_schemas::lake::UNREADABLE_TENANT;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::Sums;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;

use super::rows::{CellPartRow, ExceptionRow, OverflowRow, PlanRow, offset};
use super::{Store, StoreError};
use crate::reconcile::{CellName, Fates, Plans};

const REFUSED: &str = "SELECT partition, offset, reason, missed FROM speed_exceptions FINAL \
    WHERE tenant = {tenant:String} AND topic = {topic:String} AND has({missed:Array(String)}, missed) \
    AND occurred_at >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
    AND occurred_at < fromUnixTimestamp64Micro({to:Int64}, 'UTC')";
const UNREADABLE: &str = "SELECT partition, offset, reason, missed FROM speed_exceptions FINAL \
    WHERE tenant = {tenant:String} AND topic = {topic:String}";
const OVERFLOWED: &str = "SELECT partition, offset, dimensions FROM speed_overflows FINAL \
    WHERE tenant = {tenant:String} AND topic = {topic:String} \
    AND occurred_at >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
    AND occurred_at < fromUnixTimestamp64Micro({to:Int64}, 'UTC')";

/// What the speed layer wrote down about single records, by partition and offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpeedEvidence {
    /// What it refused, and the coarsest grain that it is missing from.
    pub(crate) refused: HashMap<(i32, i64), (Reason, Grain)>,
    /// What it counted under `__other__`, and the dimensions that had too many values.
    pub(crate) overflowed: HashMap<(i32, i64), Arc<[String]>>,
    /// What it counted by, when.
    pub(crate) plans: Plans,
}

impl SpeedEvidence {
    /// Reads it of some spans of event time; of what was refused, that which is missing from windows of `grain` or a
    /// coarser one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn read(
        store: &Store,
        topic: &str,
        tenant: &Tenant,
        spans: &[Range<EventTime>],
        grain: Grain,
    ) -> Result<Self, StoreError> {
        let mut evidence = Self { plans: read_plans(store, topic, tenant).await?, ..Self::default() };
        let missed: Vec<&str> =
            Grain::ALL.iter().filter(|missed| **missed >= grain).map(|missed| missed.name()).collect();
        // A few combinations of dimensions, each kept once, for up to as many records as there are.
        let mut known: HashSet<Arc<[String]>> = HashSet::new();
        for span in spans {
            let bind = |sql| {
                let query = store.query(sql).param("tenant", tenant.id.as_str()).param("topic", topic);
                query.param("from", span.start.0).param("to", span.end.0)
            };
            let refused = bind(REFUSED).param("missed", &missed);
            store.read("read what the speed layer refused", refused, |row| evidence.refuse(&row)).await?;
            let overflow = |row: OverflowRow| {
                let dimensions = known.get_or_insert_with(row.dimensions.as_slice(), |dimensions| dimensions.into());
                evidence.overflowed.insert((row.partition, offset(row.offset)?), Arc::clone(dimensions));
                Ok(())
            };
            store.read("read what the speed layer counted under __other__", bind(OVERFLOWED), overflow).await?;
        }
        // What it could not read as an event has no time, nor a tenant; batch may be able to read it.
        let unreadable = store.query(UNREADABLE).param("tenant", UNREADABLE_TENANT).param("topic", topic);
        store.read("read what the speed layer could not decode", unreadable, |row| evidence.refuse(&row)).await?;
        Ok(evidence)
    }

    fn refuse(&mut self, row: &ExceptionRow) -> Result<(), StoreError> {
        let reason = row.reason.parse().map_err(|error| StoreError::Incompatible(format!("{error}")))?;
        let missed = row.missed.parse().map_err(|error| StoreError::Incompatible(format!("{error}")))?;
        self.refused.insert((row.partition, offset(row.offset)?), (reason, missed));
        Ok(())
    }

    /// What happened to every delivery as far as the cells of a day are concerned, when the speed layer had read so far:
    /// what came too late for a finer grain only was counted for the day.
    pub(crate) fn into_fates(self, next_offsets: BTreeMap<i32, i64>) -> Fates {
        let missing_a_day = self.refused.into_iter().filter(|(_, (_, missed))| *missed == Grain::Day);
        let refused = missing_a_day.map(|(at, (reason, _))| (at, reason)).collect();
        Fates { next_offsets, refused, overflowed: self.overflowed, plans: self.plans }
    }
}

/// What it counted a tenant's events by, when.
async fn read_plans(store: &Store, topic: &str, tenant: &Tenant) -> Result<Plans, StoreError> {
    let query = store
        .query(
            "SELECT item, partition, offset, counted FROM speed_plans FINAL \
             WHERE tenant = {tenant:String} AND topic = {topic:String}",
        )
        .param("tenant", tenant.id.as_str())
        .param("topic", topic);
    let mut plans = Plans::default();
    store
        .read("read what the speed layer counted by", query, |row: PlanRow| {
            plans.note(row.item, row.partition, offset(row.offset)?, row.counted != 0);
            Ok(())
        })
        .await?;
    Ok(plans)
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

impl Store {
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
}
