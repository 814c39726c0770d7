//! The rows that the batch layer writes, column by column as in the tables.

use clickhouse::Row;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::Sums;
use serde::{Deserialize, Serialize};

use super::StoreError;

#[derive(Row, Serialize)]
pub(super) struct CellRow<'a> {
    pub(super) tenant: &'a str,
    pub(super) rollup: &'a str,
    pub(super) grain: &'a str,
    pub(super) window_start: i64,
    pub(super) window_end: i64,
    pub(super) event: &'a str,
    pub(super) dimensions: &'a [String],
    pub(super) day: i32,
    pub(super) run_id: &'a str,
    pub(super) count: u64,
    pub(super) money: &'a Sums,
    pub(super) users_exact: u64,
    pub(super) users: &'a Sketch,
}

#[derive(Row, Serialize)]
pub(super) struct UserRow<'a> {
    pub(super) tenant: &'a str,
    pub(super) rollup: &'a str,
    pub(super) event: &'a str,
    pub(super) dimensions: &'a [String],
    pub(super) day: i32,
    pub(super) run_id: &'a str,
    pub(super) user_key: u128,
}

#[derive(Row, Serialize)]
pub(super) struct DriftRow<'a> {
    pub(super) tenant: &'a str,
    pub(super) run_id: &'a str,
    pub(super) day: i32,
    pub(super) rollup: &'a str,
    pub(super) event: &'a str,
    pub(super) dimensions: &'a [String],
    pub(super) measure: &'a str,
    pub(super) currency: String,
    pub(super) speed: i128,
    pub(super) batch: i128,
    pub(super) reasons: Vec<(&'a str, i128)>,
    pub(super) residual: i128,
    pub(super) error_bound: u64,
}

#[derive(Row, Deserialize)]
pub(super) struct StoredDriftRow {
    pub(super) day: i32,
    pub(super) rollup: String,
    pub(super) event: String,
    pub(super) dimensions: Vec<String>,
    pub(super) measure: String,
    pub(super) currency: String,
    pub(super) speed: i128,
    pub(super) batch: i128,
    pub(super) reasons: Vec<(String, i128)>,
    pub(super) residual: i128,
    pub(super) error_bound: u64,
}

#[derive(Row, Serialize)]
pub(super) struct SettlementRow<'a> {
    pub(super) tenant: &'a str,
    pub(super) day: i32,
    pub(super) run_id: &'a str,
    pub(super) state: &'a str,
    pub(super) window_start: i64,
    pub(super) window_end: i64,
    pub(super) deliveries: u64,
    pub(super) events: u64,
    pub(super) lake_version: u64,
    pub(super) content_hash: &'a str,
    pub(super) residual_cells: u64,
    pub(super) settled_at: i64,
    pub(super) generation: u32,
    pub(super) manifest: &'a str,
}

#[derive(Row, Deserialize)]
pub(super) struct StoredSettlementRow {
    pub(super) day: i32,
    pub(super) state: String,
    pub(super) window_end: i64,
    pub(super) deliveries: u64,
    pub(super) events: u64,
    pub(super) lake_version: u64,
    pub(super) content_hash: String,
    pub(super) settled_at: i64,
    pub(super) generation: u32,
}

#[derive(Row, Deserialize)]
pub(super) struct SpeedCellRow {
    pub(super) rollup: String,
    pub(super) window_start: i64,
    pub(super) event: String,
    pub(super) dimensions: Vec<String>,
    pub(super) partition: i32,
    pub(super) version: u64,
    pub(super) count: u64,
    pub(super) money: Sums,
    pub(super) users: Sketch,
}

#[derive(Row, Deserialize)]
pub(super) struct ProgressRow {
    pub(super) partition: i32,
    pub(super) next_offset: u64,
}

#[derive(Row, Deserialize)]
pub(super) struct PlanRow {
    pub(super) item: String,
    pub(super) partition: i32,
    pub(super) offset: u64,
    pub(super) counted: u8,
}

#[derive(Row, Deserialize)]
pub(super) struct OverflowRow {
    pub(super) partition: i32,
    pub(super) offset: u64,
    pub(super) dimensions: Vec<String>,
}

#[derive(Row, Serialize)]
pub(super) struct CutRow<'a> {
    pub(super) tenant: &'a str,
    pub(super) run_id: &'a str,
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) next_offset: u64,
}

#[derive(Row, Deserialize)]
pub(super) struct ExceptionRow {
    pub(super) partition: i32,
    pub(super) offset: u64,
    pub(super) reason: String,
    pub(super) missed: String,
}

#[derive(Row, Deserialize)]
pub(super) struct CellPartRow {
    pub(super) window_start: i64,
    pub(super) window_end: i64,
    pub(super) partition: i32,
    pub(super) version: u64,
    pub(super) count: u64,
    pub(super) money: Sums,
}

/// An offset, as a column of unsigned numbers holds it.
///
/// # Errors
/// [`StoreError::Incompatible`] if the log cannot have it.
pub(super) fn offset(offset: u64) -> Result<i64, StoreError> {
    i64::try_from(offset).map_err(|error| StoreError::Incompatible(error.to_string()))
}
