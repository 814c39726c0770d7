//! Events as columns of a block; none of them needs an allocation a row.

use bytes::Bytes;
use reckon_schemas::event::Event;

use crate::clickhouse_block::{self, Ends, Texts};

/// Where a record lies in the log, and when it came there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) log_time_ms: i64,
}

/// The columns of `raw_events_stored` that are written, in the order of [`LAYOUT`].
#[derive(Debug, Default)]
pub(crate) struct Columns {
    rows: u64,
    bytes: usize,
    tenant: Texts,
    name: Texts,
    occurred_at: Vec<u8>,
    received_at: Vec<u8>,
    log_time: Vec<u8>,
    event_id: Texts,
    event_key: Vec<u8>,
    user_id: Texts,
    currency: Texts,
    amount_is_null: Vec<u8>,
    amount_minor: Vec<u8>,
    properties: Ends,
    property_names: Texts,
    property_values: Texts,
    source: Texts,
    topic: Texts,
    partition: Vec<u8>,
    offset: Vec<u8>,
}

/// Names and types as they are sent.
const LAYOUT: [(&str, &str); 15] = [
    ("tenant", "String"),
    ("name", "String"),
    ("occurred_at", "DateTime64(6, 'UTC')"),
    ("received_at", "DateTime64(6, 'UTC')"),
    ("log_time", "DateTime64(3, 'UTC')"),
    ("event_id", "String"),
    ("event_key", "UInt128"),
    ("user_id", "String"),
    ("currency", "String"),
    ("amount_minor", "Nullable(Int64)"),
    ("properties", "Map(String, String)"),
    ("source", "String"),
    ("topic", "String"),
    ("partition", "Int32"),
    ("offset", "UInt64"),
];

/// A producer may give a record any time stamp; the table's days and its lifetime end with 32 bits of seconds.
const LOG_TIME_MS_MAX: i64 = 4_102_444_800_000;

impl Columns {
    /// The statement that takes these columns.
    pub(crate) fn statement() -> String {
        clickhouse_block::insert_statement("raw_events_stored", &LAYOUT)
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds one row.
    pub(crate) fn push(&mut self, event: &Event<'_>, place: Place<'_>) {
        let before = self.varying_bytes();
        self.tenant.push(&event.tenant);
        self.name.push(&event.name);
        self.occurred_at.extend(event.occurred_at.0.to_le_bytes());
        self.received_at.extend(event.received_at.0.to_le_bytes());
        self.log_time.extend(place.log_time_ms.clamp(0, LOG_TIME_MS_MAX).to_le_bytes());
        self.event_id.push(&event.id);
        self.event_key.extend(event.key().to_le_bytes());
        self.user_id.push(&event.user);
        self.currency.push(event.money.as_ref().map_or("", |money| money.currency.code()));
        self.amount_is_null.push(u8::from(event.money.is_none()));
        self.amount_minor.extend(event.money.as_ref().map_or(0, |money| money.minor).to_le_bytes());
        for (name, value) in event.properties.iter() {
            self.property_names.push(name);
            self.property_values.push(value);
        }
        self.properties.push(event.properties.len());
        self.source.push(event.source.name());
        self.topic.push(place.topic);
        self.partition.extend(place.partition.to_le_bytes());
        self.offset.extend(place.offset.to_le_bytes());
        self.rows += 1;
        // What is fixed: four times of 8 bytes with the offset, the key, the amount, the properties' end, the partition.
        self.bytes += self.varying_bytes() - before + 4 * 8 + 16 + 9 + 8 + 4;
    }

    /// The block, in pieces that can be sent again and again without being copied.
    pub(crate) fn into_block(self) -> Vec<Bytes> {
        let columns = [
            vec![self.tenant.0],
            vec![self.name.0],
            vec![self.occurred_at],
            vec![self.received_at],
            vec![self.log_time],
            vec![self.event_id.0],
            vec![self.event_key],
            vec![self.user_id.0],
            vec![self.currency.0],
            vec![self.amount_is_null, self.amount_minor],
            vec![self.properties.bytes, self.property_names.0, self.property_values.0],
            vec![self.source.0],
            vec![self.topic.0],
            vec![self.partition],
            vec![self.offset],
        ];
        clickhouse_block::block(&LAYOUT, self.rows, columns)
    }

    fn varying_bytes(&self) -> usize {
        let texts = [
            &self.tenant,
            &self.name,
            &self.event_id,
            &self.user_id,
            &self.currency,
            &self.property_names,
            &self.property_values,
            &self.source,
            &self.topic,
        ];
        texts.iter().map(|texts| texts.0.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_the_block() {
        let event = Event::decode(include_bytes!("../../../schemas/fixtures/event.v2.json")).expect("readable");
        let place = Place { topic: "events", partition: 3, offset: 7, log_time_ms: 1 };
        let size = |rows: usize| {
            let mut columns = Columns::default();
            (0..rows).for_each(|_| columns.push(&event, place));
            (columns.bytes(), columns.into_block().iter().map(Bytes::len).sum::<usize>())
        };
        let ((_, empty), (counted, full)) = (size(0), size(10));
        assert_eq!(counted, full - empty);
    }
}
