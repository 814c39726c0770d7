//! Counting a tenant's days from a version of the lake, as a nightly, a backfill, a verification and a cluster all do it:
//! [`Survey`] says what there is, [`pieces`] how much of it is counted at once, [`Counter`] where, and [`Chunk`] is the
//! count itself, with the comparison of every delivery.

mod chunk;
mod counter;
mod days;
mod survey;

pub(crate) use self::chunk::{Chunk, Counted, sorted};
pub(crate) use self::counter::{Counter, Days, Firsts};
pub(crate) use self::days::{dates, pieces, span, total};
pub(crate) use self::survey::{Survey, Surveyor};

#[cfg(test)]
pub(crate) mod tests;
