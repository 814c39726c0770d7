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

/// The registers are told to a store in so many pieces, those that have risen since the last time.
pub(crate) const PIECES: usize = u128::BITS as usize;
/// The bytes of a piece.
pub(crate) const PIECE_BYTES: usize = PACKED_BYTES / PIECES;
/// Groups of four registers in a piece.
const PIECE_GROUPS: usize = PIECE_BYTES / 3;

/// 2^14 registers of 6 bits, packed from the least significant bit, on the heap.
#[derive(Clone)]
pub(crate) struct Registers(Box<Block>);

/// What registers take of the heap.
pub(crate) const BYTES: usize = size_of::<Block>();

#[derive(Clone)]
struct Block {
    packed: [u8; PACKED_BYTES],
    /// Of these registers, kept up to date: it is asked for more often than it is cheap to count.
    histogram: Histogram,
    /// A bit for each piece in which a register has risen since [`Registers::take_risen`].
    risen: u128,
}

impl PartialEq for Registers {
    /// Equal registers are equal, whatever was told of them.
    fn eq(&self, other: &Self) -> bool {
        self.0.packed == other.0.packed
    }
}

impl Eq for Registers {}

impl Registers {
    /// All registers zero: the empty set.
    pub(crate) fn new() -> Self {
        let mut histogram = [0; RANK_MAX as usize + 1];
        histogram[0] = 1 << PRECISION;
        Self(Box::new(Block { packed: [0; PACKED_BYTES], histogram, risen: u128::MAX }))
    }

    /// Takes packed registers from outside; `None` when the length is wrong or a rank cannot exist.
    pub(crate) fn from_packed(bytes: &[u8]) -> Option<Self> {
        let packed: [u8; PACKED_BYTES] = bytes.try_into().ok()?;
        let mut histogram = [0; RANK_MAX as usize + 1];
        for rank in ranks(&packed) {
            *histogram.get_mut(usize::from(rank))? += 1;
        }
        Some(Self(Box::new(Block { packed, histogram, risen: u128::MAX })))
    }

    /// The 12,288 packed bytes.
    pub(crate) fn as_packed(&self) -> &[u8] {
        self.0.packed.as_slice()
    }

    /// Enters one hash; true when a register rose.
    pub(crate) fn insert(&mut self, hash: u64) -> bool {
        let (register, rank) = place(hash);
        self.raise(register, rank)
    }

    /// Sets a register to a rank if that is higher; true when it was.
    pub(crate) fn raise(&mut self, register: usize, rank: u8) -> bool {
        debug_assert!(rank <= RANK_MAX, "a rank above {RANK_MAX} cannot come from a hash");
        let Block { packed, histogram, risen } = &mut *self.0;
        let group = &mut packed.as_chunks_mut::<3>().0[register / 4];
        let mut ranks = unpack(*group);
        let current = &mut ranks[register % 4];
        if rank <= *current {
            return false;
        }
        histogram[usize::from(*current)] -= 1;
        histogram[usize::from(rank)] += 1;
        *current = rank;
        *group = pack(ranks);
        *risen |= 1 << (register / 4 / PIECE_GROUPS);
        true
    }

    /// Union: every register becomes the larger of the two.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Block { packed, histogram, risen } = &mut *self.0;
        let ours = packed.as_chunks_mut::<PIECE_BYTES>().0;
        let theirs = other.0.packed.as_chunks::<PIECE_BYTES>().0;
        for (piece, (our, their)) in ours.iter_mut().zip(theirs).enumerate() {
            let before = *our;
            for (our, their) in our.as_chunks_mut::<3>().0.iter_mut().zip(their.as_chunks::<3>().0) {
                let (a, b) = (unpack(*our), unpack(*their));
                *our = pack([a[0].max(b[0]), a[1].max(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
            }
            if *our == before {
                continue;
            }
            *risen |= 1 << piece;
            ranks(&before).for_each(|rank| histogram[usize::from(rank)] -= 1);
            ranks(our).for_each(|rank| histogram[usize::from(rank)] += 1);
        }
    }

    /// The pieces in which a register has risen since the last call, all of them if there was none; a bit for each.
    pub(crate) fn take_risen(&mut self) -> u128 {
        std::mem::take(&mut self.0.risen)
    }

    /// As if nothing had been told of them.
    pub(crate) fn forget_told(&mut self) {
        self.0.risen = u128::MAX;
    }

    /// The bytes of a piece.
    pub(crate) fn piece(&self, piece: usize) -> &[u8; PIECE_BYTES] {
        &self.0.packed.as_chunks::<PIECE_BYTES>().0[piece]
    }

    /// The registers that are not zero, ascending, with their ranks.
    pub(crate) fn nonzero(&self) -> impl Iterator<Item = (usize, u8)> + '_ {
        let groups = self.0.packed.as_chunks::<3>().0.iter().enumerate();
        // Mostly zeros, where it matters.
        let nonzero = groups.filter(|(_, group)| **group != [0; 3]);
        nonzero.flat_map(|(index, group)| (4 * index..).zip(unpack(*group))).filter(|(_, rank)| *rank > 0)
    }

    /// How many registers have which rank: all that an estimate needs.
    pub(crate) fn histogram(&self) -> &Histogram {
        &self.0.histogram
    }
}

impl fmt::Debug for Registers {
    /// Names the content, not its 12,288 bytes: a failed assertion has to stay readable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let histogram = self.histogram();
        f.debug_struct("Registers")
            .field("zero", &histogram[0])
            .field("estimate", &estimate::estimate(histogram))
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

/// The ranks in packed bytes.
fn ranks(packed: &[u8]) -> impl Iterator<Item = u8> + '_ {
    packed.as_chunks::<3>().0.iter().flat_map(|group| unpack(*group))
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
        let mut united = Registers::new();
        united.merge(&registers);
        let counted = Registers::from_packed(registers.as_packed()).expect("packed here");
        assert!([&united, &counted].iter().all(|other| other.histogram() == registers.histogram()));
        assert!(registers.nonzero().eq((0..REGISTERS).zip((1..=RANK_MAX).cycle())));
        assert_eq!(Registers::from_packed(registers.as_packed()), Some(registers));
    }

    #[test]
    fn the_pieces_that_rose_are_told_once() {
        let mut registers = Registers::new();
        assert_eq!(registers.take_risen(), u128::MAX, "nothing was told yet");
        let per_piece = REGISTERS / PIECES;
        assert!(registers.raise(0, 3) && registers.raise(per_piece, 3) && !registers.raise(per_piece, 2));
        assert_eq!(registers.take_risen(), 0b11);
        let mut other = Registers::new();
        assert!(other.raise(0, 2) && other.raise(REGISTERS - 1, 1));
        registers.merge(&other);
        assert_eq!(registers.take_risen(), 1 << (PIECES - 1), "a lower rank is no news");
        assert_eq!(registers.take_risen(), 0);
        let told = registers.clone();
        registers.forget_told();
        assert_eq!((registers.take_risen(), registers == told), (u128::MAX, true));
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
