//! The cell: the one place where everything about (tenant, rollup, event name, dimension values, window) is counted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::money::Money;
use crate::sketch::{Sketch, hash_user};
use crate::sums::{SumOverflow, Sums, Unit};

/// The most dimensions a rollup may have.
pub const ROLLUP_DIMENSIONS_MAX: usize = 8;

/// The value that a dimension has where it has too many to tell them all apart.
pub const OTHER_VALUE: &str = "__other__";

/// A declared set of properties to group by. Its name is its dimensions in order, joined by `,`; no dimensions at
/// all is named `total`. So a rollup means the same in every layer and in every configuration that knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rollup {
    name: String,
    dimensions: Vec<String>,
}

/// The text does not name a rollup.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRollup {
    /// A dimension has an empty or unusable name.
    #[error("{0:?} cannot name a dimension: use 1 to 64 characters without ',' or control characters, and not 'total'")]
    Dimension(String),
    /// The same dimension twice.
    #[error("dimension {0:?} is there twice")]
    Twice(String),
    /// More dimensions than a rollup may have.
    #[error("{0} dimensions are more than {ROLLUP_DIMENSIONS_MAX}")]
    TooMany(usize),
}

impl Rollup {
    /// The rollup without dimensions.
    pub const TOTAL: &'static str = "total";

    /// A rollup over these dimensions, in this order.
    ///
    /// # Errors
    /// [`InvalidRollup`] if a name is unusable, there twice, or there are too many.
    pub fn new<S: Into<String>>(dimensions: impl IntoIterator<Item = S>) -> Result<Self, InvalidRollup> {
        let dimensions: Vec<String> = dimensions.into_iter().map(Into::into).collect();
        if dimensions.len() > ROLLUP_DIMENSIONS_MAX {
            return Err(InvalidRollup::TooMany(dimensions.len()));
        }
        for (index, dimension) in dimensions.iter().enumerate() {
            let usable = !dimension.is_empty()
                && dimension.chars().count() <= 64
                && dimension != Self::TOTAL
                && !dimension.chars().any(|c| c == ',' || c.is_control());
            if !usable {
                return Err(InvalidRollup::Dimension(dimension.clone()));
            }
            if dimensions[..index].contains(dimension) {
                return Err(InvalidRollup::Twice(dimension.clone()));
            }
        }
        let name = if dimensions.is_empty() { Self::TOTAL.to_owned() } else { dimensions.join(",") };
        Ok(Self { name, dimensions })
    }

    /// The name used in every format.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The properties that are grouped by, in order.
    #[must_use]
    pub fn dimensions(&self) -> &[String] {
        &self.dimensions
    }

    /// The values that an event has for this rollup; a property that it does not have counts as empty.
    #[must_use]
    pub fn values_of(&self, event: &Event<'_>) -> DimensionValues {
        let mut encoded = String::new();
        self.encode_values(event, &mut encoded);
        DimensionValues(encoded)
    }

    /// Writes what [`Self::values_of`] returns behind the end of a buffer that the caller reuses.
    pub fn encode_values(&self, event: &Event<'_>, buffer: &mut String) {
        self.encode_properties(|name| event.properties.get(name), buffer);
    }

    /// The same, with [`OTHER_VALUE`] in place of the values of these dimensions.
    pub fn encode_overflowed(&self, event: &Event<'_>, overflowed: &[String], buffer: &mut String) {
        let value = |name: &str| match overflowed.iter().any(|dimension| dimension == name) {
            true => Some(OTHER_VALUE),
            false => event.properties.get(name),
        };
        self.encode_properties(value, buffer);
    }

    /// The same for properties that are kept in another form, looked up by name.
    pub fn encode_properties<'a>(&self, property: impl Fn(&str) -> Option<&'a str>, buffer: &mut String) {
        for (index, dimension) in self.dimensions.iter().enumerate() {
            if index > 0 {
                buffer.push(DimensionValues::SEPARATOR);
            }
            DimensionValues::encode_value(property(dimension).unwrap_or_default(), buffer);
        }
    }
}

impl fmt::Display for Rollup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Rollup {
    type Err = InvalidRollup;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name == Self::TOTAL { Self::new::<String>([]) } else { Self::new(name.split(',')) }
    }
}

impl Serialize for Rollup {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Rollup {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The values of a rollup's dimensions, in its order, in one text: values joined by the unit separator (U+001F), with
/// `\` and the separator inside of a value escaped. `total` has the empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DimensionValues(String);

impl DimensionValues {
    const SEPARATOR: char = '\u{1f}';

    /// From the values, in the order of the rollup's dimensions.
    #[must_use]
    pub fn new<S: AsRef<str>>(values: &[S]) -> Self {
        let mut encoded = String::new();
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                encoded.push(Self::SEPARATOR);
            }
            Self::encode_value(value.as_ref(), &mut encoded);
        }
        Self(encoded)
    }

    /// From the text of [`Self::as_str`].
    #[must_use]
    pub fn from_encoded(encoded: impl Into<String>) -> Self {
        Self(encoded.into())
    }

    /// The encoded text, unique for these values.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The values; `count` is the number of the rollup's dimensions (the empty text may be no value or one empty one).
    #[must_use]
    pub fn values(&self, count: usize) -> Vec<String> {
        if count == 0 {
            return Vec::new();
        }
        let mut values = vec![String::new()];
        let mut chars = self.0.chars();
        while let Some(c) = chars.next() {
            match (c, values.last_mut()) {
                (Self::SEPARATOR, _) => values.push(String::new()),
                ('\\', Some(value)) => value.push(if chars.next() == Some('u') { Self::SEPARATOR } else { '\\' }),
                (c, Some(value)) => value.push(c),
                (_, None) => {}
            }
        }
        values
    }

    /// Calls back with each value; most are read where they are.
    pub fn each(&self, count: usize, mut call: impl FnMut(&str)) {
        if count == 0 || self.0.contains('\\') {
            self.values(count).iter().for_each(|value| call(value));
        } else {
            self.0.split(Self::SEPARATOR).for_each(call);
        }
    }

    fn encode_value(value: &str, encoded: &mut String) {
        if value.contains(['\\', Self::SEPARATOR]) {
            for c in value.chars() {
                match c {
                    '\\' => encoded.push_str("\\\\"),
                    Self::SEPARATOR => encoded.push_str("\\u"),
                    c => encoded.push(c),
                }
            }
        } else {
            encoded.push_str(value);
        }
    }
}

/// What one event adds to every cell that it falls into: worked out once, however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contribution {
    /// Its money and the properties that are summed, each in its own unit.
    pub amounts: Vec<(Unit, i64)>,
    /// The hash of its user, if it has one.
    pub user: Option<u64>,
}

impl Contribution {
    /// What an event adds where these properties are summed.
    #[must_use]
    pub fn of(event: &Event<'_>, summed: &[Unit]) -> Self {
        let mut contribution = Self::default();
        contribution.read(event, summed);
        contribution
    }

    /// The same into a place that the caller reuses.
    pub fn read(&mut self, event: &Event<'_>, summed: &[Unit]) {
        read_amounts(event.money, |name| event.properties.get(name), summed, &mut self.amounts);
        self.user = (!event.user.is_empty()).then(|| hash_user(event.user.as_bytes()));
    }
}

/// What an event adds to sums: its money, and of these properties the ones that are numbers. `amounts` is
/// cleared first.
pub fn read_amounts<'a>(
    money: Option<Money>,
    property: impl Fn(&str) -> Option<&'a str>,
    summed: &[Unit],
    amounts: &mut Vec<(Unit, i64)>,
) {
    amounts.clear();
    amounts.extend(money.map(|money| (money.currency.into(), money.minor)));
    amounts.extend(summed.iter().filter_map(|unit| {
        let Unit::Property(name) = unit else { return None };
        Some((unit.clone(), Unit::parse_property(property(name)?)?))
    }));
}

/// What is counted in a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// Events.
    pub count: u64,
    /// Sums of money and of properties.
    pub sums: Sums,
    /// Distinct users, estimated.
    pub users: Sketch,
}

impl Measures {
    /// Counts one event.
    ///
    /// # Errors
    /// [`SumOverflow`] if a sum leaves 128 bits.
    pub fn add(&mut self, contribution: &Contribution) -> Result<(), SumOverflow> {
        for (unit, amount) in &contribution.amounts {
            self.sums.add(unit, i128::from(*amount))?;
        }
        if let Some(user) = contribution.user {
            self.users.insert_hash(user);
        }
        self.count += 1;
        Ok(())
    }

    /// Adds the measures of other events, e.g. of another window or Kafka partition.
    ///
    /// # Errors
    /// [`SumOverflow`] if a sum leaves 128 bits.
    pub fn merge(&mut self, other: &Measures) -> Result<(), SumOverflow> {
        self.sums.add_all(&other.sums)?;
        self.users.merge(&other.users);
        self.count += other.count;
        Ok(())
    }

    /// The memory these measures occupy, heap blocks included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() - size_of::<Sketch>() + self.users.memory_bytes() + self.sums.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollups_are_named_by_their_dimensions() {
        assert_eq!(Rollup::new::<String>([]).expect("valid").name(), "total");
        let rollup: Rollup = "department,store".parse().expect("valid");
        assert_eq!(rollup.dimensions(), ["department", "store"]);
        assert_eq!(rollup.name().parse::<Rollup>().expect("its own name"), rollup);
        assert!("a,a".parse::<Rollup>().is_err());
        assert!("a,".parse::<Rollup>().is_err());
        assert!("a,total".parse::<Rollup>().is_err());
    }

    #[test]
    fn values_round_trip_whatever_they_contain() {
        for values in [vec![""], vec!["", ""], vec!["a\u{1f}b", "\\", "\\u"], vec!["|", "ü", "a,b"]] {
            assert_eq!(DimensionValues::new(&values).values(values.len()), values);
            let mut each = Vec::new();
            DimensionValues::new(&values).each(values.len(), |value| each.push(value.to_owned()));
            assert_eq!(each, values);
        }
        assert_ne!(DimensionValues::new(&["a\u{1f}b"]), DimensionValues::new(&["a", "b"]));
        assert!(DimensionValues::default().values(0).is_empty());
        DimensionValues::default().each(0, |value| panic!("{value:?} of nothing"));
    }
}
