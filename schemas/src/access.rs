//! Access keys: how they look, how they are kept, and which tenant they speak for.

use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::catalog::{Catalog, Tenant};
use crate::ids::TenantId;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send events.
    Write,
    /// Ask for numbers.
    Read,
    /// See settlement runs, periods, restatements and refused items.
    Finance,
    /// Manage the tenant.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 4] = [Scope::Write, Scope::Read, Scope::Finance, Scope::Admin];

    /// Its name in every format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Write => "write",
            Scope::Read => "read",
            Scope::Finance => "finance",
            Scope::Admin => "admin",
        }
    }

    /// The scope of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
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
    pub expires_at: Option<Timestamp>,
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
fn prefix_of(key: &str) -> Option<&str> {
    key.strip_prefix("rk_").and_then(|rest| rest.split_once('_')).map(|(prefix, _)| prefix)
}

impl AccessKey {
    /// Whether this is the key of that entry, and it has not expired.
    #[must_use]
    pub fn is_of(&self, key: &str, now: Timestamp) -> bool {
        // Constant time: how many digits of the hash agree must not be measurable.
        let same: bool = digest(key).as_bytes().ct_eq(self.sha256.as_bytes()).into();
        same && self.expires_at.is_none_or(|expiry| expiry > now)
    }

    /// Whether this is the key of that entry, it has not expired, and it has the scope.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn open(&self, key: &str, scope: Scope, now: Timestamp) -> Result<(), Denied> {
        if !self.is_of(key, now) {
            return Err(Denied::InvalidKey);
        }
        if self.scopes.contains(&scope) { Ok(()) } else { Err(Denied::MissingScope) }
    }
}

/// How many events single tenants may send in a second, where that is not what the catalog says.
pub type EventRates = HashMap<TenantId, u32>;

/// Keys that are made and revoked while the system runs, by prefix. The catalog has the others.
///
/// It is handed out as a whole whenever it changes, so that whoever checks keys needs nothing but this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyBook(HashMap<String, (TenantId, AccessKey)>);

impl KeyBook {
    /// The entry that a key claims to be of. Whether it is, [`AccessKey::is_of`] says.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&(TenantId, AccessKey)> {
        self.0.get(prefix_of(key)?)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(TenantId, AccessKey)> for KeyBook {
    fn from_iter<I: IntoIterator<Item = (TenantId, AccessKey)>>(keys: I) -> Self {
        Self(keys.into_iter().map(|(tenant, key)| (key.prefix.clone(), (tenant, key))).collect())
    }
}

impl Catalog {
    /// The tenant that a key speaks for at this time, and what it may do. A key is in the catalog itself or in the book.
    #[must_use]
    pub fn identify<'a, 'k>(
        &'a self,
        book: &'k KeyBook,
        key: &str,
        now: Timestamp,
    ) -> Option<(&'a Tenant, &'k AccessKey)>
    where
        'a: 'k,
    {
        let prefix = prefix_of(key)?;
        let own = self.tenants.iter().flat_map(|tenant| tenant.keys.iter().map(move |entry| (tenant, entry)));
        let in_book = book.find(key).and_then(|(id, entry)| Some((self.tenant(id.as_str())?, entry)));
        let mut candidates = own.filter(|(_, entry)| entry.prefix == prefix).chain(in_book);
        candidates.find(|(_, entry)| entry.is_of(key, now))
    }

    /// The tenant that a key speaks for, if it has the scope at this time.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authenticate(&self, book: &KeyBook, key: &str, scope: Scope, now: Timestamp) -> Result<&Tenant, Denied> {
        let (tenant, entry) = self.identify(book, key, now).ok_or(Denied::InvalidKey)?;
        if entry.scopes.contains(&scope) { Ok(tenant) } else { Err(Denied::MissingScope) }
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
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(new.entry.open(&new.key, Scope::Write, now), Ok(()));
        assert_eq!(new.entry.open(&new.key, Scope::Read, now), Err(Denied::MissingScope));
        for wrong in ["", "rk_", "rk_07070707_", &new.key[..new.key.len() - 1], "Bearer x"] {
            assert_eq!(new.entry.open(wrong, Scope::Write, now), Err(Denied::InvalidKey), "{wrong}");
        }
        let expired = AccessKey { expires_at: Some(now), ..new.entry };
        assert_eq!(expired.open(&new.key, Scope::Write, now), Err(Denied::InvalidKey));
    }

    fn tenant(id: &str, keys: Vec<AccessKey>) -> Tenant {
        Tenant { keys, ..Tenant::new(id.parse().expect("valid"), crate::time::Zone::UTC) }
    }

    #[test]
    fn a_key_speaks_for_its_tenant() {
        let new = |byte, scope| NewKey::from_random([byte; 20], vec![scope]);
        let (one, two) = (new(1, Scope::Read), new(2, Scope::Read));
        let (booked, stray) = (new(3, Scope::Read), new(4, Scope::Read));
        // A key of the book that has the prefix of one of the catalog: both are good.
        let same = NewKey::from_random(std::array::from_fn(|at| if at < 4 { 1 } else { 9 }), vec![Scope::Write]);
        let catalog = Catalog { tenants: vec![tenant("a", vec![one.entry]), tenant("b", vec![two.entry])] };
        let id = |id: &str| id.parse::<TenantId>().expect("valid");
        let book: KeyBook =
            [(id("b"), booked.entry), (id("gone"), stray.entry), (id("b"), same.entry)].into_iter().collect();
        let now = Timestamp::UNIX_EPOCH;
        let who = |key: &str| catalog.authenticate(&book, key, Scope::Read, now).map(|tenant| tenant.id.to_string());
        assert_eq!(who(&one.key), Ok("a".to_owned()));
        assert_eq!(who(&two.key), Ok("b".to_owned()));
        assert_eq!(who(&booked.key), Ok("b".to_owned()));
        assert_eq!(who(&same.key), Err(Denied::MissingScope));
        // A tenant that the catalog does not have.
        assert_eq!(who(&stray.key), Err(Denied::InvalidKey));
        assert_eq!(who("rk_05050505_00"), Err(Denied::InvalidKey));
        // The prefix of one with the secret of the other.
        assert_eq!(who(&format!("{}{}", &one.key[..12], &two.key[12..])), Err(Denied::InvalidKey));
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let new = NewKey::from_random([9; 20], vec![]);
        assert!(!format!("{new:?}").contains(&new.key));
    }
}
