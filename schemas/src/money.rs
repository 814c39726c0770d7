//! Money: integer minor units of one currency, exact from the first digit to the last.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::decimal::{self, Problem};

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
        let shown = || text.chars().take(64).collect();
        decimal::parse(text, self.exponent()).map_err(|problem| match problem {
            Problem::NotANumber => MoneyError::NotANumber(shown()),
            Problem::TooLarge => MoneyError::TooLarge(shown()),
            Problem::TooManyDecimals => MoneyError::TooManyDecimals {
                amount: shown(),
                currency: self.code().to_owned(),
                exponent: self.exponent(),
            },
        })
    }

    /// Minor units as a decimal string with exactly the currency's decimals: `-1234` of EUR is `-12.34`.
    #[must_use]
    pub fn format_minor(self, minor: i128) -> String {
        decimal::format(minor, self.exponent())
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
}
