//! What makes a number final: states, reasons for drift, and the horizon.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::time::{EventTime, Zone};

/// Whether a number can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Counted by the speed layer; it will be replaced.
    Provisional,
    /// Counted by the batch layer; it changes only if late events arrive.
    Settled,
    /// Settled again, because late events arrived.
    Restated,
    /// Settled and locked; it never changes.
    Closed,
}

impl State {
    /// The name used in every format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Provisional => "provisional",
            State::Settled => "settled",
            State::Restated => "restated",
            State::Closed => "closed",
        }
    }
}

/// Why the speed layer's number differs from the batch layer's: what happened to single deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Came after the allowed lateness; speed did not count it, batch did.
    Late,
    /// A second delivery that only one of the two recognised.
    Duplicate,
    /// A second delivery with other content, which only one of the two counted: the ids are the same, the facts are not.
    Conflicting,
    /// Dated too far in the future for speed to trust; batch counts it on its day.
    Future,
    /// Could not be read as an event; neither counted it.
    Unreadable,
    /// Its tenant is not in the catalog that speed was running with.
    UnknownTenant,
    /// Counted by speed under `__other__`, because a dimension had too many values.
    Overflow,
    /// In the lake, but not counted by speed yet.
    NotYetSeen,
    /// Counted by speed before its rollup or property was in the catalog, and so not in this one.
    NotCountedThen,
    /// The error of the sketch; only for distinct users, within its bound.
    Sketch,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 10] = [
        Reason::Late,
        Reason::Duplicate,
        Reason::Conflicting,
        Reason::Future,
        Reason::Unreadable,
        Reason::UnknownTenant,
        Reason::Overflow,
        Reason::NotYetSeen,
        Reason::NotCountedThen,
        Reason::Sketch,
    ];

    /// The name used in every format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Late => "late",
            Reason::Duplicate => "duplicate",
            Reason::Conflicting => "conflicting",
            Reason::Future => "future",
            Reason::Unreadable => "unreadable",
            Reason::UnknownTenant => "unknown_tenant",
            Reason::Overflow => "overflow",
            Reason::NotYetSeen => "not_yet_seen",
            Reason::NotCountedThen => "not_counted_then",
            Reason::Sketch => "sketch",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is not a name of the enumeration.
#[derive(Debug, thiserror::Error)]
#[error("unknown name {0:?}")]
pub struct UnknownName(pub String);

impl FromStr for Reason {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Reason::ALL.into_iter().find(|reason| reason.name() == name).ok_or_else(|| UnknownName(name.to_owned()))
    }
}

impl FromStr for State {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [State::Provisional, State::Settled, State::Restated, State::Closed]
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| UnknownName(name.to_owned()))
    }
}

/// The last day of the unbroken run of settled days that begins with the first one. `None` if nothing is settled. Days
/// may come in any order and more than once.
#[must_use]
pub fn last_settled_day(settled_days: impl IntoIterator<Item = Date>) -> Option<Date> {
    let mut days: Vec<Date> = settled_days.into_iter().collect();
    days.sort_unstable();
    days.dedup();
    let mut days = days.into_iter();
    let mut last = days.next()?;
    for day in days {
        if last.tomorrow().ok() != Some(day) {
            break;
        }
        last = day;
    }
    Some(last)
}

/// The instant up to which every window is settled: the end of [`last_settled_day`].
#[must_use]
pub fn horizon(settled_days: impl IntoIterator<Item = Date>, zone: &Zone) -> Option<EventTime> {
    last_settled_day(settled_days).map(|last| zone.day_end(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn the_horizon_stops_at_the_first_gap() {
        let zone = Zone::parse("America/New_York").expect("known");
        let days = [date(2026, 3, 8), date(2026, 3, 7), date(2026, 3, 7), date(2026, 3, 10)];
        assert_eq!(horizon(days, &zone).map(|at| at.to_string()).as_deref(), Some("2026-03-09T04:00:00Z"));
        assert_eq!(horizon([], &zone), None);
    }

    #[test]
    fn names_round_trip() {
        for reason in Reason::ALL {
            assert_eq!(reason.name().parse::<Reason>().expect("its own name"), reason);
        }
        assert_eq!("closed".parse::<State>().expect("known"), State::Closed);
    }
}
