//! The sketch inside our own files (snapshots, lake): the bytes ClickHouse reads.
//!
//! They keep hashes as hashes, are canonical, and are checked on the way in.

use super::Sketch;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// No sketch is longer than this in ClickHouse's encoding.
const BYTES_MAX: usize = 12_499;

impl Serialize for Sketch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_clickhouse())
    }
}

impl<'de> Deserialize<'de> for Sketch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(SketchBytes)
    }
}

struct SketchBytes;

impl<'de> Visitor<'de> for SketchBytes {
    type Value = Sketch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a distinct-users sketch")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Sketch, E> {
        Sketch::from_clickhouse(bytes).map_err(E::custom)
    }

    /// Formats without bytes of their own, JSON among them, write a list of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Sketch, A::Error> {
        let mut bytes = Vec::with_capacity(numbers.size_hint().unwrap_or(0).min(BYTES_MAX));
        while let Some(byte) = numbers.next_element()? {
            if bytes.len() == BYTES_MAX {
                return Err(A::Error::invalid_length(BYTES_MAX + 1, &self));
            }
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sketch_of;
    use super::*;

    #[test]
    fn survives_a_format_without_bytes_of_its_own() {
        for users in [0, 1, 512, 513] {
            let sketch = sketch_of(0..users);
            let json = serde_json::to_string(&sketch).expect("a list of numbers");
            let read = serde_json::from_str::<Sketch>(&json).expect("our own bytes");
            assert_eq!(read, sketch, "{users} users");
        }
    }

    #[test]
    fn damage_and_endless_input_are_refused() {
        assert!(serde_json::from_str::<Sketch>("[1,2]").is_err());
        assert!(serde_json::from_str::<Sketch>("\"text\"").is_err());
        let endless = format!("[3{}]", ",0".repeat(50_000));
        assert!(serde_json::from_str::<Sketch>(&endless).is_err());
    }
}
