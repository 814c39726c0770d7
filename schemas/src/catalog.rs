//! The catalog: which tenants there are, in which zone their days begin, what is counted for them, who may ask.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::{self, AccessKey, Denied, Scope};
use crate::cell::Rollup;
use crate::ids::TenantId;
use crate::money::Currency;
use crate::sums::{InvalidUnit, Unit};
use crate::time::Zone;

/// Every tenant, by its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The tenants.
    pub tenants: Vec<Tenant>,
}

/// One tenant and what is counted for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its name in every format.
    pub id: TenantId,
    /// The zone its calendar days are in.
    pub time_zone: Zone,
    /// What is grouped by. `total` is always counted, whether it is listed or not.
    #[serde(default)]
    pub rollups: Vec<Rollup>,
    /// The numbers that can be asked for.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// Who may write and read.
    #[serde(default)]
    pub keys: Vec<AccessKey>,
    /// How many values of a dimension are told apart in a day and partition of the log; what exceeds it is counted
    /// under [`crate::cell::OTHER_VALUE`].
    #[serde(default = "Tenant::default_dimension_values_max")]
    pub dimension_values_max: usize,
    /// The most events it may send in a second, averaged over a few seconds; no bound if absent.
    #[serde(default)]
    pub events_per_second_max: Option<u32>,
}

/// A number with a name: one measure of one kind of event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// The name it is asked for by.
    pub name: String,
    /// The name of the events that count.
    pub event: String,
    /// What is counted of them.
    pub measure: Measure,
    /// For money: in which currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// For sums: of which property.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
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
}

/// What is wrong with a catalog.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCatalog {
    /// Two tenants of one name.
    #[error("tenant {0} is there twice")]
    TenantTwice(TenantId),
    /// Two metrics of one name.
    #[error("tenant {0}: metric {1:?} is there twice")]
    MetricTwice(TenantId, String),
    /// Money needs a currency, and only money has one.
    #[error("tenant {0}: metric {1:?}: give `currency` if, and only if, the measure is money")]
    Currency(TenantId, String),
    /// Sums need a property, and only sums have one.
    #[error("tenant {0}: metric {1:?}: give `property` if, and only if, the measure is sum")]
    Property(TenantId, String),
    /// The property cannot be summed.
    #[error("tenant {0}: metric {1:?}: {2}")]
    Unit(TenantId, String, InvalidUnit),
    /// A dimension that has a value of its own for nearly every event.
    #[error(
        "tenant {0}: rollup {1:?}: {2:?} tells single users or events apart, so every event would have a cell of its \
         own. Count distinct users with the measure `users`, ask for the largest values with the measure `top`, or ask \
         the raw events"
    )]
    Identity(TenantId, String, String),
    /// Two keys share a look-up prefix.
    #[error("key prefix {0:?} is there twice")]
    KeyTwice(String),
}

impl Catalog {
    /// Checks what the format alone cannot: names are unique, money has a currency.
    ///
    /// # Errors
    /// [`InvalidCatalog`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), InvalidCatalog> {
        let mut prefixes = BTreeMap::new();
        for (index, tenant) in self.tenants.iter().enumerate() {
            if self.tenants[..index].iter().any(|other| other.id == tenant.id) {
                return Err(InvalidCatalog::TenantTwice(tenant.id.clone()));
            }
            tenant.check()?;
            for key in &tenant.keys {
                if prefixes.insert(&key.prefix, ()).is_some() {
                    return Err(InvalidCatalog::KeyTwice(key.prefix.clone()));
                }
            }
        }
        Ok(())
    }

    /// The tenant that a key speaks for, if it has the scope at this time.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authenticate(&self, key: &str, scope: Scope, now: jiff::Timestamp) -> Result<&Tenant, Denied> {
        let prefix = access::prefix_of(key).ok_or(Denied::InvalidKey)?;
        let entries = self.tenants.iter().flat_map(|tenant| tenant.keys.iter().map(move |entry| (tenant, entry)));
        let (tenant, entry) =
            entries.into_iter().find(|(_, entry)| entry.prefix == prefix).ok_or(Denied::InvalidKey)?;
        entry.open(key, scope, now).map(|()| tenant)
    }

    /// The tenant of that name.
    #[must_use]
    pub fn tenant(&self, id: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.id.as_str() == id)
    }
}

impl Metric {
    /// What its sums are in; `None` if it is no sum.
    #[must_use]
    pub fn unit(&self) -> Option<Unit> {
        match self.measure {
            Measure::Money => self.currency.map(Unit::Currency),
            Measure::Sum => self.property.as_deref().and_then(|name| Unit::property(name).ok()),
            Measure::Count | Measure::Users => None,
        }
    }
}

impl Tenant {
    /// How many values of a dimension are told apart unless the catalog says otherwise.
    pub const DIMENSION_VALUES_MAX: usize = 1000;

    /// Every rollup that is counted, `total` first.
    #[must_use]
    pub fn counted_rollups(&self) -> Vec<Rollup> {
        let mut rollups = vec![Rollup::new::<String>([]).expect("no dimensions are valid dimensions")];
        for rollup in &self.rollups {
            if !rollups.contains(rollup) {
                rollups.push(rollup.clone());
            }
        }
        rollups
    }

    /// The properties that a metric sums, each once.
    #[must_use]
    pub fn summed_properties(&self) -> Vec<Unit> {
        let mut units: Vec<Unit> =
            self.metrics.iter().filter(|metric| metric.measure == Measure::Sum).filter_map(Metric::unit).collect();
        units.sort_unstable();
        units.dedup();
        units
    }

    const fn default_dimension_values_max() -> usize {
        Self::DIMENSION_VALUES_MAX
    }

    /// The metric of that name.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    fn check(&self) -> Result<(), InvalidCatalog> {
        for (index, metric) in self.metrics.iter().enumerate() {
            if self.metrics[..index].iter().any(|other| other.name == metric.name) {
                return Err(InvalidCatalog::MetricTwice(self.id.clone(), metric.name.clone()));
            }
            if (metric.measure == Measure::Money) != metric.currency.is_some() {
                return Err(InvalidCatalog::Currency(self.id.clone(), metric.name.clone()));
            }
            if (metric.measure == Measure::Sum) != metric.property.is_some() {
                return Err(InvalidCatalog::Property(self.id.clone(), metric.name.clone()));
            }
            if let Some(Err(error)) = metric.property.as_deref().map(Unit::property) {
                return Err(InvalidCatalog::Unit(self.id.clone(), metric.name.clone(), error));
            }
        }
        for rollup in &self.rollups {
            if let Some(identity) = rollup.dimensions().iter().find(|dimension| is_identity(dimension)) {
                let rollup = rollup.name().to_owned();
                return Err(InvalidCatalog::Identity(self.id.clone(), rollup, identity.clone()));
            }
        }
        Ok(())
    }
}

/// Whether a property's name says that it identifies a user, a session or an event.
fn is_identity(dimension: &str) -> bool {
    const IDENTITIES: [&str; 16] = [
        "userid",
        "user",
        "uid",
        "anonymousid",
        "customerid",
        "accountid",
        "visitorid",
        "deviceid",
        "sessionid",
        "eventid",
        "messageid",
        "requestid",
        "traceid",
        "email",
        "ip",
        "uuid",
    ];
    let plain: String = dimension.chars().filter(char::is_ascii_alphanumeric).collect();
    IDENTITIES.contains(&plain.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::NewKey;

    fn tenant(id: &str, keys: Vec<AccessKey>) -> Tenant {
        Tenant {
            id: id.parse().expect("valid"),
            time_zone: Zone::UTC,
            rollups: vec![],
            metrics: vec![],
            keys,
            dimension_values_max: Tenant::DIMENSION_VALUES_MAX,
            events_per_second_max: None,
        }
    }

    #[test]
    fn a_key_speaks_for_its_tenant() {
        let (one, two) =
            (NewKey::from_random([1; 20], vec![Scope::Read]), NewKey::from_random([2; 20], vec![Scope::Read]));
        let catalog = Catalog { tenants: vec![tenant("a", vec![one.entry]), tenant("b", vec![two.entry])] };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let who = |key: &str| catalog.authenticate(key, Scope::Read, now).map(|tenant| tenant.id.as_str().to_owned());
        assert_eq!(who(&one.key), Ok("a".to_owned()));
        assert_eq!(who(&two.key), Ok("b".to_owned()));
        assert_eq!(who("rk_03030303_00"), Err(Denied::InvalidKey));
        // The prefix of one with the secret of the other.
        assert_eq!(who(&format!("{}{}", &one.key[..12], &two.key[12..])), Err(Denied::InvalidKey));
    }

    #[test]
    fn what_is_there_twice_is_named() {
        let twice = Catalog { tenants: vec![tenant("a", vec![]), tenant("a", vec![])] };
        assert!(matches!(twice.check(), Err(InvalidCatalog::TenantTwice(_))));
    }

    #[test]
    fn a_dimension_that_identifies_is_refused_with_a_reason() {
        for dimension in ["user_id", "userId", "session-id", "Email"] {
            let rollups = vec![Rollup::new(["country", dimension]).expect("valid")];
            let catalog = Catalog { tenants: vec![Tenant { rollups, ..tenant("a", vec![]) }] };
            let refused = catalog.check().expect_err(dimension).to_string();
            assert!(refused.contains(dimension) && refused.contains("distinct users"), "{refused}");
        }
    }

    #[test]
    fn a_sum_names_its_property() {
        let metric = |measure, property: Option<&str>| Metric {
            name: "m".to_owned(),
            event: "buy".to_owned(),
            measure,
            currency: None,
            property: property.map(str::to_owned),
        };
        let check = |metric| Catalog { tenants: vec![Tenant { metrics: vec![metric], ..tenant("a", vec![]) }] }.check();
        assert!(check(metric(Measure::Sum, Some("quantity"))).is_ok());
        assert!(matches!(check(metric(Measure::Sum, None)), Err(InvalidCatalog::Property(..))));
        assert!(matches!(check(metric(Measure::Count, Some("quantity"))), Err(InvalidCatalog::Property(..))));
        assert!(matches!(check(metric(Measure::Sum, Some("a b"))), Err(InvalidCatalog::Unit(..))));
    }
}
