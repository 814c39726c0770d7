//! The write path as it happens: collect events, count them in windows, flush them to Redis and ClickHouse

pub mod collect;
mod patience;
pub mod raw;
mod row_binary;
pub mod worker;
