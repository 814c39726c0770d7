//! Money: integer minor units of one currency, exact from the first digit to the last.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An ISO 4217 currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency(iso_currency::Currency);

/// Why a text is not an amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The code is not in ISO 4217.
    #[error("unknown currency {0:?}: give an ISO 4217 code such as \"EUR\"")]
    UnknownCurrency(String),
    /// The text is not a plain decimal number.
    #[error("amount {0:?} is not a decimal number such as \"12.34\"")]
    NotANumber(String),
    /// More digits after the point than the currency has; rounding would lose money.
    #[error("amount {amount:?} has more than {exponent} decimals, which {currency} does not have")]
    TooManyDecimals {
        /// The text given.
        amount: String,
        /// The currency's code.
        currency: String,
        /// The decimals that the currency has.
        exponent: u16,
    },
    /// The amount does not fit into 64 bits of minor units.
    #[error("amount {0:?} is too large")]
    TooLarge(String),
}

impl Currency {
    /// The number of digits after the decimal point: 0 for JPY, 2 for EUR, 3 for KWD.
    #[must_use]
    pub fn exponent(self) -> u16 {
        self.0.exponent().unwrap_or(0)
    }

    /// The ISO 4217 code.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Reads a decimal number's own text into minor units, without a float in between. Scientific notation with a
    /// whole result (`1e2`) is a JSON number too, so it is read.
    ///
    /// # Errors
    /// [`MoneyError`] if the text is no decimal number, has more decimals than the currency, or exceeds 64 bits.
    pub fn parse_minor(self, text: &str) -> Result<i64, MoneyError> {
        let not_a_number = || MoneyError::NotANumber(text.chars().take(64).collect());
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().map_err(|_| not_a_number())?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || mantissa.ends_with('.') {
            return Err(not_a_number());
        }
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{}{fraction}", whole.trim_start_matches('0'));
        // How many zeros are to be added for minor units; negative means digits that the currency does not have.
        let scale = i64::from(self.exponent()) + i64::from(exponent)
            - i64::try_from(fraction.len()).map_err(|_| not_a_number())?;
        self.scale_digits(&digits, scale, negative, text)
    }

    fn scale_digits(self, digits: &str, scale: i64, negative: bool, text: &str) -> Result<i64, MoneyError> {
        let shown: String = text.chars().take(64).collect();
        let trimmed = digits.trim_end_matches('0');
        if trimmed.is_empty() {
            return Ok(0);
        }
        let scale = scale + i64::try_from(digits.len() - trimmed.len()).unwrap_or(i64::MAX);
        let Ok(zeros) = u32::try_from(scale) else {
            return Err(MoneyError::TooManyDecimals {
                amount: shown,
                currency: self.code().to_owned(),
                exponent: self.exponent(),
            });
        };
        let too_large = || MoneyError::TooLarge(shown.clone());
        let value: i128 = trimmed.parse().map_err(|_| too_large())?;
        let value = 10_i128.checked_pow(zeros).and_then(|factor| value.checked_mul(factor)).ok_or_else(too_large)?;
        i64::try_from(if negative { -value } else { value }).map_err(|_| too_large())
    }

    /// Minor units as a decimal string with exactly the currency's decimals: `-1234` of EUR is `-12.34`.
    #[must_use]
    pub fn format_minor(self, minor: i128) -> String {
        let exponent = usize::from(self.exponent());
        let sign = if minor < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", minor.unsigned_abs(), width = exponent + 1);
        let (whole, fraction) = digits.split_at(digits.len() - exponent);
        if exponent == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        iso_currency::Currency::from_code(code)
            .map(Self)
            .ok_or_else(|| MoneyError::UnknownCurrency(code.chars().take(16).collect()))
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        code.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount in minor units of one currency, as one event carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// The currency of the amount.
    pub currency: Currency,
    /// The amount in minor units (cents); negative for refunds.
    pub minor: i64,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.currency.format_minor(i128::from(self.minor)), self.currency)
    }
}

/// A sum left the range of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sum of money left the range of 128 bits")]
pub struct MoneyOverflow;

/// Sums of money, one per currency, in 128 bits with overflow checked; currencies are never added to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MoneySums(BTreeMap<Currency, i128>);

impl MoneySums {
    /// No money at all.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds minor units of one currency.
    ///
    /// # Errors
    /// [`MoneyOverflow`] if the sum leaves 128 bits; the sum is then unchanged.
    pub fn add(&mut self, currency: Currency, minor: i128) -> Result<(), MoneyOverflow> {
        let sum = self.0.entry(currency).or_insert(0);
        *sum = sum.checked_add(minor).ok_or(MoneyOverflow)?;
        Ok(())
    }

    /// Adds every sum of another.
    ///
    /// # Errors
    /// [`MoneyOverflow`] if a sum leaves 128 bits.
    pub fn add_all(&mut self, other: &MoneySums) -> Result<(), MoneyOverflow> {
        other.iter().try_for_each(|(currency, minor)| self.add(currency, minor))
    }

    /// The sum in one currency, 0 if there was none.
    #[must_use]
    pub fn get(&self, currency: Currency) -> i128 {
        self.0.get(&currency).copied().unwrap_or(0)
    }

    /// The sums, ordered by currency code.
    pub fn iter(&self) -> impl Iterator<Item = (Currency, i128)> + '_ {
        self.0.iter().map(|(currency, minor)| (*currency, *minor))
    }

    /// Whether no currency was ever added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Currency, i128)> for MoneySums {
    fn from_iter<I: IntoIterator<Item = (Currency, i128)>>(sums: I) -> Self {
        Self(sums.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        code.parse().expect("a currency")
    }

    #[test]
    fn exponents_follow_iso_4217() {
        assert_eq!(["JPY", "EUR", "KWD"].map(|code| currency(code).exponent()), [0, 2, 3]);
    }

    #[test]
    fn text_becomes_minor_units_without_rounding() {
        let eur = currency("EUR");
        for (text, minor) in [
            ("12.34", 1234),
            ("-0.05", -5),
            ("0", 0),
            ("-0.00", 0),
            ("1e2", 10_000),
            ("1.5E-1", 15),
            ("0012.3", 1230),
            ("1.230", 123),
            ("92233720368547758.07", i64::MAX),
            ("-92233720368547758.08", i64::MIN),
            ("100e-2", 100),
        ] {
            assert_eq!(eur.parse_minor(text), Ok(minor), "{text}");
        }
        assert_eq!(currency("JPY").parse_minor("500"), Ok(500));
        assert_eq!(currency("KWD").parse_minor("1.234"), Ok(1234));
    }

    #[test]
    fn what_is_no_exact_amount_is_refused() {
        let eur = currency("EUR");
        for text in ["", "-", ".5", "5.", "1,5", "NaN", "Infinity", "1e", "0x10", " 1", "1_000", "+1", "--1", "1e99999"]
        {
            assert!(matches!(eur.parse_minor(text), Err(MoneyError::NotANumber(_))), "{text}");
        }
        for text in ["0.001", "1e-3", "12.345"] {
            assert!(matches!(eur.parse_minor(text), Err(MoneyError::TooManyDecimals { .. })), "{text}");
        }
        for text in ["92233720368547758.08", "1e40", "1e300", "99999999999999999999999999999999999999999999"] {
            assert!(matches!(eur.parse_minor(text), Err(MoneyError::TooLarge(_))), "{text}");
        }
        assert!(matches!("EURO".parse::<Currency>(), Err(MoneyError::UnknownCurrency(_))));
    }

    #[test]
    fn minor_units_are_printed_with_the_currencys_decimals() {
        assert_eq!(currency("EUR").format_minor(-5), "-0.05");
        assert_eq!(currency("JPY").format_minor(-5), "-5");
        assert_eq!(currency("KWD").format_minor(123_456), "123.456");
        assert_eq!(currency("EUR").format_minor(i128::MIN), "-1701411834604692317316873037158841057.28");
    }

    #[test]
    fn an_overflow_is_an_error_and_changes_nothing() {
        let mut sums = MoneySums::new();
        sums.add(currency("EUR"), i128::MAX).expect("fits");
        assert_eq!(sums.add(currency("EUR"), 1), Err(MoneyOverflow));
        assert_eq!(sums.get(currency("EUR")), i128::MAX);
    }
}
