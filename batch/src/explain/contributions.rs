//! The pure part: which deliveries make a cell's drift, and by how much.

use std::collections::BTreeMap;

use reckon_schemas::cell::{DimensionValues, OTHER_VALUE, Rollup, read_amounts};
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::{SumOverflow, Unit};

use crate::reconcile::{Counted, Entry, Fate, Fates};
use crate::recount::Named;

/// Which cells of a rollup are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The rollup.
    pub(crate) rollup: Rollup,
    /// The event's name; any if absent.
    pub(crate) event: Option<String>,
    /// Values of some of its dimensions; of the others, any.
    pub(crate) values: BTreeMap<String, String>,
}

impl Selection {
    /// Whether a cell is asked for; its values are in the order of the rollup's dimensions.
    pub(crate) fn has(&self, event: &str, values: &[String]) -> bool {
        let dimensions = self.rollup.dimensions().iter().zip(values);
        self.event.as_deref().is_none_or(|asked| asked == event)
            && dimensions.into_iter().all(|(name, value)| self.values.get(name).is_none_or(|asked| asked == value))
    }
}

/// What one delivery adds to speed minus batch in one cell.
#[derive(Clone, Debug)]
pub(crate) struct Contribution<'a> {
    /// Why.
    pub(crate) reason: Reason,
    /// +1 if only speed counted it there, -1 if only batch did.
    pub(crate) sign: i128,
    /// The values of the cell's dimensions.
    pub(crate) dimensions: Vec<String>,
    /// The delivery.
    pub(crate) delivery: &'a Named,
    /// Whether it is about the event itself, or only about sums: of a property that speed did not sum then.
    pub(crate) counts: bool,
    /// What it adds to sums, before the sign.
    pub(crate) amounts: Vec<(Unit, i64)>,
}

/// The cell of a delivery's own values, and the one that the speed layer counts it in: another one if a dimension had
/// too many values.
pub(crate) fn cells_of(rollup: &Rollup, delivery: &Named, overflowed: &[String]) -> (Vec<String>, Vec<String>) {
    let values = |is_other: &dyn Fn(&str) -> bool| {
        let mut encoded = String::new();
        let value = |name: &str| if is_other(name) { Some(OTHER_VALUE) } else { delivery.property(name) };
        rollup.encode_properties(value, &mut encoded);
        DimensionValues::from_encoded(encoded).values(rollup.dimensions().len())
    };
    (values(&|_| false), values(&|name| overflowed.iter().any(|dimension| dimension == name)))
}

/// Every delivery that makes a difference to one of the selected cells, in the order of the log.
pub(crate) fn contributions<'a>(
    deliveries: &'a [Named],
    fates: &Fates,
    selection: &Selection,
    summed: &[Unit],
) -> Vec<Contribution<'a>> {
    let mut found = Vec::new();
    for delivery in deliveries {
        let (partition, offset) = (delivery.position.partition, delivery.position.offset);
        let was_counted = |name: &str| fates.plans.was_counted(name, partition, offset);
        let fate = fates.of(partition, offset);
        let fate = if was_counted(selection.rollup.name()) { fate } else { fate.without() };
        let overflowed = if fate == Fate::Accepted { fates.overflowed(partition, offset) } else { &[] };
        let (own, other) = cells_of(&selection.rollup, delivery, overflowed);
        let first = delivery.is_first();
        let counted = if first { Counted::Here } else { Counted::Not };
        let entries = if own == other {
            vec![(own, fate, counted)]
        } else {
            let there = if first { Counted::Elsewhere } else { Counted::Not };
            vec![(own, Fate::Elsewhere, counted), (other, fate, there)]
        };
        for (dimensions, fate, counted) in entries {
            if !selection.has(&delivery.name, &dimensions) {
                continue;
            }
            let mut amounts = Vec::new();
            read_amounts(delivery.money, |name| delivery.property(name), summed, &mut amounts);
            let is_unsummed = |unit: &Unit| unit.currency().is_none() && !was_counted(&unit.to_string());
            let (mut unsummed, mut amounts): (Vec<_>, Vec<_>) =
                amounts.into_iter().partition(|(unit, _)| is_unsummed(unit));
            let conflicting = delivery.conflicting;
            let entry = Entry { fate, counted, conflicting, amounts: &[], unsummed: &[], user: None };
            let without = Entry { fate: fate.without(), ..entry };
            let add = |(reason, sign), dimensions, counts, amounts| Contribution {
                reason,
                sign,
                dimensions,
                delivery,
                counts,
                amounts,
            };
            let (of_event, of_unsummed) = (entry.difference(), without.difference());
            if of_event.is_some() && of_event == of_unsummed {
                amounts.append(&mut unsummed);
            }
            if let Some(difference) = of_unsummed.filter(|_| !unsummed.is_empty()) {
                found.push(add(difference, dimensions.clone(), false, unsummed));
            }
            if let Some(difference) = of_event {
                found.push(add(difference, dimensions, true, amounts));
            }
        }
    }
    found
}

/// Amounts by unit (`None`: events) and reason; what adds up to nothing is left out.
pub(crate) type Shares = BTreeMap<(Option<Unit>, Reason), i128>;

/// What contributions add up to.
///
/// # Errors
/// [`SumOverflow`] if a sum leaves 128 bits.
pub(crate) fn shares(contributions: &[Contribution<'_>]) -> Result<Shares, SumOverflow> {
    let mut shares = Shares::new();
    for contribution in contributions {
        let mut add = |unit: Option<Unit>, amount: i128| {
            let share = shares.entry((unit, contribution.reason)).or_insert(0);
            *share = share.checked_add(contribution.sign * amount).ok_or(SumOverflow)?;
            Ok(())
        };
        if contribution.counts {
            add(None, 1)?;
        }
        for (unit, amount) in &contribution.amounts {
            add(Some(unit.clone()), i128::from(*amount))?;
        }
    }
    shares.retain(|_, share| *share != 0);
    Ok(shares)
}
