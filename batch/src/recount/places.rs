//! Sets of places in the log.

use hashbrown::HashMap;

use super::RecountError;

const OFFSET_BITS: u32 = 48;
/// Places of a block: 64 words of 64 bits.
const BLOCK_BITS: u32 = 12;

/// A partition and an offset in one number, which is ordered as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(pub(crate) u64);

impl Place {
    /// The place of a record.
    ///
    /// # Errors
    /// [`RecountError::Damaged`] if no log can have such a place: there are 2^16 partitions and 2^48 offsets.
    #[inline]
    pub(crate) fn new(partition: i32, offset: i64) -> Result<Self, RecountError> {
        match (u16::try_from(partition), u64::try_from(offset)) {
            (Ok(partition), Ok(offset)) if offset >> OFFSET_BITS == 0 => {
                Ok(Self(u64::from(partition) << OFFSET_BITS | offset))
            }
            _ => Err(RecountError::Damaged(format!("no log has a partition {partition} with an offset {offset}"))),
        }
    }

    /// The partition.
    pub(crate) fn partition(self) -> i32 {
        i32::try_from(self.0 >> OFFSET_BITS).expect("16 bits")
    }

    /// The offset.
    pub(crate) fn offset(self) -> i64 {
        (self.0 & ((1 << OFFSET_BITS) - 1)).cast_signed()
    }
}

/// A set of places: few of many, found fast.
#[derive(Debug, Default)]
pub(crate) struct Places {
    blocks: HashMap<u64, Box<[u64; 64]>>,
}

impl Places {
    /// Enters a place.
    pub(crate) fn insert(&mut self, Place(place): Place) {
        let block = self.blocks.entry(place >> BLOCK_BITS).or_insert_with(|| Box::new([0; 64]));
        let (word, bit) = Self::bit(place);
        block[word] |= bit;
    }

    /// Enters every place of another set.
    pub(crate) fn extend(&mut self, other: Places) {
        for (number, words) in other.blocks {
            let block = self.blocks.entry(number).or_insert_with(|| Box::new([0; 64]));
            for (word, more) in block.iter_mut().zip(*words) {
                *word |= more;
            }
        }
    }

    /// Whether a place is in it.
    #[inline]
    pub(crate) fn contains(&self, Place(place): Place) -> bool {
        let (word, bit) = Self::bit(place);
        self.blocks.get(&(place >> BLOCK_BITS)).is_some_and(|block| block[word] & bit != 0)
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.blocks.values().flat_map(|block| block.iter()).map(|word| u64::from(word.count_ones())).sum()
    }

    const fn bit(place: u64) -> (usize, u64) {
        ((place >> 6 & 63) as usize, 1 << (place & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_as_they_are_in_the_log_and_lead_back() {
        let place = |partition, offset| Place::new(partition, offset).expect("possible");
        let places = [(0, 0), (0, 1), (0, (1 << 48) - 1), (1, 0), (65_535, 7)];
        assert!(places.is_sorted_by_key(|(partition, offset)| place(*partition, *offset)));
        for (partition, offset) in places {
            assert_eq!((place(partition, offset).partition(), place(partition, offset).offset()), (partition, offset));
        }
        for (partition, offset) in [(-1, 0), (0, -1), (65_536, 0), (0, 1 << 48)] {
            assert!(matches!(Place::new(partition, offset), Err(RecountError::Damaged(_))));
        }
    }

    #[test]
    fn a_set_holds_what_was_entered() {
        let place = |number: u64| Place(number * 97);
        let (mut one, mut other) = (Places::default(), Places::default());
        (0..1000).for_each(|number| one.insert(place(number)));
        (500..1500).for_each(|number| other.insert(place(number)));
        one.extend(other);
        assert_eq!(one.count(), 1500);
        assert!((0..1500 * 97).all(|number| one.contains(Place(number)) == number.is_multiple_of(97)));
    }
}
