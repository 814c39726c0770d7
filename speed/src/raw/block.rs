//! Blocks of rows: which records of the log each stands for, and the name by which ClickHouse knows it again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use bytes::Bytes;
use reckon_schemas::event::Event;
use xxhash_rust::xxh3::Xxh3;

use super::columns::{Columns, Place};
use super::tuning::Tuning;

/// The records of one partition that a block stands for: from `first` up to, but not including, `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: i64,
    pub(crate) next: i64,
}

/// What is written at once.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) rows: u64,
    pub(crate) pieces: Vec<Bytes>,
    /// The same for the same rows of the same records, and for nothing else.
    pub(crate) token: String,
}

/// The block that is being filled.
#[derive(Debug)]
pub(crate) struct Filling {
    rows_max: u64,
    bytes_max: usize,
    columns: Columns,
    spans: BTreeMap<i32, Span>,
    first_at: Option<Instant>,
}

impl Filling {
    pub(crate) fn new(tuning: &Tuning) -> Self {
        Self {
            rows_max: tuning.rows_max.max(1) as u64,
            bytes_max: tuning.bytes_max,
            columns: Columns::default(),
            spans: BTreeMap::new(),
            first_at: None,
        }
    }

    /// Takes a record. What is no event makes no row; the lake keeps it, and progress passes over it. Whose it is does not
    /// matter: a replay must make the same rows, whatever the catalog says by then.
    pub(crate) fn push(&mut self, place: Place<'_>, payload: &[u8]) {
        let next = place.offset + 1;
        self.spans.entry(place.partition).or_insert(Span { first: place.offset, next }).next = next;
        self.first_at.get_or_insert_with(Instant::now);
        match Event::decode(payload) {
            Ok(event) => self.columns.push(&event, place),
            Err(error) => tracing::debug!(place.partition, place.offset, %error, "unreadable: no raw event"),
        }
    }

    /// Whether there is as much as a block may hold.
    pub(crate) fn is_full(&self) -> bool {
        self.columns.rows() >= self.rows_max || self.columns.bytes() >= self.bytes_max
    }

    /// When the first record of the block came.
    pub(crate) fn first_at(&self) -> Option<Instant> {
        self.first_at
    }

    /// Takes what there is, if there is anything; a block without rows stands for records that make none.
    pub(crate) fn take(&mut self, topic: &str) -> Option<(Block, BTreeMap<i32, Span>)> {
        self.first_at.take()?;
        let (columns, spans) = (std::mem::take(&mut self.columns), std::mem::take(&mut self.spans));
        let rows = columns.rows();
        let pieces = columns.into_block();
        let token = token(topic, &spans, &pieces);
        Some((Block { rows, pieces, token }, spans))
    }
}

/// Topic, partitions, offsets, and a hash of the content: a token wins over the content, so that two blocks of one
/// token would be one block less.
fn token(topic: &str, spans: &BTreeMap<i32, Span>, pieces: &[Bytes]) -> String {
    let mut hash = Xxh3::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    let mut token = format!("{topic}:");
    for (partition, span) in spans {
        write!(token, "{partition}={}-{},", span.first, span.next).expect("a text takes more text");
    }
    write!(token, "{:032x}", hash.digest128()).expect("a text takes more text");
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(filling: &mut Filling, partition: i32, offset: i64, payload: &str) {
        filling.push(Place { topic: "events", partition, offset, log_time_ms: 0 }, payload.as_bytes());
    }

    fn event(tenant: &str, id: u32) -> String {
        format!(r#"{{"v":2,"tenant":"{tenant}","id":"{id}","name":"n","occurred_at":0,"received_at":0}}"#)
    }

    #[test]
    fn what_is_no_event_makes_no_row_and_is_passed_over() {
        let mut filling = Filling::new(&Tuning::default());
        assert!(filling.take("events").is_none());
        for (offset, payload) in [event("acme", 1), "{".to_owned(), "[]".to_owned()].iter().enumerate() {
            push(&mut filling, 1, 5 + i64::try_from(offset).expect("small"), payload);
        }
        let (block, spans) = filling.take("events").expect("three records");
        assert_eq!(block.rows, 1);
        assert_eq!(spans, BTreeMap::from([(1, Span { first: 5, next: 8 })]));
        assert!(filling.take("events").is_none());
    }

    #[test]
    fn a_token_is_that_of_the_same_rows_of_the_same_records() {
        let token = |partition, offset, id| {
            let mut filling = Filling::new(&Tuning::default());
            push(&mut filling, partition, offset, &event("acme", id));
            filling.take("events").expect("one record").0.token
        };
        let one = token(0, 5, 1);
        assert_eq!(one, token(0, 5, 1));
        for other in [token(1, 5, 1), token(0, 6, 1), token(0, 5, 2)] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn rows_and_bytes_are_bounded() {
        for tuning in [Tuning { rows_max: 2, ..Tuning::default() }, Tuning { bytes_max: 150, ..Tuning::default() }] {
            let mut filling = Filling::new(&tuning);
            push(&mut filling, 0, 0, &event("acme", 1));
            assert!(!filling.is_full());
            push(&mut filling, 0, 1, &event("acme", 2));
            assert!(filling.is_full(), "{}", filling.columns.bytes());
            filling.take("events");
            assert!(!filling.is_full() && filling.first_at().is_none());
        }
    }
}
