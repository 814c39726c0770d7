//! What is kept in Redis. The speed layer is the only writer, but for the answers that serving nodes share; everything
//! here can be rebuilt.
//!
//! | key | type | content |
//! |---|---|---|
//! | `rk:{tenant}:cells:<grain>:<start s>:<rollup>:<event>` | hash | field `<partition>\|<dimension values>` -> [`CellTotals`] |
//! | `rk:{tenant}:users:<grain>:<start s>:<rollup>:<event>:<partition>:<dimension values>` | HyperLogLog | the users of that cell and partition, where they are more than [`USERS_BESIDE_MAX`] |
//! | `rk:{tenant}:events` | sorted set | the names of the events counted, by the start of the newest window in seconds |
//! | `rk:{tenant}:top:<grain>:<start s>:<property>:<event>` | hash | field `<partition>` -> [`top_value`]: the most frequent values of a property in a window |
//! | `rk:{tenant}:seq` | integer | sequence number of the last change pushed |
//! | `rk:{tenant}:changes` | channel | [`Change`] as JSON, one per flush |
//! | `rk:{tenant}:cache:<question>` | string | written by serving: an answer that is kept for a while |
//! | `rk:{tenant}:cache-lock:<question>` | string | written by serving: the node that computes it, for as long as it may |
//! | `rk:{tenant}:cache-fence` | integer | written by serving: the number of the last such lock |
//! | `rk:{tenant}:cache-index` | sorted set | written by serving: the kept answers, by when they end |
//! | `rk:progress:<topic>` | hash | partition -> [`Progress`] as JSON |
//! | `rk:epoch:<topic>` | string | made by the first worker; if it is gone, Redis was emptied and is rebuilt |
//!
//! The braces are a hash tag: all keys of a tenant are in one slot, so one script may touch several of them.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use crate::cell::DimensionValues;
use crate::sketch::Sketch;
use crate::sums::{Sums, Unit};
use crate::time::{EventTime, MICROS_PER_SECOND};
use crate::top::TopSketch;
use crate::window::{Grain, Window};

/// The hash with the totals of every cell of one window, rollup and event name.
#[must_use]
pub fn cells(tenant: &str, window: &Window, rollup: &str, event: &str) -> String {
    format!("rk:{{{tenant}}}:cells:{}:{}:{rollup}:{event}", window.grain, window.start.0.div_euclid(MICROS_PER_SECOND))
}

/// The field of one partition's totals of one cell in that hash.
#[must_use]
pub fn cell_field(partition: i32, values: &DimensionValues) -> String {
    format!("{partition}|{}", values.as_str())
}

/// The partition and the dimension values of a field of that hash.
#[must_use]
pub fn parse_cell_field(field: &str) -> Option<(i32, DimensionValues)> {
    let (partition, values) = field.split_once('|')?;
    Some((partition.parse().ok()?, DimensionValues::from_encoded(values)))
}

/// The native HyperLogLog of one partition's users of one cell.
#[must_use]
pub fn users(
    tenant: &str,
    window: &Window,
    rollup: &str,
    event: &str,
    partition: i32,
    values: &DimensionValues,
) -> String {
    let start = window.start.0.div_euclid(MICROS_PER_SECOND);
    format!("rk:{{{tenant}}}:users:{}:{start}:{rollup}:{event}:{partition}:{}", window.grain, values.as_str())
}

/// The names of the events that were counted for a tenant.
#[must_use]
pub fn event_names(tenant: &str) -> String {
    format!("rk:{{{tenant}}}:events")
}

/// The hash with every partition's most frequent values of a property in one window. Only for windows from five minutes
/// on.
#[must_use]
pub fn top(tenant: &str, window: &Window, property: &str, event: &str) -> String {
    format!("rk:{{{tenant}}}:top:{}:{}:{property}:{event}", window.grain, window.start.0.div_euclid(MICROS_PER_SECOND))
}

/// One partition's most frequent values, as the value of a field of that hash: the version (see
/// [`CellTotals::version`]), a space, the sketch's bytes.
#[must_use]
pub fn top_value(version: i64, sketch: &TopSketch) -> Vec<u8> {
    let mut value = format!("{version} ").into_bytes();
    value.extend(sketch.to_bytes());
    value
}

/// The version and the sketch of a field of that hash; `None` if it is not what this build writes.
#[must_use]
pub fn parse_top_value(value: &[u8]) -> Option<(i64, TopSketch)> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let version = std::str::from_utf8(&value[..space]).ok()?.parse().ok()?;
    Some((version, TopSketch::from_bytes(&value[space + 1..]).ok()?))
}

/// The sequence number of a tenant's pushed changes.
#[must_use]
pub fn sequence(tenant: &str) -> String {
    format!("rk:{{{tenant}}}:seq")
}

/// The channel of a tenant's pushed changes.
#[must_use]
pub fn changes_channel(tenant: &str) -> String {
    format!("rk:{{{tenant}}}:changes")
}

/// The tenant whose channel this is.
#[must_use]
pub fn changes_channel_tenant(channel: &str) -> Option<&str> {
    channel.strip_prefix("rk:{")?.strip_suffix("}:changes")
}

/// An answer that is kept, by the name of its question.
#[must_use]
pub fn cache_entry(tenant: &str, question: &str) -> String {
    format!("rk:{{{tenant}}}:cache:{question}")
}

/// Who computes that answer.
#[must_use]
pub fn cache_lock(tenant: &str, question: &str) -> String {
    format!("rk:{{{tenant}}}:cache-lock:{question}")
}

/// The number of a tenant's last such lock: a later one is higher.
#[must_use]
pub fn cache_fence(tenant: &str) -> String {
    format!("rk:{{{tenant}}}:cache-fence")
}

/// A tenant's kept answers, by when they end.
#[must_use]
pub fn cache_index(tenant: &str) -> String {
    format!("rk:{{{tenant}}}:cache-index")
}

/// The hash of how far each partition of a topic has been counted.
#[must_use]
pub fn progress(topic: &str) -> String {
    format!("rk:progress:{topic}")
}

/// The marker whose absence says that Redis was emptied.
#[must_use]
pub fn epoch(topic: &str) -> String {
    format!("rk:epoch:{topic}")
}

/// Up to so many users are kept beside a cell's totals: most cells have a few, and a key of its own costs some 200 bytes and
/// another round trip.
pub const USERS_BESIDE_MAX: usize = 16;

/// One partition's absolute totals of one cell, as the value of a hash field:
/// `<version> <count> <sums>`, sums as `USD=-123,#quantity=5000000` or `-`; then, where the users have no key of their own,
/// a space and their sketch, as base64 of [`Sketch::to_clickhouse`].
///
/// The version leads, so that the script that writes can compare it without parsing the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CellTotals {
    /// The partition's next offset when these totals were written; a higher one replaces a lower one.
    pub version: i64,
    /// Events counted.
    pub count: u64,
    /// Sums of money and of properties of the events counted.
    pub sums: Sums,
    /// The users, where they are at most [`USERS_BESIDE_MAX`]; otherwise they have a key of their own.
    pub users: Option<Sketch>,
}

/// The value of a field is not what this build writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} are no cell totals")]
pub struct InvalidTotals(pub String);

impl CellTotals {
    /// The value of the hash field.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(32);
        Self::write(self.version, self.count, &self.sums, self.users.as_ref(), &mut text);
        text
    }

    /// Writes what [`Self::encode`] returns behind the end of a buffer, from parts that are not put together first.
    pub fn write(version: i64, count: u64, sums: &Sums, users: Option<&Sketch>, buffer: &mut String) {
        // A String takes every write.
        let _ = write!(buffer, "{version} {count} ");
        if sums.is_empty() {
            buffer.push('-');
        }
        for (index, (unit, sum)) in sums.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let _ = write!(buffer, "{separator}{unit}={sum}");
        }
        if let Some(users) = users {
            buffer.push(' ');
            BASE64.encode_string(users.to_clickhouse(), buffer);
        }
    }

    /// Reads the value of the hash field.
    ///
    /// # Errors
    /// [`InvalidTotals`].
    pub fn decode(text: &str) -> Result<Self, InvalidTotals> {
        Self::parse(text).ok_or_else(|| InvalidTotals(text.chars().take(120).collect()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let version = parts.next()?.parse().ok()?;
        let count = parts.next()?.parse().ok()?;
        let sums = match parts.next()? {
            "-" => Sums::new(),
            sums => sums
                .split(',')
                .map(|sum| {
                    let (unit, amount) = sum.split_once('=')?;
                    Some((unit.parse::<Unit>().ok()?, amount.parse().ok()?))
                })
                .collect::<Option<Sums>>()?,
        };
        let users = match parts.next() {
            Some(users) => Some(Sketch::from_clickhouse(&BASE64.decode(users).ok()?).ok()?),
            None => None,
        };
        parts.next().is_none().then_some(Self { version, count, sums, users })
    }
}

/// How far a partition has been counted, written after everything up to there is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The first offset that is not counted yet.
    pub next_offset: i64,
    /// The partition's watermark: the greatest event time seen, future skew clamped; absent before the first event.
    pub watermark: Option<EventTime>,
    /// When it was written, in milliseconds of the wall clock.
    pub written_at_ms: i64,
    /// When the newest record below `next_offset` was received by the log, in milliseconds of the wall clock. 0 before the
    /// first record, and where an older build wrote it.
    #[serde(default)]
    pub log_time_ms: i64,
    /// Up to when everything that the log has received is below `next_offset`, in milliseconds of the wall clock: it ages
    /// while the partition is behind, and also while nobody counts it. 0 if nothing is known to be counted; absent where an
    /// older build wrote it.
    #[serde(default)]
    pub caught_up_at_ms: Option<i64>,
}

/// One push: which cells of a tenant changed in one flush of some partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// One higher than that of the push before; a gap tells the reader to read again.
    pub seq: i64,
    /// When the newest event in them was received by the log, in milliseconds of the wall clock.
    pub log_time_ms: i64,
    /// The changed windows: grain, start, rollup, event name.
    pub windows: Vec<(Grain, EventTime, String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_round_trip() {
        let mut totals = CellTotals { version: 42, count: 3, sums: Sums::new(), users: None };
        assert_eq!(totals.encode(), "42 3 -");
        assert_eq!(CellTotals::decode(&totals.encode()), Ok(totals.clone()));
        totals.sums.add("USD".parse::<Unit>().expect("known"), -123).expect("fits");
        totals.sums.add("#quantity".parse::<Unit>().expect("known"), i128::MAX).expect("fits");
        assert_eq!(CellTotals::decode(&totals.encode()), Ok(totals.clone()));
        for users in 0..=USERS_BESIDE_MAX {
            assert_eq!(totals.users.get_or_insert_default().counted(), Some(users));
            assert_eq!(CellTotals::decode(&totals.encode()), Ok(totals.clone()));
            totals.users.get_or_insert_default().insert(&users.to_le_bytes());
        }
        for garbage in ["", "1", "1 2", "1 2 X=1", "1 2 - 5", "1 2 - ", "1 2 - AQA A", "a 2 -"] {
            assert!(CellTotals::decode(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn top_values_round_trip() {
        let mut sketch = TopSketch::new();
        sketch.insert("/home page");
        let value = top_value(42, &sketch);
        assert_eq!(parse_top_value(&value), Some((42, sketch)));
        for garbage in [&b""[..], b"42", b"x 1", &value[..9]] {
            assert_eq!(parse_top_value(garbage), None);
        }
    }

    #[test]
    fn progress_of_older_builds_is_read() {
        let older = r#"{"next_offset":5,"watermark":7,"written_at_ms":9}"#;
        let read = Progress {
            next_offset: 5,
            watermark: Some(EventTime(7)),
            written_at_ms: 9,
            log_time_ms: 0,
            caught_up_at_ms: None,
        };
        assert_eq!(serde_json::from_str::<Progress>(older).ok(), Some(read));
        let written = Progress { log_time_ms: 3, caught_up_at_ms: Some(4), ..read };
        let json = serde_json::to_string(&written).expect("numbers only");
        assert_eq!(serde_json::from_str::<Progress>(&json).ok(), Some(written));
    }

    #[test]
    fn fields_round_trip() {
        let values = DimensionValues::new(&["a|b", "c"]);
        assert_eq!(parse_cell_field(&cell_field(11, &values)), Some((11, values)));
    }
}
