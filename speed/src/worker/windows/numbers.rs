//! Hashing of small numbers that nobody outside can choose.

use std::hash::Hasher;

/// Spreads a 32-bit number over 64 bits by one multiplication (Fibonacci hashing), and takes 64 of 128 bits. Only for
/// numbers that this process gave out itself: whoever can choose them could make them collide.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u32(&mut self, number: u32) {
        // 2^64 divided by the golden ratio. The table takes the low bits and the highest seven, so both must differ.
        let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }

    /// A number that is a hash itself.
    fn write_u128(&mut self, number: u128) {
        self.0 = (number >> 64) as u64;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed");
    }
}
