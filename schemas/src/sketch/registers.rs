//! The registers of a HyperLogLog, packed as Redis and ClickHouse both pack them.

use super::{REGISTERS, estimate};
use std::fmt;

/// Bits of a hash that choose the register.
const PRECISION: u32 = 14;
/// Bits of a hash that are left for the rank.
const RANK_BITS: u32 = 64 - PRECISION;
/// The bits that choose the register.
const REGISTER_MASK: u64 = (1 << PRECISION) - 1;
/// The largest rank: all remaining bits are zero.
pub(crate) const RANK_MAX: u8 = 51;
/// 2^14 registers of 6 bits.
pub(crate) const PACKED_BYTES: usize = REGISTERS / 4 * 3;

/// How many registers have rank 0, 1, .. 51.
pub(crate) type Histogram = [u32; RANK_MAX as usize + 1];

/// 2^14 registers of 6 bits, packed from the least significant bit, on the heap.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Registers(Box<[u8; PACKED_BYTES]>);

impl Registers {
    /// All registers zero: the empty set.
    pub(crate) fn new() -> Self {
        Self(Box::new([0; PACKED_BYTES]))
    }

    /// Takes packed registers from outside; `None` when the length is wrong or a rank cannot exist.
    pub(crate) fn from_packed(bytes: &[u8]) -> Option<Self> {
        let packed: [u8; PACKED_BYTES] = bytes.try_into().ok()?;
        let registers = Self(Box::new(packed));
        let valid = registers.ranks().all(|rank| rank <= RANK_MAX);
        valid.then_some(registers)
    }

    /// The 12,288 packed bytes.
    pub(crate) fn as_packed(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Enters one hash; true when a register rose.
    pub(crate) fn insert(&mut self, hash: u64) -> bool {
        let (register, rank) = place(hash);
        self.raise(register, rank)
    }

    /// Sets a register to a rank if that is higher; true when it was.
    pub(crate) fn raise(&mut self, register: usize, rank: u8) -> bool {
        debug_assert!(rank <= RANK_MAX, "a rank above {RANK_MAX} cannot come from a hash");
        let group = &mut self.0.as_chunks_mut::<3>().0[register / 4];
        let mut ranks = unpack(*group);
        let current = &mut ranks[register % 4];
        if rank <= *current {
            return false;
        }
        *current = rank;
        *group = pack(ranks);
        true
    }

    /// Union: every register becomes the larger of the two.
    pub(crate) fn merge(&mut self, other: &Self) {
        let ours = self.0.as_chunks_mut::<3>().0;
        let theirs = other.0.as_chunks::<3>().0;
        for (our, their) in ours.iter_mut().zip(theirs) {
            let (a, b) = (unpack(*our), unpack(*their));
            *our = pack([a[0].max(b[0]), a[1].max(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
        }
    }

    /// The ranks in the order of their registers.
    pub(crate) fn ranks(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.as_chunks::<3>().0.iter().flat_map(|group| unpack(*group))
    }

    /// How many registers have which rank: all that an estimate needs.
    pub(crate) fn histogram(&self) -> Histogram {
        let mut counts = [0; RANK_MAX as usize + 1];
        for rank in self.ranks() {
            counts[usize::from(rank)] += 1;
        }
        counts
    }
}

impl fmt::Debug for Registers {
    /// Names the content, not its 12,288 bytes: a failed assertion has to stay readable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let histogram = self.histogram();
        f.debug_struct("Registers")
            .field("zero", &histogram[0])
            .field("estimate", &estimate::estimate(&histogram))
            .finish()
    }
}

/// The register of a hash (its low 14 bits) and its rank (1 to 51): the position of the lowest set
/// bit among the other 50.
pub(crate) fn place(hash: u64) -> (usize, u8) {
    let register = (hash & REGISTER_MASK) as usize;
    // The sentinel above the last bit bounds the rank when all 50 are zero.
    let zeros = ((hash >> PRECISION) | (1 << RANK_BITS)).trailing_zeros();
    let rank = u8::try_from(zeros + 1).expect("at most 51, because of the sentinel bit");
    (register, rank)
}

/// Four registers from three bytes.
fn unpack([a, b, c]: [u8; 3]) -> [u8; 4] {
    [a & 63, (a >> 6 | b << 2) & 63, (b >> 4 | c << 4) & 63, c >> 2]
}

/// The inverse of `unpack`; ranks are below 64.
fn pack([a, b, c, d]: [u8; 4]) -> [u8; 3] {
    [a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_neighbours_apart() {
        let mut registers = Registers::new();
        for (index, rank) in (0..REGISTERS).zip((1..=RANK_MAX).cycle()) {
            assert!(registers.raise(index, rank));
            assert!(!registers.raise(index, rank), "the same rank is no change");
            assert!(!registers.raise(index, rank - 1), "a register never falls");
        }
        assert!(registers.ranks().eq((1..=RANK_MAX).cycle().take(REGISTERS)));
        assert_eq!(Registers::from_packed(registers.as_packed()), Some(registers));
    }

    #[test]
    fn the_rank_is_bounded_when_every_bit_is_zero() {
        assert_eq!(place(0), (0, RANK_MAX));
        assert_eq!(place(u64::MAX), (REGISTERS - 1, 1));
        assert_eq!(place(1 << PRECISION), (0, 1));
        assert_eq!(place(1 << 63 | 5), (5, 50));
    }

    #[test]
    fn refuses_a_wrong_length_and_impossible_ranks() {
        assert_eq!(Registers::from_packed(&[0; PACKED_BYTES - 1]), None);
        assert_eq!(Registers::from_packed(&[0; PACKED_BYTES + 1]), None);
        let mut packed = [0; PACKED_BYTES];
        packed[0] = RANK_MAX + 1;
        assert_eq!(Registers::from_packed(&packed), None);
    }
}
