//! Retention: what is older than a while leaves the lake, by whole dates, and everybody can tell that it did.
//!
//! A commit takes the files of all dates before a *border* out of a table and carries the border as a transaction
//! identifier, so every version of a table knows from which date on it is whole. Which offsets left is written down before,
//! so that a hole in the lake has its reason. Files stay where they are until a vacuum, as after a compaction: a reader
//! that has begun, and a count from a version before, end as they would have.
//!
//! Settled numbers do not depend on the lake any more; what does says so. Nothing leaves that no settlement has counted.

mod expire;
mod files;
mod held;
mod record;
#[cfg(test)]
mod tests;

pub use self::expire::{Config, Expired, Request, expire};
pub(crate) use self::files::date_of;
pub use self::files::remove_files;
pub(crate) use self::held::Held;
pub(crate) use self::record::expired_offsets;
