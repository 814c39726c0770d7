//! The estimator: from a histogram of ranks to a number of distinct users.
//!
//! Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6.
//! Redis has used it since version 4, so the number is the one `PFCOUNT` answers for the same
//! registers. It needs no tables and no switch between ranges.

use super::REGISTERS;
use super::registers::{Histogram, RANK_MAX};

/// 1 / (2 ln 2).
const ALPHA_INFINITY: f64 = 0.5 / std::f64::consts::LN_2;

/// The number of distinct users that most likely led to these registers.
pub(crate) fn estimate(histogram: &Histogram) -> u64 {
    let m = REGISTERS as f64;
    let last = usize::from(RANK_MAX);
    let mut z = m * tau((m - f64::from(histogram[last])) / m);
    for count in histogram[1..last].iter().rev() {
        z = 0.5 * (z + f64::from(*count));
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    let users = (ALPHA_INFINITY * m * m / z).round();
    #[expect(clippy::cast_possible_truncation, reason = "whole and not negative; what no real input reaches saturates")]
    let users = users as u64;
    users
}

/// The correction for registers that are still zero.
fn sigma(x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut weight, mut sum) = (x, 1.0, x);
    until_stable(&mut sum, |sum| {
        power *= power;
        let next = sum + power * weight;
        weight += weight;
        next
    });
    sum
}

/// The correction for registers that cannot rise any more.
fn tau(x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut root, mut weight, mut sum) = (x, 1.0, 1.0 - x);
    until_stable(&mut sum, |sum| {
        root = root.sqrt();
        weight *= 0.5;
        sum - (1.0 - root) * (1.0 - root) * weight
    });
    sum / 3.0
}

/// Repeats a step until its result no longer changes in the last bit. Both series converge
/// quadratically or halve their terms, so that this ends after some 60 steps at the most.
fn until_stable(value: &mut f64, mut step: impl FnMut(f64) -> f64) {
    loop {
        let next = step(*value);
        let stable = next.to_bits() == value.to_bits();
        *value = next;
        if stable {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{STANDARD_ERROR, registers::Registers};
    use super::*;

    #[test]
    fn none_and_all() {
        assert_eq!(estimate(Registers::new().histogram()), 0);
        let mut full = [0; RANK_MAX as usize + 1];
        full[usize::from(RANK_MAX)] = 1 << 14;
        assert_eq!(estimate(&full), u64::MAX, "saturates, does not panic");
    }

    #[test]
    fn stays_within_three_standard_errors_at_every_size() {
        let mut registers = Registers::new();
        let mut users = 0_u32;
        for next in [1, 16, 17, 512, 513, 1_000, 10_000, 40_000, 100_000, 1_000_000] {
            for user in users..next {
                registers.insert(super::super::hash_user(&user.to_le_bytes()));
            }
            users = next;
            let off = estimate(registers.histogram()).abs_diff(u64::from(users));
            let bound = (3.0 * STANDARD_ERROR * f64::from(users)).ceil();
            assert!(off as f64 <= bound, "{users} users are estimated {off} off");
        }
    }
}
