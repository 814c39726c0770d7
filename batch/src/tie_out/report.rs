//! What a tie-out found: totals by currency and kind, breaks with their age.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::money::Currency;
use reckon_schemas::sums::SumOverflow;
use serde::Serialize;
use uuid::Uuid;

use super::{Group, Item, Kind};

/// How long a break has been open, counted in days since the day it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Age {
    /// Today's and yesterday's: mostly payments on their way.
    #[serde(rename = "0-1")]
    Fresh,
    /// A week: most payment providers have paid out by then.
    #[serde(rename = "2-7")]
    Week,
    /// A month.
    #[serde(rename = "8-30")]
    Month,
    /// Older: somebody has to look.
    #[serde(rename = ">30")]
    Older,
}

impl Age {
    /// Every age, the youngest first.
    pub const ALL: [Age; 4] = [Age::Fresh, Age::Week, Age::Month, Age::Older];

    /// The age of so many days. A break of a day that is still to come is fresh.
    #[must_use]
    pub fn of_days(days: i32) -> Self {
        match days {
            ..=1 => Age::Fresh,
            2..=7 => Age::Week,
            8..=30 => Age::Month,
            31.. => Age::Older,
        }
    }

    /// The name used in every format: its days.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Age::Fresh => "0-1",
            Age::Week => "2-7",
            Age::Month => "8-30",
            Age::Older => ">30",
        }
    }
}

/// What lies under one kind in one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many references.
    pub groups: u64,
    /// The events: how many, and what they come to in minor units.
    pub ours: (u64, i128),
    /// The ledger's rows: how many, and what they come to in minor units.
    pub theirs: (u64, i128),
}

impl Tally {
    fn add(&mut self, group: &Group) -> Result<(), SumOverflow> {
        self.groups += 1;
        for (sum, side) in [(&mut self.ours, &group.ours), (&mut self.theirs, &group.theirs)] {
            if let Some(side) = side {
                sum.0 += side.names.len() as u64;
                sum.1 = sum.1.checked_add(side.minor).ok_or(SumOverflow)?;
            }
        }
        Ok(())
    }
}

/// One tie-out of a tenant's events to a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TieOut {
    /// Whose events.
    pub tenant: TenantId,
    /// The ledger's name.
    pub ledger: String,
    /// This run.
    pub run_id: Uuid,
    /// The version of the lake that the events were read from.
    pub lake_version: u64,
    /// The zone whose days both sides are counted in.
    pub basis: String,
    /// The first day that was compared.
    pub from: Date,
    /// The last day that was compared.
    pub to: Date,
    /// The day that ages are counted to.
    pub as_of: Date,
    /// The largest difference that still matches, as a decimal number.
    pub tolerance: String,
    /// Every reference that touches the days, breaks and matches.
    pub groups: Vec<Group>,
    /// References whose items all lie outside of the days.
    pub outside: u64,
    /// Rows that the ledger has again, word for word.
    pub repeated: Vec<Item>,
    /// Rows of the ledger that are no payments, by why they were left out.
    pub ignored: BTreeMap<String, u64>,
    /// Rows of the ledger, all of them.
    pub ledger_rows: u64,
    /// Breaks of these days that an earlier tie-out had found and that are none any more.
    pub resolved: u64,
}

impl TieOut {
    /// The references that somebody has to look at: the oldest first, then by kind, then the largest difference.
    #[must_use]
    pub fn breaks(&self) -> Vec<&Group> {
        let mut breaks: Vec<&Group> = self.groups.iter().filter(|group| group.kind != Kind::Matched).collect();
        breaks.sort_by_cached_key(|group| {
            let difference = group.difference().map_or(u128::MAX, i128::unsigned_abs);
            (Reverse(self.days_open(group)), group.kind, Reverse(difference), group.reference.clone(), group.currency)
        });
        breaks
    }

    /// How many days a break has been open.
    #[must_use]
    pub fn days_open(&self, group: &Group) -> i32 {
        (self.as_of - group.day()).get_days().max(0)
    }

    /// Totals by currency and kind; with a line of zeros for every kind, so that tables have one shape.
    ///
    /// # Errors
    /// [`SumOverflow`] if a sum leaves 128 bits.
    pub fn totals(&self) -> Result<BTreeMap<Currency, BTreeMap<Kind, Tally>>, SumOverflow> {
        let mut totals: BTreeMap<Currency, BTreeMap<Kind, Tally>> = BTreeMap::new();
        for group in &self.groups {
            let kinds =
                totals.entry(group.currency).or_insert_with(|| Kind::ALL.map(|kind| (kind, Tally::default())).into());
            kinds.entry(group.kind).or_default().add(group)?;
        }
        Ok(totals)
    }

    /// How many breaks of each kind are of which age.
    #[must_use]
    pub fn ageing(&self) -> BTreeMap<(Kind, Age), u64> {
        let mut ageing = BTreeMap::new();
        for group in self.breaks() {
            *ageing.entry((group.kind, Age::of_days(self.days_open(group)))).or_default() += 1;
        }
        ageing
    }
}

/// A break as programs read it; amounts are decimal texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The kind's name.
    pub kind: &'static str,
    /// The reference.
    pub reference: String,
    /// The currency.
    pub currency: Currency,
    /// The day that it belongs to.
    pub day: Date,
    /// The events' sum, if there are any.
    pub ours: Option<String>,
    /// The ledger's sum, if it has any.
    pub theirs: Option<String>,
    /// Ours minus theirs.
    pub difference: String,
    /// How many events meet how many rows.
    pub shape: String,
    /// For breaks: days since its day.
    pub days_open: Option<i32>,
    /// For breaks: the same as an age.
    pub age: Option<Age>,
    /// What else is known: another currency, or days that differ.
    pub note: String,
    /// The events' ids.
    pub events: String,
    /// The ledger's rows.
    pub rows: String,
}

impl TieOut {
    /// A group as a row of a table or an export.
    ///
    /// # Errors
    /// [`SumOverflow`] if the difference leaves 128 bits.
    pub fn row(&self, group: &Group) -> Result<Row, SumOverflow> {
        let amount = |minor| group.currency.format_minor(minor);
        let names = |side: &Option<super::Side>| side.as_ref().map_or_else(String::new, |side| side.names.join(" "));
        let days_open = (group.kind != Kind::Matched).then(|| self.days_open(group));
        let mut notes = Vec::new();
        if group.other_currency {
            notes.push("the other side has it in another currency".to_owned());
        }
        if let (Some(ours), Some(theirs)) = (&group.ours, &group.theirs)
            && ours.first_day != theirs.first_day
        {
            notes.push(format!("the ledger's day is {}", theirs.first_day));
        }
        Ok(Row {
            kind: group.kind.name(),
            reference: group.reference.clone(),
            currency: group.currency,
            day: group.day(),
            ours: group.ours.as_ref().map(|side| amount(side.minor)),
            theirs: group.theirs.as_ref().map(|side| amount(side.minor)),
            difference: amount(group.difference()?),
            shape: group.shape(),
            days_open,
            age: days_open.map(Age::of_days),
            note: notes.join("; "),
            events: names(&group.ours),
            rows: names(&group.theirs),
        })
    }
}
