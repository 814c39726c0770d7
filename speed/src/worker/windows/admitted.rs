//! Which values of a dimension are told apart: the first so many of each day, the others are counted together.

use std::collections::{HashMap, HashSet};

use hashbrown::DefaultHashBuilder;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::EventTime;
use serde::{Deserialize, Serialize};

const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// The standard library's map, which is read from a snapshot, with a faster hash.
type ByName<K, V> = HashMap<K, V, DefaultHashBuilder>;
type Values = HashSet<String, DefaultHashBuilder>;

/// The values that were admitted, by tenant and dimension. Begun anew with each day that the watermark reaches, so that
/// a dimension whose values come and go is not full for ever. Depends on the records alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Admitted {
    day: i64,
    dimensions: ByName<TenantId, ByName<String, Values>>,
}

impl Admitted {
    /// Notes how far event time has come.
    pub(super) fn advance(&mut self, watermark: EventTime) {
        let day = watermark.0.div_euclid(DAY_US);
        if day > self.day {
            self.day = day;
            self.dimensions.clear();
        }
    }

    /// Whether a value is told apart from the others of its dimension.
    pub(super) fn admit(&mut self, tenant: &TenantId, dimension: &str, value: &str, values_max: usize) -> bool {
        let dimensions = match self.dimensions.get_mut(tenant) {
            Some(dimensions) => dimensions,
            None => self.dimensions.entry(tenant.clone()).or_default(),
        };
        let values = match dimensions.get_mut(dimension) {
            Some(values) => values,
            None => dimensions.entry(dimension.to_owned()).or_default(),
        };
        if values.contains(value) {
            return true;
        }
        let has_room = values.len() < values_max;
        if has_room {
            values.insert(value.to_owned());
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_of_a_day_are_told_apart() {
        let tenant = "acme".parse().expect("valid");
        let mut admitted = Admitted::default();
        let mut admit = |value: &str| admitted.admit(&tenant, "page", value, 2);
        assert_eq!([admit("a"), admit("b"), admit("c"), admit("a")], [true, true, false, true]);
        admitted.advance(EventTime(DAY_US));
        assert!(admitted.admit(&tenant, "page", "c", 2), "a new day");
        admitted.advance(EventTime(1));
        assert!(admitted.admit(&tenant, "page", "a", 2));
        assert!(!admitted.admit(&tenant, "page", "b", 2), "time that goes back begins nothing anew");
    }
}
