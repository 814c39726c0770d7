//! The vocabulary of Reckon, and every format that crosses a process boundary.
//!
//! Nothing here does I/O, knows an async runtime or a client library. Layers that never import each other agree
//! because they read this one crate: what an event is ([`event`]), which window it falls into ([`window`]), what is
//! counted for it ([`cell`], [`money`], [`sums`], [`sketch`], [`top`]), for whom ([`catalog`], [`access`]), where it is written
//! ([`kafka`], [`redis_keys`], [`clickhouse`], [`lake`], [`csv`]) and what makes a number final ([`settlement`],
//! [`period`]).

pub mod access;
pub mod catalog;
pub mod cell;
pub mod clickhouse;
pub mod csv;
mod decimal;
pub mod event;
pub mod ids;
pub mod kafka;
pub mod lake;
pub mod money;
pub mod period;
pub mod redis_keys;
pub mod settlement;
pub mod sketch;
pub mod stores;
pub mod sums;
pub mod time;
pub mod top;
pub mod window;
