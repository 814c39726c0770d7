//! From a number to its reasons, from a reason to deliveries: event id, partition, offset.
//!
//! Nothing is kept for this at settlement but how far the speed layer had read by then ([`Store::write_cut`], a row a
//! partition). All other evidence is there for good: what the speed layer wrote down about single records does not
//! change, and the lake still has the version that was counted. So a drill-down works delivery by delivery exactly as
//! the reconciliation did, and checks itself: what it lists must add up to what the run had found.
//!
//! What no reason explains is narrowed down on the newest data, partition by partition and minute by minute, by
//! `residual`.
//!
//! [`Store::write_cut`]: crate::settle

mod contributions;
mod residual;
mod run;
mod unexplained;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::settlement::Reason;
use reckon_schemas::stores;
use serde::Serialize;

pub use self::residual::Verdict;
pub use self::run::run;
use crate::reconcile::ReportRow;

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store of cells, drift and evidence.
    pub clickhouse: stores::ClickHouse,
    /// The lake.
    pub lake: stores::Lake,
    /// The topic of events.
    pub topic: String,
    /// Whose numbers.
    pub tenant: Tenant,
}

/// Which number is asked about.
#[derive(Clone, Debug)]
pub struct Request {
    /// The calendar day.
    pub day: Date,
    /// The run that compared; the day's newest if absent.
    pub run_id: Option<String>,
    /// The rollup.
    pub rollup: Rollup,
    /// The event's name; every one if absent.
    pub event: Option<String>,
    /// Values of the rollup's dimensions; of those that are absent, any.
    pub values: BTreeMap<String, String>,
    /// Only deliveries for this reason.
    pub reason: Option<Reason>,
    /// The most deliveries that are listed, and the most suspects of a residual.
    pub limit: usize,
    /// Whether a residual is narrowed down, if there is one.
    pub residual: bool,
}

/// A number, and what is behind its drift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whose.
    pub tenant: TenantId,
    /// The day.
    pub day: Date,
    /// The run that compared.
    pub run_id: String,
    /// The version of the lake that it counted.
    pub lake_version: u64,
    /// What it found, summed over the cells that were asked about.
    pub rows: Vec<ReportRow>,
    /// Whether the deliveries add up to what the run found, reason by reason, for events and every sum.
    pub adds_up: bool,
    /// The deliveries behind it, in the order of the log.
    pub deliveries: Vec<Listed>,
    /// How many there are, of which the first are listed.
    pub found: u64,
    /// Events by hour and reason, signed as speed minus batch.
    pub hours: Vec<Hour>,
    /// Where the speed layer says something that no delivery explains, as of now.
    pub unexplained: Vec<Part>,
}

/// One delivery that the two layers treated differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Why.
    pub reason: Reason,
    /// +1 if only the speed layer counted it in this cell, -1 if only the batch layer did, 0 if both did and only one summed
    /// a property of it.
    pub contribution: i8,
    /// The cell's event.
    pub event: String,
    /// The values of the cell's dimensions.
    pub dimensions: Vec<String>,
    /// The delivery.
    #[serde(flatten)]
    pub delivery: Delivery,
}

/// Where a delivery is, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The event's id.
    pub event_id: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When the log took it.
    pub log_time: Timestamp,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Who did it.
    pub user: String,
    /// The money it moved, such as `12.34 EUR`.
    pub money: Option<String>,
    /// For a later delivery of an event: where its first one is.
    pub first: Option<Position>,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// The share of one hour and one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// When it begins.
    pub start: Timestamp,
    /// The reason.
    pub reason: Reason,
    /// Events, speed minus batch.
    pub events: i64,
}

/// One partition's part of one window of one cell, in which the speed layer is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The cell's event.
    pub event: String,
    /// The values of the cell's dimensions.
    pub dimensions: Vec<String>,
    /// The partition.
    pub partition: i32,
    /// Where the window begins.
    pub window_start: Timestamp,
    /// Where it ends.
    pub window_end: Timestamp,
    /// Events too many, or too few.
    pub events: i64,
    /// Sums too large, or too small, in their units.
    pub sums: BTreeMap<String, String>,
    /// What happened.
    pub verdict: Verdict,
    /// The deliveries that it can be; when there is one, it is named.
    pub suspects: Vec<Delivery>,
    /// How many there are, of which the first are listed.
    pub suspects_found: u64,
}

#[cfg(test)]
mod tests;
