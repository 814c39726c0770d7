//! The write path as it happens: collect events, count them in windows, flush them to Redis and ClickHouse

pub mod collect;
mod member;
mod native;
mod patience;
pub mod raw;
pub mod worker;
