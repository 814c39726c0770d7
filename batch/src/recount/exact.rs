//! What batch counts in a cell.

use reckon_schemas::ids::user_key;
use reckon_schemas::sketch::{Sketch, hash_user};
use reckon_schemas::sums::{SumOverflow, Sums, Unit};

/// A user as distinct counts know one: by a 128-bit key where they are exact, by a 64-bit hash in the sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// [`user_key`].
    pub key: u128,
    /// [`hash_user`].
    pub hash: u64,
}

impl User {
    /// The user of an event; `None` where it is not known who did it, which counts for no user.
    #[must_use]
    pub fn of(tenant: &str, user: &str) -> Option<Self> {
        (!user.is_empty()).then(|| Self { key: user_key(tenant, user), hash: hash_user(user.as_bytes()) })
    }
}

/// The exact measures of a cell, and beside them the sketch of its users, which unites with those of other cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exact {
    /// Events, each once.
    pub count: u64,
    /// Sums of money and of properties.
    pub sums: Sums,
    /// Distinct users, by their 128-bit keys.
    pub users_exact: u64,
    /// The same users as a sketch.
    pub users: Sketch,
}

impl Exact {
    /// Counts one event, which adds these amounts.
    ///
    /// # Errors
    /// [`SumOverflow`] if a sum leaves 128 bits.
    pub fn add_event(&mut self, amounts: &[(Unit, i64)]) -> Result<(), SumOverflow> {
        for (unit, amount) in amounts {
            self.sums.add(unit, i128::from(*amount))?;
        }
        self.count += 1;
        Ok(())
    }

    /// Counts a user that this cell has not had yet.
    pub fn add_new_user(&mut self, user: User) {
        self.users_exact += 1;
        self.users.insert_hash(user.hash);
    }
}
