//! The numbers that can be asked for: a measure of a kind of event, under a name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidCatalog;
use crate::ids::TenantId;
use crate::money::Currency;
use crate::settlement::UnknownName;
use crate::sums::Unit;

/// The most values that a metric may list.
pub const TOP_LIMIT_MAX: usize = 100;
/// How many values a metric lists that does not say.
const TOP_LIMIT: usize = 10;

/// A number with a name: one measure of one kind of event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// The name it is asked for by.
    pub name: String,
    /// The name of the events that count. For active users also [`Metric::ANY_EVENT`]: all of them.
    pub event: String,
    /// What is counted of them.
    pub measure: Measure,
    /// For money: in which currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// For sums and the most frequent values: of which property.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// For the most frequent values: how many; 10 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What can be counted of a set of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// How many there are.
    Count,
    /// The sum of their money in one currency.
    Money,
    /// The sum of a numeric property.
    Sum,
    /// How many distinct users they have.
    Users,
    /// How many distinct users they have had in the last five minutes.
    ActiveUsers,
    /// The most frequent values of a property that has too many to group by.
    Top,
}

impl Measure {
    /// Every measure.
    pub const ALL: [Measure; 6] =
        [Measure::Count, Measure::Money, Measure::Sum, Measure::Users, Measure::ActiveUsers, Measure::Top];

    /// The name in every format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Measure::Count => "count",
            Measure::Money => "money",
            Measure::Sum => "sum",
            Measure::Users => "users",
            Measure::ActiveUsers => "active_users",
            Measure::Top => "top",
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Measure {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Measure::ALL.into_iter().find(|measure| measure.name() == name).ok_or_else(|| UnknownName(name.to_owned()))
    }
}

impl Metric {
    /// What stands for every event.
    pub const ANY_EVENT: &'static str = "*";

    /// The number of events.
    #[must_use]
    pub fn count(name: &str, event: &str) -> Self {
        Self::of(name, event, Measure::Count)
    }

    /// The sum of events' money in a currency.
    #[must_use]
    pub fn money(name: &str, event: &str, currency: Currency) -> Self {
        Self { currency: Some(currency), ..Self::of(name, event, Measure::Money) }
    }

    /// The sum of a numeric property.
    #[must_use]
    pub fn sum(name: &str, event: &str, property: &str) -> Self {
        Self { property: Some(property.to_owned()), ..Self::of(name, event, Measure::Sum) }
    }

    /// The number of events' distinct users.
    #[must_use]
    pub fn users(name: &str, event: &str) -> Self {
        Self::of(name, event, Measure::Users)
    }

    /// The number of distinct users of the last five minutes.
    #[must_use]
    pub fn active_users(name: &str, event: &str) -> Self {
        Self::of(name, event, Measure::ActiveUsers)
    }

    /// The most frequent values of a property, as many as if the catalog does not say.
    #[must_use]
    pub fn top(name: &str, event: &str, property: &str) -> Self {
        Self { property: Some(property.to_owned()), ..Self::of(name, event, Measure::Top) }
    }

    fn of(name: &str, event: &str, measure: Measure) -> Self {
        Self { name: name.to_owned(), event: event.to_owned(), measure, currency: None, property: None, limit: None }
    }

    /// How many values it lists at most.
    #[must_use]
    pub fn top_limit(&self) -> usize {
        self.limit.unwrap_or(TOP_LIMIT)
    }

    /// What its sums are in; `None` if it is no sum.
    #[must_use]
    pub fn unit(&self) -> Option<Unit> {
        match self.measure {
            Measure::Money => self.currency.map(Unit::Currency),
            Measure::Sum => self.property.as_deref().and_then(|name| Unit::property(name).ok()),
            Measure::Count | Measure::Users | Measure::ActiveUsers | Measure::Top => None,
        }
    }

    pub(super) fn check(&self, tenant: &TenantId) -> Result<(), InvalidCatalog> {
        let name = || (tenant.clone(), self.name.clone());
        let refuse = |problem: fn(TenantId, String) -> InvalidCatalog| {
            let (tenant, metric) = name();
            Err(problem(tenant, metric))
        };
        if (self.measure == Measure::Money) != self.currency.is_some() {
            return refuse(InvalidCatalog::Currency);
        }
        if matches!(self.measure, Measure::Sum | Measure::Top) != self.property.is_some() {
            return refuse(InvalidCatalog::Property);
        }
        let is_top = self.measure == Measure::Top;
        if self.limit.is_some_and(|limit| !is_top || !(1..=TOP_LIMIT_MAX).contains(&limit)) {
            return refuse(InvalidCatalog::Limit);
        }
        if self.event == Self::ANY_EVENT && self.measure != Measure::ActiveUsers {
            return refuse(InvalidCatalog::AnyEvent);
        }
        match self.property.as_deref().map(Unit::property) {
            Some(Err(error)) => {
                let (tenant, metric) = name();
                Err(InvalidCatalog::Unit(tenant, metric, error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_has_one_name() {
        for measure in Measure::ALL {
            assert_eq!(measure.name().parse::<Measure>().expect("its own name"), measure);
            assert_eq!(serde_json::to_value(measure).expect("plain"), measure.name());
        }
        assert!("median".parse::<Measure>().is_err());
    }
}
