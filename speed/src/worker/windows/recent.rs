//! The keys of recent events, by which a second delivery is recognised.

use std::fmt;

use hashbrown::HashSet;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Remembers at least the keys of the last `horizon` records, and at most of twice as many: two generations, of which
/// the older one is forgotten when the younger one has seen `horizon` records. Depends on the records alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RecentKeys {
    current: HashSet<u128>,
    previous: HashSet<u128>,
    /// Records of the current generation, those without a key included.
    records: usize,
}

/// The form in a snapshot.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedKeys {
    current: Keys,
    previous: Keys,
    records: usize,
}

impl RecentKeys {
    /// Counts one more record of the partition, whatever it is.
    pub(crate) fn next_record(&mut self, horizon: usize) {
        if self.records >= horizon.max(1) {
            std::mem::swap(&mut self.previous, &mut self.current);
            self.current.clear();
            self.records = 0;
        }
        self.records += 1;
    }

    /// Remembers the key of the current record; true if it was not known.
    pub(crate) fn insert(&mut self, key: u128) -> bool {
        // Into the younger generation also if the older one knows it: this delivery counts for the horizon too.
        self.current.insert(key) && !self.previous.contains(&key)
    }

    pub(crate) fn save(&self) -> SavedKeys {
        let keys = |set: &HashSet<u128>| Keys(set.iter().copied().collect());
        SavedKeys { current: keys(&self.current), previous: keys(&self.previous), records: self.records }
    }
}

impl From<SavedKeys> for RecentKeys {
    fn from(saved: SavedKeys) -> Self {
        let set = |keys: Keys| keys.0.into_iter().collect();
        Self { current: set(saved.current), previous: set(saved.previous), records: saved.records }
    }
}

/// Keys as one run of bytes, 16 each, little endian: there are hundreds of thousands of them.
struct Keys(Vec<u128>);

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|key| key.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;

        impl Visitor<'_> for KeysVisitor {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("keys of 16 bytes each")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Keys, E> {
                match bytes.as_chunks::<16>() {
                    (keys, []) => Ok(Keys(keys.iter().map(|key| u128::from_le_bytes(*key)).collect())),
                    _ => Err(E::invalid_length(bytes.len(), &self)),
                }
            }
        }

        deserializer.deserialize_bytes(KeysVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_the_horizon_is_remembered_and_at_most_twice_of_it() {
        let horizon = 10;
        for distance in 1..=30_u128 {
            let mut recent = RecentKeys::default();
            let seen_again = (0..100_u128).filter(|record| {
                recent.next_record(horizon);
                !recent.insert(record % distance)
            });
            let seen_again = seen_again.count();
            if distance <= 10 {
                assert_eq!(seen_again, 100 - usize::try_from(distance).expect("small"), "distance {distance}");
            } else if distance > 20 {
                assert_eq!(seen_again, 0, "distance {distance}");
            }
        }
    }

    #[test]
    fn keys_survive_a_snapshot() {
        let mut recent = RecentKeys::default();
        for key in 0..25 {
            recent.next_record(10);
            recent.insert(key << 100);
        }
        let bytes = postcard::to_stdvec(&recent.save()).expect("plain data");
        let saved: SavedKeys = postcard::from_bytes(&bytes).expect("as written");
        assert_eq!(RecentKeys::from(saved), recent);
        assert!(postcard::from_bytes::<Keys>(&[3, 1, 2, 3]).is_err());
    }
}
