//! The tie-out: a payment provider's or general ledger's export, matched to events by reference and amount.
//!
//! [`match_sides`] is pure. Both sides are counted in the calendar days of one zone ([`Mapping::basis`]). The events are
//! those of the lake, each by its first delivery, so a duplicate delivery is no second payment. They are read from
//! further around than the days in question, and so is the ledger: a payment of the last evening that the ledger books
//! the next morning is a match, not two breaks.
//!
//! Every break is kept in ClickHouse, and it is open until a later tie-out of the same ledger over its day does not find
//! it any more. A tie-out reports, it never repairs.

mod amount;
mod ledger;
mod mapping;
mod matching;
mod report;
mod run;

pub use self::ledger::{Ledger, LedgerError};
pub use self::mapping::{InvalidMapping, Mapping, Matches};
pub use self::matching::{Group, Item, Kind, Side, match_sides};
pub use self::report::{Age, Row, Tally, TieOut};
pub use self::run::{Config, Error, Request, run};

#[cfg(test)]
mod tests;
