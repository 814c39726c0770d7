//! Decimal numbers as whole numbers of their last decimal, without a float in between.

/// Why a text is not a number of so many decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It is no plain decimal number.
    NotANumber,
    /// It has more decimals; rounding would lose something.
    TooManyDecimals,
    /// It does not fit into 64 bits.
    TooLarge,
}

/// Reads a decimal number as a whole number of units of `10^-decimals`. Scientific notation with a whole result
/// (`1e2`) is a JSON number too, so it is read.
pub(crate) fn parse(text: &str, decimals: u16) -> Result<i64, Problem> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().map_err(|_| Problem::NotANumber)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || mantissa.ends_with('.') {
        return Err(Problem::NotANumber);
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{}{fraction}", whole.trim_start_matches('0'));
    let trimmed = digits.trim_end_matches('0');
    if trimmed.is_empty() {
        return Ok(0);
    }
    // How many zeros are to be added for the last decimal; negative means digits beyond it.
    let places = |digits: usize| i64::try_from(digits).map_err(|_| Problem::NotANumber);
    let scale =
        i64::from(decimals) + i64::from(exponent) - places(fraction.len())? + places(digits.len() - trimmed.len())?;
    let zeros = u32::try_from(scale).map_err(|_| Problem::TooManyDecimals)?;
    let value: i128 = trimmed.parse().map_err(|_| Problem::TooLarge)?;
    let value = 10_i128.checked_pow(zeros).and_then(|factor| value.checked_mul(factor)).ok_or(Problem::TooLarge)?;
    i64::try_from(if negative { -value } else { value }).map_err(|_| Problem::TooLarge)
}

/// A whole number of units of `10^-decimals` as a decimal number with exactly so many decimals.
pub(crate) fn format(value: i128, decimals: u16) -> String {
    let decimals = usize::from(decimals);
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    if decimals == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}
