//! ClickHouse's state: what `uniqCombined64MergeState(14)` writes and `uniqCombined64Merge(14)` reads.
//!
//! | first byte | content |
//! |---|---|
//! | 1 | varint n up to 16, then n hashes |
//! | 2 | varint n up to 512, then n hashes |
//! | 3 | the packed registers, 52 u32: how many registers have rank 0 to 51, u16: how many are zero |
//!
//! Integers are little endian. Redis packs registers in the same way, and takes the same bits of a hash
//! for register and rank, so the bytes go into either as they are.

use super::hashes::Hashes;
use super::registers::{Histogram, PACKED_BYTES, RANK_MAX, Registers};
use super::{HASHES_MAX, Sketch, SketchError, Users};

const FORMAT: &str = "ClickHouse";
const SMALL: u8 = 1;
const MEDIUM: u8 = 2;
const LARGE: u8 = 3;
const SMALL_MAX: usize = 16;
const HASH_BYTES: usize = size_of::<u64>();
const COUNTS_BYTES: usize = (RANK_MAX as usize + 1) * size_of::<u32>();

impl Sketch {
    /// The state of `uniqCombined64(14)`, for a `String` column that a view casts to
    /// `AggregateFunction(uniqCombined64(14), UInt64)`.
    ///
    /// 2 to 4,099 bytes up to [`HASHES_MAX`] users, then 12,499.
    #[must_use]
    pub fn to_clickhouse(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_clickhouse(&mut out);
        out
    }

    /// Writes what [`Self::to_clickhouse`] returns behind the end of a buffer that the caller reuses.
    pub fn write_clickhouse(&self, out: &mut Vec<u8>) {
        match &self.users {
            Users::Hashes(hashes) => write_hashes(hashes, out),
            Users::Registers(registers) => write_registers(registers, out),
        }
    }

    /// Reads a state of `uniqCombined64(14)` whose elements are hashes of
    /// [`hash_user`](super::hash_user).
    ///
    /// # Errors
    /// [`SketchError::NotASketch`] for other bytes, [`SketchError::Damaged`] for a state that is cut
    /// off, too long, names a hash twice, or whose counts do not fit its registers.
    pub fn from_clickhouse(bytes: &[u8]) -> Result<Self, SketchError> {
        let users = match bytes {
            [SMALL, rest @ ..] => Users::Hashes(read_hashes(rest, SMALL_MAX)?),
            [MEDIUM, rest @ ..] => Users::Hashes(read_hashes(rest, HASHES_MAX)?),
            [LARGE, rest @ ..] => Users::Registers(read_registers(rest)?),
            _ => return Err(SketchError::NotASketch { format: FORMAT }),
        };
        Ok(Self { users })
    }
}

fn damaged(problem: &'static str) -> SketchError {
    SketchError::Damaged { format: FORMAT, problem }
}

fn write_hashes(hashes: &Hashes, out: &mut Vec<u8>) {
    let count = hashes.len();
    out.reserve(3 + count * HASH_BYTES);
    out.push(if count <= SMALL_MAX { SMALL } else { MEDIUM });
    let [low, high, ..] = count.to_le_bytes();
    // LEB128 of a count up to 512: seven bits, then the others.
    if count < 0x80 {
        out.push(low);
    } else {
        out.extend([low | 0x80, high << 1 | low >> 7]);
    }
    hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
}

fn read_hashes(bytes: &[u8], count_max: usize) -> Result<Hashes, SketchError> {
    let (count, bytes) = match bytes {
        [low, rest @ ..] if *low < 0x80 => (usize::from(*low), rest),
        [low, high, rest @ ..] if *high < 0x80 => (usize::from(*low & 0x7f) | usize::from(*high) << 7, rest),
        _ => return Err(damaged("no count of hashes")),
    };
    if count > count_max {
        return Err(damaged("more hashes than this form holds"));
    }
    let (hashes, tail) = bytes.as_chunks::<HASH_BYTES>();
    if hashes.len() != count || !tail.is_empty() {
        return Err(damaged("the count of hashes does not fit the length"));
    }
    let hashes = hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
    Hashes::from_distinct(hashes).ok_or_else(|| damaged("a hash is there twice"))
}

fn write_registers(registers: &Registers, out: &mut Vec<u8>) {
    out.reserve(1 + PACKED_BYTES + COUNTS_BYTES + size_of::<u16>());
    out.push(LARGE);
    out.extend_from_slice(registers.as_packed());
    out.extend_from_slice(&counts(registers.histogram()));
}

/// What ClickHouse keeps beside the registers: the histogram, and its first number again.
fn counts(histogram: &Histogram) -> Vec<u8> {
    let mut out = Vec::with_capacity(COUNTS_BYTES + size_of::<u16>());
    out.extend(histogram.iter().flat_map(|count| count.to_le_bytes()));
    let [low, high, ..] = histogram[0].to_le_bytes();
    out.extend([low, high]);
    out
}

fn read_registers(bytes: &[u8]) -> Result<Registers, SketchError> {
    let (packed, stored_counts) =
        bytes.split_at_checked(PACKED_BYTES).ok_or_else(|| damaged("the registers are cut off"))?;
    let registers =
        Registers::from_packed(packed).ok_or_else(|| damaged("a register holds a rank that no hash has"))?;
    // The counts are a checksum of the registers: ClickHouse estimates from them alone.
    if counts(registers.histogram()) != stored_counts {
        return Err(damaged("the counts do not fit the registers"));
    }
    Ok(registers)
}

#[cfg(test)]
mod tests {
    use super::super::tests::sketch_of;
    use super::*;

    #[test]
    fn each_form_has_its_bytes() {
        assert_eq!(Sketch::new().to_clickhouse(), [SMALL, 0]);
        let mut one = Sketch::new();
        one.insert_hash(0x0807_0605_0403_0201);
        assert_eq!(one.to_clickhouse(), [SMALL, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        let start = |users| {
            let bytes = sketch_of(0..users).to_clickhouse();
            (bytes[..3].to_vec(), bytes.len())
        };
        assert_eq!(start(16).1, 130);
        assert_eq!((start(17).0[..2].to_vec(), start(17).1), (vec![MEDIUM, 17], 138));
        assert_eq!(start(127).1, 2 + 127 * 8);
        assert_eq!(start(128), (vec![MEDIUM, 0x80, 1], 3 + 128 * 8));
        assert_eq!(start(512), (vec![MEDIUM, 0x80, 4], 4_099));
        assert_eq!((start(513).0[0], start(513).1), (LARGE, 12_499));
    }

    #[test]
    fn the_state_survives_the_way_there_and_back() {
        for users in [0, 1, 15, 16, 17, 127, 128, 511, 512, 513, 514, 1_000, 100_000] {
            let sketch = sketch_of(0..users);
            assert_eq!(Sketch::from_clickhouse(&sketch.to_clickhouse()), Ok(sketch), "{users} users");
        }
    }

    #[test]
    fn hashes_are_taken_in_any_order() {
        let mut sketch = Sketch::new();
        for hash in [0, 9, 5] {
            sketch.insert_hash(hash);
        }
        for kind in [SMALL, MEDIUM] {
            let mut bytes = vec![kind, 3];
            bytes.extend([9_u64, 0, 5].iter().flat_map(|hash| hash.to_le_bytes()));
            assert_eq!(Sketch::from_clickhouse(&bytes), Ok(sketch.clone()));
        }
    }

    #[test]
    fn what_is_cut_off_or_contradicts_itself_is_refused() {
        let damaged = |bytes: &[u8]| matches!(Sketch::from_clickhouse(bytes), Err(SketchError::Damaged { .. }));
        for users in [1, 16, 17, 512, 513] {
            let whole = sketch_of(0..users).to_clickhouse();
            assert!((1..whole.len()).all(|length| damaged(&whole[..length])), "{users} users");
            assert!(damaged(&[&whole[..], &[0]].concat()), "{users} users");
        }
        assert!(damaged(&[&[SMALL, 2][..], &[7; 16]].concat()), "twice the same hash");
        assert!(damaged(&[&[SMALL, 17][..], &[7; 17 * 8]].concat()), "too many for a small set");
        assert!(damaged(&[&[MEDIUM, 0x81, 4][..], &[7; 513 * 8]].concat()), "too many for a set");
        assert!(damaged(&[MEDIUM, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]));
        assert!(damaged(&[&[LARGE][..], &[0xff; 12_498]].concat()), "impossible ranks");
        for not_a_sketch in [&[][..], &[0], &[4, 0], b"text"] {
            let expected = Err(SketchError::NotASketch { format: FORMAT });
            assert_eq!(Sketch::from_clickhouse(not_a_sketch), expected);
        }
    }

    #[test]
    fn a_flipped_bit_in_the_registers_is_found() {
        let whole = sketch_of(0..20_000).to_clickhouse();
        for position in (1..whole.len()).step_by(101) {
            let mut flipped = whole.clone();
            flipped[position] ^= 0x10;
            assert!(Sketch::from_clickhouse(&flipped).is_err(), "byte {position}");
        }
    }
}
