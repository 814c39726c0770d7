//! The reconciliation of one run: what people sign.

use std::collections::BTreeMap;

use jiff::civil::Date;
use reckon_schemas::catalog::Measure;
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;
use reckon_schemas::sums::{SumOverflow, Unit};
use reckon_schemas::time::EventTime;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::wire::{RowOnWire, WorstOnWire};
use super::{Drift, Reasons};

/// The most cells with a residual that a report names.
pub(crate) const WORST_CELLS_MAX: usize = 20;

/// One tenant's reconciliation by one run.
///
/// As JSON, every value of a measure is a decimal text in the measure's unit (`"12.34"` of USD, `"7"` events).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whose it is.
    pub tenant: TenantId,
    /// The run that settled these days.
    pub run_id: Uuid,
    /// The version of the lake's table of events that was counted.
    pub lake_version: u64,
    /// When it was settled.
    pub settled_at: jiff::Timestamp,
    /// The first day that was settled.
    pub first_day: Date,
    /// The last day that was settled.
    pub last_day: Date,
    /// How many days were settled.
    pub days: u64,
    /// Deliveries in the lake on these days.
    pub deliveries: u64,
    /// Events on these days, each once.
    pub events: u64,
    /// The instant up to which every window of the tenant is settled now.
    pub horizon: Option<jiff::Timestamp>,
    /// Distinct users over all of these days, exact.
    pub users_exact: u64,
    /// Deliveries that say something else than the first one of their event, which counts; `conflicts` in ClickHouse
    /// lists them, with both contents.
    #[serde(default)]
    pub conflicts: u64,
    /// The sums over all cells of these days, by rollup (`total` first), event, measure and unit.
    pub rows: Vec<ReportRow>,
    /// Cells that have a residual, the largest first, at most twenty.
    pub worst: Vec<WorstCell>,
    /// Whether no cell has a residual.
    pub explained: bool,
}

/// Speed and batch in one measure, summed over days and dimension values. Users are summed over cells, so that whoever
/// came on two days is there twice; see [`Report::users_exact`] for the distinct ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RowOnWire", into = "RowOnWire")]
pub struct ReportRow {
    /// The rollup's name.
    pub rollup: String,
    /// The event's name.
    pub event: String,
    /// The measure.
    pub measure: Measure,
    /// For sums: what they are in.
    pub unit: Option<Unit>,
    /// What the speed layer says, in the unit of a sum.
    pub speed: i128,
    /// What the batch layer counted.
    pub batch: i128,
    /// Speed minus batch.
    pub drift: i128,
    /// The explained parts of the drift.
    pub reasons: Reasons,
    /// The sum of what is not explained; cells may cancel each other out here, see `cells_with_residual`.
    pub residual: i128,
    /// The sum of how far the speed layer's estimates may be off.
    pub error_bound: u64,
    /// How many cells were compared.
    pub cells: u64,
    /// In how many of them something is not explained.
    pub cells_with_residual: u64,
}

/// A cell whose two numbers differ by more than the reasons explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WorstOnWire", into = "WorstOnWire")]
pub struct WorstCell {
    /// Where it is.
    pub cell: CellName,
    /// The measure.
    pub measure: Measure,
    /// For sums: what they are in.
    pub unit: Option<Unit>,
    /// What the speed layer says.
    pub speed: i128,
    /// What the batch layer counted.
    pub batch: i128,
    /// What is not explained.
    pub residual: i128,
}

/// A cell of grain `1d`, by names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CellName {
    /// The calendar day.
    pub day: Date,
    /// The rollup's name.
    pub rollup: String,
    /// The event's name.
    pub event: String,
    /// The values of the rollup's dimensions.
    pub dimensions: Vec<String>,
}

/// What is known of a run apart from its drift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    /// Whose it is.
    pub tenant: TenantId,
    /// The run.
    pub run_id: Uuid,
    /// The version of the lake that was counted.
    pub lake_version: u64,
    /// When it was settled.
    pub settled_at: EventTime,
    /// The days: deliveries and events of each.
    pub days: BTreeMap<Date, (u64, u64)>,
    /// Up to where everything is settled now.
    pub horizon: Option<EventTime>,
    /// Distinct users over all days.
    pub users_exact: u64,
    /// Deliveries that contradict the first one of their event.
    pub conflicts: u64,
}

/// Sums drift up, cell by cell, in any order.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// `total` first, the other rollups by name; then by event, measure, unit.
    rows: BTreeMap<(bool, String, String, u8, Option<Unit>), ReportRow>,
    worst: Vec<WorstCell>,
}

impl Summary {
    /// Takes a measure of a cell in.
    ///
    /// # Errors
    /// [`SumOverflow`] if a sum leaves 128 bits.
    pub fn add(&mut self, cell: &CellName, drift: &Drift) -> Result<(), SumOverflow> {
        let grouped = cell.rollup != Rollup::TOTAL;
        let key = (grouped, cell.rollup.clone(), cell.event.clone(), place(drift.measure), drift.unit.clone());
        let row = self.rows.entry(key).or_insert_with(|| ReportRow::new(cell, drift));
        row.add(drift)?;
        if drift.residual != 0 {
            self.worst.push(WorstCell {
                cell: cell.clone(),
                measure: drift.measure,
                unit: drift.unit.clone(),
                speed: drift.speed,
                batch: drift.batch,
                residual: drift.residual,
            });
            if self.worst.len() >= 50 * WORST_CELLS_MAX {
                self.keep_worst();
            }
        }
        Ok(())
    }

    /// The report, `None` if there are no days.
    #[must_use]
    pub fn finish(mut self, run: RunFacts) -> Option<Report> {
        self.keep_worst();
        let (first_day, last_day) = (*run.days.keys().next()?, *run.days.keys().next_back()?);
        Some(Report {
            tenant: run.tenant,
            run_id: run.run_id,
            lake_version: run.lake_version,
            settled_at: run.settled_at.to_timestamp(),
            first_day,
            last_day,
            days: run.days.len() as u64,
            deliveries: run.days.values().map(|(deliveries, _)| deliveries).sum(),
            events: run.days.values().map(|(_, events)| events).sum(),
            horizon: run.horizon.map(EventTime::to_timestamp),
            users_exact: run.users_exact,
            conflicts: run.conflicts,
            explained: self.worst.is_empty(),
            rows: self.rows.into_values().collect(),
            worst: self.worst,
        })
    }

    fn keep_worst(&mut self) {
        self.worst.sort_unstable_by(|a, b| {
            let size = b.residual.unsigned_abs().cmp(&a.residual.unsigned_abs());
            size.then_with(|| (&a.cell, place(a.measure), &a.unit).cmp(&(&b.cell, place(b.measure), &b.unit)))
        });
        self.worst.truncate(WORST_CELLS_MAX);
    }
}

impl ReportRow {
    fn new(cell: &CellName, drift: &Drift) -> Self {
        Self {
            rollup: cell.rollup.clone(),
            event: cell.event.clone(),
            measure: drift.measure,
            unit: drift.unit.clone(),
            speed: 0,
            batch: 0,
            drift: 0,
            reasons: Reasons::new(),
            residual: 0,
            error_bound: 0,
            cells: 0,
            cells_with_residual: 0,
        }
    }

    fn add(&mut self, drift: &Drift) -> Result<(), SumOverflow> {
        let add = |sum: &mut i128, amount: i128| {
            *sum = sum.checked_add(amount).ok_or(SumOverflow)?;
            Ok(())
        };
        add(&mut self.speed, drift.speed)?;
        add(&mut self.batch, drift.batch)?;
        self.drift = self.speed.checked_sub(self.batch).ok_or(SumOverflow)?;
        for (reason, amount) in &drift.reasons {
            add(self.reasons.entry(*reason).or_insert(0), *amount)?;
        }
        add(&mut self.residual, drift.residual)?;
        self.error_bound += drift.error_bound;
        self.cells += 1;
        self.cells_with_residual += u64::from(drift.residual != 0);
        Ok(())
    }
}

/// The order of measures in a report.
fn place(measure: Measure) -> u8 {
    match measure {
        Measure::Count => 0,
        Measure::Money => 1,
        Measure::Sum => 2,
        Measure::Users => 3,
        Measure::ActiveUsers | Measure::Top => 4,
    }
}
