//! Arithmetic on numbers that say how far they can be off. Exact: fractions of 128 bits, overflow checked; what has to
//! be rounded is rounded once, at the end, and the rounding is part of the error bound.

use num_rational::Ratio;
use num_traits::{CheckedAdd, CheckedDiv, CheckedMul, CheckedSub, Signed, Zero};
use reckon_schemas::settlement::State;

use crate::answer::{Method, Number, Value};
use crate::merge::plan::weaker;

/// How many decimals a number has that comes from a division.
pub(crate) const DECIMALS: u32 = 6;

/// A number left the range of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number left the range of 128 bits")]
pub(crate) struct OutOfRange;

/// A number and how far it can be off, at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    value: Ratio<i128>,
    bound: Ratio<i128>,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As an integer: events and users.
    Integer,
    /// As a decimal string of at least so many decimals.
    Decimal(usize),
}

/// Which of the four it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Estimate {
    /// A number that is known.
    pub(crate) fn exact(value: Ratio<i128>) -> Self {
        Self { value, bound: Ratio::zero() }
    }

    /// What an answer says; `None` where it says nothing.
    pub(crate) fn of(number: &Number) -> Option<Self> {
        Some(Self { value: ratio(&number.value)?, bound: ratio(&number.error_bound)? })
    }

    /// The value alone; to order by.
    pub(crate) const fn value(&self) -> &Ratio<i128> {
        &self.value
    }

    /// Minus this.
    pub(crate) fn negated(self) -> Result<Self, OutOfRange> {
        Self::exact(Ratio::zero()).with(Operation::Subtract, &self)?.ok_or(OutOfRange)
    }

    /// The result of one operation, off by the most that both operands can cause. `None` if it is not defined: the
    /// divisor is zero, or its error reaches to zero.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub(crate) fn with(&self, operation: Operation, other: &Self) -> Result<Option<Self>, OutOfRange> {
        let (a, b) = (self, other);
        let crossed = || add(&mul(&a.value.abs(), &b.bound)?, &mul(&b.value.abs(), &a.bound)?);
        let (value, bound) = match operation {
            Operation::Add => (add(&a.value, &b.value)?, add(&a.bound, &b.bound)?),
            Operation::Subtract => (sub(&a.value, &b.value)?, add(&a.bound, &b.bound)?),
            Operation::Multiply => (mul(&a.value, &b.value)?, add(&crossed()?, &mul(&a.bound, &b.bound)?)?),
            Operation::Divide => {
                let least = sub(&b.value.abs(), &b.bound)?;
                if !least.is_positive() {
                    return Ok(None);
                }
                (div(&a.value, &b.value)?, div(&crossed()?, &mul(&b.value.abs(), &least)?)?)
            }
        };
        Ok(Some(Self { value, bound }))
    }

    /// The value and its bound as they are sent. What has more decimals than there is room for is rounded half away
    /// from zero; bounds are rounded up.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub(crate) fn say(&self, style: Style) -> Result<(Value, Value), OutOfRange> {
        let (decimals, shown) = match style {
            Style::Integer => (0, 0),
            Style::Decimal(decimals) => (DECIMALS, decimals),
        };
        let scale = Ratio::from_integer(10_i128.pow(decimals));
        let scaled = mul(&self.value, &scale)?;
        let rounded = scaled.round();
        let bound = add(&mul(&self.bound, &scale)?, &sub(&scaled, &rounded)?.abs())?;
        let say = |units: i128| match style {
            Style::Integer => Value::Integer(units),
            Style::Decimal(_) => Value::Decimal(decimal(units, shown)),
        };
        Ok((say(rounded.to_integer()), say(ceiling(&bound))))
    }
}

/// What stands behind a number that is made of others: it is as certain as the least certain of them.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    method: Method,
    state: State,
    as_of: Option<jiff::Timestamp>,
    run_id: Option<String>,
}

impl Origin {
    /// Of several numbers, of which there is at least one.
    pub(crate) fn of<'a>(numbers: impl IntoIterator<Item = &'a Number>) -> Option<Self> {
        numbers.into_iter().map(Self::from).reduce(|a, b| Self {
            method: if a.method == Method::Exact { b.method } else { a.method },
            state: weaker(a.state, b.state),
            as_of: a.as_of.max(b.as_of),
            run_id: a.run_id.filter(|run| b.run_id.as_ref() == Some(run)),
        })
    }

    /// The number with that provenance.
    pub(crate) fn number(&self, estimate: Option<&Estimate>, style: Style) -> Result<Number, OutOfRange> {
        let (value, error_bound) = match estimate {
            Some(estimate) => estimate.say(style)?,
            None => (Value::Undefined, Value::Undefined),
        };
        let Self { method, state, as_of, run_id } = self.clone();
        Ok(Number { value, method, error_bound, state, as_of, run_id })
    }
}

impl From<&Number> for Origin {
    fn from(number: &Number) -> Self {
        let Number { method, state, as_of, run_id, .. } = number.clone();
        Self { method, state, as_of, run_id }
    }
}

/// A decimal number of at most 30 digits, as an exact fraction; `None` if it is something else.
pub(crate) fn parse(text: &str) -> Option<Ratio<i128>> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.len() + fraction.len();
    if digits > 30 || !format!("{whole}{fraction}").bytes().all(|byte| byte.is_ascii_digit()) || digits == 0 {
        return None;
    }
    let numerator = format!("{whole}{fraction}").parse().ok()?;
    Some(Ratio::new(numerator, 10_i128.pow(u32::try_from(fraction.len()).ok()?)))
}

fn ratio(value: &Value) -> Option<Ratio<i128>> {
    match value {
        Value::Integer(integer) => in_range(Some(Ratio::from_integer(*integer))).ok(),
        Value::Decimal(text) => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let numerator = format!("{whole}{fraction}").parse().ok()?;
            in_range(Some(Ratio::new(numerator, 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?))).ok()
        }
        Value::Undefined => None,
    }
}

/// Millionths as a decimal number without trailing zeros beyond so many decimals.
fn decimal(millionths: i128, decimals_min: usize) -> String {
    let sign = if millionths < 0 { "-" } else { "" };
    let digits = format!("{:07}", millionths.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - 6);
    let kept = fraction.trim_end_matches('0').len().max(decimals_min.min(6));
    if kept == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{}", &fraction[..kept]) }
}

/// The least integer that is not less. `Ratio::ceil` adds the denominator first, which may be too much.
fn ceiling(ratio: &Ratio<i128>) -> i128 {
    let (whole, rest) = (ratio.numer() / ratio.denom(), ratio.numer() % ratio.denom());
    whole + i128::from(rest > 0)
}

/// The least integer has no absolute value, so it is out of range, too.
fn in_range(ratio: Option<Ratio<i128>>) -> Result<Ratio<i128>, OutOfRange> {
    ratio.filter(|ratio| *ratio.numer() != i128::MIN).ok_or(OutOfRange)
}

fn add(a: &Ratio<i128>, b: &Ratio<i128>) -> Result<Ratio<i128>, OutOfRange> {
    in_range(a.checked_add(b))
}

fn sub(a: &Ratio<i128>, b: &Ratio<i128>) -> Result<Ratio<i128>, OutOfRange> {
    in_range(a.checked_sub(b))
}

fn mul(a: &Ratio<i128>, b: &Ratio<i128>) -> Result<Ratio<i128>, OutOfRange> {
    in_range(a.checked_mul(b))
}

fn div(a: &Ratio<i128>, b: &Ratio<i128>) -> Result<Ratio<i128>, OutOfRange> {
    in_range(a.checked_div(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn estimate(value: i128, bound: i128) -> Estimate {
        Estimate { value: Ratio::from_integer(value), bound: Ratio::from_integer(bound) }
    }

    fn said(estimate: &Estimate, style: Style) -> (String, String) {
        let text = |value| serde_json::to_string(&value).expect("serialises").trim_matches('"').to_owned();
        let (value, bound) = estimate.say(style).expect("in range");
        (text(value), text(bound))
    }

    #[test]
    fn what_is_rounded_says_so() {
        let third = estimate(1, 0).with(Operation::Divide, &estimate(3, 0)).expect("in range").expect("defined");
        assert_eq!(said(&third, Style::Decimal(2)), ("0.333333".to_owned(), "0.000001".to_owned()));
        let half = estimate(-1, 0).with(Operation::Divide, &estimate(2, 0)).expect("in range").expect("defined");
        assert_eq!(said(&half, Style::Decimal(2)), ("-0.50".to_owned(), "0.00".to_owned()));
        assert_eq!(said(&estimate(7, 0), Style::Integer), ("7".to_owned(), "0".to_owned()));
        assert_eq!(said(&estimate(7, 0), Style::Decimal(0)), ("7".to_owned(), "0".to_owned()));
    }

    #[test]
    fn a_division_by_what_may_be_zero_is_not_defined() {
        let divide = |b, bound| estimate(5, 0).with(Operation::Divide, &estimate(b, bound)).expect("in range");
        assert_eq!(divide(0, 0), None);
        assert_eq!(divide(3, 3), None);
        assert!(divide(-3, 2).is_some());
    }

    #[test]
    fn overflow_is_an_error_and_not_a_number() {
        let huge = estimate(i128::MAX, 0);
        assert_eq!(huge.with(Operation::Add, &huge), Err(OutOfRange));
        assert_eq!(huge.with(Operation::Multiply, &huge), Err(OutOfRange));
        assert_eq!(huge.say(Style::Decimal(2)), Err(OutOfRange));
        assert_eq!(estimate(i128::MIN, 0).negated(), Err(OutOfRange));
    }

    #[test]
    fn the_greatest_numbers_are_said_or_out_of_range_and_never_a_panic() {
        let extremes = [i128::MIN, i128::MIN + 1, i128::MIN / 2, -1, 0, 1, 2, i128::MAX / 2, i128::MAX - 1, i128::MAX];
        let ratios = || {
            let over = |numer: i128| extremes.into_iter().filter(|denom| *denom > 0).map(move |denom| (numer, denom));
            extremes
                .into_iter()
                .flat_map(over)
                .filter_map(|(numer, denom)| in_range(Some(Ratio::new(numer, denom))).ok())
        };
        let estimates: Vec<Estimate> = ratios()
            .flat_map(|value| ratios().filter(|bound| !bound.is_negative()).map(move |bound| Estimate { value, bound }))
            .collect();
        let mut said = 0;
        for estimate in &estimates {
            said += [Style::Integer, Style::Decimal(2)].iter().filter(|style| estimate.say(**style).is_ok()).count();
        }
        assert!(said > 0);
        use Operation::{Add, Divide, Multiply, Subtract};
        for (a, b) in estimates.iter().step_by(13).flat_map(|a| estimates.iter().step_by(17).map(move |b| (a, b))) {
            for result in
                [Add, Subtract, Multiply, Divide].into_iter().filter_map(|operation| a.with(operation, b).ok())
            {
                let _ = result.map(|result| result.say(Style::Integer));
            }
        }
        // One above a multiple of the denominator: what `Ratio::ceil` cannot do.
        let third = Estimate { value: Ratio::zero(), bound: Ratio::new(i128::MAX, 3) };
        assert_eq!(third.say(Style::Integer), Ok((Value::Integer(0), Value::Integer(i128::MAX / 3 + 1))));
        let least = estimate(i128::MIN + 1, 0).with(Operation::Subtract, &estimate(1, 0));
        assert_eq!(least, Err(OutOfRange));
    }

    #[test]
    fn what_is_rounded_up_is_no_more_than_it_has_to_be() {
        for (numer, denom, up) in [(7, 2, 4), (8, 2, 4), (-7, 2, -3), (-8, 2, -4), (0, 5, 0), (1, i128::MAX, 1)] {
            assert_eq!(ceiling(&Ratio::new(numer, denom)), up, "{numer}/{denom}");
        }
    }

    #[test]
    fn decimal_texts_are_read_exactly() {
        assert_eq!(parse("0.10"), Some(Ratio::new(1, 10)));
        assert_eq!(parse("12"), Some(Ratio::from_integer(12)));
        for text in ["", ".", "1e3", "-1", "1.2.3", "0x1", "1_0", &"9".repeat(31)] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        /// Whatever both operands really are within their bounds, the result is within its own.
        #[test]
        fn the_bound_holds(
            a in -1000_i128..1000, a_off in 0_i128..50, b in -1000_i128..1000, b_off in 0_i128..50,
            x in -100_i128..=100, y in -100_i128..=100,
        ) {
            use Operation::{Add, Divide, Multiply, Subtract};
            let real = |value, off, part| Ratio::from_integer(value) + Ratio::new(off * part, 100);
            let (real_a, real_b) = (real(a, a_off, x), real(b, b_off, y));
            for operation in [Add, Subtract, Multiply, Divide] {
                let result = estimate(a, a_off).with(operation, &estimate(b, b_off)).expect("in range");
                let Some(result) = result else { continue };
                let real = match operation {
                    Add => real_a + real_b,
                    Subtract => real_a - real_b,
                    Multiply => real_a * real_b,
                    Divide => real_a / real_b,
                };
                prop_assert!((real - result.value).abs() <= result.bound, "{:?} {} {}", operation, real_a, real_b);
                let (value, bound) = result.say(Style::Decimal(0)).expect("in range");
                let (value, bound) = (ratio(&value).expect("a number"), ratio(&bound).expect("a number"));
                prop_assert!((real - value).abs() <= bound);
            }
        }
    }
}
