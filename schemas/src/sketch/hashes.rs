//! The exact form of a small sketch: the sorted set of its users' hashes.

use super::HASHES_MAX;
use super::registers::{Registers, place};

/// So many are entered sooner than united.
const FEW: usize = 8;

/// Distinct 64-bit hashes in ascending order.
///
/// Sorted rather than hashed: half the memory of a table, canonical without further work, united in
/// one pass; and at most a few hundred elements are moved by an insertion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hashes(Vec<u64>);

impl Hashes {
    /// Takes hashes in any order; `None` when one of them is there twice.
    pub(crate) fn from_distinct(mut hashes: Vec<u64>) -> Option<Self> {
        hashes.sort_unstable();
        let distinct = hashes.windows(2).all(|pair| pair[0] < pair[1]);
        distinct.then_some(Self(hashes))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.0.iter().copied()
    }

    /// Enters a hash; true when it was not there.
    pub(crate) fn insert(&mut self, hash: u64) -> bool {
        let Err(position) = self.0.binary_search(&hash) else {
            return false;
        };
        if self.0.len() == self.0.capacity() {
            // Vec would begin with room for four; most cells have one or two users. The last
            // step leaves room for the one hash too many that turns the set into registers.
            let room = self.0.len().max(1).min((HASHES_MAX + 1).saturating_sub(self.0.len()));
            self.0.reserve_exact(room);
        }
        self.0.insert(position, hash);
        true
    }

    /// Union, in one pass over both, or one by one where they are few. May leave more hashes than a sketch keeps.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.len() <= FEW {
            for hash in other.iter() {
                self.insert(hash);
            }
            return;
        }
        if other.iter().all(|hash| self.0.binary_search(&hash).is_ok()) {
            return;
        }
        let mut union = Vec::with_capacity(self.len() + other.len());
        let (mut ours, mut theirs) = (self.0.as_slice(), other.0.as_slice());
        while let ([a, rest_a @ ..], [b, rest_b @ ..]) = (ours, theirs) {
            union.push(*a.min(b));
            if a <= b {
                ours = rest_a;
            }
            if b <= a {
                theirs = rest_b;
            }
        }
        union.extend_from_slice(ours);
        union.extend_from_slice(theirs);
        union.shrink_to_fit();
        self.0 = union;
    }

    /// The same users as registers.
    pub(crate) fn to_registers(&self) -> Registers {
        let mut registers = Registers::new();
        self.insert_into(&mut registers);
        registers
    }

    /// Enters all of them into registers.
    pub(crate) fn insert_into(&self, registers: &mut Registers) {
        for hash in self.iter() {
            registers.insert(hash);
        }
    }

    /// What the registers of these hashes would hold: register and rank, ascending, without zeros.
    pub(crate) fn ranks(&self) -> Vec<(usize, u8)> {
        let mut ranks: Vec<_> = self.iter().map(place).collect();
        // Of hashes in the same register the highest rank comes first and stays.
        ranks.sort_unstable_by_key(|(register, rank)| (*register, u8::MAX - rank));
        ranks.dedup_by_key(|(register, _)| *register);
        ranks
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_the_users() {
        let mut hashes = Hashes::default();
        assert_eq!(hashes.heap_bytes(), 0);
        let mut room = Vec::new();
        for hash in (0..=HASHES_MAX as u64).rev() {
            assert!(hashes.insert(hash));
            assert!(!hashes.insert(hash));
            room.push(hashes.heap_bytes());
        }
        assert_eq!(room[..5], [8, 16, 32, 32, 64]);
        assert_eq!(room.last(), Some(&((HASHES_MAX + 1) * 8)));
        assert!(hashes.iter().eq(0..=HASHES_MAX as u64));
    }

    #[test]
    fn a_register_that_two_hashes_share_keeps_the_higher_rank() {
        let hashes = Hashes::from_distinct(vec![1 << 20 | 7, 1 << 30 | 7, 1 << 14 | 3]);
        let ranks = hashes.map(|hashes| hashes.ranks());
        assert_eq!(ranks, Some(vec![(3, 1), (7, 17)]));
    }
}
