//! Access keys: how they look, how they are kept, and which tenant they speak for.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send events.
    Write,
    /// Ask for numbers.
    Read,
    /// Close periods, see event ids and money in detail.
    Finance,
    /// Manage the tenant.
    Admin,
}

/// A key as the catalog keeps it: the key itself cannot be read back from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// The key's public part, by which it is looked up: 8 hexadecimal digits.
    pub prefix: String,
    /// SHA-256 of the whole key, in hexadecimal.
    pub sha256: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it stops to work; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<jiff::Timestamp>,
}

/// Why a key does not open a door. All but [`Denied::MissingScope`] are told to the client in the same words, so that
/// nobody can find out which keys exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not a key, not known, wrong, or expired.
    #[error("the key is not valid")]
    InvalidKey,
    /// The key is good, but not for this.
    #[error("the key does not have the scope that this needs")]
    MissingScope,
}

/// A new key: `rk_<prefix>_<secret>`, of 16 random bytes and 4 random bytes for the prefix. Shown once.
pub struct NewKey {
    /// The key itself, for its owner.
    pub key: String,
    /// What the catalog keeps.
    pub entry: AccessKey,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl NewKey {
    /// A key from 20 random bytes that the caller drew from the operating system.
    #[must_use]
    pub fn from_random(random: [u8; 20], scopes: Vec<Scope>) -> Self {
        let (prefix, secret) = random.split_at(4);
        let prefix = hex::encode(prefix);
        let key = format!("rk_{prefix}_{}", hex::encode(secret));
        let entry = AccessKey { prefix, sha256: digest(&key), scopes, expires_at: None };
        Self { key, entry }
    }
}

/// The look-up prefix inside of a key, if it looks like a key at all.
pub(crate) fn prefix_of(key: &str) -> Option<&str> {
    key.strip_prefix("rk_").and_then(|rest| rest.split_once('_')).map(|(prefix, _)| prefix)
}

impl AccessKey {
    /// Whether this is the key of that entry, it has not expired, and it has the scope.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn open(&self, key: &str, scope: Scope, now: jiff::Timestamp) -> Result<(), Denied> {
        // Constant time: how many digits of the hash agree must not be measurable.
        let same: bool = digest(key).as_bytes().ct_eq(self.sha256.as_bytes()).into();
        if !same || self.expires_at.is_some_and(|expiry| expiry <= now) {
            return Err(Denied::InvalidKey);
        }
        if self.scopes.contains(&scope) { Ok(()) } else { Err(Denied::MissingScope) }
    }
}

fn digest(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_its_own_door_only() {
        let new = NewKey::from_random([7; 20], vec![Scope::Write]);
        let now = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(new.entry.open(&new.key, Scope::Write, now), Ok(()));
        assert_eq!(new.entry.open(&new.key, Scope::Read, now), Err(Denied::MissingScope));
        for wrong in ["", "rk_", "rk_07070707_", &new.key[..new.key.len() - 1], "Bearer x"] {
            assert_eq!(new.entry.open(wrong, Scope::Write, now), Err(Denied::InvalidKey), "{wrong}");
        }
        let expired = AccessKey { expires_at: Some(now), ..new.entry };
        assert_eq!(expired.open(&new.key, Scope::Write, now), Err(Denied::InvalidKey));
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let new = NewKey::from_random([9; 20], vec![]);
        assert!(!format!("{new:?}").contains(&new.key));
    }
}
