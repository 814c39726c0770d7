//! Writing a run: its cells, users and drift in large inserts, and last the rows that make it visible.

use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::settlement::State;
use reckon_schemas::time::{EventTime, day_number};
use reckon_schemas::window::Window;

use super::rows::{CellRow, DriftRow, SettlementRow, UserRow};
use super::store::unavailable;
use super::{Store, StoreError};
use crate::reconcile::Drift;
use crate::recount::{Cell, Cells, Groups};

const WRITING_CELLS: &str = "write settled cells";
const WRITING_USERS: &str = "write settled users";
const WRITING_DRIFT: &str = "write drift";
const WRITING_SETTLEMENTS: &str = "write settlements";

/// The drift of one cell of grain `1d`.
#[derive(Debug)]
pub(crate) struct DayCell {
    /// The number of its group.
    pub(crate) group: u32,
    /// Its day.
    pub(crate) day: Date,
    /// Its measures.
    pub(crate) drifts: Vec<Drift>,
}

/// Everything of a few days that a run writes before it becomes visible.
pub(crate) struct ChunkRows<'a> {
    /// Whose days they are.
    pub(crate) tenant: &'a TenantId,
    /// The run.
    pub(crate) run_id: &'a str,
    /// What the group numbers stand for.
    pub(crate) groups: &'a Groups,
    /// The cells, sorted as they are to be written.
    pub(crate) sorted: &'a [&'a Cell],
    /// The same cells with their users.
    pub(crate) cells: &'a Cells,
    /// The drift.
    pub(crate) drift: &'a [DayCell],
}

/// The settlement of one day.
#[derive(Debug)]
pub(crate) struct Settlement {
    /// The day.
    pub(crate) day: Date,
    /// Its window.
    pub(crate) window: Window,
    /// Settled for the first time, or again.
    pub(crate) state: State,
    /// Deliveries in the lake.
    pub(crate) deliveries: u64,
    /// Events, each once.
    pub(crate) events: u64,
    /// The fingerprint of its cells.
    pub(crate) content_hash: String,
    /// How many cells have a residual.
    pub(crate) residual_cells: u64,
    /// The generation of the day as the run found it: if its period is closed meanwhile, that counts, not this.
    pub(crate) generation: u32,
}

/// What the rows that make a run visible have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunStamp<'a> {
    /// Whose days.
    pub(crate) tenant: &'a TenantId,
    /// The run.
    pub(crate) run_id: &'a str,
    /// The version of the lake that was counted.
    pub(crate) lake_version: u64,
    /// When.
    pub(crate) settled_at: EventTime,
    /// The hash of the run's manifest.
    pub(crate) manifest: &'a str,
}

impl Store {
    /// Writes the rows of a few days. They are not visible yet.
    ///
    /// An insert that fails is not tried again: whether its rows are there or not cannot be known, and twice would be
    /// wrong. The run is given up; what it wrote is never seen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_chunk(&self, rows: &ChunkRows<'_>) -> Result<(), StoreError> {
        // The names of a group's values are made once, not for each of its cells.
        let values: Vec<Vec<String>> = (0..rows.groups.count()).map(|group| rows.groups.values_of(group)).collect();
        self.write_cells(rows, &values).await?;
        self.write_users(rows, &values).await?;
        self.write_drift(rows, &values).await
    }

    async fn write_cells(&self, rows: &ChunkRows<'_>, values: &[Vec<String>]) -> Result<(), StoreError> {
        if rows.sorted.is_empty() {
            return Ok(());
        }
        let failed = |error| unavailable(WRITING_CELLS, &error);
        let mut insert = self.insert::<CellRow<'_>>(WRITING_CELLS, "settled_cells_raw").await?;
        for cell in rows.sorted {
            let row = CellRow {
                tenant: rows.tenant.as_str(),
                rollup: rows.groups.rollup_of(cell.group).name(),
                grain: cell.window.grain.name(),
                window_start: cell.window.start.0,
                window_end: cell.window.end.0,
                event: &rows.groups.get(cell.group).event,
                dimensions: &values[cell.group as usize],
                day: day_number(cell.day),
                run_id: rows.run_id,
                count: cell.exact.count,
                money: &cell.exact.sums,
                users_exact: cell.exact.users_exact,
                users: &cell.exact.users,
            };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    async fn write_users(&self, rows: &ChunkRows<'_>, values: &[Vec<String>]) -> Result<(), StoreError> {
        let mut users = rows.cells.users_of_days().peekable();
        if users.peek().is_none() {
            return Ok(());
        }
        let failed = |error| unavailable(WRITING_USERS, &error);
        let mut insert = self.insert::<UserRow<'_>>(WRITING_USERS, "settled_users").await?;
        for (cell, user_key) in users {
            let row = UserRow {
                tenant: rows.tenant.as_str(),
                rollup: rows.groups.rollup_of(cell.group).name(),
                event: &rows.groups.get(cell.group).event,
                dimensions: &values[cell.group as usize],
                day: day_number(cell.day),
                run_id: rows.run_id,
                user_key,
            };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    async fn write_drift(&self, rows: &ChunkRows<'_>, values: &[Vec<String>]) -> Result<(), StoreError> {
        if rows.drift.is_empty() {
            return Ok(());
        }
        let failed = |error| unavailable(WRITING_DRIFT, &error);
        let mut insert = self.insert::<DriftRow<'_>>(WRITING_DRIFT, "drift").await?;
        for cell in rows.drift {
            for drift in &cell.drifts {
                let row = DriftRow {
                    tenant: rows.tenant.as_str(),
                    run_id: rows.run_id,
                    day: day_number(cell.day),
                    rollup: rows.groups.rollup_of(cell.group).name(),
                    event: &rows.groups.get(cell.group).event,
                    dimensions: &values[cell.group as usize],
                    measure: drift.measure.name(),
                    currency: drift.unit.as_ref().map(ToString::to_string).unwrap_or_default(),
                    speed: drift.speed,
                    batch: drift.batch,
                    reasons: drift.reasons.iter().map(|(reason, amount)| (reason.name(), *amount)).collect(),
                    residual: drift.residual,
                    error_bound: drift.error_bound,
                };
                insert.write(&row).await.map_err(failed)?;
            }
        }
        insert.end().await.map_err(failed)
    }

    /// Makes a run visible: all of its days in one insert, which is taken as a whole or not at all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_settlements(
        &self,
        run: RunStamp<'_>,
        settlements: &[Settlement],
    ) -> Result<(), StoreError> {
        let failed = |error| unavailable(WRITING_SETTLEMENTS, &error);
        let mut insert = self.insert::<SettlementRow<'_>>(WRITING_SETTLEMENTS, "settlements").await?;
        for settlement in settlements {
            let row = SettlementRow {
                tenant: run.tenant.as_str(),
                day: day_number(settlement.day),
                run_id: run.run_id,
                state: settlement.state.name(),
                window_start: settlement.window.start.0,
                window_end: settlement.window.end.0,
                deliveries: settlement.deliveries,
                events: settlement.events,
                lake_version: run.lake_version,
                content_hash: &settlement.content_hash,
                residual_cells: settlement.residual_cells,
                settled_at: run.settled_at.0,
                generation: settlement.generation,
                manifest: run.manifest,
            };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }
}
