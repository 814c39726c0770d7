//! The write path as it happens: collect events, count them in windows, flush them to Redis and ClickHouse

mod clickhouse_block;
pub mod collect;
mod member;
mod own_thread;
mod patience;
pub mod raw;
pub mod worker;
