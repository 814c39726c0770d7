//! Sums: of money by currency, of numeric properties by name. Exact, in 128 bits with overflow checked.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decimal;
use crate::money::Currency;

/// The decimals of a sum of a property: it is kept in millionths.
const PROPERTY_DECIMALS: u16 = 6;
/// What a property's name begins with where units are written as text; no currency's code does.
const PROPERTY_MARK: char = '#';

/// What a sum is in. Sums of different units are never added to each other.
///
/// As text: `EUR`, `#quantity`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Minor units of a currency.
    Currency(Currency),
    /// Millionths of a numeric property.
    Property(Arc<str>),
}

/// The text does not name a unit.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no unit of a sum: give an ISO 4217 code or '#' and a property of 1 to 64 of A-Z a-z 0-9 _ . -")]
pub struct InvalidUnit(pub String);

impl Unit {
    /// The unit of a property's sum.
    ///
    /// # Errors
    /// [`InvalidUnit`] if the name could be mistaken for a part of the formats that sums are written in.
    pub fn property(name: &str) -> Result<Self, InvalidUnit> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
            Ok(Self::Property(name.into()))
        } else {
            Err(InvalidUnit(name.chars().take(80).collect()))
        }
    }

    /// Reads the decimal number that a property has. `None` if it is no number, has more than six decimals or is
    /// beyond 9 * 10^12: such a value is not summed, by no layer.
    #[must_use]
    pub fn parse_property(text: &str) -> Option<i64> {
        decimal::parse(text, PROPERTY_DECIMALS).ok()
    }

    /// A sum in this unit as a decimal number.
    #[must_use]
    pub fn format(&self, sum: i128) -> String {
        match self {
            Unit::Currency(currency) => currency.format_minor(sum),
            Unit::Property(_) => {
                let text = decimal::format(sum, PROPERTY_DECIMALS);
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
        }
    }

    /// Reads a sum as [`Self::format`] writes it, and in no other form.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<i128> {
        let decimals = self.decimals();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let sum = format!("{whole}{fraction:0<width$}", width = usize::from(decimals)).parse().ok()?;
        (self.format(sum) == text).then_some(sum)
    }

    /// How many decimals [`Self::format`] shows at the most.
    #[must_use]
    pub fn decimals(&self) -> u16 {
        match self {
            Unit::Currency(currency) => currency.exponent(),
            Unit::Property(_) => PROPERTY_DECIMALS,
        }
    }

    /// The currency, if it is one.
    #[must_use]
    pub fn currency(&self) -> Option<Currency> {
        match self {
            Unit::Currency(currency) => Some(*currency),
            Unit::Property(_) => None,
        }
    }
}

impl From<Currency> for Unit {
    fn from(currency: Currency) -> Self {
        Unit::Currency(currency)
    }
}

impl From<&Unit> for Unit {
    fn from(unit: &Unit) -> Self {
        unit.clone()
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Currency(currency) => f.write_str(currency.code()),
            Unit::Property(name) => write!(f, "{PROPERTY_MARK}{name}"),
        }
    }
}

impl FromStr for Unit {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(PROPERTY_MARK) {
            Some(name) => Self::property(name),
            None => text.parse().map(Self::Currency).map_err(|_| InvalidUnit(text.chars().take(80).collect())),
        }
    }
}

impl Serialize for Unit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Unit::Currency(currency) => serializer.serialize_str(currency.code()),
            Unit::Property(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A sum left the range of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sum left the range of 128 bits")]
pub struct SumOverflow;

/// Sums, one per unit, ordered by unit.
///
/// A list, not a map: a cell has one or two units, most often none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(Vec<(Unit, i128)>);

impl Sums {
    /// No sums at all.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an amount in a unit.
    ///
    /// # Errors
    /// [`SumOverflow`] if the sum leaves 128 bits; the sum is then unchanged.
    pub fn add(&mut self, unit: impl Into<Unit>, amount: i128) -> Result<(), SumOverflow> {
        let unit = unit.into();
        match self.0.iter().position(|(known, _)| *known >= unit) {
            Some(at) if self.0[at].0 == unit => {
                let sum = &mut self.0[at].1;
                *sum = sum.checked_add(amount).ok_or(SumOverflow)?;
            }
            at => {
                // Vec would begin with room for four; most cells have one unit.
                self.0.reserve_exact(1);
                self.0.insert(at.unwrap_or(self.0.len()), (unit, amount));
            }
        }
        Ok(())
    }

    /// Adds every sum of another.
    ///
    /// # Errors
    /// [`SumOverflow`] if a sum leaves 128 bits.
    pub fn add_all(&mut self, other: &Sums) -> Result<(), SumOverflow> {
        other.0.iter().try_for_each(|(unit, amount)| self.add(unit, *amount))
    }

    /// The sum in one unit, 0 if there was none.
    #[must_use]
    pub fn get(&self, unit: impl Into<Unit>) -> i128 {
        let unit = unit.into();
        self.0.iter().find(|(known, _)| *known == unit).map_or(0, |(_, sum)| *sum)
    }

    /// The sums, ordered by unit.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Unit, i128)> + '_ {
        self.0.iter().map(|(unit, sum)| (unit, *sum))
    }

    /// Whether nothing was ever added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The memory on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(Unit, i128)>()
    }
}

impl<U: Into<Unit>> FromIterator<(U, i128)> for Sums {
    fn from_iter<I: IntoIterator<Item = (U, i128)>>(sums: I) -> Self {
        let mut sums: Vec<(Unit, i128)> = sums.into_iter().map(|(unit, sum)| (unit.into(), sum)).collect();
        sums.sort_unstable();
        Self(sums)
    }
}

impl Serialize for Sums {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Sums {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sums = std::collections::BTreeMap::<Unit, i128>::deserialize(deserializer)?;
        Ok(Self(sums.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Unit {
        text.parse().expect("a unit")
    }

    #[test]
    fn an_overflow_is_an_error_and_changes_nothing() {
        let mut sums = Sums::new();
        sums.add(unit("EUR"), i128::MAX).expect("fits");
        assert_eq!(sums.add(unit("EUR"), 1), Err(SumOverflow));
        assert_eq!(sums.get(unit("EUR")), i128::MAX);
    }

    #[test]
    fn units_stay_apart_and_in_order_whatever_comes_first() {
        let mut one = Sums::new();
        let mut other = Sums::new();
        for text in ["USD", "#quantity", "EUR"] {
            one.add(unit(text), 2).expect("fits");
        }
        for text in ["EUR", "USD", "#quantity", "EUR"] {
            other.add(unit(text), 1).expect("fits");
        }
        other.add(unit("USD"), 1).expect("fits");
        other.add(unit("#quantity"), 1).expect("fits");
        assert_eq!(one, other);
        let json = serde_json::to_string(&one).expect("plain data");
        assert_eq!(json, r##"{"EUR":2,"USD":2,"#quantity":2}"##);
        assert_eq!(serde_json::from_str::<Sums>(&json).expect("as written"), one);
    }

    #[test]
    fn properties_are_summed_in_millionths() {
        assert_eq!(Unit::parse_property("12.5"), Some(12_500_000));
        assert_eq!(Unit::parse_property("-3e2"), Some(-300_000_000));
        for text in ["", "many", "NaN", "0.0000001", "1e13"] {
            assert_eq!(Unit::parse_property(text), None, "{text}");
        }
        assert_eq!(unit("#quantity").format(12_500_000), "12.5");
        assert_eq!(unit("#quantity").format(-3_000_000), "-3");
        assert_eq!(unit("#quantity").format(0), "0");
        for sum in [0, 1, -1, 500_000, -12_500_000, i128::MAX, i128::MIN + 1] {
            assert_eq!(unit("#quantity").parse(&unit("#quantity").format(sum)), Some(sum));
        }
        for text in ["", ".5", "1.", "1.0", "1.1234567", "+1", "-0", "1e2"] {
            assert_eq!(unit("#quantity").parse(text), None, "{text}");
        }
        for text in ["#", "#a b", "#a=b", "#a,b", "XXXX"] {
            assert!(text.parse::<Unit>().is_err(), "{text}");
        }
    }
}
