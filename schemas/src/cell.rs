//! The cell: the one place where everything about (tenant, rollup, event name, dimension values, window) is counted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::money::{MoneyOverflow, MoneySums};
use crate::sketch::Sketch;

/// The most dimensions a rollup may have.
pub const ROLLUP_DIMENSIONS_MAX: usize = 8;

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

/// What is counted in a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// Events.
    pub count: u64,
    /// Sums of money.
    pub money: MoneySums,
    /// Distinct users, estimated.
    pub users: Sketch,
}

impl Measures {
    /// Counts one event.
    ///
    /// # Errors
    /// [`MoneyOverflow`] if a sum of money leaves 128 bits.
    pub fn add(&mut self, event: &Event<'_>) -> Result<(), MoneyOverflow> {
        if let Some(money) = event.money {
            self.money.add(money.currency, i128::from(money.minor))?;
        }
        if !event.user.is_empty() {
            self.users.insert(event.user.as_bytes());
        }
        self.count += 1;
        Ok(())
    }

    /// Adds the measures of other events, e.g. of another window or Kafka partition.
    ///
    /// # Errors
    /// [`MoneyOverflow`] if a sum of money leaves 128 bits.
    pub fn merge(&mut self, other: &Measures) -> Result<(), MoneyOverflow> {
        self.money.add_all(&other.money)?;
        self.users.merge(&other.users);
        self.count += other.count;
        Ok(())
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
        }
        assert_ne!(DimensionValues::new(&["a\u{1f}b"]), DimensionValues::new(&["a", "b"]));
        assert!(DimensionValues::default().values(0).is_empty());
    }
}
