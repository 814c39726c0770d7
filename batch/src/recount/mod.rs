//! The exact count: every delivery in the lake at one pinned version, each event once.
//!
//! DataFusion reads (pruning by tenant and date, projection, casts); what has to be exact is counted here. Its own sums
//! wrap silently, and its distinct counts and `first_value` cost several times the memory and time of a table of
//! 128-bit keys. Rows are always read: a count answered from file statistics would not be a recount.
//!
//! Memory is bounded by days: `FirstDeliveries` holds one key for each event of a group of days, `Cells` the cells
//! of a smaller chunk of them.

mod cells;
mod deliveries;
mod exact;
mod firsts;
mod groups;
mod scan;

pub use self::cells::{Cell, Cells};
pub use self::exact::{Exact, User};
pub use self::groups::{Group, Groups};

pub(crate) use self::deliveries::{Delivery, Position};
pub(crate) use self::firsts::FirstDeliveries;
pub(crate) use self::scan::PinnedLake;

/// Why the lake could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum RecountError {
    /// The lake could not be read; try again.
    #[error("the lake cannot be read: {0}")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row of the lake is not what the archive writes; trying again does not help.
    #[error("the lake holds a row that the archive cannot have written: {0}")]
    Damaged(String),
}

impl From<datafusion::error::DataFusionError> for RecountError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        Self::Unreadable(Box::new(error))
    }
}

impl From<deltalake::DeltaTableError> for RecountError {
    fn from(error: deltalake::DeltaTableError) -> Self {
        Self::Unreadable(Box::new(error))
    }
}
