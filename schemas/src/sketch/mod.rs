//! The distinct-users sketch: one HyperLogLog that Redis and ClickHouse both read natively.
//!
//! A cell keeps the 64-bit hashes of its users until there are more than [`HASHES_MAX`] of them, and
//! the 2^14 registers of a HyperLogLog from then on. Both forms are written to Redis as the string
//! behind `PFCOUNT` ([`Sketch::to_redis`]) and to ClickHouse as a state of `uniqCombined64(14)`
//! ([`Sketch::to_clickhouse`]), without loss: merging there and merging here give the same registers.
//!
//! The state depends on the set of users alone, not on their order or on how they were grouped before
//! merging; equal sets are equal (`==`) and have equal bytes. The one exception is a sketch that was
//! read from registers: registers do not lead back to hashes, so it stays registers.

mod clickhouse;
mod estimate;
mod hash;
mod hashes;
mod redis;
mod registers;
mod stored;

pub use hash::hash_user;

use hashes::Hashes;
use registers::Registers;

/// Registers of the HyperLogLog: 2^14, of 6 bits each.
pub const REGISTERS: usize = 1 << 14;

/// The relative standard error of an estimate from registers: 1.04 / sqrt(2^14), which is 0.81 %.
pub const STANDARD_ERROR: f64 = 0.0081;

/// Up to so many distinct users a sketch is the exact set of their hashes.
///
/// This is where ClickHouse itself goes over to registers, so that a state keeps its form on the way
/// there and back. At 512 hashes the set takes 4 KiB, a third of the registers' 12 KiB; by size alone
/// 1,536 would be even, but ClickHouse would take no more than 512 of them, and an insertion into the
/// sorted set would move three times as many bytes.
pub const HASHES_MAX: usize = 512;

/// Why bytes were not taken as a sketch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SketchError {
    /// The bytes are something else: look at where they were read from.
    #[error("not a distinct-users sketch as {format} writes it")]
    NotASketch {
        /// Whose encoding was expected.
        format: &'static str,
    },
    /// The bytes began as a sketch and are cut off or contradict themselves: compute them again.
    #[error("damaged distinct-users sketch in {format}'s encoding: {problem}")]
    Damaged {
        /// Whose encoding was expected.
        format: &'static str,
        /// What does not fit.
        problem: &'static str,
    },
}

/// A set of users that can be counted and united, in bounded memory.
///
/// 24 bytes when empty; one heap block of 8 bytes a user up to [`HASHES_MAX`] users; 12,512 bytes
/// from then on, for any number.
///
/// ```
/// use reckon_schemas::sketch::Sketch;
/// let (mut monday, mut tuesday) = (Sketch::new(), Sketch::new());
/// monday.insert(b"ada");
/// tuesday.insert(b"ada");
/// tuesday.insert(b"grace");
/// monday.merge(&tuesday);
/// assert_eq!(monday.estimate(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    users: Users,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Users {
    Hashes(Hashes),
    Registers(Registers),
}

impl Default for Users {
    fn default() -> Self {
        Self::Hashes(Hashes::default())
    }
}

impl Sketch {
    /// The empty set. Does not allocate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The empty set as registers, for more than [`HASHES_MAX`] users. Of their hashes it needs no more than a register
    /// keeps: the bits that choose it (the lowest ones, see [`REGISTERS`]) and the lowest bit set above them.
    #[must_use]
    pub fn of_registers() -> Self {
        Self { users: Users::Registers(Registers::new()) }
    }

    /// Enters a user by id.
    pub fn insert(&mut self, user: &[u8]) {
        self.insert_hash(hash_user(user));
    }

    /// Enters a user by the hash that [`hash_user`] gave; true when the sketch changed.
    ///
    /// A sketch of registers may stay the same for a new user, but never changes for a known one.
    pub fn insert_hash(&mut self, hash: u64) -> bool {
        match &mut self.users {
            Users::Registers(registers) => registers.insert(hash),
            Users::Hashes(hashes) => {
                let changed = hashes.insert(hash);
                if hashes.len() > HASHES_MAX {
                    self.users = Users::Registers(hashes.to_registers());
                }
                changed
            }
        }
    }

    /// Makes this the union of both. Merging a sketch twice is the same as merging it once.
    pub fn merge(&mut self, other: &Sketch) {
        match (&mut self.users, &other.users) {
            (Users::Registers(ours), Users::Registers(theirs)) => ours.merge(theirs),
            (Users::Registers(ours), Users::Hashes(theirs)) => theirs.insert_into(ours),
            (Users::Hashes(ours), Users::Registers(theirs)) => {
                let mut registers = theirs.clone();
                registers.forget_told();
                ours.insert_into(&mut registers);
                self.users = Users::Registers(registers);
            }
            (Users::Hashes(ours), Users::Hashes(theirs)) => {
                ours.merge(theirs);
                if ours.len() > HASHES_MAX {
                    self.users = Users::Registers(ours.to_registers());
                }
            }
        }
    }

    /// How many distinct users: counted while the sketch is a set of hashes, otherwise estimated, and
    /// then the same number as Redis's `PFCOUNT` of the same users.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        match &self.users {
            Users::Hashes(hashes) => hashes.len() as u64,
            Users::Registers(registers) => estimate::estimate(registers.histogram()),
        }
    }

    /// How far [`estimate`](Self::estimate) may be off, in users.
    ///
    /// 0 while the sketch is a set of hashes: two users share one only by a collision of 64 bits,
    /// which is why even that is called an estimate (method `hll`). Otherwise three standard errors,
    /// rounded up: 99.7 % of all sketches are nearer to the truth than that.
    #[must_use]
    pub fn error_bound(&self) -> u64 {
        match &self.users {
            Users::Hashes(_) => 0,
            // 3 * 0.81 % in whole numbers.
            Users::Registers(_) => {
                let bound = (u128::from(self.estimate()) * 243).div_ceil(10_000);
                u64::try_from(bound).unwrap_or(u64::MAX)
            }
        }
    }

    /// How many users it has, while it is the set of their hashes.
    #[must_use]
    pub fn counted(&self) -> Option<usize> {
        match &self.users {
            Users::Hashes(hashes) => Some(hashes.len()),
            Users::Registers(_) => None,
        }
    }

    /// True when no user was entered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.users {
            Users::Hashes(hashes) => hashes.len() == 0,
            Users::Registers(registers) => registers.as_packed().iter().all(|byte| *byte == 0),
        }
    }

    /// The memory this sketch occupies, its heap block included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let heap = match &self.users {
            Users::Hashes(hashes) => hashes.heap_bytes(),
            Users::Registers(_) => registers::BYTES,
        };
        size_of::<Self>() + heap
    }
}

#[cfg(test)]
mod tests;
