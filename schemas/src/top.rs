//! The most frequent values of a dimension that has too many to count each: pages, products.
//!
//! A frequent-items sketch (Misra-Gries with purges) that its crate specifies byte by byte. It keeps counters for a
//! bounded number of values; when there are more, it takes the median off all of them. What it took off is the most
//! that any count can be off, and is known exactly.

use std::fmt;

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::window::Grain;

/// The size of the table of counters, of which three quarters are used.
const TABLE_LEN: usize = 512;
/// In the bytes: where the binary logarithms of the largest and the current table's size are.
const SIZES_AT: std::ops::Range<usize> = 3..5;
/// In the bytes: what comes before the counts, if there is any value.
const PREAMBLE_BYTES: usize = 32;
/// In the bytes: where the number of values is.
const LEN_AT: std::ops::Range<usize> = 8..12;

/// The values of one dimension with how often each occurred, as far as that fits.
///
/// A pure function of what was inserted and merged, in this order: the same history gives the same bytes, also if it
/// was written and read back in between.
#[derive(Clone, Debug)]
pub struct TopSketch(FrequentItemsSketch<String>);

/// One of the most frequent values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopValue {
    /// The value.
    pub value: String,
    /// It occurred at least so often.
    pub at_least: u64,
    /// It occurred at most so often.
    pub at_most: u64,
}

/// The bytes are not a sketch that this build writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no sketch of frequent values: {0}")]
pub struct InvalidTop(String);

/// The name under which it is written down since when the most frequent values of an event's property are counted.
#[must_use]
pub fn plan_item(event: &str, property: &str) -> String {
    format!("top:{event}:{property}")
}

impl TopSketch {
    /// How many values have a counter of their own at most. With more, no count is off by more than 0.7 % (3.5 in 512)
    /// of everything that was inserted.
    pub const COUNTERS_MAX: usize = TABLE_LEN / 4 * 3;
    /// Longer values are cut, so that what the sketch needs is bounded.
    pub const VALUE_BYTES_MAX: usize = 256;
    /// The windows that the most frequent values are kept for.
    pub const GRAINS: [Grain; 3] = [Grain::FiveMinutes, Grain::Hour, Grain::Day];
    /// No sketch is longer than this in bytes, nor needs more than twice as much memory.
    pub const BYTES_MAX: usize = PREAMBLE_BYTES + Self::COUNTERS_MAX * (8 + 4 + Self::VALUE_BYTES_MAX);

    /// Nothing inserted yet.
    ///
    /// # Panics
    /// Never: the size of the table is one that the sketch takes.
    #[must_use]
    pub fn new() -> Self {
        Self(FrequentItemsSketch::new(TABLE_LEN).expect("a power of two"))
    }

    /// Counts one occurrence of a value.
    pub fn insert(&mut self, value: &str) {
        self.0.update_with_count_ref(cut(value), 1);
    }

    /// Adds everything that another sketch has counted.
    pub fn merge(&mut self, other: &Self) {
        // The order in which counters are added decides which ones are purged, so it may depend on what the other
        // sketch holds, but not on where its table happens to hold it.
        match Self::from_bytes(&other.to_bytes()) {
            Ok(other) => self.0.merge(&other.0),
            Err(_) => self.0.merge(&other.0),
        }
    }

    /// The most frequent values, the most frequent first. Every value that is not among all of them occurred at most
    /// [`Self::error_bound`] times.
    #[must_use]
    pub fn top(&self, count: usize) -> Vec<TopValue> {
        let rows = self.0.frequent_items(ErrorType::NoFalseNegatives).into_iter();
        let mut values: Vec<TopValue> = rows
            .map(|row| TopValue { value: row.item().clone(), at_least: row.lower_bound(), at_most: row.upper_bound() })
            .collect();
        values.sort_unstable_by(|a, b| b.at_most.cmp(&a.at_most).then_with(|| a.value.cmp(&b.value)));
        values.truncate(count);
        values
    }

    /// How far any count can be off: it is at least, and at most so much more than, what is said.
    #[must_use]
    pub fn error_bound(&self) -> u64 {
        self.0.maximum_error()
    }

    /// How many occurrences were counted, of all values together; exact.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.total_weight()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The memory it occupies.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let values: usize = self.0.frequent_items(ErrorType::NoFalseNegatives).iter().map(|row| row.item().len()).sum();
        size_of::<Self>() + self.0.estimated_size() + values
    }

    /// The bytes that are stored, in the crate's format with the values in alphabetical order.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.0.serialize();
        sorted(&bytes).unwrap_or(bytes)
    }

    /// Reads the bytes of [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`InvalidTop`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidTop> {
        let table_log = TABLE_LEN.trailing_zeros();
        // Before memory is taken for it.
        let fits = bytes.len() <= Self::BYTES_MAX
            && bytes
                .get(SIZES_AT)
                .is_some_and(|sizes| u32::from(sizes[0]) == table_log && u32::from(sizes[1]) <= table_log);
        if !fits {
            return Err(InvalidTop(format!("{} bytes, or of another size", bytes.len())));
        }
        FrequentItemsSketch::deserialize(bytes).map(Self).map_err(|error| InvalidTop(error.to_string()))
    }
}

impl Default for TopSketch {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for TopSketch {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for TopSketch {}

/// A value as it is counted: at most [`TopSketch::VALUE_BYTES_MAX`] of it.
#[must_use]
pub fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(TopSketch::VALUE_BYTES_MAX)]
}

/// The same sketch's bytes with its values in order; `None` if there are none.
fn sorted(bytes: &[u8]) -> Option<Vec<u8>> {
    let number = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize);
    let len = number(bytes.get(LEN_AT)?)?;
    let (preamble, rest) = bytes.split_at_checked(PREAMBLE_BYTES)?;
    let (counts, mut values) = rest.split_at_checked(len * 8)?;
    let mut entries: Vec<(&[u8], &[u8])> = Vec::with_capacity(len);
    for count in counts.chunks_exact(8) {
        let (length, rest) = values.split_at_checked(4)?;
        let (value, rest) = rest.split_at_checked(number(length)?)?;
        entries.push((value, count));
        values = rest;
    }
    entries.sort_unstable();
    let mut bytes = preamble.to_vec();
    entries.iter().for_each(|(_, count)| bytes.extend_from_slice(count));
    for (value, _) in entries {
        bytes.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(value);
    }
    Some(bytes)
}

impl Serialize for TopSketch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for TopSketch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TopBytes)
    }
}

struct TopBytes;

impl<'de> Visitor<'de> for TopBytes {
    type Value = TopSketch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a sketch of frequent values")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<TopSketch, E> {
        TopSketch::from_bytes(bytes).map_err(E::custom)
    }

    /// Formats without bytes of their own, JSON among them, write a list of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<TopSketch, A::Error> {
        let mut bytes = Vec::with_capacity(numbers.size_hint().unwrap_or(0).min(TopSketch::BYTES_MAX));
        while let Some(byte) = numbers.next_element()? {
            if bytes.len() == TopSketch::BYTES_MAX {
                return Err(A::Error::invalid_length(TopSketch::BYTES_MAX + 1, &self));
            }
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_every_format_and_refuses_damage() {
        for values in [0, 1, 384, 385, 3_000] {
            let mut sketch = TopSketch::new();
            (0..values).for_each(|value| sketch.insert(&format!("/page/{value}")));
            let bytes = sketch.to_bytes();
            assert!(bytes.len() <= TopSketch::BYTES_MAX);
            assert_eq!(TopSketch::from_bytes(&bytes).expect("its own bytes").to_bytes(), bytes, "{values}");
            let json = serde_json::to_string(&sketch).expect("a list of numbers");
            assert_eq!(serde_json::from_str::<TopSketch>(&json).expect("its own JSON"), sketch);
            if let Some(cut) = bytes.len().checked_sub(1) {
                assert!(TopSketch::from_bytes(&bytes[..cut]).is_err());
            }
        }
        // A table of 2^30 counters.
        assert!(TopSketch::from_bytes(&[4, 1, 10, 30, 30, 0, 0, 0]).is_err());
        assert!(TopSketch::from_bytes(&[]).is_err());
        assert!(serde_json::from_str::<TopSketch>(&format!("[4{}]", ",0".repeat(200_000))).is_err());
    }

    #[test]
    fn few_values_are_counted_exactly_and_long_ones_are_cut() {
        let mut sketch = TopSketch::new();
        for value in ["b", "a", "b", &"ü".repeat(1_000)] {
            sketch.insert(value);
        }
        let top = sketch.top(10);
        let exact = |value: &str, count| TopValue { value: value.to_owned(), at_least: count, at_most: count };
        assert_eq!(top, [exact("b", 2), exact("a", 1), exact(&"ü".repeat(128), 1)]);
        assert_eq!((sketch.error_bound(), sketch.total(), sketch.top(1).len()), (0, 4, 1));
    }

    #[test]
    fn memory_is_bounded() {
        let mut sketch = TopSketch::new();
        for value in 0..5_000 {
            sketch.insert(&format!("{value:>300}"));
        }
        assert!(sketch.to_bytes().len() <= TopSketch::BYTES_MAX);
        assert!(sketch.memory_bytes() <= 2 * TopSketch::BYTES_MAX, "{}", sketch.memory_bytes());
    }
}
