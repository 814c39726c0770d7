//! The drift of one cell, explained delivery by delivery.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use reckon_schemas::catalog::Measure;
use reckon_schemas::cell::Measures;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::{SumOverflow, Unit};

use super::{Counted, Fate};
use crate::recount::{Exact, User};

/// Amounts by reason, in the measure's own unit (events, units of a sum, users), signed as speed minus batch.
pub type Reasons = BTreeMap<Reason, i128>;

/// How far speed and batch are apart in one measure of one cell, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The measure.
    pub measure: Measure,
    /// For sums: what they are in.
    pub unit: Option<Unit>,
    /// What the speed layer says.
    pub speed: i128,
    /// What the batch layer counted.
    pub batch: i128,
    /// The explained part of speed minus batch.
    pub reasons: Reasons,
    /// The part that nothing explains.
    pub residual: i128,
    /// For users: how far the speed layer's estimate may be off.
    pub error_bound: u64,
}

/// What one delivery means to a cell that it falls into.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What the speed layer did with it.
    pub fate: Fate,
    /// What the batch layer did with it.
    pub counted: Counted,
    /// Whether the event was delivered with different contents: what is between its deliveries is no plain repetition.
    pub conflicting: bool,
    /// What the event adds to sums.
    pub amounts: &'a [(Unit, i64)],
    /// The units among them that the speed layer did not sum when it read the delivery: mostly none.
    pub unsummed: &'a [Unit],
    /// The user of the event.
    pub user: Option<User>,
}

impl Entry<'_> {
    /// What it adds to speed minus batch, and the reason; `None` if both did the same with it.
    pub(crate) fn difference(&self) -> Option<(Reason, i128)> {
        let again = if self.conflicting { Reason::Conflicting } else { Reason::Duplicate };
        match (self.fate, self.counted) {
            (Fate::Accepted, Counted::Not) => Some((again, 1)),
            (Fate::Refused(Reason::Duplicate), Counted::Here) => Some((again, -1)),
            (Fate::Accepted, Counted::Elsewhere) => Some((Reason::Overflow, 1)),
            (Fate::Elsewhere, Counted::Here) => Some((Reason::Overflow, -1)),
            (Fate::Refused(reason), Counted::Here) => Some((reason, -1)),
            (Fate::NotYetSeen, Counted::Here) => Some((Reason::NotYetSeen, -1)),
            (Fate::Accepted, Counted::Here) | (_, Counted::Not | Counted::Elsewhere) => None,
        }
    }
}

impl Entry<'_> {
    /// The same of a sum.
    pub(crate) fn difference_in(&self, unit: &Unit) -> Option<(Reason, i128)> {
        if self.unsummed.contains(unit) {
            return Self { fate: self.fate.without(), ..*self }.difference();
        }
        self.difference()
    }
}

/// Everything that happened to the deliveries of one cell, as far as it can make a difference.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    count: Reasons,
    sums: BTreeMap<Unit, Reasons>,
    users: HashMap<u128, Presence>,
}

/// In which of the two sets a user is.
#[derive(Clone, Copy, Debug)]
struct Presence {
    hash: u64,
    accepted: bool,
    counted: bool,
    /// Why a delivery of this user that one of the two counted was not counted by the other; the first in the order of
    /// reasons, so that it does not depend on the order of deliveries.
    missed: Option<Reason>,
    added: Option<Reason>,
}

impl Evidence {
    /// Takes a delivery in.
    ///
    /// # Errors
    /// [`SumOverflow`] if a sum leaves 128 bits.
    pub fn enter(&mut self, entry: &Entry<'_>) -> Result<(), SumOverflow> {
        let difference = entry.difference();
        if let Some((reason, sign)) = difference {
            *self.count.entry(reason).or_insert(0) += sign;
        }
        for (unit, amount) in entry.amounts {
            if let Some((reason, sign)) = entry.difference_in(unit) {
                let sum = self.sums.entry(unit.clone()).or_default().entry(reason).or_insert(0);
                *sum = sum.checked_add(sign * i128::from(*amount)).ok_or(SumOverflow)?;
            }
        }
        let (accepted, counted) = (entry.fate == Fate::Accepted, entry.counted == Counted::Here);
        if let Some(user) = entry.user.filter(|_| accepted || counted) {
            let absent = Presence { hash: user.hash, accepted: false, counted: false, missed: None, added: None };
            let presence = self.users.entry(user.key).or_insert(absent);
            presence.accepted |= accepted;
            presence.counted |= counted;
            if let Some((reason, sign)) = difference {
                let why = if sign < 0 { &mut presence.missed } else { &mut presence.added };
                *why = Some(why.map_or(reason, |first| first.min(reason)));
            }
        }
        Ok(())
    }

    /// Holds what the speed layer says against what batch counted: count, sums by unit, users. The residual is
    /// what is left of speed minus batch when all reasons are taken off. Measures that are zero on both sides and had
    /// nothing happen to them are left out.
    ///
    /// # Errors
    /// [`SumOverflow`] if a difference leaves 128 bits.
    pub fn explain(&self, speed: &Measures, batch: &Exact) -> Result<Vec<Drift>, SumOverflow> {
        let mut drifts = Vec::with_capacity(3);
        let (said, counted) = (i128::from(speed.count), i128::from(batch.count));
        drifts.push(Drift::new(Measure::Count, None, said, counted, self.count.clone())?);
        let units = speed.sums.iter().chain(batch.sums.iter()).map(|(unit, _)| unit);
        for unit in self.sums.keys().chain(units).collect::<BTreeSet<_>>() {
            let reasons = self.sums.get(unit).cloned().unwrap_or_default();
            let (said, counted) = (speed.sums.get(unit), batch.sums.get(unit));
            let measure = if unit.currency().is_some() { Measure::Money } else { Measure::Sum };
            drifts.push(Drift::new(measure, Some(unit.clone()), said, counted, reasons)?);
        }
        drifts.push(self.explain_users(speed, batch)?);
        drifts.retain(|drift| !drift.is_void());
        Ok(drifts)
    }

    fn explain_users(&self, speed: &Measures, batch: &Exact) -> Result<Drift, SumOverflow> {
        let mut reasons = Reasons::new();
        let mut rebuilt = Sketch::new();
        let mut accepted_users = 0_i128;
        for presence in self.users.values() {
            if presence.accepted {
                rebuilt.insert_hash(presence.hash);
                accepted_users += 1;
            }
            match (presence.accepted, presence.counted) {
                (true, false) => {
                    let reason = presence.added.expect("an accepted delivery is counted or has a reason");
                    *reasons.entry(reason).or_insert(0) += 1;
                }
                (false, true) => {
                    let reason = presence.missed.expect("a counted delivery is accepted or has a reason");
                    *reasons.entry(reason).or_insert(0) -= 1;
                }
                _ => {}
            }
        }
        // The same sketch over the same users gives the same estimate, so its error is known to the last user.
        let error = i128::from(rebuilt.estimate()) - accepted_users;
        if error != 0 {
            reasons.insert(Reason::Sketch, error);
        }
        let (said, counted) = (i128::from(speed.users.estimate()), i128::from(batch.users_exact));
        let error_bound = speed.users.error_bound();
        Ok(Drift { error_bound, ..Drift::new(Measure::Users, None, said, counted, reasons)? })
    }
}

impl Drift {
    fn new(
        measure: Measure,
        unit: Option<Unit>,
        speed: i128,
        batch: i128,
        reasons: Reasons,
    ) -> Result<Self, SumOverflow> {
        let drift = speed.checked_sub(batch).ok_or(SumOverflow)?;
        let residual = reasons.values().try_fold(drift, |left, amount| left.checked_sub(*amount));
        let residual = residual.ok_or(SumOverflow)?;
        Ok(Self { measure, unit, speed, batch, reasons, residual, error_bound: 0 })
    }

    fn is_void(&self) -> bool {
        self.speed == 0 && self.batch == 0 && self.residual == 0 && self.reasons.values().all(|amount| *amount == 0)
    }
}
