//! Identities, and the 128-bit keys they are compared by.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// The name of a tenant: 1 to 63 of `a-z`, `0-9`, `-`, `_`, beginning with a letter or digit.
///
/// The narrow alphabet makes it safe as a part of Redis keys, Kafka keys and lake paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

/// The text cannot name a tenant.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} cannot name a tenant: use 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit")]
pub struct InvalidTenantId(pub String);

impl TenantId {
    /// Whether a text can name a tenant.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        let bytes = text.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TenantId {
    type Err = InvalidTenantId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if Self::is_valid(text) { Ok(Self(text.into())) } else { Err(InvalidTenantId(text.chars().take(80).collect())) }
    }
}

impl Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for TenantId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The 128-bit key that an event is recognised by: XXH3-128 over its tenant and its id.
///
/// 128 bits, because the identity of an event decides over money: among a billion events a year, two different ones
/// share a 64-bit key every 37 years, a 128-bit key never.
#[must_use]
pub fn event_key(tenant: &str, event_id: &str) -> u128 {
    keyed(tenant, event_id)
}

/// The 128-bit key that a user is counted by in exact distinct counts.
#[must_use]
pub fn user_key(tenant: &str, user: &str) -> u128 {
    keyed(tenant, user)
}

/// A key as two columns of 64-bit integers hold it: the high and the low half, in two's complement.
#[must_use]
pub fn key_halves(key: u128) -> (i64, i64) {
    let half = |shift: u32| i64::from_le_bytes((key >> shift).to_le_bytes()[..8].try_into().expect("8 of 16 bytes"));
    (half(64), half(0))
}

fn keyed(tenant: &str, id: &str) -> u128 {
    // A tenant's name cannot contain the separator, so no two pairs read the same. Ids fit the stack buffer.
    let mut buffer = [0_u8; 512];
    let length = tenant.len() + 1 + id.len();
    if length <= buffer.len() {
        buffer[..tenant.len()].copy_from_slice(tenant.as_bytes());
        buffer[tenant.len() + 1..length].copy_from_slice(id.as_bytes());
        xxh3_128(&buffer[..length])
    } else {
        xxh3_128(&[tenant.as_bytes(), &[0], id.as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_are_narrow() {
        for name in ["a", "acme-2_x", "0x", &"a".repeat(63)] {
            assert!(name.parse::<TenantId>().is_ok(), "{name}");
        }
        for name in ["", "-a", "_a", "A", "a b", "ä", "a/b", &"a".repeat(64)] {
            assert!(name.parse::<TenantId>().is_err(), "{name}");
        }
    }

    #[test]
    fn keys_depend_on_the_tenant_and_not_on_the_buffer() {
        assert_ne!(event_key("a", "bc"), event_key("ab", "c"));
        let long = "x".repeat(600);
        assert_eq!(event_key("t", &long), xxh3_128(format!("t\0{long}").as_bytes()));
        assert_eq!(event_key("t", "x"), xxh3_128(b"t\0x"));
    }
}
