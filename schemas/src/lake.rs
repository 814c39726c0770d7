//! The lake: two Delta tables, every record of the log once, with its partition and offset.
//!
//! | table | rows | partitioned by |
//! |---|---|---|
//! | `events` | every record of the topic `events`, duplicates included; what cannot be read as an event too, as its raw bytes with the problem, under the tenant `__unreadable` | `tenant`, `event_date` |
//! | `rejected` | every record of the topic `events.rejected` | `tenant`, `event_date` |
//!
//! Beside the texts the table of events has the keys that a recount goes by, so that it need not read or hash texts:
//! `event_key` ([`crate::ids::event_key`]), `content_key` ([`crate::event::Event::content_key`]) and `user_key`
//! ([`crate::ids::user_key`]), each in two halves of 64 bits in two's complement, and `user_hash`
//! ([`crate::sketch::hash_user`]). All are null where the record is unreadable; those of the user where there is none.
//!
//! `event_date` is the UTC date of `occurred_at` (of `log_time` where there is none): physical, so that it does not
//! depend on a tenant's time zone. A tenant's calendar day lies in at most three of them.

/// The folder of the table of events, below the lake's URL.
pub const EVENTS_TABLE: &str = "lake/events";
/// The folder of the table of rejected items, below the lake's URL.
pub const REJECTED_TABLE: &str = "lake/rejected";

/// The tenant that unreadable records are filed under; no real tenant's name can begin with `_`.
pub const UNREADABLE_TENANT: &str = "__unreadable";

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    Long,
    /// Half of a 128-bit key, or a 64-bit hash: a 64-bit integer that no order or range of means anything.
    Key,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytes,
    /// Calendar date.
    Date,
    /// Instant in microseconds, UTC.
    Timestamp,
    /// Text -> text.
    TextMap,
}

/// A column of a lake table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub column_type: ColumnType,
    /// Whether it may be null.
    pub nullable: bool,
}

const fn column(name: &'static str, column_type: ColumnType, nullable: bool) -> Column {
    Column { name, column_type, nullable }
}

/// The columns of `events`, in order.
pub const EVENTS_COLUMNS: &[Column] = &[
    column("tenant", ColumnType::Text, false),
    column("event_date", ColumnType::Date, false),
    column("partition", ColumnType::Int, false),
    column("offset", ColumnType::Long, false),
    column("log_time", ColumnType::Timestamp, false),
    column("event_id", ColumnType::Text, true),
    column("name", ColumnType::Text, true),
    column("occurred_at", ColumnType::Timestamp, true),
    column("received_at", ColumnType::Timestamp, true),
    column("user_id", ColumnType::Text, true),
    column("currency", ColumnType::Text, true),
    column("amount_minor", ColumnType::Long, true),
    column("properties", ColumnType::TextMap, true),
    column("source", ColumnType::Text, true),
    column("traceparent", ColumnType::Text, true),
    column("problem", ColumnType::Text, true),
    column("raw", ColumnType::Bytes, true),
    column("event_key_high", ColumnType::Key, true),
    column("event_key_low", ColumnType::Key, true),
    column("content_key_high", ColumnType::Key, true),
    column("content_key_low", ColumnType::Key, true),
    column("user_key_high", ColumnType::Key, true),
    column("user_key_low", ColumnType::Key, true),
    column("user_hash", ColumnType::Key, true),
    column("country", ColumnType::Text, true),
    column("device", ColumnType::Text, true),
];

/// The properties that have a column of their own beside their place in `properties`: those that the collector itself
/// knows of an event, which most rollups are made of. A recount that needs no others does not read the map.
pub const COLUMN_PROPERTIES: [&str; 2] = ["country", "device"];

/// The columns of `rejected`, in order.
pub const REJECTED_COLUMNS: &[Column] = &[
    column("tenant", ColumnType::Text, false),
    column("event_date", ColumnType::Date, false),
    column("partition", ColumnType::Int, false),
    column("offset", ColumnType::Long, false),
    column("log_time", ColumnType::Timestamp, false),
    column("received_at", ColumnType::Timestamp, true),
    column("source", ColumnType::Text, true),
    column("field", ColumnType::Text, true),
    column("reason", ColumnType::Text, true),
    column("traceparent", ColumnType::Text, true),
    column("problem", ColumnType::Text, true),
    column("raw", ColumnType::Bytes, true),
];

/// The columns that both tables are partitioned by.
pub const PARTITION_COLUMNS: [&str; 2] = ["tenant", "event_date"];

/// The name under which a partition's progress is kept in the table's transaction identifiers; its version is the
/// partition's next offset.
#[must_use]
pub fn progress_id(topic: &str, partition: i32) -> String {
    format!("reckon-archive/{topic}/{partition}")
}

/// The name under which the border of what has expired is kept in a table's transaction identifiers; its version is the
/// first `event_date` that is still there, in days since 1970-01-01.
pub const EXPIRED_ID: &str = "reckon-expire/before";

/// The name under which the number of partitions that the table has records of (one more than the largest) is kept in
/// the table's transaction identifiers. Every commit of the archive carries it.
#[must_use]
pub fn partitions_id(topic: &str) -> String {
    format!("reckon-archive/{topic}/partitions")
}
