//! An amount as ledgers write it, in minor units.

use reckon_schemas::money::{Currency, MoneyError};

use super::mapping::{Amount, AmountUnit};

/// A text is no amount.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAmount {
    #[error("{0:?} is no whole number of minor units")]
    NotWhole(String),
    #[error("{0:?} has separators in other places than the mapping says: decimal_separator, thousands_separator")]
    Separators(String),
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// Reads an amount: a sign before or after the number (`12,50-`), or brackets around it for what went out; with or
/// without separators between groups of digits. Nothing is rounded.
pub(super) fn read_minor(text: &str, amount: &Amount, currency: Currency) -> Result<i64, NoAmount> {
    let text = text.trim();
    let (negative, digits) = if let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        (true, inner)
    } else if let Some(rest) = text.strip_prefix('-').or_else(|| text.strip_suffix('-')) {
        (true, rest)
    } else {
        (false, text.strip_prefix('+').or_else(|| text.strip_suffix('+')).unwrap_or(text))
    };
    let (sign, digits) = (if negative { "-" } else { "" }, digits.trim());
    let shown = || text.chars().take(64).collect();
    if amount.unit == AmountUnit::Minor {
        let minor = ungrouped(digits, amount.thousands_separator).filter(|whole| is_digits(whole));
        return minor
            .and_then(|whole| format!("{sign}{whole}").parse().ok())
            .ok_or_else(|| NoAmount::NotWhole(shown()));
    }
    let (whole, fraction) = match digits.split_once(amount.decimal_separator) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    // A separator in an unexpected place would shift the amount: 12.50 is not 1,250.
    let whole = ungrouped(whole, amount.thousands_separator).filter(|whole| is_digits(whole));
    match (whole, fraction) {
        (Some(whole), None) => Ok(currency.parse_minor(&format!("{sign}{whole}"))?),
        (Some(whole), Some(fraction)) if is_digits(fraction) => {
            Ok(currency.parse_minor(&format!("{sign}{whole}.{fraction}"))?)
        }
        _ => Err(NoAmount::Separators(shown())),
    }
}

/// The digits without the separators between groups of three; `None` if these stand anywhere else.
fn ungrouped(digits: &str, separator: Option<char>) -> Option<String> {
    let Some(separator) = separator else { return Some(digits.to_owned()) };
    let mut groups = digits.split(separator);
    let first = groups.next()?;
    let mut plain = first.to_owned();
    for group in groups {
        if group.len() != 3 || !(1..=3).contains(&first.len()) {
            return None;
        }
        plain.push_str(group);
    }
    Some(plain)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(unit: AmountUnit, decimal_separator: char, thousands_separator: Option<char>) -> Amount {
        let column = Some("amount".to_owned());
        Amount { column, credit: None, debit: None, unit, decimal_separator, thousands_separator, negate: Vec::new() }
    }

    #[test]
    fn every_way_to_write_an_amount_is_the_same_amount() {
        let (eur, yen) = ("EUR".parse().expect("known"), "JPY".parse().expect("known"));
        let german = amount(AmountUnit::Decimal, ',', Some('.'));
        for text in ["-1.234,56", "1234,56-", "(1.234,56)", " -1.234,560 "] {
            assert_eq!(read_minor(text, &german, eur), Ok(-123_456), "{text}");
        }
        let english = amount(AmountUnit::Decimal, '.', Some(','));
        for text in ["1,234.56", "+1234.56", "1234.56"] {
            assert_eq!(read_minor(text, &english, eur), Ok(123_456), "{text}");
        }
        let minor = amount(AmountUnit::Minor, '.', None);
        assert_eq!(read_minor("-123456", &minor, eur), Ok(-123_456));
        assert_eq!(read_minor("500", &amount(AmountUnit::Decimal, '.', None), yen), Ok(500));
    }

    #[test]
    fn what_could_shift_an_amount_is_refused() {
        let eur = "EUR".parse().expect("known");
        let comma = amount(AmountUnit::Decimal, ',', None);
        let point = amount(AmountUnit::Decimal, '.', None);
        let minor = amount(AmountUnit::Minor, '.', None);
        let german = amount(AmountUnit::Decimal, ',', Some('.'));
        for (text, amount) in [
            ("12.50", &comma),
            ("12.50", &german),
            ("1.2345,00", &german),
            ("1.234.5,00", &german),
            ("1,234.567", &german),
            ("1.234", &comma),
            ("12,50", &point),
            ("1,234.50", &point),
            ("12.345", &point),
            ("12.50", &minor),
            ("--5", &point),
            ("-5-", &point),
            ("", &point),
            ("-", &minor),
            ("12 EUR", &point),
        ] {
            assert!(read_minor(text, amount, eur).is_err(), "{text}");
        }
    }
}
