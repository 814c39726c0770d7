//! What the speed layer said at one moment: a consistent cut through its tables.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use hashbrown::HashMap;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::{DimensionValues, Measures};
use reckon_schemas::sums::Unit;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;
use tokio::time::Instant;

use super::evidence::SpeedEvidence;
use super::rows::{SpeedCellRow, offset};
use super::{Store, StoreError};
use crate::reconcile::Fates;
use crate::recount::Groups;

const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// The speed layer's cells of grain `1d` and what it did with every delivery, as of the same offsets.
#[derive(Debug, Default)]
pub(crate) struct SpeedCut {
    /// What it did with every delivery.
    pub(crate) fates: Fates,
    /// By group and the start of the day.
    pub(crate) cells: HashMap<(u32, EventTime), Measures>,
}

impl SpeedCut {
    /// Reads the cut of some spans of days.
    ///
    /// The progress is read first, and it was written after everything that it stands for. So every row that carries no
    /// higher version is exactly as it was at that progress; a row with a higher one belongs to a later flush, and the
    /// cut is tried again.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Moving`] if every attempt met a later flush.
    pub(crate) async fn read(
        store: &Store,
        topic: &str,
        tenant: &Tenant,
        spans: &[Range<EventTime>],
        groups: &mut Groups,
    ) -> Result<Self, StoreError> {
        for attempt in 1..=ATTEMPTS {
            if let Some(cut) = Self::try_read(store, topic, tenant, spans, groups).await? {
                return Ok(cut);
            }
            tracing::debug!(attempt, tenant = %tenant.id, "the speed layer wrote meanwhile");
            tokio::time::sleep(PAUSE).await;
        }
        Err(StoreError::Moving(ATTEMPTS))
    }

    /// Waits until the speed layer has read everything below these offsets, or the deadline is there: a settlement does
    /// not depend on it, and what it has not read by then is reported as such.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn wait_for(
        store: &Store,
        topic: &str,
        next_offsets: &BTreeMap<i32, i64>,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        loop {
            let progress = store.speed_progress(topic).await?;
            let unread = |(partition, next): (&i32, &i64)| (next - progress.get(partition).unwrap_or(&0)).max(0);
            let unread: i64 = next_offsets.iter().map(unread).sum();
            if unread == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                tracing::warn!(records = unread, "the speed layer is behind: settling without it");
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_read(
        store: &Store,
        topic: &str,
        tenant: &Tenant,
        spans: &[Range<EventTime>],
        groups: &mut Groups,
    ) -> Result<Option<Self>, StoreError> {
        let mut cut = Self::default();
        let next_offsets = store.speed_progress(topic).await?;
        for span in spans {
            if !cut.read_cells(store, tenant, span, &next_offsets, groups).await? {
                return Ok(None);
            }
        }
        let evidence = SpeedEvidence::read(store, topic, tenant, spans, Grain::Day).await?;
        cut.fates = evidence.into_fates(next_offsets);
        Ok(Some(cut))
    }

    /// False if a row is newer than the cut.
    async fn read_cells(
        &mut self,
        store: &Store,
        tenant: &Tenant,
        span: &Range<EventTime>,
        next_offsets: &BTreeMap<i32, i64>,
        groups: &mut Groups,
    ) -> Result<bool, StoreError> {
        let query = store
            .query(
                "SELECT rollup, toUnixTimestamp64Micro(window_start) AS window_start, event, dimensions, partition, \
                 version, count, money, users FROM speed_cells_raw FINAL \
                 WHERE tenant = {tenant:String} AND grain = {grain:String} \
                 AND speed_cells_raw.window_start >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
                 AND speed_cells_raw.window_start < fromUnixTimestamp64Micro({to:Int64}, 'UTC')",
            )
            .param("tenant", tenant.id.as_str())
            .param("grain", Grain::Day.name())
            .param("from", span.start.0)
            .param("to", span.end.0);
        let summed = tenant.summed_properties();
        let mut consistent = true;
        store
            .read("read the speed layer's cells", query, |row: SpeedCellRow| {
                let next = next_offsets.get(&row.partition).copied().unwrap_or(0);
                consistent &= offset(row.version)? <= next;
                // A rollup that is no longer counted has no settled cells to be compared with.
                let Some(rollup) = groups.rollups().iter().position(|rollup| rollup.name() == row.rollup) else {
                    return Ok(());
                };
                let group = groups.of_cell(rollup, &row.event, &DimensionValues::new(&row.dimensions));
                // Nor has a property that is no longer summed.
                let is_summed = |unit: &Unit| unit.currency().is_some() || summed.contains(unit);
                let sums = row.money.iter().filter(|(unit, _)| is_summed(unit)).collect();
                let part = Measures { count: row.count, sums, users: row.users };
                let cell = self.cells.entry((group, EventTime(row.window_start))).or_default();
                cell.merge(&part).map_err(|error| StoreError::Incompatible(error.to_string()))
            })
            .await?;
        Ok(consistent)
    }
}
