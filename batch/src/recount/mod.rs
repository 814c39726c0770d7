//! The exact count: every delivery in the lake at one pinned version, each event once.
//!
//! DataFusion reads (pruning by tenant and date, projection, casts, on all cores); what has to be exact is counted here.
//! Its own sums wrap silently, and its distinct counts and `first_value` cost several times the memory and time of
//! 128-bit keys that are compared part by part. Rows are always read: a count answered from file statistics would not be
//! a recount.
//!
//! Two passes over the rows: the first finds which deliveries are not the first of their event (`FirstDeliveries`), by
//! the keys that the archive wrote; the second counts all others (`Tally`). What both have to keep is divided by hash
//! into parts (`partitions`) that fit into the processor's cache one by one, and goes to disk where memory is short.

mod cells;
mod contents;
mod deliveries;
mod distinct;
mod exact;
mod firsts;
mod groups;
mod index;
mod named;
mod partitions;
mod places;
mod reading;
mod repeats;
mod scan;
mod tally;
mod timeline;
mod tops;
mod whole;

pub use self::cells::{Cell, Cells};
pub use self::exact::{Exact, User};
pub use self::groups::{Group, Groups};
pub use self::reading::Read;
pub use self::whole::{Counted, Plan, count_whole};

pub(crate) use self::cells::Wanted;
pub(crate) use self::contents::Content;
pub(crate) use self::deliveries::{Deliveries, Delivery, counted_columns};
pub(crate) use self::firsts::{Contradiction, FirstDeliveries};
pub(crate) use self::index::{Delivered, Index, IndexError};
pub(crate) use self::named::{Named, Position};
pub(crate) use self::partitions::Budget;
pub(crate) use self::places::Place;
pub(crate) use self::reading::Reading;
pub(crate) use self::repeats::Repeat;
pub(crate) use self::scan::{PinnedLake, counted_properties, in_background};
pub(crate) use self::tally::Tally;
pub(crate) use self::tops::{Top, TopTally};

/// Why the lake could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum RecountError {
    /// The lake could not be read; try again.
    #[error("the lake cannot be read: {0}")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row of the lake is not what the archive writes; trying again does not help.
    #[error("the lake holds a row that the archive cannot have written: {0}")]
    Damaged(String),
    /// A sum left 128 bits; trying again does not help.
    #[error(transparent)]
    Overflow(#[from] reckon_schemas::sums::SumOverflow),
    /// What does not fit into memory could not be kept on disk: make room, and try again.
    #[error("the folder for temporary files does not keep what memory has no room for: {0}")]
    Disk(#[from] std::io::Error),
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
