//! Why the two layers differ: every delivery's part in the difference, and what is left when all parts are added up.
//!
//! Pure; [`crate::reconciliation`] reads a finished one back. A delivery has a [`Fate`] in the speed layer (accepted,
//! refused for a reason, not yet seen) and was either counted by batch or not, so its contribution to *speed minus batch*
//! is known:
//!
//! | speed | batch | contribution | reason |
//! |---|---|---|---|
//! | accepted | counted | 0 | |
//! | accepted | not counted | +1 | `duplicate` |
//! | accepted, under `__other__` | counted | -1 in the cell of its values, +1 in that of `__other__` | `overflow` |
//! | accepted, under `__other__` | not counted | +1 in the cell of `__other__` | `duplicate` |
//! | refused | counted | -1 | why it was refused |
//! | not yet seen | counted | -1 | `not_yet_seen` |
//! | accepted, when this rollup was not in the catalog | counted | -1 | `not_counted_then` |
//! | refused, not yet seen or without this rollup | not counted | 0 | |
//!
//! Where the deliveries of an event differ in content, `duplicate` is `conflicting`: counting another one of them changes
//! sums, and neither layer can know which one is right.
//!
//! The same with its amounts for sums; of a property that was not summed then, the amount is `not_counted_then`. Distinct
//! users are sets on both sides: who is in only one of them has a delivery that tells why, and the sketch's own error is
//! known exactly, because batch builds the same sketch over the users that speed accepted. So the **residual** must be 0
//! for every measure of every cell of grain `1d`. Whatever either layer loses, doubles or alters shows there, and is named.

mod evidence;
mod fate;
mod plans;
mod report;
mod wire;

pub use self::evidence::{Drift, Entry, Evidence, Reasons};
pub use self::fate::{Counted, Fate, Fates};
pub use self::plans::{Item, Plans};
pub use self::report::{CellName, Report, ReportRow, RunFacts, Summary, WorstCell};

#[cfg(test)]
mod tests;
