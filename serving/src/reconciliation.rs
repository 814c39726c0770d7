//! The comparison of both counts, as it is sent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Value;

/// The newest settlement run of a tenant, and how its numbers differ from the speed layer's.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Reconciliation {
    /// Whose it is: the tenant of the key.
    pub(crate) tenant: String,
    /// The run.
    pub(crate) run_id: String,
    /// The version of the lake's table of events that was counted.
    pub(crate) lake_version: u64,
    /// When it became visible.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) settled_at: Timestamp,
    /// The first day that was settled.
    #[schema(format = Date)]
    pub(crate) first_day: String,
    /// The last one.
    #[schema(format = Date)]
    pub(crate) last_day: String,
    /// How many days.
    pub(crate) days: u64,
    /// Deliveries in the lake on these days.
    pub(crate) deliveries: u64,
    /// Events on these days, each once.
    pub(crate) events: u64,
    /// Distinct users over all of these days, exact.
    pub(crate) users: u64,
    /// The instant up to which every window is settled now; null if the first day is missing.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) horizon: Option<Timestamp>,
    /// The comparison, summed over days and dimension values.
    pub(crate) rows: Vec<ReconciliationRow>,
    /// Whether no cell has a residual.
    pub(crate) explained: bool,
}

/// Both counts of one rollup, event and measure. Users are summed over cells: who came on two days is there twice.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ReconciliationRow {
    /// The rollup's name.
    pub(crate) rollup: String,
    /// The event's name.
    pub(crate) event: String,
    /// `count`, `money`, `sum` or `users`.
    pub(crate) measure: String,
    /// For money its ISO 4217 code, otherwise empty.
    pub(crate) currency: String,
    /// For sums: of which property.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) property: Option<String>,
    /// What the speed layer says.
    pub(crate) speed: Value,
    /// What was settled.
    pub(crate) batch: Value,
    /// Speed minus batch.
    pub(crate) drift: Value,
    /// The explained parts of the drift, by reason.
    pub(crate) reasons: BTreeMap<String, Value>,
    /// What no reason explains, summed; cells may cancel each other out here.
    pub(crate) residual: Value,
    /// How far the sketches may be off, summed over cells.
    pub(crate) error_bound: Value,
    /// How many cells were compared.
    pub(crate) cells: u64,
    /// In how many of them something is not explained.
    pub(crate) cells_with_residual: u64,
}
