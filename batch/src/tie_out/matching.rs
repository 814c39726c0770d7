//! The pure part: two sides, matched by reference and currency, every item in exactly one group.

use std::collections::{BTreeMap, HashSet};

use jiff::civil::Date;
use reckon_schemas::money::Currency;
use reckon_schemas::sums::SumOverflow;

/// One payment of either side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// What both sides know it by.
    pub reference: String,
    /// Its currency; payments of different ones never match.
    pub currency: Currency,
    /// How much, in minor units; negative for what was paid back.
    pub minor: i64,
    /// Its calendar day, on the basis that both sides share.
    pub day: Date,
    /// What it is called on its own side: the event's id, or the ledger's row.
    pub name: String,
}

/// What one side has under a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The sum in minor units.
    pub minor: i128,
    /// The earliest day.
    pub first_day: Date,
    /// The latest day.
    pub last_day: Date,
    /// What its items are called, in the order of the side.
    pub names: Vec<String>,
}

/// How the two sides of a reference stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Both have it, and the same amount within the tolerance.
    Matched,
    /// Both have it, with different amounts.
    Different,
    /// The ledger has it, and there is no such event.
    MissingHere,
    /// There is such an event, and the ledger does not have it.
    MissingThere,
}

impl Kind {
    /// Every kind, the one that needs nobody first.
    pub const ALL: [Kind; 4] = [Kind::Matched, Kind::Different, Kind::MissingHere, Kind::MissingThere];

    /// The name used in every format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Matched => "matched",
            Kind::Different => "different",
            Kind::MissingHere => "missing_here",
            Kind::MissingThere => "missing_there",
        }
    }
}

/// Everything that both sides have under one reference in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The reference.
    pub reference: String,
    /// The currency.
    pub currency: Currency,
    /// How the sides stand to each other.
    pub kind: Kind,
    /// The events.
    pub ours: Option<Side>,
    /// The ledger's rows.
    pub theirs: Option<Side>,
    /// One side has the reference in another currency.
    pub other_currency: bool,
}

impl Group {
    /// What the events come to minus what the ledger's rows come to.
    ///
    /// # Errors
    /// [`SumOverflow`] if it leaves 128 bits.
    pub fn difference(&self) -> Result<i128, SumOverflow> {
        let minor = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.minor);
        minor(&self.ours).checked_sub(minor(&self.theirs)).ok_or(SumOverflow)
    }

    /// How many items meet how many: `1:1`, or `1:2` where the ledger has two rows for one event.
    #[must_use]
    pub fn shape(&self) -> String {
        let count = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.names.len());
        format!("{}:{}", count(&self.ours), count(&self.theirs))
    }

    /// The day that it belongs to: that of the event, or of the ledger's row where there is no event.
    #[must_use]
    pub fn day(&self) -> Date {
        let side = self.ours.as_ref().or(self.theirs.as_ref());
        side.map_or(Date::ZERO, |side| side.first_day)
    }

    /// Whether any of its items lies on one of these days.
    #[must_use]
    pub fn touches(&self, from: Date, to: Date) -> bool {
        [&self.ours, &self.theirs].into_iter().flatten().any(|side| side.first_day <= to && side.last_day >= from)
    }
}

/// Ours and theirs.
type Sides = (Option<Side>, Option<Side>);

/// Groups both sides by reference and currency, in that order. `tolerance` is the largest difference that still
/// matches, in minor units of a currency.
///
/// Several items of one side are one sum: a payment in instalments, or a row that the ledger has twice, which then
/// differs by its amount.
///
/// # Errors
/// [`SumOverflow`] if a sum leaves 128 bits.
pub fn match_sides(
    ours: &[Item],
    theirs: &[Item],
    tolerance: impl Fn(Currency) -> u64,
) -> Result<Vec<Group>, SumOverflow> {
    let mut sides: BTreeMap<(&str, Currency), Sides> = BTreeMap::new();
    for item in ours {
        enter(&mut sides.entry((&item.reference, item.currency)).or_default().0, item)?;
    }
    for item in theirs {
        enter(&mut sides.entry((&item.reference, item.currency)).or_default().1, item)?;
    }
    let references = |items: &'_ [Item]| items.iter().map(|item| item.reference.clone()).collect::<HashSet<String>>();
    let (known_here, known_there) = (references(ours), references(theirs));
    let groups = sides.into_iter().map(|((reference, currency), (ours, theirs))| {
        let is_lone = ours.is_none() || theirs.is_none();
        let mut group = Group {
            reference: reference.to_owned(),
            currency,
            kind: Kind::Matched,
            other_currency: is_lone && known_here.contains(reference) && known_there.contains(reference),
            ours,
            theirs,
        };
        let difference = group.difference()?.unsigned_abs();
        group.kind = match (&group.ours, &group.theirs) {
            (None, _) => Kind::MissingHere,
            (_, None) => Kind::MissingThere,
            _ if difference > u128::from(tolerance(currency)) => Kind::Different,
            _ => Kind::Matched,
        };
        Ok(group)
    });
    groups.collect()
}

fn enter(side: &mut Option<Side>, item: &Item) -> Result<(), SumOverflow> {
    let side = side.get_or_insert_with(|| Side {
        minor: 0,
        first_day: item.day,
        last_day: item.day,
        names: Vec::with_capacity(1),
    });
    side.minor = side.minor.checked_add(i128::from(item.minor)).ok_or(SumOverflow)?;
    side.first_day = side.first_day.min(item.day);
    side.last_day = side.last_day.max(item.day);
    side.names.push(item.name.clone());
    Ok(())
}
