//! The catalog: which tenants there are, in which zone their days begin, what is counted for them, who may ask.

mod metric;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::AccessKey;
use crate::cell::Rollup;
use crate::ids::TenantId;
use crate::sums::{InvalidUnit, Unit};
use crate::time::Zone;

pub use self::metric::{Measure, Metric, TOP_LIMIT_MAX};

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

/// No tenant of that name is in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tenant {0} is not in the catalog")]
pub struct UnknownTenant(pub TenantId);

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
    /// Sums and the most frequent values need a property, and only they have one.
    #[error("tenant {0}: metric {1:?}: give `property` if, and only if, the measure is sum or top")]
    Property(TenantId, String),
    /// The most frequent values may have a limit, and only they.
    #[error("tenant {0}: metric {1:?}: give `limit` only if the measure is top, and then 1 to {TOP_LIMIT_MAX}")]
    Limit(TenantId, String),
    /// Only active users are counted of all events together.
    #[error("tenant {0}: metric {1:?}: name an event; only the measure active_users takes all of them (`*`)")]
    AnyEvent(TenantId, String),
    /// The property cannot be summed or counted.
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

    /// The tenant of that name.
    #[must_use]
    pub fn tenant(&self, id: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.id.as_str() == id)
    }

    /// The tenant of that name, for whoever has nothing to do without it.
    ///
    /// # Errors
    /// [`UnknownTenant`].
    pub fn require(&self, id: &TenantId) -> Result<&Tenant, UnknownTenant> {
        self.tenant(id.as_str()).ok_or_else(|| UnknownTenant(id.clone()))
    }

    /// The tenants that are asked for: that one, or all of them.
    ///
    /// # Errors
    /// [`UnknownTenant`].
    pub fn asked(&self, id: Option<&TenantId>) -> Result<Vec<&Tenant>, UnknownTenant> {
        id.map_or_else(|| Ok(self.tenants.iter().collect()), |id| Ok(vec![self.require(id)?]))
    }
}

impl Tenant {
    /// How many values of a dimension are told apart unless the catalog says otherwise.
    pub const DIMENSION_VALUES_MAX: usize = 1000;

    /// A tenant of whom nothing is known but its name and where its days begin.
    #[must_use]
    pub fn new(id: TenantId, time_zone: Zone) -> Self {
        Self {
            id,
            time_zone,
            rollups: Vec::new(),
            metrics: Vec::new(),
            keys: Vec::new(),
            dimension_values_max: Self::DIMENSION_VALUES_MAX,
            events_per_second_max: None,
        }
    }

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

    /// The events and properties of which the most frequent values are kept, each once.
    #[must_use]
    pub fn tops(&self) -> Vec<(&str, &str)> {
        let tops = self.metrics.iter().filter(|metric| metric.measure == Measure::Top);
        let mut tops: Vec<(&str, &str)> =
            tops.filter_map(|metric| Some((metric.event.as_str(), metric.property.as_deref()?))).collect();
        tops.sort_unstable();
        tops.dedup();
        tops
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
            metric.check(&self.id)?;
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

    fn tenant(id: &str, keys: Vec<AccessKey>) -> Tenant {
        Tenant { keys, ..Tenant::new(id.parse().expect("valid"), Zone::UTC) }
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
    fn a_metric_says_what_its_measure_needs_and_no_more() {
        let metric = |measure, property: Option<&str>| Metric {
            measure,
            property: property.map(str::to_owned),
            ..Metric::count("m", "buy")
        };
        let check = |metric| Catalog { tenants: vec![Tenant { metrics: vec![metric], ..tenant("a", vec![]) }] }.check();
        assert!(check(metric(Measure::Sum, Some("quantity"))).is_ok());
        assert!(matches!(check(metric(Measure::Sum, None)), Err(InvalidCatalog::Property(..))));
        assert!(matches!(check(metric(Measure::Count, Some("quantity"))), Err(InvalidCatalog::Property(..))));
        assert!(matches!(check(metric(Measure::Sum, Some("a b"))), Err(InvalidCatalog::Unit(..))));
        assert!(check(metric(Measure::Top, Some("page"))).is_ok());
        assert!(matches!(check(metric(Measure::Top, None)), Err(InvalidCatalog::Property(..))));
        for limit in [0, 101] {
            let metric = Metric { limit: Some(limit), ..metric(Measure::Top, Some("page")) };
            assert!(matches!(check(metric), Err(InvalidCatalog::Limit(..))));
        }
        let any = |measure| Metric { event: Metric::ANY_EVENT.to_owned(), ..metric(measure, None) };
        assert!(check(any(Measure::ActiveUsers)).is_ok());
        assert!(matches!(check(any(Measure::Count)), Err(InvalidCatalog::AnyEvent(..))));
    }
}
