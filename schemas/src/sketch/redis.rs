//! Redis's string: what `PFADD`, `PFCOUNT` and `PFMERGE` read and write.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | `HYLL` |
//! | 4 | 0 dense, 1 sparse |
//! | 5..8 | unused, zero |
//! | 8..16 | cached cardinality, little endian; the most significant bit says that it is out of date |
//! | 16.. | dense: the packed registers; sparse: opcodes that together cover all registers |
//!
//! Opcodes: `00llllll` 1 to 64 zeros; `01llllll llllllll` 1 to 16,384 zeros; `1rrrrrll` 1 to 4
//! registers of one rank, 1 to 32. Lengths and ranks are stored less one.

use super::registers::{PIECES, Registers};
use super::{REGISTERS, Sketch, SketchError, Users};

const FORMAT: &str = "Redis";
const MAGIC: &[u8; 4] = b"HYLL";
const HEADER_BYTES: usize = 16;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const ENCODING_AT: usize = MAGIC.len();
/// Redis's default for `hll-sparse-max-bytes`, header included: what is longer it makes dense itself.
const SPARSE_MAX_BYTES: usize = 3000;
const SPARSE_RANK_MAX: u8 = 32;
/// If more pieces than this have risen, the whole is written again.
const PIECES_MAX: u32 = u128::BITS / 2;
/// What leads pieces; the whole begins with another letter.
const PIECES_MARK: u8 = b'P';

impl Sketch {
    /// The value for `SET`, so that Redis reads and unites the key as its own HyperLogLog.
    ///
    /// Sparse, from 18 bytes on, where Redis's defaults allow it (up to 3,000 bytes, about 1,650
    /// users), otherwise dense: 12,304 bytes. The cached cardinality is marked as out of date.
    #[must_use]
    pub fn to_redis(&self) -> Vec<u8> {
        match &self.users {
            Users::Hashes(hashes) => {
                sparse(hashes.ranks().into_iter()).unwrap_or_else(|| dense(&hashes.to_registers()))
            }
            Users::Registers(registers) => sparse(registers.nonzero()).unwrap_or_else(|| dense(registers)),
        }
    }

    /// What Redis lacks of this sketch, if it has what all calls before returned, in their order.
    ///
    /// Either the whole, as [`Self::to_redis`] returns it; or, where Redis has it dense, `P` and the pieces that have
    /// changed, none or some: for each the number, one byte, and the bytes, 96, that belong at 16 + 96 * number.
    /// Registers only rise, so pieces of a later sketch of the same events may replace those of an earlier one.
    pub fn take_redis(&mut self) -> Vec<u8> {
        let Users::Registers(registers) = &mut self.users else { return self.to_redis() };
        let risen = registers.take_risen();
        if risen.count_ones() <= PIECES_MAX {
            let mut pieces = vec![PIECES_MARK];
            for piece in (0..PIECES).filter(|piece| risen >> piece & 1 == 1) {
                pieces.push(u8::try_from(piece).expect("fewer than 256"));
                pieces.extend(registers.piece(piece));
            }
            return pieces;
        }
        let whole = self.to_redis();
        if whole[ENCODING_AT] == SPARSE {
            self.forget_redis();
        }
        whole
    }

    /// Redis has lost the sketch: [`Self::take_redis`] returns the whole.
    pub fn forget_redis(&mut self) {
        if let Users::Registers(registers) = &mut self.users {
            registers.forget_told();
        }
    }

    /// Reads a Redis HyperLogLog, sparse or dense, as `GET` answers it.
    ///
    /// The result is a sketch of registers, however few users it holds.
    ///
    /// # Errors
    /// [`SketchError::NotASketch`] for a string that is no HyperLogLog, [`SketchError::Damaged`] for
    /// one whose registers are incomplete, too many, or hold ranks that no hash has.
    pub fn from_redis(bytes: &[u8]) -> Result<Self, SketchError> {
        let not_a_sketch = SketchError::NotASketch { format: FORMAT };
        let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(not_a_sketch);
        };
        if !header.starts_with(MAGIC) {
            return Err(not_a_sketch);
        }
        let registers = match header[ENCODING_AT] {
            DENSE => {
                Registers::from_packed(body).ok_or_else(|| damaged("dense registers of a wrong length or rank"))?
            }
            SPARSE => read_sparse(body)?,
            _ => return Err(not_a_sketch),
        };
        Ok(Self { users: Users::Registers(registers) })
    }
}

fn damaged(problem: &'static str) -> SketchError {
    SketchError::Damaged { format: FORMAT, problem }
}

fn header(encoding: u8) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(MAGIC);
    header[ENCODING_AT] = encoding;
    header[HEADER_BYTES - 1] = 0x80;
    header
}

fn dense(registers: &Registers) -> Vec<u8> {
    [header(DENSE).as_slice(), registers.as_packed()].concat()
}

/// The sparse encoding of registers that are given without zeros, in ascending order; `None` where
/// Redis would not keep it: a rank above 32, or too long.
fn sparse(ranks: impl Iterator<Item = (usize, u8)>) -> Option<Vec<u8>> {
    let mut out = header(SPARSE).to_vec();
    let mut next_register = 0;
    // The run of equal ranks that the last opcode of `out` holds.
    let mut run = (0, 0);
    for (register, rank) in ranks {
        if rank > SPARSE_RANK_MAX || out.len() > SPARSE_MAX_BYTES {
            return None;
        }
        let (run_rank, run_length) = run;
        if register == next_register && rank == run_rank && run_length < 4 {
            // The length is in the low bits of the opcode.
            *out.last_mut()? += 1;
            run = (rank, run_length + 1);
        } else {
            write_zeros(&mut out, register - next_register);
            out.push(0x80 | (rank - 1) << 2);
            run = (rank, 1);
        }
        next_register = register + 1;
    }
    write_zeros(&mut out, REGISTERS - next_register);
    (out.len() <= SPARSE_MAX_BYTES).then_some(out)
}

fn write_zeros(out: &mut Vec<u8>, count: usize) {
    let Some(length) = count.checked_sub(1) else {
        return;
    };
    let [.., high, low] = length.to_be_bytes();
    if length < 64 {
        out.push(low);
    } else {
        out.extend([0x40 | high, low]);
    }
}

fn read_sparse(mut opcodes: &[u8]) -> Result<Registers, SketchError> {
    let mut registers = Registers::new();
    let mut register = 0;
    while let [opcode, rest @ ..] = opcodes {
        opcodes = rest;
        let (rank, length) = match opcode >> 6 {
            0b00 => (0, usize::from(*opcode) + 1),
            0b01 => {
                let [low, rest @ ..] = opcodes else {
                    return Err(damaged("the last opcode is cut off"));
                };
                opcodes = rest;
                (0, usize::from(u16::from_be_bytes([opcode & 0x3f, *low])) + 1)
            }
            _ => ((opcode >> 2 & 0x1f) + 1, usize::from(opcode & 3) + 1),
        };
        let end = register + length;
        if end > REGISTERS {
            return Err(damaged("more registers than there are"));
        }
        if rank > 0 {
            for index in register..end {
                registers.raise(index, rank);
            }
        }
        register = end;
    }
    if register == REGISTERS { Ok(registers) } else { Err(damaged("registers are missing")) }
}

#[cfg(test)]
mod tests {
    use super::super::registers::PIECE_BYTES;
    use super::super::tests::sketch_of;
    use super::*;

    /// `PFADD key "" a ada grace-hopper 12345678` in Redis 7.0.15.
    const WRITTEN_BY_REDIS: &str = "48594c4c010000000000000000000080408b8056a4844fff80421e884852844e57";

    #[test]
    fn few_users_become_the_bytes_redis_writes() {
        let mut sketch = Sketch::new();
        for user in ["", "a", "ada", "grace-hopper", "12345678"] {
            sketch.insert(user.as_bytes());
        }
        assert_eq!(hex::encode(sketch.to_redis()), WRITTEN_BY_REDIS);
        assert_eq!(hex::encode(Sketch::new().to_redis()), "48594c4c0100000000000000000000807fff");
    }

    #[test]
    fn registers_survive_the_way_there_and_back() {
        for users in [0, 1, 2, 16, 17, 512, 513, 1_000, 1_200, 1_400, 2_000, 100_000] {
            let written = sketch_of(0..users).to_redis();
            let read = Sketch::from_redis(&written).expect("our own bytes");
            assert_eq!(read.to_redis(), written, "{users} users");
            let mut registers = Sketch { users: Users::Registers(Registers::new()) };
            registers.merge(&sketch_of(0..users));
            assert_eq!(read, registers, "{users} users");
        }
    }

    /// Puts pieces into what Redis has, as the speed layer's script does.
    fn write(key: &mut Vec<u8>, update: &[u8]) {
        let Some(pieces) = update.strip_prefix(&[PIECES_MARK]) else {
            *key = update.to_vec();
            return;
        };
        assert_eq!((key[ENCODING_AT], key.len()), (DENSE, 12_304), "only what is dense has pieces");
        for piece in pieces.chunks(1 + PIECE_BYTES) {
            let at = HEADER_BYTES + PIECE_BYTES * usize::from(piece[0]);
            key[at..at + PIECE_BYTES].copy_from_slice(&piece[1..]);
        }
    }

    #[test]
    fn pieces_lead_to_the_same_bytes_as_the_whole() {
        let (mut sketch, mut key, mut pieces) = (Sketch::new(), Vec::new(), 0);
        for users in (0..200).map(|step| step * 30) {
            sketch.merge(&sketch_of(users..users + 30));
            let update = sketch.take_redis();
            pieces += usize::from(update[0] == PIECES_MARK);
            assert!(update.len() <= sketch.to_redis().len());
            write(&mut key, &update);
            assert_eq!(key, sketch.to_redis(), "{users} users");
        }
        assert!(pieces > 100, "{pieces}");
        sketch.insert(b"another");
        assert!(sketch.take_redis().len() <= 1 + 1 + PIECE_BYTES);
        assert_eq!(sketch.take_redis(), [PIECES_MARK], "nothing new");
        sketch.forget_redis();
        assert_eq!(sketch.take_redis(), sketch.to_redis());
    }

    #[test]
    fn sparse_while_redis_would_keep_it_so() {
        let encoding = |sketch: &Sketch| sketch.to_redis()[4];
        assert_eq!(encoding(&sketch_of(0..1_000)), SPARSE);
        assert_eq!(encoding(&sketch_of(0..3_000)), DENSE);
        let longest = (1_000..3_000).map(|users| sketch_of(0..users).to_redis());
        let longest = longest.filter(|bytes| bytes[4] == SPARSE).map(|bytes| bytes.len()).max();
        assert!(longest.is_some_and(|length| (2_990..=SPARSE_MAX_BYTES).contains(&length)));
        // Rank 33 has no opcode.
        let mut rare = Sketch::new();
        rare.insert_hash(1 << (14 + 31));
        assert_eq!(encoding(&rare), SPARSE);
        rare.insert_hash(1 << (14 + 32));
        assert_eq!(encoding(&rare), DENSE);
        assert_eq!(rare.to_redis().len(), 12_304);
    }

    #[test]
    fn runs_of_equal_ranks_share_an_opcode() {
        let mut sketch = Sketch::new();
        for register in 0..6 {
            sketch.insert_hash(1 << 15 | register);
        }
        // Rank 2 four times, rank 2 twice, 16,378 zeros.
        assert_eq!(sketch.to_redis()[HEADER_BYTES..], [0x87, 0x85, 0x7f, 0xf9]);
        // And across the border between a run and a gap of 64 or 65 zeros.
        sketch.insert_hash(1 << 15 | (6 + 64));
        sketch.insert_hash(1 << 15 | (6 + 64 + 1 + 65));
        let opcodes = [0x87, 0x85, 0x3f, 0x84, 0x40, 64, 0x84, 0x7f, 0x76];
        assert_eq!(sketch.to_redis()[HEADER_BYTES..], opcodes);
    }

    #[test]
    fn what_is_cut_off_or_contradicts_itself_is_refused() {
        for sketch in [sketch_of(0..40), sketch_of(0..5_000)] {
            let whole = sketch.to_redis();
            assert!((0..whole.len()).all(|length| Sketch::from_redis(&whole[..length]).is_err()));
            assert!(Sketch::from_redis(&[&whole[..], &[0]].concat()).is_err());
        }
        let not_a_sketch = Err(SketchError::NotASketch { format: FORMAT });
        assert_eq!(Sketch::from_redis(b""), not_a_sketch);
        assert_eq!(Sketch::from_redis(b"a string that somebody SET"), not_a_sketch);
        assert_eq!(Sketch::from_redis(b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\0\x7f\xff"), not_a_sketch);
        let too_many = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff\x80";
        assert!(matches!(Sketch::from_redis(too_many), Err(SketchError::Damaged { .. })));
        let impossible_rank = [&header(DENSE)[..], &[0xff; 12_288]].concat();
        assert!(matches!(Sketch::from_redis(&impossible_rank), Err(SketchError::Damaged { .. })));
    }
}
